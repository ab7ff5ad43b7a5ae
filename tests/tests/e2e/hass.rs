//! The real Home Assistant: devices and entities appear by themselves, its buttons do what they say, and who is retired is gone;
//! meanwhile the page and the real Prometheus show the same.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use e2e::{App, HomeAssistant, Mqtt, Prometheus, World, get, hass_installed, prometheus_missing, wait_until};
use serde_json::Value;

const PATIENCE: Duration = Duration::from_mins(1);
const UPDATE: &str = "update.pi_1_web";
const EVENT: &str = "event.pi_1_event";
const ROLLOUT: &str = "sensor.deploybus_web_in_canary";
/// So many nodes are to appear at once.
const MANY: usize = 250;

#[test]
fn home_assistant_shows_the_fleet_and_its_buttons_work() {
    let Some((program, style)) = hass_installed() else {
        println!(
            "skipped: needs Home Assistant, which tests/tools installs where Python 3.13 or 3.11 is there"
        );
        return;
    };
    let (mut world, app) = World::serving().unwrap();
    let asks = "\n[hold]\nconsent = true\n";
    let settings = world.node("pi-1").unwrap().folder().join("pi-worker.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text + asks).unwrap();
    world.node("pi-1").unwrap().stop().unwrap();
    world.node("pi-1").unwrap().start().unwrap();
    let others = Others::start(&world);
    let (hass, token) = connect(&mut world, &program, style);

    is_as_the_node_is(&hass);
    others.show("1.0.0", "kept");
    installs(&world, &app, &hass, style == "device");
    others.show("1.1.0", "kept");
    goes_back(&world, &app, &hass, &others);
    halts_a_rollout(&world, &app, &hass, &others);
    let mut mqtt = Mqtt::connect(world.ports().0, Some(("homeassistant", &token))).unwrap();
    many_appear(&hass, &mut mqtt, style);

    world.publisher(&["node", "retire", "pi-1", "--yes"]).unwrap().expect(0).unwrap();
    let is_gone = || hass.state(UPDATE).is_none().then_some(());
    wait_until("the retired node to vanish", PATIENCE, is_gone).unwrap();
    others.has("absent(deploybus_node_info{node=\"pi-1\"})");
    assert!(hass.state("binary_sensor.pi_1_problem").is_none());
    let complaints = hass.complaints();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

/// Who else watches the fleet.
struct Others {
    page: u16,
    prometheus: Option<Prometheus>,
}

impl Others {
    fn start(world: &World) -> Self {
        let page = world.ports().1;
        if let Some(program) = prometheus_missing() {
            println!("skipped what Prometheus shows: needs {program}");
            return Self { page, prometheus: None };
        }
        Self { page, prometheus: Some(Prometheus::start(world.folder(), page).unwrap()) }
    }

    /// Waits until all of them show what the node has, and how its last order ended.
    fn show(&self, version: &str, verdict: &str) {
        let start = Instant::now();
        let has_page = || {
            let told = get(self.page, "/api/v1/status").ok()?;
            let told: Value = serde_json::from_str(&told.body).ok()?;
            let app = &told["nodes"].as_array()?.iter().find(|node| node["node"] == "pi-1")?["apps"][0];
            (app["installed"]["version"] == version && app["last_verdict"] == verdict).then_some(())
        };
        wait_until("the page to show the same", PATIENCE, has_page).unwrap();
        println!(
            "the page shows {version} {verdict} {} ms after Home Assistant",
            start.elapsed().as_millis()
        );
        self.has(&format!("deploybus_node_info{{node=\"pi-1\",version=\"{version}\"}}"));
    }

    fn has(&self, expression: &str) {
        self.prometheus.iter().for_each(|prometheus| drop(prometheus.wait(expression).unwrap()));
    }
}

/// Home Assistant on our bus, as its user; and that user's token.
fn connect(world: &mut World, program: &Path, style: &str) -> (HomeAssistant, String) {
    if style == "component" {
        let file = world.home().join("broker/broker.toml");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text + "\n[home_assistant]\ndiscovery = \"component\"\n").unwrap();
        world.stop_broker().unwrap();
        world.start_broker().unwrap();
    }
    let add = ["user", "add", "homeassistant", "--role", "home-assistant", "--json"];
    let added: Value =
        serde_json::from_str(&world.publisher(&add).unwrap().expect(0).unwrap().stdout).unwrap();
    let token = added["token"].as_str().unwrap().to_owned();
    let hass = HomeAssistant::start(program, world.folder()).unwrap();
    hass.add_mqtt(world.ports().0, "homeassistant", &token).unwrap();
    (hass, token)
}

fn is_as_the_node_is(hass: &HomeAssistant) {
    let shown = hass.wait(UPDATE, |state| state["attributes"]["installed_version"] == "1.0.0").unwrap();
    assert_eq!((&shown["state"], &shown["attributes"]["title"]), (&"off".into(), &"web".into()));
    for (entity, state) in [
        ("sensor.pi_1_web_version", "1.0.0"),
        ("sensor.pi_1_web_phase", "idle"),
        ("sensor.pi_1_web_last_result", "kept"),
        ("binary_sensor.pi_1_problem", "off"),
        ("binary_sensor.pi_1_connection", "on"),
        ("binary_sensor.deploybus_connection", "on"),
        ("sensor.deploybus_nodes", "1"),
    ] {
        hass.wait_state(entity, state).unwrap();
    }
    let is_number = |state: &Value| state["state"].as_str().is_some_and(|text| text.parse::<f64>().is_ok());
    hass.wait("sensor.pi_1_disk_free", is_number).unwrap();
    hass.wait("sensor.pi_1_started", |state| {
        state["state"].as_str().is_some_and(|text| text.starts_with("20"))
    })
    .unwrap();
}

fn installs(world: &World, app: &App, hass: &HomeAssistant, shows_progress: bool) {
    app.edit_file("deploybus.toml", "min_healthy = \"500ms\"", "min_healthy = \"2s\"").unwrap();
    app.commit("1.1.0").unwrap();
    world.announce_only(app, "canary").unwrap();
    let shown = hass.wait_state(UPDATE, "on").unwrap();
    assert_eq!(shown["attributes"]["latest_version"], "1.1.0");
    hass.call("update/install", UPDATE).unwrap();
    if shows_progress {
        let moves = |state: &Value| {
            state["attributes"]["in_progress"] == true
                && state["attributes"]["update_percentage"].as_f64().is_some_and(|percent| percent > 0.0)
        };
        hass.wait(UPDATE, moves).unwrap();
    }
    hass.wait_state("sensor.pi_1_web_phase", "trial").unwrap();
    let is_done = |state: &Value| {
        state["attributes"]["installed_version"] == "1.1.0" && state["attributes"]["in_progress"] == false
    };
    assert_eq!(hass.wait(UPDATE, is_done).unwrap()["state"], "off");
    hass.wait_state("sensor.pi_1_web_version", "1.1.0").unwrap();
}

/// A bad release is left, tried once more and left again; then what ran before comes back.
fn goes_back(world: &World, app: &App, hass: &HomeAssistant, others: &Others) {
    app.edit("HEALTHY = True", "raise SystemExit(3)").unwrap();
    app.commit("1.2.0").unwrap();
    world.announce_only(app, "canary").unwrap();
    hass.wait_state(UPDATE, "on").unwrap();
    hass.call("update/install", UPDATE).unwrap();
    let rolled_back = |state: &Value| state["attributes"]["event_type"] == "rolled_back";
    let first = hass.wait(EVENT, rolled_back).unwrap();
    assert_eq!(
        (&first["attributes"]["to"], &first["attributes"]["version"], &first["attributes"]["reason"]),
        (&"1.2.0".into(), &"1.1.0".into(), &"exited".into())
    );
    hass.wait_state("sensor.pi_1_web_last_result", "rolled_back").unwrap();
    others.show("1.1.0", "rolled_back");
    others.has("deploybus_updates_total{app=\"web\",result=\"rolled_back\"} > 0");
    hass.wait_state("sensor.pi_1_web_phase", "idle").unwrap();

    hass.call("button/press", "button.pi_1_web_retry").unwrap();
    hass.wait(EVENT, |state| rolled_back(state) && state["state"] != first["state"]).unwrap();
    hass.wait_state("sensor.pi_1_web_phase", "idle").unwrap();
    hass.wait_state("sensor.pi_1_web_version", "1.1.0").unwrap();

    hass.call("button/press", "button.pi_1_web_roll_back").unwrap();
    hass.wait_state("sensor.pi_1_web_version", "1.0.0").unwrap();
    hass.wait(UPDATE, |state| state["attributes"]["installed_version"] == "1.0.0").unwrap();
    app.edit("raise SystemExit(3)", "HEALTHY = True").unwrap();
}

fn halts_a_rollout(world: &World, app: &App, hass: &HomeAssistant, others: &Others) {
    app.commit("1.3.0").unwrap();
    let plan = world.folder().join("plan.toml");
    fs::write(&plan, "app = \"web\"\n[[stage]]\ngroup = \"canary\"\nsoak = \"1s\"\n").unwrap();
    let (folder, plan) = (app.folder().to_str().unwrap(), plan.to_str().unwrap());
    let start = ["rollout", "start", folder, "--plan", plan, "--yes", "--detach"];
    world.publisher(&start).unwrap().expect(0).unwrap();
    let running = hass.wait_state(ROLLOUT, "running").unwrap();
    assert_eq!(
        (&running["attributes"]["version"], &running["attributes"]["total"]),
        (&"1.3.0".into(), &1.into())
    );
    hass.call("button/press", "button.deploybus_web_halt").unwrap();
    hass.wait_state(ROLLOUT, "paused").unwrap();
    let said = world.publisher(&["rollout", "status", "web"]).unwrap().stdout;
    assert!(said.contains("somebody has halted it by a request"), "{said}");
    others.has("ALERTS{alertname=\"DeploybusRolloutStopped\",alertstate=\"firing\",app=\"web\"}");
    hass.call("button/press", "button.deploybus_web_resume").unwrap();
    hass.wait_state(ROLLOUT, "running").unwrap();
    // It waits for a yes: that of Home Assistant is one.
    hass.wait_state(UPDATE, "on").unwrap();
    hass.call("update/install", UPDATE).unwrap();
    hass.wait_state("sensor.pi_1_web_version", "1.3.0").unwrap();
    hass.wait_state(ROLLOUT, "completed").unwrap();
}

/// As many devices as a large house has, each like the one that is there; how long that takes is only shown.
fn many_appear(hass: &HomeAssistant, mqtt: &mut Mqtt, style: &str) {
    let quiet = Duration::from_millis(300);
    let configs = mqtt.retained("homeassistant/#", quiet).unwrap();
    let of_node: Vec<(&String, String)> = configs
        .iter()
        .filter(|(topic, _)| topic.contains("deploybus_pi-1"))
        .map(|(topic, payload)| (topic, String::from_utf8(payload.clone()).unwrap()))
        .collect();
    assert_eq!(of_node.len() == 1, style == "device", "{:?}", configs.keys());
    let bytes: usize = of_node.iter().map(|(_, payload)| payload.len()).sum();
    let name = |n: usize| format!("many-{n}");
    let start = Instant::now();
    for n in 0..MANY {
        for (topic, payload) in &of_node {
            // As those of another fleet: what is said of nodes that ours does not have is taken back.
            let payload = payload.replace("pi-1", &name(n)).replace("deploybus/v1/", "elsewhere/v1/");
            mqtt.publish(&topic.replace("pi-1", &name(n)), payload.as_bytes(), true).unwrap();
        }
    }
    let are_there = || (hass.count("update.many_").ok()? == MANY).then_some(());
    wait_until("250 nodes to appear", PATIENCE, are_there).unwrap();
    println!(
        "{MANY} nodes of {bytes} bytes each appear in {:.1} s ({style} style)",
        start.elapsed().as_secs_f64()
    );
    for n in 0..MANY {
        for (topic, _) in &of_node {
            mqtt.publish(&topic.replace("pi-1", &name(n)), b"", true).unwrap();
        }
    }
    let are_gone = || (hass.count("update.many_").ok()? == 0).then_some(());
    wait_until("250 nodes to vanish", PATIENCE, are_gone).unwrap();
}
