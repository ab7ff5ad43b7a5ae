use rollout::samples::Sample;
use schemas::topic::NodeTopic;
use serde_json::{Value, json};

use super::*;
use crate::mirrors::tests::{health, info, rollout as course, topic, version};

/// A fleet of a Pi and a Pico behind it, and what was said to Home Assistant.
struct Play {
    sample: Sample,
    fleet: Fleet,
    mirrors: Mirrors,
    discovery: Discovery,
    retained: BTreeMap<String, Vec<u8>>,
    now_ms: u64,
}

impl Play {
    fn new(style: Style) -> Self {
        let sample = Sample::new();
        let fleet = sample.fleet(&[("pi-1", None), ("pico-1", None)]);
        let discovery = Discovery::new(style, "home".parse().unwrap());
        let (mirrors, retained) = (Mirrors::default(), BTreeMap::new());
        let mut play = Self { sample, fleet, mirrors, discovery, retained, now_ms: 0 };
        play.says("node/pi-1/info", &info("pi-1", "pi", ""));
        play.says("node/pi-1/health", &health("pi-1", r#""temperature_c":48.3,"#));
        play.says("node/pi-1/app/web/version", &version("pi-1", "web", "1.0.0"));
        play.says("node/pico-1/info", &info("pico-1", "pico", "pi-1"));
        play.says("rollout/all/web", &course("running", 4));
        play
    }

    /// Somebody says something.
    fn says(&mut self, rest: &str, payload: &str) {
        if let Some(about) = self.mirrors.take(&topic(rest), payload.as_bytes(), None) {
            self.discovery.touch(&about, self.now_ms);
        }
    }

    /// Home Assistant says something, or somebody says it to it.
    fn hears(&mut self, topic: &str, payload: &[u8]) {
        self.discovery.hear(&topic.parse().unwrap(), payload, self.now_ms, 4_000);
    }

    /// So much later: the topics of what is said.
    fn wait(&mut self, ms: u64) -> Vec<String> {
        self.now_ms += ms;
        let news = self.discovery.look(&self.fleet, &self.mirrors, self.now_ms);
        for (topic, payload) in &news {
            self.retained.insert(topic.to_string(), payload.clone());
        }
        self.retained.retain(|_, payload| !payload.is_empty());
        news.into_iter().map(|(topic, _)| topic.to_string()).collect()
    }

    /// Another process, which reads what the bus keeps.
    fn restart(&mut self, style: Style) {
        self.discovery = Discovery::new(style, "home".parse().unwrap());
        for (topic, payload) in self.retained.clone() {
            self.hears(&topic, &payload);
        }
    }

    fn retire(&mut self, name: &str) {
        let record = self.sample.revoked(name);
        self.fleet.take(&self.sample.topic(name, NodeTopic::Record), &record);
        self.says(&format!("node/{name}/info"), "");
        self.discovery.touch(&About::Node(name.parse().unwrap()), self.now_ms);
    }

    fn config(&self, topic: &str) -> Value {
        serde_json::from_slice(&self.retained[topic]).unwrap()
    }
}

const DEVICES: [&str; 3] = [
    "homeassistant/device/home/config",
    "homeassistant/device/home_pi-1/config",
    "homeassistant/device/home_pico-1/config",
];

#[test]
fn what_home_assistant_is_told() {
    let mut play = Play::new(Style::Device);
    assert_eq!(play.wait(0), DEVICES);
    for (name, topic) in ["bus", "pi", "pico"].into_iter().zip(DEVICES) {
        insta::assert_json_snapshot!(name, play.config(topic));
    }
}

#[test]
fn what_an_older_home_assistant_is_told() {
    let mut play = Play::new(Style::Component);
    play.wait(0);
    let topics: Vec<&String> = play.retained.keys().collect();
    insta::assert_json_snapshot!("component_topics", topics);
    insta::assert_json_snapshot!(
        "component",
        play.config("homeassistant/update/home_pi-1/web_update/config")
    );
    // The same entities, in either style.
    let names = |value: &Value| value["components"].as_object().unwrap().len();
    let mut whole = Play::new(Style::Device);
    whole.wait(0);
    let count: usize = DEVICES.iter().map(|topic| names(&whole.config(topic))).sum();
    assert_eq!(count, play.retained.len());
    assert_eq!(
        play.config("homeassistant/binary_sensor/home_pi-1/connection/config")["availability"],
        json!([{ "topic": "home/v1/bus/availability" }])
    );
}

#[test]
fn only_what_changed_is_said_and_only_sensors_that_a_node_has() {
    let mut play = Play::new(Style::Device);
    play.wait(0);
    let keys = |play: &Play, topic: &str| -> Vec<String> {
        play.config(topic)["components"].as_object().unwrap().keys().cloned().collect()
    };
    assert_eq!(keys(&play, DEVICES[2]), ["connection", "event"]);
    play.says("node/pi-1/health", &health("pi-1", r#""temperature_c":51.0,"#));
    play.says("node/pico-1/health", &health("pico-1", ""));
    assert_eq!(play.discovery.poll_timeout(), 200);
    assert_eq!(play.wait(199), [] as [&str; 0]);
    assert_eq!(play.wait(1), [DEVICES[2]]);
    assert_eq!(keys(&play, DEVICES[2]), ["connection", "disk_free", "event", "problem", "started"]);
    play.says("rollout/canary/web", &course("running", 5).replace("\"all\"", "\"canary\""));
    assert_eq!(play.wait(500), [DEVICES[0]]);
    assert_eq!(play.discovery.poll_timeout(), u64::MAX);
}

#[test]
fn a_node_that_is_retired_or_that_nobody_has_signed_is_not_there() {
    let mut play = Play::new(Style::Device);
    play.says("node/stranger/info", &info("stranger", "pi", ""));
    assert_eq!(play.wait(0), DEVICES);
    play.retire("pi-1");
    assert_eq!(play.wait(500), [DEVICES[1]]);
    assert!(!play.retained.contains_key(DEVICES[1]));
}

#[test]
fn what_was_said_before_a_restart_is_known_and_what_is_left_over_goes() {
    let mut play = Play::new(Style::Device);
    play.wait(0);
    play.restart(Style::Device);
    assert_eq!(play.wait(0), [] as [&str; 0]);
    // Away while a node was retired.
    play.retire("pico-1");
    play.restart(Style::Device);
    assert_eq!(play.wait(0), [DEVICES[2]]);
    // In another style: first the old ones go.
    play.restart(Style::Component);
    let said = play.wait(0);
    assert_eq!(said.iter().filter(|topic| DEVICES.contains(&topic.as_str())).count(), 2);
    assert!(!play.retained.keys().any(|topic| topic.contains("/device/")));
    play.restart(Style::Off);
    assert_eq!(play.wait(0).len(), said.len() - 2);
    assert!(play.retained.is_empty());
}

#[test]
fn what_others_announce_is_theirs() {
    let mut play = Play::new(Style::Off);
    for (topic, payload) in [
        ("homeassistant/device/home_lamp/config", r#"{"device":{"identifiers":["x"]}}"#),
        (
            "homeassistant/device/home_of_others/config",
            r#"{"availability":[{"topic":"home_of/v1/bus/availability"}]}"#,
        ),
        ("homeassistant/light/home/lamp/config", "no JSON"),
    ] {
        play.hears(topic, payload.as_bytes());
    }
    assert_eq!(play.wait(0), [] as [&str; 0]);
}

#[test]
fn when_home_assistant_starts_it_is_told_everything_once_more() {
    let mut play = Play::new(Style::Device);
    play.wait(0);
    play.hears("homeassistant/status", b"offline");
    assert_eq!(play.discovery.poll_timeout(), u64::MAX);
    play.hears("homeassistant/status", b"online");
    assert_eq!(play.discovery.poll_timeout(), 5_000);
    assert_eq!(play.wait(4_999), [] as [&str; 0]);
    assert_eq!(play.wait(1), DEVICES);
    assert_eq!(play.wait(60_000), [] as [&str; 0]);
    for random in [0, u64::MAX, 9_000, 9_001] {
        let start = play.now_ms;
        play.discovery.hear(&"homeassistant/status".parse().unwrap(), b"online", start, random);
        assert!((1_000..=10_000).contains(&(play.discovery.poll_timeout() - start)), "{random}");
    }
}

#[test]
fn a_device_that_somebody_removed_comes_back_with_its_next_change() {
    let mut play = Play::new(Style::Device);
    play.wait(0);
    play.hears(DEVICES[1], b"");
    assert_eq!(play.wait(60_000), [] as [&str; 0]);
    play.says("node/pi-1/health", &health("pi-1", r#""temperature_c":51.0,"#));
    assert_eq!(play.wait(500), [DEVICES[1]]);
}

#[test]
fn a_fleet_too_large_for_home_assistant_leaves_room_for_rollouts() {
    let mut play = Play::new(Style::Device);
    let apps = |name: &str| (0..64).map(|n| format!("node/{name}/app/app-{n}/version")).collect::<Vec<_>>();
    let names: Vec<String> = (0..160).map(|n| format!("big-{n}")).collect();
    for name in &names {
        let record = play.sample.record(name, &["all"]);
        play.fleet.take(&play.sample.topic(name, NodeTopic::Record), &record);
        play.says(&format!("node/{name}/info"), &info(name, "pi", ""));
        for (n, topic) in apps(name).into_iter().enumerate() {
            play.says(&topic, &version(name, &format!("app-{n}"), "1.0.0"));
        }
    }
    play.wait(0);
    let bytes: usize = play.retained.values().map(Vec::len).sum();
    assert!((MAX_BYTES / 2..=MAX_BYTES).contains(&bytes), "{bytes}");
    assert!(play.discovery.take_full() && !play.discovery.take_full());
}

#[test]
fn who_makes_devices_of_ours_up_fills_no_memory() {
    let mut play = Play::new(Style::Device);
    play.wait(0);
    let ours = play.retained.len();
    for n in 0..MAX_SAID + 1_000 {
        let topic = format!("homeassistant/device/home_{n}/config");
        play.hears(&topic, br#"{"availability":[{"topic":"home/v1/bus/availability"}]}"#);
    }
    assert_eq!(play.discovery.said.values().map(BTreeMap::len).sum::<usize>(), MAX_SAID);
    play.wait(TOGETHER_MS);
    assert_eq!((play.discovery.said.len(), play.retained.len()), (ours, ours), "they are taken back");
}

#[test]
fn a_pico_on_wi_fi_has_no_button_that_it_does_not_hear() {
    let mut play = Play::new(Style::Device);
    let record = play.sample.record("pico-2", &["all"]);
    play.fleet.take(&play.sample.topic("pico-2", NodeTopic::Record), &record);
    play.says("node/pico-2/info", &info("pico-2", "pico_w", ""));
    play.says("node/pico-2/app/blink/version", &version("pico-2", "blink", "1.0.0"));
    play.wait(0);
    let topic = play.retained.keys().find(|topic| topic.contains("pico-2")).unwrap().clone();
    let config = play.config(&topic);
    let entities = config["cmps"].as_object().or(config["components"].as_object()).unwrap();
    let platforms: Vec<_> = entities.values().map(|entity| entity["platform"].as_str().unwrap()).collect();
    assert!(platforms.contains(&"update") && platforms.contains(&"sensor"), "{platforms:?}");
    assert!(!platforms.contains(&"button") && !platforms.contains(&"event"), "{platforms:?}");
    assert!(entities.values().all(|entity| entity.get("command_topic").is_none()), "{config}");
}
