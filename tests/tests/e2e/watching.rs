//! Whoever watches is told when the bus service goes, and when it is there again.

use std::time::Duration;

use e2e::{Mqtt, World, wait_until};

const AVAILABILITY: &str = "deploybus/v1/bus/availability";
const INFO: &str = "deploybus/v1/bus/info";
const PATIENCE: Duration = Duration::from_secs(30);
const QUIET: Duration = Duration::from_millis(200);

#[test]
fn the_bus_service_says_that_it_goes_and_that_it_is_there_again() {
    let mut world = World::new().unwrap();
    let is = |world: &World, wanted: &str| {
        let said = world.raw_publisher().ok()?.retained(AVAILABILITY, QUIET).ok()?;
        (said.get(AVAILABILITY)? == wanted.as_bytes()).then_some(())
    };
    wait_until("the bus service to say that it is there", PATIENCE, || is(&world, "online")).unwrap();
    let mut watcher: Mqtt = world.raw_publisher().unwrap();
    watcher.subscribe(AVAILABILITY).unwrap();
    assert_eq!(watcher.next(PATIENCE).unwrap().unwrap().1, b"online");
    assert_eq!(world.stop_broker().unwrap(), Some(0));
    assert_eq!(watcher.next(PATIENCE).unwrap().unwrap().1, b"offline");

    world.start_broker().unwrap();
    wait_until("the bus service to be there again", PATIENCE, || is(&world, "online")).unwrap();
    world.register_node("pi-1", &["canary"]).unwrap();
    let counts = || {
        let said = world.raw_publisher().ok()?.retained(INFO, QUIET).ok()?;
        String::from_utf8_lossy(said.get(INFO)?).contains("\"nodes\":1").then_some(())
    };
    wait_until("the node to be counted", PATIENCE, counts).unwrap();
}
