//! Somebody has a Mosquitto already: it is bridged to our bus, or is the bus.

use std::time::Duration;

use e2e::{BusKind, Mosquitto, Mqtt, World, wait_until};
use serde_json::Value;

const VERSION: &str = "deploybus/v1/node/pi-1/app/web/version";
const REQUEST: &str = "deploybus/v1/node/pi-1/request";
const DISCOVERY: &str = "homeassistant/device/pi-1/config";
const PATIENCE: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_millis(200);

#[test]
fn a_bridged_mosquitto_shows_the_fleet_and_hands_on_requests() {
    if let Some(program) = BusKind::Mosquitto.missing() {
        println!("skipped: needs {program}");
        return;
    }
    let (mut world, app) = World::serving().unwrap();
    let token = add_user(&world, "mosquitto", "home-assistant");
    let theirs = Mosquitto::start_bridge(world.folder(), world.ports().0, &token).unwrap();

    // What is retained on one side is on the other, also for who comes later, and also after it was there before.
    wait_retained(&theirs, VERSION, Some(r#""installed":"1.0.0""#));
    app.commit("1.1.0").unwrap();
    world.announce_only(&app, "canary").unwrap();
    wait_retained(&theirs, VERSION, Some(r#""installed":"1.1.0""#));

    // Requests go the other way, once.
    let mut bus = world.raw_publisher().unwrap();
    bus.subscribe(REQUEST).unwrap();
    let mut dashboard = Mqtt::connect(theirs.port(), None).unwrap();
    dashboard.publish(REQUEST, b"{\"do\":\"hello\"}", false).unwrap();
    assert_eq!(bus.next(PATIENCE).unwrap().unwrap().1, b"{\"do\":\"hello\"}");
    assert_eq!(bus.next(QUIET).unwrap(), None);
    // Orders do not: whoever owns that Mosquitto is no publisher.
    bus.subscribe("deploybus/v1/release/#").unwrap();
    while bus.next(QUIET).unwrap().is_some() {}
    dashboard.publish("deploybus/v1/release/canary/web", b"mine", true).unwrap();
    dashboard.publish(REQUEST, b"after that", false).unwrap();
    assert_eq!(bus.next(PATIENCE).unwrap().unwrap().1, b"after that");

    // What is cleared here is cleared there, and a broker that was away is found again.
    let token = add_user(&world, "boss", "admin");
    let boss = || Mqtt::connect(world.ports().0, Some(("boss", &token))).ok();
    let mut boss = wait_until("the new user", PATIENCE, boss).unwrap();
    boss.publish(DISCOVERY, b"{}", true).unwrap();
    wait_retained(&theirs, DISCOVERY, Some("{}"));
    boss.publish(DISCOVERY, b"", true).unwrap();
    wait_retained(&theirs, DISCOVERY, None);
    world.kill_broker().unwrap();
    world.start_broker().unwrap();
    app.commit("1.2.0").unwrap();
    world.announce_only(&app, "canary").unwrap();
    wait_retained(&theirs, VERSION, Some(r#""installed":"1.2.0""#));
}

#[test]
fn the_add_on_of_home_assistant_is_a_bus() {
    if let Some(program) = BusKind::Addon.missing() {
        println!("skipped: needs {program}");
        return;
    }
    let mut world = World::on(BusKind::Addon).unwrap();
    world.let_in("homeassistant", "secret").unwrap();
    let (world, _app) = world.into_serving().unwrap();
    let home_assistant = || Mqtt::connect(world.ports().0, Some(("homeassistant", "secret"))).unwrap();
    let shown = home_assistant().retained(VERSION, QUIET).unwrap();
    assert!(String::from_utf8_lossy(&shown[VERSION]).contains(r#""installed":"1.0.0""#), "{shown:?}");
    let mut bus = world.raw_publisher().unwrap();
    bus.subscribe(REQUEST).unwrap();
    home_assistant().publish(REQUEST, b"{}", false).unwrap();
    assert_eq!(bus.next(PATIENCE).unwrap().unwrap().1, b"{}");
}

fn add_user(world: &World, name: &str, role: &str) -> String {
    let added = world.publisher(&["user", "add", name, "--role", role, "--json"]).unwrap().expect(0).unwrap();
    let added: Value = serde_json::from_str(&added.stdout).unwrap();
    added["token"].as_str().unwrap().to_owned()
}

/// Waits until a message with this part is retained, or none is.
fn wait_retained(broker: &Mosquitto, topic: &str, part: Option<&str>) {
    wait_until(&format!("{part:?} on {topic}"), PATIENCE, || {
        let retained = Mqtt::connect(broker.port(), None).ok()?.retained(topic, QUIET).ok()?;
        let found = retained.get(topic).map(|found| String::from_utf8_lossy(found));
        (found.is_some() == part.is_some() && found.unwrap_or_default().contains(part.unwrap_or_default()))
            .then_some(())
    })
    .unwrap();
}
