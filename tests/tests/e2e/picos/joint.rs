//! A Pi and its Pico that keep a release together, or not at all.

use std::{fs, time::Duration};

use e2e::{App, Bridge, World, wait_until};
use schemas::{
    reason::Reason,
    report::{Outcome, Verdict},
    status::Phase,
};

use super::SERIAL;

/// A Pi and the Pico on its USB, both in group `desk`, which run version 1.0.0; nothing where MicroPython is missing.
fn desk() -> Option<(World, Bridge, App)> {
    let mut world = World::new().unwrap();
    world.add_node("pi-1", &["desk"]).unwrap();
    let Some(mut bridge) = Bridge::new(&mut world, "pi-1").unwrap() else {
        println!("skipped: needs MicroPython's unix port");
        return None;
    };
    bridge.plug_in(&world, "pico-desk", SERIAL, &["desk"]).unwrap();
    bridge.start().unwrap();
    bridge.wait_said("Node is there", 1).unwrap();
    let app = App::copy("lamp-app", &world.folder().join("lamp")).unwrap();
    let outcomes = announce(&world, &app, "1.0.0");
    assert_eq!(outcomes.map(|outcome| outcome.verdict), [Verdict::Kept; 2]);
    Some((world, bridge, app))
}

/// Announces the app, and gives how that ended on the Pi and on the Pico.
fn announce(world: &World, app: &App, version: &str) -> [Outcome; 2] {
    app.commit(version).unwrap();
    world.announce(app, "desk").unwrap();
    ["pi-1", "pico-desk"].map(|node| world.wait_outcome(node, version).unwrap())
}

fn installed(world: &World, node: &str) -> String {
    let of =
        |app: &schemas::report::AppReport| app.installed.as_ref().map(|installed| installed.version.clone());
    world.wait_report(node, "what is installed", |report| report.apps.first().and_then(of)).unwrap()
}

#[test]
fn a_pi_and_its_pico_keep_a_release_together_or_go_back_together() {
    let Some((mut world, _bridge, app)) = desk() else { return };
    app.edit_file("pico/main.py", "VERSION = \"1.0.0\"", "VERSION = \"1.1.0\"").unwrap();
    assert_eq!(announce(&world, &app, "1.1.0").map(|outcome| outcome.verdict), [Verdict::Kept; 2]);

    let folder = app.folder().to_owned();
    // Back, and forth again: each order is kept by both.
    for (command, version) in [
        (&["rollback", "--group", "desk"][..], "1.0.0"),
        (&["announce", folder.to_str().unwrap(), "--group", "desk"], "1.1.0"),
    ] {
        world.publisher(command).unwrap().expect(0).unwrap();
        world.node("pi-1").unwrap().wait_serves(version).unwrap();
        let both = |node: &str| installed(&world, node) == version;
        wait_until("both to have it", Duration::from_secs(30), || {
            (both("pi-1") && both("pico-desk")).then_some(())
        })
        .unwrap();
    }

    // The Pi's half is bad: the Pico, which runs its half already, goes back with it.
    app.edit_file("lamp.py", "return True", "return False").unwrap();
    app.edit_file("pico/main.py", "VERSION = \"1.1.0\"", "VERSION = \"1.2.0\"").unwrap();
    let [pi, pico] = announce(&world, &app, "1.2.0");
    assert_eq!((pi.verdict, pi.reason), (Verdict::RolledBack, Some(Reason::Unhealthy)), "{pi:#?}");
    assert_eq!((pico.verdict, pico.reason), (Verdict::RolledBack, Some(Reason::JointApart)), "{pico:#?}");
    assert!(pico.text.starts_with("pi-1 gave it up: unhealthy"), "{pico:#?}");
    world.node("pi-1").unwrap().wait_serves("1.1.0").unwrap();
    let serving = world.node("pi-1").unwrap().status().unwrap()["apps"]["lamp"]["version"]["since"].clone();

    // The Pico's half is bad: what the Pi runs is not touched.
    app.edit_file("lamp.py", "return False", "return True").unwrap();
    app.edit_file("pico/main.py", "print(\"lamp\", VERSION)", "raise ValueError(\"no lamp\")").unwrap();
    let [pi, pico] = announce(&world, &app, "1.3.0");
    assert_eq!((pico.verdict, pico.reason), (Verdict::RolledBack, Some(Reason::Exited)), "{pico:#?}");
    assert_eq!((pi.verdict, pi.reason), (Verdict::Failed, Some(Reason::JointApart)), "{pi:#?}");
    assert!(pi.text.contains("pico-desk gave it up") && pi.text.contains("no lamp"), "{pi:#?}");
    let after = world.node("pi-1").unwrap().status().unwrap();
    assert_eq!(after["apps"]["lamp"]["version"]["since"], serving, "{after:#}");
    for node in ["pi-1", "pico-desk"] {
        assert_eq!(installed(&world, node), "1.1.0", "{node}");
    }

    // The other way round: the Pi first, then the Pico.
    app.edit_file("pico/main.py", "raise ValueError(\"no lamp\")", "print(\"lamp\", VERSION)").unwrap();
    app.edit_file("deploybus.toml", "first = \"pico\"", "first = \"pi\"").unwrap();
    assert_eq!(announce(&world, &app, "1.4.0").map(|outcome| outcome.verdict), [Verdict::Kept; 2]);
    app.edit_file("pico/main.py", "print(\"lamp\", VERSION)", "raise ValueError(\"no lamp\")").unwrap();
    let [pi, pico] = announce(&world, &app, "1.5.0");
    assert_eq!((pi.verdict, pi.reason), (Verdict::RolledBack, Some(Reason::JointApart)), "{pi:#?}");
    assert_eq!(pico.verdict, Verdict::RolledBack, "{pico:#?}");
    world.node("pi-1").unwrap().wait_serves("1.4.0").unwrap();
}

#[test]
fn who_dies_in_the_middle_of_a_joint_release_goes_on_with_the_others() {
    let Some((mut world, mut bridge, app)) = desk() else { return };
    let well = world.folder().join("well");
    app.edit_file("lamp.py", "return True", &format!("return os.path.exists({:?})", well.to_str().unwrap()))
        .unwrap();
    app.edit_file("deploybus.toml", "deadline = \"20s\"", "deadline = \"3m\"").unwrap();
    app.edit_file("pico/main.py", "VERSION = \"1.0.0\"", "VERSION = \"1.1.0\"").unwrap();
    app.commit("1.1.0").unwrap();
    world.announce_only(&app, "desk").unwrap();
    let tries = |world: &World, node: &str| {
        world
            .wait_report(node, "the trial", |report| {
                let app = report.apps.first()?;
                (app.phase == Phase::Trial && app.target.as_ref()?.version == "1.1.0").then_some(())
            })
            .unwrap();
    };
    tries(&world, "pi-1");
    let waits = |world: &World| {
        world
            .wait_report("pico-desk", "what it waits for", |report| {
                let target = report.apps.first()?.target.clone()?;
                target.waits_for.contains("pi-1 has it").then_some(())
            })
            .unwrap();
    };
    waits(&world);
    bridge.kill().unwrap();
    bridge.start().unwrap();
    bridge.wait_said("Node is there", 2).unwrap();
    waits(&world);
    world.node("pi-1").unwrap().kill().unwrap();
    world.node("pi-1").unwrap().start().unwrap();
    tries(&world, "pi-1");
    assert_eq!(installed(&world, "pico-desk"), "1.0.0", "it has not kept what its Pi has not");
    fs::write(well, "").unwrap();
    for node in ["pi-1", "pico-desk"] {
        assert_eq!(world.wait_outcome(node, "1.1.0").unwrap().verdict, Verdict::Kept, "{node}");
    }
}
