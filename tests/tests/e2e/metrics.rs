//! The real Prometheus scrapes the broker, its rules fire, and every panel of Grafana's dashboard has something to show.

use std::{fs, time::Duration};

use e2e::{Mqtt, Prometheus, World, get, packaging, prometheus_missing, promtool, wait_until};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);
const AT: &str = "2026-11-21T02:00:00Z";

#[test]
fn prometheus_scrapes_warns_and_has_what_grafana_shows() {
    if let Some(program) = prometheus_missing() {
        println!("skipped: needs {program}");
        return;
    }
    let rules = packaging("prometheus/deploybus.rules.test.yml");
    promtool(&["test", "rules", rules.to_str().unwrap()]).unwrap();

    let (mut world, app) = World::serving().unwrap();
    let prometheus = Prometheus::start(world.folder(), world.ports().1).unwrap();
    add_pico(&mut world);
    app.commit("1.1.0").unwrap();
    app.edit("HEALTHY = True", "raise SystemExit(3)").unwrap();
    let plan = world.folder().join("plan.toml");
    fs::write(&plan, "app = \"web\"\n[[stage]]\ngroup = \"canary\"\n").unwrap();
    let folder = app.folder().to_str().unwrap();
    let start = ["rollout", "start", folder, "--plan", plan.to_str().unwrap(), "--yes"];
    world.publisher(&start).unwrap().expect(7).unwrap();

    let alert = |name: &str| format!("ALERTS{{alertname=\"{name}\",alertstate=\"firing\"}}");
    let fired = prometheus.wait(&alert("DeploybusRolloutStopped")).unwrap();
    assert_eq!((&fired[0]["metric"]["app"], &fired[0]["metric"]["group"]), (&json!("web"), &json!("canary")));
    prometheus.wait(&alert("DeploybusRolloutFailing")).unwrap();
    assert!(prometheus.ask(&alert("DeploybusVerificationFailure")).unwrap().is_empty());
    for (expression, value) in [
        (r#"deploybus_updates_total{app="web",group="canary",result="installed"}"#, "1"),
        (r#"deploybus_updates_total{app="web",group="canary",result="rolled_back"}"#, "1"),
        (r#"deploybus_node_up{node="pi-1",kind="pi"}"#, "1"),
        (r#"deploybus_node_info{node="pico-1",kind="pico",via="pi-1",version="0.3.0"}"#, "1"),
        (r#"deploybus_rollout_nodes{app="web",group="canary",version="1.1.0",state="rolled_back"}"#, "1"),
        (r#"deploybus_rollout_halted{app="web",group="canary"}"#, "1"),
    ] {
        let is_so =
            || prometheus.ask(expression).ok()?.into_iter().find(|series| series["value"][1] == value);
        wait_until(expression, PATIENCE, is_so).unwrap_or_else(|error| {
            panic!("{error}: {:?}", prometheus.ask(expression));
        });
    }
    check_names(&world);
    check_dashboard(&prometheus);
}

/// What is scraped is as Prometheus wants it, and has no digest in it.
fn check_names(world: &World) {
    let text = get(world.ports().1, "/metrics").unwrap().body;
    let file = world.folder().join("metrics");
    fs::write(&file, &text).unwrap();
    let checked = e2e::Output::of(
        std::process::Command::new("sh").arg("-c").arg(format!("promtool check metrics <{}", file.display())),
    );
    checked.unwrap().expect(0).unwrap();
    let is_digest = |word: &str| word.len() >= 40 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(!text.split(|c: char| !c.is_ascii_alphanumeric()).any(is_digest), "{text}");
    for name in ["mqtt_connections", "mqtt_retained_messages", "mqtt_messages_total", "mqtt_dropped_total"] {
        assert!(text.contains(&format!("\ndeploybus_{name}")), "no {name} in {text}");
    }
}

/// Each query of each panel has an answer.
fn check_dashboard(prometheus: &Prometheus) {
    let text = fs::read_to_string(packaging("grafana/deploybus.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let variables =
        [("$__rate_interval", "10s"), ("$__range", "1h"), ("$app", ".*"), ("$group", ".*"), ("$node", ".*")];
    let mut count = 0;
    for target in targets {
        let written = target["expr"].as_str().unwrap().to_owned();
        let expression = variables.iter().fold(written, |text, (name, value)| text.replace(name, value));
        assert!(!expression.contains('$'), "{expression}");
        prometheus.wait(&expression).unwrap();
        count += 1;
    }
    assert!(count > 20, "{count} queries");
    // Nothing has to be there just now, but they have to be expressions.
    for note in dashboard["annotations"]["list"].as_array().unwrap() {
        prometheus.ask(note["expr"].as_str().unwrap()).unwrap();
    }
}

/// A Pico behind the Pi, with a sensor that this machine may lack, as its bridge would speak for it.
fn add_pico(world: &mut World) {
    let port = world.ports().0;
    let folder = world.register_node("pico-1", &["canary-picos"]).unwrap().folder().to_owned();
    let password = fs::read_to_string(folder.join("password")).unwrap();
    let connected = || Mqtt::connect_as_node("pico-1", port, password.trim_end()).ok();
    let mut bridge = wait_until("pico-1 to be let in", PATIENCE, connected).unwrap();
    let says = [
        ("availability", "online".to_owned()),
        (
            "info",
            json!({ "node": "pico-1", "kind": "pico", "model": "Raspberry Pi Pico", "serial": "E66", "via": "pi-1", "groups": [], "agent": "bridge", "at": AT })
                .to_string(),
        ),
        (
            "health",
            json!({ "node": "pico-1", "ok": true, "reason": "", "started_at": AT, "uptime_s": 1, "disk_free_bytes": 2_097_152, "temperature_c": 31.5, "memory_free_bytes": 1, "at": AT })
                .to_string(),
        ),
        (
            "app/pump/version",
            json!({ "node": "pico-1", "app": "pump", "installed": "0.3.0", "previous": "", "group": "canary-picos", "tree_hash": "", "commit": "", "since": AT, "at": AT })
                .to_string(),
        ),
    ];
    for (topic, payload) in says {
        bridge.publish(&format!("deploybus/v1/node/pico-1/{topic}"), payload.as_bytes(), true).unwrap();
    }
}
