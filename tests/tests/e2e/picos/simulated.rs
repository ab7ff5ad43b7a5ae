//! `pico-bridge run --simulate`: Picos for people without any.

use e2e::{App, Bridge, World};
use schemas::report::Verdict;

#[test]
fn picos_that_the_bridge_simulates_are_let_in_and_take_a_release() {
    let mut world = World::new().unwrap();
    let Some(mut bridge) = Bridge::new(&mut world, "pi-1").unwrap() else {
        println!("skipped: needs MicroPython's unix port");
        return;
    };
    bridge.start_simulating(2).unwrap();
    for node in ["pico-5eed0001", "pico-5eed0002"] {
        bridge.wait_said(&format!("Pico waits to be let in node={node}"), 1).unwrap();
        world.publisher(&["node", "approve", node, "--group", "desk", "--yes"]).unwrap().expect(0).unwrap();
        bridge.wait_said(&format!("Node is there node={node}"), 1).unwrap();
    }
    let app = App::copy("pico-app", &world.folder().join("blink")).unwrap();
    world.announce_only(&app, "desk").unwrap();
    for node in ["pico-5eed0001", "pico-5eed0002"] {
        let outcome = world.wait_outcome(node, "1.0.0").unwrap();
        assert_eq!(outcome.verdict, Verdict::Kept, "{outcome:#?}");
    }
    assert_eq!(bridge.stop().unwrap(), Some(0));
}
