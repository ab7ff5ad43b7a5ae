//! What can go wrong with containers: each has its reason, and what ran before serves.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use e2e::{Engine, free_port, wait_until};
use schemas::{build::Strategy, reason::Reason, report::Verdict};

use super::world::{KEPT, NOT_KEPT, Shore};

/// Long enough that a build is under way when something happens to it.
const SLOW: &str = "RUN sleep 3 && mkdir /deps";

#[test]
fn a_dockerfile_that_cannot_be_read_is_said_with_its_line() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.app.edit_file("Dockerfile", "RUN mkdir", "RUNN mkdir").unwrap();
    let outcome = shore.deploy("1.1.0", NOT_KEPT);
    shore.untouched(&outcome, Reason::BuildFailed);
    assert!(outcome.text.contains("line 3") && outcome.text.contains("RUNN"), "{}", outcome.text);
}

#[test]
fn a_step_that_fails_is_said_with_its_last_lines() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.app.edit_file("Dockerfile", "RUN mkdir /deps", "RUN echo no such package >&2 && false").unwrap();
    let outcome = shore.deploy("1.1.0", NOT_KEPT);
    shore.untouched(&outcome, Reason::BuildFailed);
    assert!(outcome.text.contains("Step 3/"), "{}", outcome.text);
    assert!(outcome.log_tail.iter().any(|line| line.contains("no such package")), "{:?}", outcome.log_tail);
    let log = shore.world.node("pi-1").unwrap().data().join("apps/web/log/web.build.log");
    assert!(std::fs::read_to_string(log).unwrap().contains("no such package"));
}

#[test]
fn a_base_image_that_is_nowhere_is_named() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.app.edit_file("Dockerfile", e2e::BASE_IMAGE, "127.0.0.1:9/no/such:1").unwrap();
    let outcome = shore.deploy("1.1.0", NOT_KEPT);
    shore.untouched(&outcome, Reason::BaseImageMissing);
    assert!(outcome.text.contains("127.0.0.1:9"), "{}", outcome.text);
}

#[test]
fn a_healthcheck_that_never_passes_is_said_with_its_output() {
    let Some(mut shore) = Shore::serving() else { return };
    let healthcheck = "HEALTHCHECK --interval=300ms --retries=1 CMD echo no camera; exit 1\nCMD [\"sh\"";
    shore.app.edit_file("Dockerfile", "CMD [\"sh\"", healthcheck).unwrap();
    shore.app.edit_file("deploybus.toml", "deadline = \"10s\"", "deadline = \"6s\"").unwrap();
    let outcome = shore.deploy("1.1.0", NOT_KEPT);
    assert_eq!(
        (outcome.verdict, outcome.reason),
        (Verdict::RolledBack, Some(Reason::Unhealthy)),
        "{outcome:?}"
    );
    assert!(outcome.text.contains("HEALTHCHECK") && outcome.text.contains("no camera"), "{}", outcome.text);
    shore.serves("1.0.0");
    shore.tidy();
}

#[test]
fn a_container_that_crash_loops_is_caught_in_its_trial() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.app.edit_file("app.sh", "trap ", "sleep 0.3; echo out of cheese; exit 7\ntrap ").unwrap();
    let outcome = shore.deploy("1.1.0", NOT_KEPT);
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::RolledBack, Some(Reason::Exited)), "{outcome:?}");
    assert!(outcome.log_tail.iter().any(|line| line.contains("out of cheese")), "{outcome:?}");
    shore.serves("1.0.0");
    shore.tidy();
}

#[test]
fn a_port_that_another_program_has_is_named_and_the_old_container_serves() {
    let Some(mut shore) = Shore::serving() else { return };
    let port = free_port().unwrap();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    shore.app.edit_file("deploybus.toml", "[\"127", &format!("[\"127.0.0.1:{port}:8001\", \"127")).unwrap();
    let outcome = shore.deploy("1.1.0", NOT_KEPT);
    assert_eq!(
        (outcome.verdict, outcome.reason),
        (Verdict::RolledBack, Some(Reason::PortTaken)),
        "{outcome:?}"
    );
    assert!(outcome.text.contains(&port.to_string()), "{}", outcome.text);
    shore.serves("1.0.0");
    shore.tidy();
}

#[test]
fn an_engine_that_is_down_is_waited_for() {
    let Some(mut shore) = Shore::new() else { return };
    shore.engine.kill_daemon().unwrap();
    shore.world.announce_only(&shore.app, "canary").unwrap();
    shore
        .world
        .wait_report("pi-1", "its reason to wait", |report| {
            report
                .apps
                .first()?
                .target
                .as_ref()
                .filter(|target| target.waits_for.contains("engine-down"))
                .map(drop)
        })
        .unwrap();
    shore.engine.start_daemon().unwrap();
    assert_eq!(shore.outcome("1.0.0").verdict, Verdict::Kept);
    shore.serves("1.0.0");
}

#[test]
fn an_engine_that_is_killed_while_it_builds_builds_once_more() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.app.edit_file("Dockerfile", "RUN mkdir /deps", SLOW).unwrap();
    shore.app.commit("1.1.0").unwrap();
    shore.world.announce_only(&shore.app, "canary").unwrap();
    let log = shore.world.node("pi-1").unwrap().data().join("apps/web/log/web.build.log");
    wait_until("the slow step", Duration::from_secs(30), || {
        std::fs::read_to_string(&log).ok()?.contains(SLOW).then_some(())
    })
    .unwrap();
    shore.engine.kill_daemon().unwrap();
    shore.engine.start_daemon().unwrap();
    let outcome = shore.outcome("1.1.0");
    assert_eq!(outcome.verdict, Verdict::Kept, "{outcome:?}");
    shore.serves("1.1.0");
    shore.tidy();
}

#[test]
fn a_node_without_an_engine_says_so_at_once() {
    let Some(mut shore) = Shore::new() else { return };
    let worker = shore.world.node("pi-1").unwrap();
    worker.kill().unwrap();
    let settings = worker.folder().join("pi-worker.toml");
    let text = std::fs::read_to_string(&settings).unwrap();
    std::fs::write(&settings, text.replace(&shore.engine.endpoint(), "unix:///no/such.sock")).unwrap();
    let mut command = worker.command("run").unwrap();
    command.env("PATH", "/nowhere");
    worker.start_as(command).unwrap();
    shore.announce(NOT_KEPT);
    let outcome = shore.outcome("1.0.0");
    assert_eq!(
        (outcome.verdict, outcome.reason),
        (Verdict::Failed, Some(Reason::EngineMissing)),
        "{outcome:?}"
    );
}

#[test]
fn an_image_removed_by_hand_is_built_again_when_it_is_needed() {
    let Some(mut shore) = Shore::serving() else { return };
    let [image] = shore.engine.images().unwrap().try_into().unwrap();
    shore.engine.docker(&["rmi", "--force", &image]).unwrap();
    shore.serves("1.0.0");
    shore.engine.docker(&["rm", "--force", "web"]).unwrap();
    shore.engine.docker(&["image", "prune", "--force"]).unwrap();
    shore.serves("1.0.0");
    assert_eq!(shore.engine.images().unwrap(), [image]);
}

#[test]
fn a_container_that_changed_files_of_its_own_is_gone_back_to_without_a_build() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.engine.docker(&["exec", "web", "sh", "-c", "echo more >> /app/app.sh"]).unwrap();
    let image = shore.engine.inspect("web", "{{.Image}}").unwrap();
    shore.app.edit_file("app.sh", "HEALTHY=yes", "HEALTHY=no").unwrap();
    let outcome = shore.deploy("1.1.0", NOT_KEPT);
    assert_eq!(outcome.verdict, Verdict::RolledBack, "{outcome:?}");
    shore.serves("1.0.0");
    assert_eq!(shore.engine.inspect("web", "{{.Image}}").unwrap(), image, "it was built again");
}

#[test]
fn what_people_made_of_our_images_and_started_of_them_is_theirs() {
    let Some(mut shore) = Shore::serving() else { return };
    let [image] = shore.engine.images().unwrap().try_into().unwrap();
    let folder = shore.world.folder().join("mine");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("Dockerfile"), format!("FROM {image}\nRUN echo mine > /mine\n")).unwrap();
    let mut build =
        shore.engine.docker_command(&["build", "--quiet", "--tag", "mine:1", folder.to_str().unwrap()]);
    e2e::Output::of(build.env("DOCKER_BUILDKIT", "0")).unwrap().expect(0).unwrap();
    shore.engine.docker(&["run", "--detach", "--name", "mine", &image, "sleep", "1000"]).unwrap();
    for version in ["1.1.0", "1.2.0"] {
        shore.app.edit_file("app.sh", "says hello", &format!("says hello {version}")).unwrap();
        shore.deploy(version, KEPT);
    }
    shore.serves("1.2.0");
    let gone = || (shore.engine.images().ok()?.len() == 4).then_some(());
    wait_until(
        "two images of ours, the one in use by hand, and the one made by hand",
        Duration::from_secs(20),
        gone,
    )
    .unwrap();
    assert_eq!(shore.engine.inspect("mine", "{{.State.Running}}").unwrap(), "true");
    assert_eq!(shore.engine.docker(&["images", "--quiet", "mine:1"]).unwrap().lines().count(), 1);
}

#[test]
fn a_check_that_hangs_is_one_process_however_often_it_is_asked() {
    let Some(mut shore) = Shore::serving() else { return };
    let check = "[[check]]\nexec = [\"sleep\", \"654\"]\ninterval = \"100ms\"\ntimeout = \"200ms\"\n";
    let settings = std::fs::read_to_string(shore.app.folder().join("deploybus.toml")).unwrap();
    let settings = settings.replace("deadline = \"10s\"", "deadline = \"4s\"");
    std::fs::write(shore.app.folder().join("deploybus.toml"), format!("{settings}\n{check}")).unwrap();
    shore.app.commit("1.1.0").unwrap();
    let args = ["announce", shore.app.folder().to_str().unwrap(), "--group", "canary", "--no-wait"];
    shore.world.publisher(&args).unwrap().expect(0).unwrap();
    let (engine, has_ended) = (&shore.engine, AtomicBool::new(false));
    let (most, outcome) = std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let mut most = 0;
            while !has_ended.load(Ordering::SeqCst) {
                let processes = engine.docker(&["top", "web"]).unwrap_or_default();
                most = most.max(processes.matches("sleep 654").count());
            }
            most
        });
        let outcome = shore.world.wait_outcome("pi-1", "1.1.0");
        has_ended.store(true, Ordering::SeqCst);
        (counting.join().unwrap(), outcome.unwrap())
    });
    assert!(outcome.text.contains("did not end within 200 ms"), "{outcome:?}");
    assert_eq!(most, 1);
    shore.serves("1.0.0");
}

#[test]
fn a_layer_damaged_on_the_disk_is_found_and_built_anew() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.deploy("1.1.0", KEPT);
    // The image of 1.0.0 loses the bytes of a file, as after a power cut.
    let previous = shore.engine.inspect("web.previous", "{{.GraphDriver.Data.LowerDir}}").unwrap();
    let layers = previous.split(':').map(|layer| std::path::Path::new(layer).join("app/app.sh"));
    let files: Vec<_> = layers.filter(|file| file.exists()).collect();
    assert!(!files.is_empty(), "{previous}");
    for file in &files {
        std::fs::write(file, "").unwrap();
    }
    shore.world.publisher(&["rollback", "--group", "canary"]).unwrap().expect(0).unwrap();
    shore.serves("1.0.0");
    let built = shore.built("1.0.0");
    assert_eq!(built.strategy, Strategy::Full, "{built:?}");
    assert!(built.why.contains("/app/app.sh has 0 bytes"), "{built:?}");
}

#[test]
fn a_disk_that_fills_up_while_it_builds_is_told_and_the_old_container_serves() {
    let Some(mut shore) = Shore::serving() else { return };
    drop(shore.engine);
    let folder = shore.world.folder().join("small");
    std::fs::create_dir(&folder).unwrap();
    shore.engine = Engine::start_on_small_disk(&folder, "64m").unwrap();
    let node = shore.world.node("pi-1").unwrap();
    node.kill().unwrap();
    node.use_engine_instead(&shore.engine).unwrap();
    node.start().unwrap();
    shore.serves("1.0.0");
    let fill = "RUN dd if=/dev/zero of=/filler bs=1M count=100 && mkdir /deps";
    shore.app.edit_file("Dockerfile", "RUN mkdir /deps", fill).unwrap();
    let outcome = shore.deploy("1.1.0", NOT_KEPT);
    shore.untouched(&outcome, Reason::DiskFull);
    // With what filled it gone, the next release installs.
    shore.app.edit_file("Dockerfile", fill, "RUN mkdir /deps").unwrap();
    shore.deploy("1.1.1", KEPT);
    shore.serves("1.1.1");
}
