//! The program with a real broker, a store and nodes that say what a test wants. Without mosquitto installed these tests
//! pass and say that they saw nothing.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

mod controller;
mod log;
mod mistakes;
mod node;
mod rollouts;
mod store;
mod world;

use std::time::{Duration, Instant};

use schemas::{reason::Reason, report::Verdict};
use serde_json::Value;

use self::{node::FakeNode, store::Mood, world::World};

#[test]
fn announce_ends_with_0_when_every_node_kept_it() {
    let Some(world) = World::start() else { return };
    world.add_node("pi-1");
    let _node = FakeNode::start(&world, "pi-1", Verdict::Kept, None);
    world.app("1.0.0");
    let ran = world.run(&["announce", "app", "--group", "canary", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((said["version"].as_str(), said["uploaded_objects"].as_u64()), (Some("1.0.0"), Some(1)));
    assert_eq!((said["nodes"][0]["state"].as_str(), said["exit_code"].as_u64()), (Some("kept"), Some(0)));
    assert!(said["nodes"][0]["announced_to_verdict_ms"].as_u64().unwrap() < 5_000);
    assert_eq!(world.store.names().len(), 2);

    let again = world.run(&["announce", "app", "--group", "canary"]);
    assert_eq!(again.code, Some(0), "{}", again.stderr);
    assert!(again.stdout.contains("uploaded 0 objects, 0 bytes"), "{}", again.stdout);
    assert_eq!(world.files("home/.deploybus/releases/web"), 1, "nothing differs, so nothing new is signed");
    assert_eq!(world.files("home/.deploybus/orders/web/canary"), 2);
}

#[test]
fn announce_ends_with_3_and_says_why_when_a_node_did_not_keep_it() {
    let Some(world) = World::start() else { return };
    world.add_node("pi-1");
    let _node = FakeNode::start(&world, "pi-1", Verdict::RolledBack, Some(Reason::Unhealthy));
    world.app("1.0.0");
    let ran = world.run(&["announce", "app", "--group", "canary"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stderr);
    for part in [
        "pi-1: unhealthy",
        "it answered 500",
        "what to do: see what its check answered",
        "| last words",
        "0 of 1 node kept it",
    ] {
        assert!(ran.stdout.contains(part), "{part} in {}", ran.stdout);
    }
}

#[test]
fn announce_tells_silent_offline_and_missing_nodes_apart() {
    let Some(world) = World::start() else { return };
    world.app("1.0.0");
    let announce =
        |arguments: &[&str]| world.run(&[&["announce", "app", "--group", "canary"], arguments].concat());
    assert_eq!(announce(&[]).code, Some(5));
    world.add_node("pi-1");
    assert_eq!(announce(&[]).code, Some(6));
    let _node = FakeNode::silent(&world, "pi-1");
    let silent = announce(&["--timeout", "2s"]);
    assert_eq!(silent.code, Some(4), "{}", silent.stdout);
    assert!(silent.stdout.contains("timed out"), "{}", silent.stdout);
    assert_eq!(announce(&["--no-wait"]).code, Some(0));
}

#[test]
fn rollback_orders_what_was_ordered_before() {
    let Some(world) = World::start() else { return };
    world.add_node("pi-1");
    let _node = FakeNode::start(&world, "pi-1", Verdict::Kept, None);
    assert!(
        world
            .run(&["rollback", "--group", "canary"])
            .stderr
            .contains("nothing was ever ordered for group canary")
    );
    for version in ["1.0.0", "1.1.0"] {
        world.app(version);
        assert_eq!(world.run(&["announce", "app", "--group", "canary"]).code, Some(0));
    }
    let ran = world.run(&["rollback", "--group", "canary"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let status: Value = serde_json::from_str(&world.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["orders"][0]["version"].as_str(), Some("1.0.0"));
    assert_eq!(status["nodes"][0]["apps"][0]["installed"]["version"].as_str(), Some("1.0.0"));
    assert!(world.run(&["rollback", "--group", "canary"]).stderr.contains("nothing older than 1.0.0"));
    assert_eq!(world.run(&["rollback", "--group", "canary", "--to", "1.1.0"]).code, Some(0));
}

#[test]
fn a_rollback_from_another_machine_knows_what_the_bus_retains() {
    let Some(world) = World::start() else { return };
    world.app("1.0.0");
    assert_eq!(world.run(&["announce", "app", "--group", "canary", "--no-wait"]).code, Some(0));
    std::fs::remove_dir_all(world.path("home/.deploybus/orders")).unwrap();
    std::fs::remove_dir_all(world.path("home/.deploybus/releases")).unwrap();
    let ran = world.run(&["rollback", "--group", "canary", "--to", "1.0.0", "--no-wait"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn a_store_that_does_not_take_it_is_said_and_nothing_is_announced() {
    let Some(world) = World::start() else { return };
    world.app("1.0.0");
    let moods = [
        (Mood::Denies, "does not permit this to user `publisher`", "broker/users to the broker's machine"),
        (Mood::Full, "it answers 507", "free space on the disk"),
        (Mood::Down, "connection to the store", "see that the broker runs"),
    ];
    for (mood, sentence, advice) in moods {
        world.store.set(mood);
        let ran = world.run(&["announce", "app", "--group", "canary", "--no-wait"]);
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.contains(sentence) && ran.stderr.contains(advice), "{}", ran.stderr);
    }
    assert_eq!(
        world.run(&["status"]).stdout,
        "no nodes yet: add one with `publisher node add NAME --group canary`\n"
    );
}

#[test]
fn what_is_too_large_for_the_bus_is_refused_here() {
    let Some(world) = World::start() else { return };
    world.app("1.0.0");
    for notes_bytes in [65_000, 70_000] {
        let notes = "x".repeat(notes_bytes);
        let ran = world.run(&["announce", "app", "--group", "canary", "--no-wait", "--notes", &notes]);
        assert_eq!(ran.code, Some(1));
        assert!(ran.stderr.contains("allowed"), "{}", ran.stderr);
        assert!(ran.stderr.contains("shorten --notes"), "{}", ran.stderr);
    }
    let status: Value = serde_json::from_str(&world.run(&["status", "--json"]).stdout).unwrap();
    assert_eq!(status["orders"].as_array().unwrap().len(), 0);
}

#[test]
fn a_bus_that_drops_what_it_acknowledges_is_found_out() {
    let Some(world) = World::start_with_acl("topic read #") else { return };
    world.app("1.0.0");
    let ran = world.run(&["announce", "app", "--group", "canary", "--no-wait"]);
    assert_eq!(ran.code, Some(1));
    assert!(
        ran.stderr.contains("does not let user `publisher` publish on deploybus/v1/release/canary/web"),
        "{}",
        ran.stderr
    );
}

#[test]
fn watch_tells_what_changes_and_ends_cleanly() {
    let Some(world) = World::start() else { return };
    world.add_node("pi-1");
    let watch = world.watch();
    let _node = FakeNode::start(&world, "pi-1", Verdict::Kept, None);
    world.app("1.0.0");
    assert_eq!(world.run(&["announce", "app", "--group", "canary"]).code, Some(0));
    let started = Instant::now();
    while !watch.said().contains("pi-1 web kept 1.0.0") {
        assert!(started.elapsed() < Duration::from_secs(10), "{}", watch.said());
        std::thread::yield_now();
    }
    let said = watch.said();
    assert!(said.contains("pi-1 is online") && said.contains("web 1.0.0 is ordered for canary"), "{said}");
    assert_eq!(watch.interrupt(), Some(0));
}

#[test]
fn watch_ends_when_nobody_reads_it_any_more() {
    let Some(world) = World::start() else { return };
    let mut unread = world.unread_watch();
    world.app("1.0.0");
    assert_eq!(world.run(&["announce", "app", "--group", "canary", "--no-wait"]).code, Some(0));
    let started = Instant::now();
    let status = loop {
        match unread.try_wait().unwrap() {
            Some(status) => break status,
            None if started.elapsed() > Duration::from_secs(10) => {
                unread.kill().unwrap();
                panic!("it does not end");
            }
            None => std::thread::yield_now(),
        }
    };
    assert_eq!(status.code(), Some(0));
}
