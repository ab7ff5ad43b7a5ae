//! Rollouts over a real broker, with a controller and nodes that say what a test wants.

use schemas::{reason::Reason, report::Verdict};
use serde_json::Value;

use crate::{
    controller::FakeController,
    node::FakeNode,
    world::{Ran, World},
};

/// One node first, then the other; nobody waits.
const PLAN: &str = "app = \"web\"\n[[stage]]\ngroup = \"canary\"\nwaves = [\"1\", \"100%\"]\n";

/// A world with two nodes, an app and a plan.
fn world() -> Option<World> {
    let world = World::start()?;
    for node in ["pi-1", "pi-2"] {
        world.add_node(node);
    }
    world.app("1.0.0");
    std::fs::write(world.path("plan.toml"), PLAN).unwrap();
    Some(world)
}

fn start(world: &World, more: &[&str]) -> Ran {
    world.run(&[&["rollout", "start", "app", "--plan", "plan.toml"], more].concat())
}

fn status(world: &World) -> Value {
    let ran = world.run(&["rollout", "status", "web", "--json"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut status: Value = serde_json::from_str(&ran.stdout).unwrap();
    status["rollouts"][0].take()
}

#[test]
fn a_rollout_goes_from_wave_to_wave_and_ends_with_0() {
    let Some(world) = world() else { return };
    let _controller = FakeController::start(&world, "controller-1");
    let _nodes = ["pi-1", "pi-2"].map(|node| FakeNode::start(&world, node, Verdict::Kept, None));
    let ran = start(&world, &["--timeout", "60s"]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stderr.contains("from now on this home knows controller"), "{}", ran.stderr);
    assert!(ran.stdout.contains("web 1.0.0: completed"), "{}", ran.stdout);
    assert_eq!(status(&world)["waves"][1]["counts"]["good"], 1);
    let why = world.run(&["why", "pi-1", "web"]).stdout;
    assert!(why.contains("web: it runs what is ordered"), "{why}");
    let list = world.run(&["rollout", "list"]).stdout;
    assert!(list.contains("web  1.0.0    completed  2 of 2"), "{list}");

    world.app("1.1.0");
    let ran = world.run(&[
        "announce",
        "app",
        "--group",
        "canary",
        "--rollout",
        "--plan",
        "plan.toml",
        "--json",
        "--timeout",
        "60s",
    ]);
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (said["rollouts"][0]["version"].as_str(), said["exit_code"].as_u64()),
        (Some("1.1.0"), Some(0)),
        "{}",
        ran.stderr
    );
    let ran =
        world.run(&["rollout", "start", "--release", "1.0.0", "--plan", "plan.toml", "--timeout", "60s"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let over = world.run(&["rollout", "pause", "web"]);
    assert!(over.stderr.contains("is over: it is completed"), "{}", over.stderr);
    // Whatever is ordered next is above all that was set aside.
    assert_eq!(world.run(&["announce", "app", "--group", "canary"]).code, Some(0));
}

#[test]
fn a_bad_release_stops_in_the_canary_and_people_decide() {
    let Some(world) = world() else { return };
    let _controller = FakeController::start(&world, "controller-1");
    let bad = |node| FakeNode::start(&world, node, Verdict::RolledBack, Some(Reason::Unhealthy));
    let _nodes = ["pi-1", "pi-2"].map(bad);
    let ran = start(&world, &["--timeout", "60s"]);
    assert_eq!(ran.code, Some(7), "{}\n{}", ran.stdout, ran.stderr);
    for part in [
        "web 1.0.0: paused (failures)",
        "1 node failed, it stops at 1",
        "what to do: see what its check answered",
    ] {
        assert!(ran.stdout.contains(part), "{part} in {}", ran.stdout);
    }
    assert_eq!(status(&world)["waves"][1]["counts"]["waiting"], 1);
    let refused = world.run(&["rollout", "resume", "web"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("these nodes failed") && refused.stderr.contains("--ack-failures"));
    let ran = world.run(&["rollout", "resume", "web", "--ack-failures"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let ran = world.run(&["rollout", "abort", "web", "--revert"]);
    assert!(ran.stderr.contains("nobody is here to answer"), "{}", ran.stderr);
    let ran = world.run(&["rollout", "abort", "web", "--revert", "--yes"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.contains("reverting") || ran.stdout.contains("aborted"), "{}", ran.stdout);
}

#[test]
fn a_rollout_waits_when_somebody_says_so() {
    let Some(world) = world() else { return };
    let _controller = FakeController::start(&world, "controller-1");
    let _nodes = ["pi-1", "pi-2"].map(|node| FakeNode::start(&world, node, Verdict::Kept, None));
    std::fs::write(world.path("plan.toml"), format!("{PLAN}approval = true\n")).unwrap();
    let ran = start(&world, &["--detach"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(status(&world)["state"], "awaiting_approval");
    assert_eq!(world.run(&["rollout", "pause", "web"]).code, Some(0));
    assert_eq!(status(&world)["reason"], "operator");
    assert_eq!(world.run(&["rollout", "resume", "web"]).code, Some(0));
    assert_eq!(status(&world)["state"], "awaiting_approval");
    let ran = world.run(&["rollout", "approve", "web"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
}

#[test]
fn without_a_controller_nothing_is_started_and_a_new_one_is_asked_about() {
    let Some(world) = world() else { return };
    let _nodes = ["pi-1", "pi-2"].map(|node| FakeNode::start(&world, node, Verdict::Kept, None));
    let ran = start(&world, &[]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("no controller is on the bus"), "{}", ran.stderr);
    assert!(world.run(&["rollout", "status"]).stdout.contains("no rollouts yet"));

    drop(FakeController::start(&world, "controller-1"));
    let ran = start(&world, &["--detach"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("no controller answered for 15 s"), "{}", ran.stderr);

    let _controller = FakeController::start(&world, "controller-2");
    let ran = start(&world, &["--detach"]);
    assert!(ran.stderr.contains("is new to this home"), "{}", ran.stderr);
    let announce = ["announce", "app", "--group", "canary", "--rollout", "--plan", "plan.toml"];
    let ran = world.run(&announce);
    assert!(ran.stderr.contains("is new to this home"), "{}", ran.stderr);
    // Nor does --yes, which is about another rollout, answer that.
    let ran = world.run(&[&announce[..], &["--yes"]].concat());
    assert!(ran.stderr.contains("`publisher rollout controllers --know KEY`"), "{}", ran.stderr);
    let listed = world.run(&["rollout", "controllers", "--json"]).stdout;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let mut listed = listed["controllers"].as_array().unwrap().iter();
    let new = listed.find(|of| of["decision"] == "new").unwrap()["key"].as_str().unwrap().to_owned();
    world.run(&["rollout", "controllers", "--know", &new]);
    let ran = world.run(&[&announce[..], &["--yes", "--timeout", "60s"]].concat());
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
}

#[test]
fn a_controller_that_is_forgotten_gets_no_rollout_until_it_is_known_again() {
    let Some(world) = world() else { return };
    let _nodes = ["pi-1", "pi-2"].map(|node| FakeNode::start(&world, node, Verdict::Kept, None));
    assert!(world.run(&["rollout", "controllers"]).stdout.contains("no controllers yet"));
    let _controller = FakeController::start(&world, "controller-1");
    let controllers = |more: &[&str]| world.run(&[&["rollout", "controllers"], more].concat());
    let listed = |more: &[&str]| -> Value {
        let ran = controllers(&[more, &["--json"]].concat());
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        let mut json: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(json["controllers"].as_array().unwrap().len(), 1, "{json}");
        json["controllers"][0].take()
    };
    let new = listed(&[]);
    assert_eq!((&new["decision"], &new["there"]), (&"new".into(), &true.into()));
    let key = new["key"].as_str().unwrap();
    assert_eq!(listed(&["--forget", key])["decision"], "forgotten");
    let ran = start(&world, &["--detach"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("every controller on the bus is a forgotten one"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("`publisher rollout controllers --know {key}`")), "{}", ran.stderr);

    assert_eq!(listed(&["--know", key])["decision"], "known");
    std::fs::write(world.path("plan.toml"), format!("{PLAN}soak = \"1h\"\n")).unwrap();
    let ran = start(&world, &["--detach"]);
    assert_eq!(ran.code, Some(0), "{}\n{}", ran.stdout, ran.stderr);
    let ran = controllers(&[]);
    let known = &ran.stdout;
    assert!(known.contains(key) && known.contains("known") && known.contains("web"), "{known}{}", ran.stderr);
    let ran = controllers(&["--forget", key]);
    assert!(ran.stderr.contains("the rollout of web was given to it, and stays so"), "{}", ran.stderr);
    let ran = controllers(&["--forget", "0123456789abcdef"]);
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    assert!(ran.stderr.contains("no controller has the key 0123456789abcdef"), "{}", ran.stderr);
    assert!(ran.stderr.contains(&format!("those on the bus: {key}")), "{}", ran.stderr);
}
