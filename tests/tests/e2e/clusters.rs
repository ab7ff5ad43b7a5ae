//! A bus of several servers, one of which dies.

use std::{fs, process::Stdio};

use e2e::{BusKind, World};
use schemas::{report::Report, status::Phase};

const KEPT: Option<i32> = Some(0);

#[test]
fn a_rollout_goes_on_when_a_server_of_the_cluster_is_killed() {
    if let Some(program) = BusKind::Nats.missing() {
        println!("skipped: needs {program}");
        return;
    }
    let mut world = World::on(BusKind::Nats).unwrap();
    let nodes = ["pi-1", "pi-2"];
    for node in nodes {
        world.add_node(node, &["canary"]).unwrap();
    }
    let app = world.app().unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, KEPT);

    // The pre-check holds both installs until the server is gone that everybody is connected to.
    let gate = world.folder().join("gate");
    let wait =
        format!("pre_check = [\"sh\", \"-c\", \"until test -e {}; do sleep 0.05; done\"]", gate.display());
    app.edit_file("deploybus.toml", "[trial]", &format!("[hooks]\n{wait}\n\n[trial]")).unwrap();
    app.commit("1.1.0").unwrap();
    let folder = app.folder().to_str().unwrap();
    let announce = ["announce", folder, "--group", "canary", "--timeout", "2m"];
    let mut announce = world.publisher_command(&announce).unwrap();
    let announce = announce.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    for node in nodes {
        let staged = |report: &Report| (report.apps[0].phase == Phase::Staged).then_some(());
        world.wait_report(node, "the pre-check", staged).unwrap();
    }
    world.cluster().unwrap().kill_first().unwrap();
    fs::write(&gate, "").unwrap();
    let announced = announce.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&announced.stdout) + String::from_utf8_lossy(&announced.stderr);
    assert_eq!(announced.status.code(), KEPT, "{told}");

    // Two servers are enough for the next release, and the one that comes back has all of them.
    app.commit("1.2.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, KEPT);
    world.cluster().unwrap().start_again().unwrap();
    app.commit("1.3.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, KEPT);
    for node in world.nodes() {
        assert_eq!(node.serves().as_deref(), Some("1.3.0"));
    }
}
