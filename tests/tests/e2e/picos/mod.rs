//! Picos on USB: real MicroPython on a port, and the bridge that makes a node of it.

use e2e::{App, Bridge, World};
use schemas::report::Verdict;

mod by_hand;
mod cut_off;
mod firmware;
mod installs;
mod joint;
mod mistakes;
mod rom;
mod simulated;

const SERIAL: &str = "e6614103e7452b2f";

/// A fleet with one Pi, a bridge there, and a Pico in group `desk`; nothing where MicroPython is missing.
fn desk() -> Option<(World, Bridge, App)> {
    let mut world = World::new().unwrap();
    let Some(mut bridge) = Bridge::new(&mut world, "pi-1").unwrap() else {
        println!("skipped: needs MicroPython's unix port");
        return None;
    };
    bridge.plug_in(&world, "pico-desk", SERIAL, &["desk"]).unwrap();
    bridge.start().unwrap();
    let app = App::copy("pico-app", &world.folder().join("blink")).unwrap();
    Some((world, bridge, app))
}

/// Gives the app a version, in its code and as a release.
fn release(app: &App, before: &str, version: &str) {
    app.edit_file("main.py", &format!("VERSION = \"{before}\""), &format!("VERSION = \"{version}\""))
        .unwrap();
    app.commit(version).unwrap();
}

/// Announces the app for the desk, and sees how that ended.
fn announce(world: &World, app: &App, version: &str, verdict: Verdict) {
    let (code, said) = world.announce(app, "desk").unwrap();
    let outcome = world.wait_outcome("pico-desk", version).unwrap();
    assert_eq!(outcome.verdict, verdict, "{outcome:#?}\n{said}");
    assert_eq!(code, Some(if verdict == Verdict::Kept { 0 } else { 3 }), "{said}");
}

/// What the Pico's node says of itself on this topic.
fn retained(world: &e2e::World, topic: &str) -> serde_json::Value {
    let topic = format!("deploybus/v1/node/pico-desk/{topic}");
    let mut bus = world.raw_publisher().unwrap();
    let all = bus.retained(&topic, std::time::Duration::from_millis(300)).unwrap();
    serde_json::from_slice(&all[&topic]).unwrap()
}
