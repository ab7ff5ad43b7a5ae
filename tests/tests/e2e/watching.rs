//! Whoever watches is told when the bus service goes, and when it is there again; on the brokers of others, too.

use std::{fs, time::Duration};

use e2e::{BusKind, Mqtt, World, wait_until};

const DEVICE: &str = "homeassistant/device/deploybus_pi-1/config";
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

#[test]
fn on_the_broker_of_others_its_last_will_says_that_it_is_gone() {
    if let Some(program) = BusKind::Mosquitto.missing() {
        println!("skipped: needs {program}");
        return;
    }
    let mut world = World::on(BusKind::Mosquitto).unwrap();
    for user in ["controller", "homeassistant"] {
        world.let_in(user, "secret").unwrap();
    }
    let settings = world.home().join("broker");
    fs::write(settings.join("controller.password"), "secret\n").unwrap();
    let text = fs::read_to_string(settings.join("broker.toml")).unwrap();
    let controller = "\n[controller]\nuser = \"controller\"\npassword = \"controller.password\"\n";
    fs::write(settings.join("broker.toml"), text + controller).unwrap();
    world.stop_broker().unwrap();
    world.start_broker().unwrap();
    world.add_node("pi-1", &["canary"]).unwrap();
    let port = world.ports().0;
    let said = |topic: &str| {
        let mut bus = Mqtt::connect(port, Some(("homeassistant", "secret"))).ok()?;
        bus.retained(topic, QUIET).ok()?.remove(topic)
    };
    let is = |wanted: &str| (said(AVAILABILITY)? == wanted.as_bytes()).then_some(());
    wait_until("the node to be announced", PATIENCE, || said(DEVICE)).unwrap();
    wait_until("the bus service to be there", PATIENCE, || is("online")).unwrap();
    world.kill_broker().unwrap();
    wait_until("its last will", PATIENCE, || is("offline")).unwrap();
    world.start_broker().unwrap();
    wait_until("the bus service to be there again", PATIENCE, || is("online")).unwrap();
    assert_eq!(world.stop_broker().unwrap(), Some(0));
    wait_until("its last words", PATIENCE, || is("offline")).unwrap();
}
