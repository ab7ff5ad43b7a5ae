//! `kill -9` of the worker and of the broker at any moment.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use e2e::{World, wait_until};
use schemas::report::Verdict;

/// The worker is killed so long after the announcement, in steps that cover a whole install.
const KILLED_AFTER_MS: [u64; 12] = [0, 5, 10, 20, 30, 50, 75, 100, 150, 300, 500, 700];

#[test]
fn a_worker_killed_at_any_moment_comes_back_to_old_or_new_and_ends_with_new() {
    let (mut world, app) = World::serving().unwrap();
    let mut before = "1.0.0".to_owned();
    for (step, after_ms) in KILLED_AFTER_MS.into_iter().enumerate() {
        let version = format!("2.{step}.0");
        app.commit(&version).unwrap();
        world.announce_only(&app, "canary").unwrap();
        // The moment of the crash is what is tried here, not a condition that is waited for.
        thread::sleep(Duration::from_millis(after_ms));
        let node = world.node("pi-1").unwrap();
        node.kill().unwrap();
        let current = std::fs::read_to_string(node.data().join("apps/web/current/VERSION")).unwrap();
        assert!([before.as_str(), version.as_str()].contains(&current.trim()), "{after_ms} ms: {current}");
        node.start().unwrap();
        let outcome = world.wait_outcome("pi-1", &version).unwrap();
        assert_eq!(outcome.verdict, Verdict::Kept, "{after_ms} ms: {}", outcome.text);
        world.node("pi-1").unwrap().wait_serves(&version).unwrap();
        before = version;
    }
}

/// System calls that make something last, and at which of their calls the worker is killed.
const KILLED_AT: [(&str, &[u32]); 7] = [
    ("rename", &[1, 2, 3, 4, 5, 6, 8]),
    ("renameat2", &[1, 2]),
    ("linkat", &[1, 2, 4]),
    ("symlinkat", &[1]),
    ("fsync", &[1, 3, 5, 8, 12]),
    ("syncfs", &[1, 2]),
    ("unlinkat", &[1, 2]),
];

#[test]
fn a_worker_killed_at_any_system_call_comes_back_to_old_or_new_and_ends_with_new() {
    if Command::new("strace").arg("--version").output().is_err() {
        println!("skipped: needs strace");
        return;
    }
    let (mut world, app) = World::serving().unwrap();
    // The app is traced with its worker; it makes none of these calls when it writes no bytecode.
    app.edit_file("deploybus.toml", "[env]", "[env]\nPYTHONDONTWRITEBYTECODE = \"1\"").unwrap();
    world.node("pi-1").unwrap().kill().unwrap();
    let mut before = "1.0.0".to_owned();
    let mut kills = 0;
    for (system_call, calls) in KILLED_AT {
        for nth in calls {
            let version = format!("3.{kills}.0-{system_call}.{nth}");
            app.commit(&version).unwrap();
            world.announce_only(&app, "canary").unwrap();
            let node = world.node("pi-1").unwrap();
            let was_killed = node.start_to_be_killed_at(system_call, *nth, &version).unwrap();
            kills += u32::from(was_killed);
            let current = std::fs::read_to_string(node.data().join("apps/web/current/VERSION")).unwrap();
            assert!([before.as_str(), version.as_str()].contains(&current.trim()), "{version}: {current}");
            node.start().unwrap();
            let outcome = world.wait_outcome("pi-1", &version).unwrap();
            assert_eq!(outcome.verdict, Verdict::Kept, "{version}: {}", outcome.text);
            let node = world.node("pi-1").unwrap();
            node.wait_serves(&version).unwrap();
            node.kill().unwrap();
            before = version;
        }
    }
    assert!(kills >= 10, "only {kills} kills: the worker makes things last by other calls now");
}

#[test]
fn the_app_does_not_notice_that_its_worker_was_killed() {
    let (mut world, app) = World::serving().unwrap();
    let node = world.node("pi-1").unwrap();
    let pid = std::fs::read(node.data().join("apps/web/run/app.pid")).unwrap();
    node.kill().unwrap();
    assert_eq!(node.serves().as_deref(), Some("1.0.0"));
    node.start().unwrap();
    assert_eq!(node.serves().as_deref(), Some("1.0.0"));
    assert_eq!(
        std::fs::read(node.data().join("apps/web/run/app.pid")).unwrap(),
        pid,
        "adopted, not restarted"
    );
    app.commit("1.1.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, Some(0));
    assert_eq!(world.node("pi-1").unwrap().serves().as_deref(), Some("1.1.0"));
}

#[test]
fn a_killed_broker_comes_back_with_every_retained_message() {
    let (mut world, app) = World::serving().unwrap();
    let kept = |world: &World| {
        let mut bus = world.raw_publisher().unwrap();
        let all = bus.retained("deploybus/v1/#", Duration::from_millis(500)).unwrap();
        // What a node says anew on every connection may differ.
        all.into_iter()
            .filter(|(topic, _)| topic.contains("/release/") || topic.ends_with("/record"))
            .collect::<Vec<_>>()
    };
    let before = kept(&world);
    assert_eq!(before.len(), 2, "an announcement and a record");
    world.kill_broker().unwrap();
    world.start_broker().unwrap();
    assert_eq!(kept(&world), before);

    // The node is back by itself and takes the next release.
    app.commit("1.1.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, Some(0));
    assert_eq!(world.stop_broker().unwrap(), Some(0), "SIGTERM is a clean end");
    world.start_broker().unwrap();
    assert_eq!(kept(&world).len(), 2);
}

#[test]
fn an_install_goes_on_while_the_broker_is_gone() {
    let (mut world, app) = World::serving().unwrap();
    // The pre-check holds the install until the broker is gone.
    let gate = world.folder().join("gate");
    let wait =
        format!("pre_check = [\"sh\", \"-c\", \"until test -e {}; do sleep 0.05; done\"]", gate.display());
    app.edit_file("deploybus.toml", "[trial]", &format!("[hooks]\n{wait}\n\n[trial]")).unwrap();
    app.commit("1.1.0").unwrap();
    world.announce_only(&app, "canary").unwrap();
    world
        .wait_report("pi-1", "the pre-check", |report| {
            (report.apps[0].phase == schemas::status::Phase::Staged).then_some(())
        })
        .unwrap();
    world.kill_broker().unwrap();
    std::fs::write(&gate, "").unwrap();
    world.node("pi-1").unwrap().wait_serves("1.1.0").unwrap();
    world.start_broker().unwrap();
    let outcome = world.wait_outcome("pi-1", "1.1.0").unwrap();
    assert_eq!(outcome.verdict, Verdict::Kept, "{}", outcome.text);
}

#[test]
fn a_crash_in_every_trial_uses_up_the_tries_and_goes_back() {
    let (mut world, app) = World::serving().unwrap();
    app.edit_file("deploybus.toml", "min_healthy = \"500ms\"", "min_healthy = \"1h\"").unwrap();
    app.edit_file("deploybus.toml", "deadline = \"10s\"", "deadline = \"2h\"\ntries = 2").unwrap();
    app.commit("1.1.0").unwrap();
    world.announce_only(&app, "canary").unwrap();
    world.node("pi-1").unwrap().wait_serves("1.1.0").unwrap();
    let start = Instant::now();
    wait_until("the node to go back", Duration::from_mins(1), || {
        let node = world.node("pi-1").unwrap();
        node.kill().unwrap();
        node.start().unwrap();
        let back = wait_until("1.0.0", Duration::from_secs(3), || (node.serves()? == "1.0.0").then_some(()));
        back.ok()
    })
    .unwrap();
    let outcome = world.wait_outcome("pi-1", "1.1.0").unwrap();
    assert_eq!(outcome.verdict, Verdict::RolledBack, "after {:?}: {}", start.elapsed(), outcome.text);
    assert_eq!(outcome.reason, Some(schemas::reason::Reason::TriesUsedUp));
}
