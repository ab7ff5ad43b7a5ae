//! Rollouts in waves.

use std::fs;

use e2e::World;
use serde_json::Value;

#[test]
fn a_plan_is_seen_before_it_begins_and_orders_nothing() {
    let (mut world, _app) = World::serving().unwrap();
    for name in ["pi-2", "pi-3"] {
        world.add_node(name, &["canary"]).unwrap();
        world.wait_outcome(name, "1.0.0").unwrap();
    }
    world.node("pi-3").unwrap().kill().unwrap();
    let plan = world.folder().join("plan.toml");
    let stages = "[[stage]]\ngroup = \"canary\"\nwaves = [\"1\", \"100%\"]\nsoak = \"10m\"\n";
    fs::write(&plan, format!("app = \"web\"\n{stages}")).unwrap();
    let simulate = |args: &[&str]| world.publisher(&[&["rollout", "simulate"], args].concat()).unwrap();
    let told = simulate(&[plan.to_str().unwrap(), "--json"]).expect(0).unwrap();
    let told: Value = serde_json::from_str(&told.stdout).unwrap();
    let waves = told["waves"].as_array().unwrap();
    assert_eq!((waves.len(), waves[0]["nodes"].as_array().unwrap().len()), (2, 1), "{told}");
    assert_eq!(waves[0]["nodes"][0]["online"], true, "who is there goes first: {told}");
    assert_eq!(waves[1]["nodes"][1], serde_json::json!({ "node": "pi-3", "online": false }));
    assert!(waves[1]["opens_after_s"].as_u64().unwrap() >= 600);
    let usual = simulate(&["--group", "canary"]).expect(0).unwrap().stdout;
    assert!(usual.contains("offline, and to catch up later: pi-3"), "{usual}");
    for (args, expected) in [
        (vec!["--group", "nobody", "--app", "web"], "no node is in nobody"),
        (vec!["--group", "nobody"], "say which app with --app"),
        (vec!["/nowhere/plan.toml"], "cannot use /nowhere/plan.toml"),
    ] {
        let said = simulate(&args).expect(1).unwrap().stderr;
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    fs::write(&plan, format!("app = \"web\"\n{}", stages.replace("10m", "soon"))).unwrap();
    let said = simulate(&[plan.to_str().unwrap()]).expect(1).unwrap().stderr;
    assert!(said.contains("line 5") && said.contains("docs/rollouts.md"), "{said}");
    assert_eq!(world.node("pi-1").unwrap().serves().as_deref(), Some("1.0.0"));
}
