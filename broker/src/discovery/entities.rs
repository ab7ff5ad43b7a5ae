//! What a node and the bus are to Home Assistant: which entities there are, and which topics they read.
//!
//! Pure. An entity is there only when the node says what it shows: a template that finds no value makes Home Assistant warn at every
//! message.

use schemas::{
    hold::{Ask, AskKind, BusAsk, BusAskKind},
    id::{AppId, FleetId, GroupId, NodeId},
    report::Verdict,
    status::{EventType, Info, Phase, availability},
    topic::{AppTopic, BusTopic, Kind, NodeTopic},
};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::mirrors::NodeMirror;

/// What stands where nothing has ended yet.
const NO_RESULT: &str = "none";
/// Health comes each minute: a figure that is so old says nothing.
const EXPIRES_AFTER_S: u32 = 600;
/// What is said of how a node is, in bytes, as people read it.
const GIB: u64 = 1024 * 1024 * 1024;

/// One entity.
#[derive(Debug)]
pub(super) struct Entity {
    /// The kind of entity.
    pub(super) platform: &'static str,
    /// What it is called within its device.
    pub(super) key: String,
    /// All but its platform and what all of the device have in common.
    pub(super) config: Map<String, Value>,
}

impl Entity {
    fn new(platform: &'static str, key: impl Into<String>, name: impl Into<String>) -> Self {
        let mut entity = Self { platform, key: key.into(), config: Map::new() };
        entity.set("name", name.into());
        // Without it state would be read, and things asked for, at most once.
        entity.set("qos", 1);
        entity
    }

    fn set(&mut self, key: &str, value: impl Into<Value>) {
        self.config.insert(key.to_owned(), value.into());
    }

    fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.set(key, value);
        self
    }

    fn diagnostic(self) -> Self {
        self.with("entity_category", "diagnostic")
    }
}

/// The topics of a fleet, as texts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Topics<'a>(pub(super) &'a FleetId);

impl Topics<'_> {
    fn node(self, node: &NodeId, topic: NodeTopic) -> String {
        Kind::Node(node.clone(), topic).of(self.0).to_string()
    }

    fn bus(self, topic: BusTopic) -> String {
        Kind::Bus(topic).of(self.0).to_string()
    }

    /// Where it is said whether the bus service is there.
    pub(super) fn bus_availability(self) -> Value {
        json!({ "topic": self.bus(BusTopic::Availability) })
    }

    /// Where it is said whether a node is there.
    pub(super) fn availability(self, node: &NodeId) -> Value {
        json!({ "topic": self.node(node, NodeTopic::Availability) })
    }
}

/// The entities of a node.
pub(super) fn of_node(topics: Topics<'_>, name: &NodeId, node: &NodeMirror) -> Vec<Entity> {
    let event_types: Vec<&str> = EventType::ALL.iter().map(|event| event.name()).collect();
    let mut entities = vec![
        connection(topics.node(name, NodeTopic::Availability))
            // Else it could never say that the node is gone.
            .with("availability", json!([topics.bus_availability()])),
    ];
    let hears = node.info.as_ref().is_none_or(hears);
    if hears {
        entities.push(
            Entity::new("event", "event", "Event")
                .with("state_topic", topics.node(name, NodeTopic::Event))
                .with("event_types", event_types),
        );
    }
    if let Some(health) = &node.health {
        entities.extend(of_health(&topics.node(name, NodeTopic::Health), health.temperature_c.is_some()));
    }
    entities.extend(node.apps.keys().flat_map(|app| of_app(topics, name, app, hears)));
    entities
}

/// Whether a node hears what is asked of it, and tells what happens as events: a Pico W on Wi-Fi follows its groups and nothing else.
fn hears(info: &Info) -> bool {
    info.kind != "pico_w" || !info.via.is_empty()
}

fn connection(topic: String) -> Entity {
    Entity::new("binary_sensor", "connection", "Connection")
        .with("state_topic", topic)
        .with("payload_on", availability::ONLINE)
        .with("payload_off", availability::OFFLINE)
        .with("device_class", "connectivity")
        .diagnostic()
}

fn of_health(topic: &str, has_temperature: bool) -> Vec<Entity> {
    let sensor = |key: &str, name: &str, value: &str| {
        Entity::new("sensor", key, name).with("state_topic", topic).with("value_template", value)
    };
    let mut entities = vec![
        Entity::new("binary_sensor", "problem", "Problem")
            .with("state_topic", topic)
            .with("value_template", "{{ 'OFF' if value_json.ok else 'ON' }}")
            .with("json_attributes_topic", topic)
            .with("json_attributes_template", attribute("reason"))
            .with("device_class", "problem"),
        sensor("started", "Started", "{{ value_json.started_at }}")
            .with("device_class", "timestamp")
            .diagnostic(),
        sensor(
            "disk_free",
            "Disk free",
            &format!("{{{{ (value_json.disk_free_bytes / {GIB}) | round(2) }}}}"),
        )
        .with("device_class", "data_size")
        .with("unit_of_measurement", "GiB")
        .with("state_class", "measurement")
        .diagnostic(),
    ];
    if has_temperature {
        entities.push(
            sensor("temperature", "Temperature", "{{ value_json.temperature_c }}")
                .with("device_class", "temperature")
                .with("unit_of_measurement", "°C")
                .with("state_class", "measurement")
                .with("expire_after", EXPIRES_AFTER_S)
                .diagnostic(),
        );
    }
    entities
}

fn of_app(topics: Topics<'_>, node: &NodeId, app: &AppId, hears: bool) -> Vec<Entity> {
    let topic = |topic| topics.node(node, NodeTopic::App(app.clone(), topic));
    let sensor = |key: &str, name: &str, from: AppTopic, value: &str| {
        Entity::new("sensor", format!("{app}_{key}"), format!("{app} {name}"))
            .with("state_topic", topic(from))
            .with("value_template", value)
    };
    let phases: Vec<&str> = Phase::ALL.iter().map(|phase| phase.name()).collect();
    let results: Vec<&str> =
        [NO_RESULT].into_iter().chain(Verdict::ALL.iter().map(|verdict| verdict.name())).collect();
    let request = topics.node(node, NodeTopic::Request);
    let ask = |what| json_text(&Ask::new(what, app.clone()));
    let button = |key: &str, name: &str, what| {
        Entity::new("button", format!("{app}_{key}"), format!("{app} {name}"))
            .with("command_topic", request.clone())
            .with("payload_press", ask(what))
            .with("entity_category", "config")
    };
    let update = Entity::new("update", format!("{app}_update"), app.as_str())
        .with("state_topic", topic(AppTopic::Update));
    let mut entities = vec![
        sensor("version", "version", AppTopic::Version, "{{ value_json.installed }}").diagnostic(),
        sensor("phase", "phase", AppTopic::Status, "{{ value_json.phase }}")
            .with("device_class", "enum")
            .with("options", phases),
        sensor(
            "last_result",
            "last result",
            AppTopic::Status,
            &format!("{{{{ value_json.last_result or '{NO_RESULT}' }}}}"),
        )
        .with("device_class", "enum")
        .with("options", results)
        .with("json_attributes_topic", topic(AppTopic::Status))
        .with("json_attributes_template", attribute("last_error"))
        .diagnostic(),
    ];
    if hears {
        let install = ask(AskKind::Install);
        entities.push(update.with("command_topic", request.clone()).with("payload_install", install));
        entities.push(button("roll_back", "roll back", AskKind::Rollback));
        entities.push(button("retry", "retry", AskKind::Retry));
    } else {
        entities.push(update);
    }
    entities
}

/// The entities of the bus service, and of the rollouts on it.
pub(super) fn of_bus<'a>(
    topics: Topics<'_>,
    rollouts: impl Iterator<Item = &'a (GroupId, AppId)>,
) -> Vec<Entity> {
    let info = topics.bus(BusTopic::Info);
    let mut entities = vec![
        connection(topics.bus(BusTopic::Availability)).with("availability", json!([])),
        Entity::new("sensor", "nodes", "Nodes")
            .with("state_topic", info)
            .with("value_template", "{{ value_json.nodes }}")
            .with("state_class", "measurement")
            .diagnostic(),
    ];
    let mut last = None;
    // By app, whose rollout goes through several groups.
    let mut rollouts: Vec<_> = rollouts.map(|(group, app)| (app, group)).collect();
    rollouts.sort_unstable();
    for (app, group) in rollouts {
        let topic = Kind::Rollout(group.clone(), app.clone()).of(topics.0).to_string();
        entities.push(
            Entity::new("sensor", format!("rollout_{group}__{app}"), format!("{app} in {group}"))
                .with("state_topic", topic.clone())
                .with("value_template", "{{ value_json.state }}")
                .with("json_attributes_topic", topic),
        );
        if last.replace(app) != Some(app) {
            entities.extend(of_rollout(topics, app));
        }
    }
    entities
}

fn of_rollout(topics: Topics<'_>, app: &AppId) -> [Entity; 2] {
    [(BusAskKind::Halt, "halt"), (BusAskKind::Resume, "resume")].map(|(what, name)| {
        Entity::new("button", format!("{name}_{app}"), format!("{app} {name}"))
            .with("command_topic", topics.bus(BusTopic::Request))
            .with("payload_press", json_text(&BusAsk { what, app: app.clone() }))
    })
}

/// One attribute. A topic that is cleared has none, which is no reason for a warning.
fn attribute(key: &str) -> String {
    format!("{{{{ ({{'{key}': value_json.{key}}} if value_json is defined else {{}}) | tojson }}}}")
}

fn json_text(ask: &impl Serialize) -> String {
    serde_json::to_string(ask).expect("names are always JSON")
}
