//! A device with its entities, as Home Assistant reads it in either style. Pure.

use schemas::{
    id::{FleetId, NodeId},
    status::Info,
    topic::{AssistantTopic, BusTopic, Kind, Topic, assistant},
};
use serde_json::{Map, Value, json};

use super::{
    entities::{self, Entity, Topics},
    settings::Style,
};
use crate::mirrors::{Mirrors, NodeMirror};

/// Longest text of a node that stands on its page.
const MAX_TEXT_CHARS: usize = 100;
/// The fleet of whoever has no other needs no name.
const DEFAULT_FLEET: &str = "deploybus";
/// Who announces all this.
const ORIGIN: &str = "Deploybus";

/// A device.
#[derive(Debug)]
pub(super) struct Device {
    /// Its name in topics, and the beginning of those of its entities.
    id: String,
    about: Value,
    availability: Vec<Value>,
    entities: Vec<Entity>,
}

/// The name of a node's device.
pub(super) fn id(fleet: &FleetId, node: &NodeId) -> String {
    format!("{fleet}_{node}")
}

/// Whether `payload` announces a device of `fleet`: another fleet may have a name that begins with this one's.
pub(super) fn is_of(fleet: &FleetId, payload: &[u8]) -> bool {
    let mark = format!("\"{}\"", Kind::Bus(BusTopic::Availability).of(fleet));
    payload.windows(mark.len()).any(|part| part == mark.as_bytes())
}

impl Device {
    /// A node, once it has said what it is.
    pub(super) fn of_node(fleet: &FleetId, name: &NodeId, node: &NodeMirror) -> Option<Self> {
        let info = node.info.as_ref()?;
        let topics = Topics(fleet);
        let via: Option<NodeId> = info.via.parse().ok().filter(|via| via != name);
        let mut availability = vec![topics.bus_availability()];
        availability.extend(via.as_ref().map(|via| topics.availability(via)));
        availability.push(topics.availability(name));
        let above = via.map_or_else(|| fleet.to_string(), |via| id(fleet, &via));
        let mut device = about(info);
        device.insert("identifiers".to_owned(), json!([id(fleet, name)]));
        device.insert("name".to_owned(), json!(name));
        device.insert("via_device".to_owned(), json!(above));
        Some(Self {
            id: id(fleet, name),
            about: Value::Object(device),
            availability,
            entities: entities::of_node(topics, name, node),
        })
    }

    /// The bus service, with the rollouts on it.
    pub(super) fn of_bus(fleet: &FleetId, mirrors: &Mirrors) -> Self {
        let topics = Topics(fleet);
        let about = json!({
            "identifiers": [fleet],
            "name": if fleet.as_str() == DEFAULT_FLEET { ORIGIN.to_owned() } else { format!("{ORIGIN} {fleet}") },
            "model": "broker",
            "sw_version": env!("CARGO_PKG_VERSION"),
        });
        Self {
            id: fleet.to_string(),
            about,
            availability: vec![topics.bus_availability()],
            entities: entities::of_bus(topics, mirrors.rollouts().keys()),
        }
    }

    /// What is to be retained where, for Home Assistant to show it.
    pub(super) fn configs(self, style: Style) -> Vec<(Topic, Vec<u8>)> {
        match style {
            Style::Device => vec![self.whole()],
            Style::Component => self.parts(),
            Style::Off => Vec::new(),
        }
    }

    fn whole(self) -> (Topic, Vec<u8>) {
        let topic = Kind::Assistant(AssistantTopic::Device(self.id.clone())).of(&assistant());
        let mut components = Map::new();
        for Entity { platform, key, mut config } in self.entities {
            config.insert("platform".to_owned(), json!(platform));
            config.insert("unique_id".to_owned(), json!(format!("{}_{key}", self.id)));
            components.insert(key, Value::Object(config));
        }
        let config = json!({
            "device": self.about,
            "origin": origin(),
            "availability": self.availability,
            "availability_mode": "all",
            "components": components,
        });
        (topic, config.to_string().into_bytes())
    }

    fn parts(self) -> Vec<(Topic, Vec<u8>)> {
        let common = [
            ("device", self.about),
            ("origin", origin()),
            ("availability", json!(self.availability)),
            ("availability_mode", json!("all")),
        ];
        let part = |Entity { platform, key, mut config }: Entity| {
            config.insert("unique_id".to_owned(), json!(format!("{}_{key}", self.id)));
            for (name, value) in &common {
                config.entry(*name).or_insert_with(|| value.clone());
            }
            let topic = AssistantTopic::Entity(platform.to_owned(), self.id.clone(), key);
            (Kind::Assistant(topic).of(&assistant()), Value::Object(config).to_string().into_bytes())
        };
        self.entities.into_iter().map(part).collect()
    }
}

fn origin() -> Value {
    json!({ "name": ORIGIN, "sw_version": env!("CARGO_PKG_VERSION") })
}

/// What is known of a node's hardware and software.
fn about(info: &Info) -> Map<String, Value> {
    let texts = [("model", &info.model), ("serial_number", &info.serial), ("sw_version", &info.agent)];
    let is_known = |text: &str| !text.is_empty() && text != "unknown";
    let short = |text: &str| text.chars().take(MAX_TEXT_CHARS).collect::<String>();
    let known = texts.into_iter().filter(|(_, text)| is_known(text));
    known.map(|(key, text)| (key.to_owned(), json!(short(text)))).collect()
}
