//! Whoever watches is told when the bus service goes, and when it is there again; on the brokers of others, too.

use std::{fs, time::Duration};

use e2e::{App, BusKind, Mqtt, World, wait_until};
use serde_json::Value;

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

#[test]
fn what_is_said_for_people_is_flat_and_written_down_and_what_they_ask_is_bounded() {
    let (mut world, app) = World::serving().unwrap();
    app.commit("1.1.0").unwrap();
    let plan = world.folder().join("plan.toml");
    fs::write(&plan, "app = \"web\"\n[[stage]]\ngroup = \"canary\"\nsoak = \"1s\"\n").unwrap();
    let (folder, plan) = (app.folder().to_str().unwrap(), plan.to_str().unwrap());
    let start = ["rollout", "start", folder, "--plan", plan, "--yes", "--timeout", "2m"];
    world.publisher(&start).unwrap().expect(0).unwrap();
    check_topics(&world);

    let settings = world.node("pi-1").unwrap().folder().join("pi-worker.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("requests = [\"install\"]\n{text}")).unwrap();
    world.node("pi-1").unwrap().stop().unwrap();
    world.node("pi-1").unwrap().start().unwrap();
    orders_nothing(&world, &app);
}

/// Every JSON payload has the keys that the reference names, and is as it says.
fn check_topics(world: &World) {
    let reference = include_str!("../../../docs/topics.md");
    let retained = world.raw_publisher().unwrap().retained("deploybus/v1/#", QUIET).unwrap();
    let mut seen = Vec::new();
    for (topic, payload) in &retained {
        let Ok(Value::Object(said)) = serde_json::from_slice(payload) else { continue };
        let kind = topic.trim_start_matches("deploybus/v1/");
        let kind = kind
            .replace("pi-1", "<n>")
            .replace("app/web", "app/<app>")
            .replace("canary/web", "<group>/<app>");
        let row = reference.lines().find(|line| line.starts_with(&format!("| `{kind}` |")));
        let row = row.unwrap_or_else(|| panic!("{kind} is not in docs/topics.md"));
        for (key, value) in &said {
            assert!(row.contains(&format!("`{key}`")), "{kind} has `{key}`");
            assert!(key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{key}");
            assert!(!value.is_object() && (!value.is_array() || key == "groups"), "{kind} {key}: {value}");
            assert!(!value.is_null() || key == "update_percentage", "{kind} {key} is null");
            if key == "at" || key.ends_with("_at") {
                assert!(
                    value.as_str().is_some_and(|at| at.len() == 20 && at.ends_with('Z')),
                    "{key}: {value}"
                );
            }
        }
        assert!(!kind.starts_with("node/") || kind.ends_with("/update") || said["node"] == "pi-1", "{kind}");
        seen.push(kind);
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
}

/// Whoever has Home Assistant's password.
fn orders_nothing(world: &World, app: &App) {
    const RELEASE: &str = "deploybus/v1/release/canary/web";
    let add = ["user", "add", "homeassistant", "--role", "home-assistant", "--json"];
    let added: Value =
        serde_json::from_str(&world.publisher(&add).unwrap().expect(0).unwrap().stdout).unwrap();
    let port = world.ports().0;
    let connect = || Mqtt::connect(port, Some(("homeassistant", added["token"].as_str()?))).ok();
    let mut thief = wait_until("the user to be let in", PATIENCE, connect).unwrap();
    for what in ["rollback", "retry", "hold"] {
        let ask = format!("{{\"do\":\"{what}\",\"app\":\"web\"}}");
        thief.publish("deploybus/v1/node/pi-1/request", ask.as_bytes(), false).unwrap();
    }
    // Refused: an acknowledgement of MQTT 3.1.1 says nothing.
    drop(thief.publish(RELEASE, b"mine", true));
    let said = world.raw_publisher().unwrap().retained(RELEASE, QUIET).unwrap();
    assert_ne!(said[RELEASE], b"mine");
    // All of that was before this order, which the node follows as if there had been nothing.
    app.commit("1.2.0").unwrap();
    let (code, told) = world.announce(app, "canary").unwrap();
    assert_eq!(code, Some(0), "{told}");
    let before =
        |report: &schemas::report::Report| report.apps[0].previous.as_ref().map(|slot| slot.version.clone());
    assert_eq!(world.wait_report("pi-1", "what ran before", before).unwrap(), "1.1.0");
}
