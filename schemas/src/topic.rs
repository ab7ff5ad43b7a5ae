//! The topics of the bus. [`Topic`] is the only place that knows how they are spelled.

use std::{fmt, str::FromStr};

use crate::id::{AppId, FleetId, GroupId, InvalidId, KeyId, NodeId, shown};

/// The wire major: the second level of every topic.
pub const MAJOR: &str = "v1";

/// One topic of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    /// Whose topic it is.
    pub fleet: FleetId,
    /// What is said there.
    pub kind: Kind,
}

/// What a topic is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Newest root document and the chain to it.
    Trust,
    /// Announcement of a release to a group.
    Release(GroupId, AppId),
    /// The bus service about itself.
    Bus(BusTopic),
    /// A rollout's progress, for people.
    Rollout(GroupId, AppId),
    /// What people want of the rollout of an app; signed by ops.
    Plan(AppId),
    /// What has become of the rollout of an app; signed by its controller.
    Course(AppId),
    /// A controller about itself.
    Controller(KeyId),
    /// A node, to it or from it.
    Node(NodeId, NodeTopic),
    /// A node that has this key asks to be let in.
    Enroll(KeyId),
    /// Home Assistant's own topics, in the place of a fleet's.
    Assistant(AssistantTopic),
    /// A node asks for a piece of an object.
    Want(NodeId),
    /// What it is given.
    Piece(NodeId),
}

/// What the bus service says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BusTopic {
    /// `online` or `offline`; the last will of the bus service.
    Availability,
    /// Version, start time, number of nodes.
    Info,
    /// What happened to a rollout just now; not retained.
    Event,
    /// Wishes of people and tools that nobody signed; not retained.
    Request,
}

/// What Home Assistant says of itself, and reads. The first level is [`assistant`] in the place of a fleet's id, the second none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AssistantTopic {
    /// `online` when it has started; not retained.
    Status,
    /// A device with all its entities.
    Device(String),
    /// One entity: its platform, its device, itself.
    Entity(String, String, String),
}

/// The first level of Home Assistant's own topics.
#[expect(clippy::missing_panics_doc, reason = "the text is an id")]
pub fn assistant() -> FleetId {
    "homeassistant".parse().expect("it is made of letters")
}

/// What is said to a node or by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeTopic {
    /// Signed by ops, not retained.
    Command,
    /// Signed by the node: the only state that is believed.
    Report,
    /// Signed by ops: key, groups, labels.
    Record,
    /// `online` or `offline`; the node's last will.
    Availability,
    /// What the node is.
    Info,
    /// How the node is.
    Health,
    /// What happened just now; not retained.
    Event,
    /// Log lines; not retained.
    Log,
    /// What an ask has come to, where it is one that has an answer; not retained.
    Answer,
    /// Wishes of people and tools.
    Request,
    /// One app on the node.
    App(AppId, AppTopic),
}

/// What a node says about one of its apps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AppTopic {
    /// What is installed.
    Version,
    /// The state of Home Assistant's update entity.
    Update,
    /// What the node does about an order.
    Status,
}

impl AppTopic {
    /// The last level.
    fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Update => "update",
            Self::Status => "status",
        }
    }
}

/// Why a text is not a topic of this bus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTopic {
    /// A level is not an id.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// Another wire major than ours.
    #[error("topic `{0}` is not of wire major {MAJOR}")]
    Major(String),
    /// No topic has this shape.
    #[error("topic `{0}` is unknown")]
    Unknown(String),
}

impl Kind {
    /// This kind as a topic of `fleet`.
    pub fn of(self, fleet: &FleetId) -> Topic {
        Topic { fleet: fleet.clone(), kind: self }
    }
}

impl Topic {
    /// Whether messages of this topic stay with the broker.
    pub fn is_retained(&self) -> bool {
        match &self.kind {
            Kind::Node(_, topic) => {
                use NodeTopic::{Answer, Command, Event, Log, Request};
                !matches!(topic, Command | Event | Log | Answer | Request)
            }
            Kind::Bus(topic) => !matches!(topic, BusTopic::Event | BusTopic::Request),
            Kind::Assistant(topic) => *topic != AssistantTopic::Status,
            Kind::Want(_) | Kind::Piece(_) => false,
            _ => true,
        }
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Kind::Assistant(topic) = &self.kind {
            return write!(f, "{}/{topic}", self.fleet);
        }
        write!(f, "{}/{MAJOR}/", self.fleet)?;
        match &self.kind {
            // Said above.
            Kind::Assistant(topic) => topic.fmt(f),
            Kind::Trust => f.write_str("trust"),
            Kind::Release(group, app) => write!(f, "release/{group}/{app}"),
            Kind::Bus(BusTopic::Availability) => f.write_str("bus/availability"),
            Kind::Bus(BusTopic::Info) => f.write_str("bus/info"),
            Kind::Bus(BusTopic::Event) => f.write_str("bus/event"),
            Kind::Bus(BusTopic::Request) => f.write_str("bus/request"),
            Kind::Rollout(group, app) => write!(f, "rollout/{group}/{app}"),
            Kind::Plan(app) => write!(f, "plan/{app}"),
            Kind::Course(app) => write!(f, "course/{app}"),
            Kind::Controller(key) => write!(f, "controller/{key}"),
            Kind::Node(node, topic) => write!(f, "node/{node}/{topic}"),
            Kind::Enroll(key) => write!(f, "enroll/request/{key}"),
            Kind::Want(node) => write!(f, "chunk/want/{node}"),
            Kind::Piece(node) => write!(f, "chunk/data/{node}"),
        }
    }
}

impl fmt::Display for AssistantTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status => f.write_str("status"),
            Self::Device(device) => write!(f, "device/{device}/config"),
            Self::Entity(platform, device, entity) => write!(f, "{platform}/{device}/{entity}/config"),
        }
    }
}

impl fmt::Display for NodeTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "command",
            Self::Report => "report",
            Self::Record => "record",
            Self::Availability => "availability",
            Self::Info => "info",
            Self::Health => "health",
            Self::Event => "event",
            Self::Log => "log",
            Self::Answer => "answer",
            Self::Request => "request",
            Self::App(app, topic) => return write!(f, "app/{app}/{}", topic.name()),
        })
    }
}

impl FromStr for Topic {
    type Err = InvalidTopic;

    fn from_str(text: &str) -> Result<Self, InvalidTopic> {
        let unknown = || InvalidTopic::Unknown(shown(text, 200));
        let levels: Vec<&str> = text.split('/').collect();
        let [fleet, major, rest @ ..] = levels.as_slice() else { return Err(unknown()) };
        let fleet = fleet.parse()?;
        if fleet == assistant() && *major != MAJOR {
            let kind = Kind::Assistant(parse_assistant_topic(&levels[1..]).ok_or_else(unknown)?);
            return Ok(Self { fleet, kind });
        }
        if *major != MAJOR {
            return Err(InvalidTopic::Major(shown(text, 200)));
        }
        let kind = match rest {
            ["trust"] => Kind::Trust,
            ["release", group, app] => Kind::Release(group.parse()?, app.parse()?),
            ["bus", "availability"] => Kind::Bus(BusTopic::Availability),
            ["bus", "info"] => Kind::Bus(BusTopic::Info),
            ["bus", "event"] => Kind::Bus(BusTopic::Event),
            ["bus", "request"] => Kind::Bus(BusTopic::Request),
            ["rollout", group, app] => Kind::Rollout(group.parse()?, app.parse()?),
            ["plan", app] => Kind::Plan(app.parse()?),
            ["course", app] => Kind::Course(app.parse()?),
            ["controller", key] => Kind::Controller(key.parse().map_err(|_| unknown())?),
            ["enroll", "request", key] => Kind::Enroll(key.parse().map_err(|_| unknown())?),
            ["chunk", "want", node] => Kind::Want(node.parse()?),
            ["chunk", "data", node] => Kind::Piece(node.parse()?),
            ["node", node, rest @ ..] => {
                Kind::Node(node.parse()?, parse_node_topic(rest)?.ok_or_else(unknown)?)
            }
            _ => return Err(unknown()),
        };
        Ok(Self { fleet, kind })
    }
}

fn parse_assistant_topic(levels: &[&str]) -> Option<AssistantTopic> {
    let is_id = |text: &&str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
    };
    if !levels.iter().all(is_id) {
        return None;
    }
    match *levels {
        ["status"] => Some(AssistantTopic::Status),
        ["device", device, "config"] => Some(AssistantTopic::Device(device.to_owned())),
        [platform, device, entity, "config"] => {
            Some(AssistantTopic::Entity(platform.to_owned(), device.to_owned(), entity.to_owned()))
        }
        _ => None,
    }
}

fn parse_node_topic(levels: &[&str]) -> Result<Option<NodeTopic>, InvalidId> {
    Ok(Some(match levels {
        ["command"] => NodeTopic::Command,
        ["report"] => NodeTopic::Report,
        ["record"] => NodeTopic::Record,
        ["availability"] => NodeTopic::Availability,
        ["info"] => NodeTopic::Info,
        ["health"] => NodeTopic::Health,
        ["event"] => NodeTopic::Event,
        ["log"] => NodeTopic::Log,
        ["answer"] => NodeTopic::Answer,
        ["request"] => NodeTopic::Request,
        ["app", app, "version"] => NodeTopic::App(app.parse()?, AppTopic::Version),
        ["app", app, "update"] => NodeTopic::App(app.parse()?, AppTopic::Update),
        ["app", app, "status"] => NodeTopic::App(app.parse()?, AppTopic::Status),
        _ => return Ok(None),
    }))
}

/// A subscription: a topic in which some levels are wildcards.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Filter(String);

impl Filter {
    /// All releases for a group: the one wildcard that nodes use.
    pub fn releases(fleet: &FleetId, group: &GroupId) -> Self {
        Self(format!("{fleet}/{MAJOR}/release/{group}/+"))
    }

    /// All announcements of a fleet.
    pub fn all_releases(fleet: &FleetId) -> Self {
        Self(format!("{fleet}/{MAJOR}/release/+/+"))
    }

    /// One kind of topic of every node: `record`, `report` or `availability`.
    pub fn all_nodes(fleet: &FleetId, topic: &NodeTopic) -> Self {
        Self(format!("{fleet}/{MAJOR}/node/+/{topic}"))
    }

    /// Everything that is said to a node or by it.
    pub fn of_node(fleet: &FleetId, node: &NodeId) -> Self {
        Self(format!("{fleet}/{MAJOR}/node/{node}/#"))
    }

    /// All nodes that ask to be let in.
    pub fn enrollments(fleet: &FleetId) -> Self {
        Self(format!("{fleet}/{MAJOR}/enroll/request/+"))
    }

    /// All questions for pieces of objects.
    pub fn wants(fleet: &FleetId) -> Self {
        Self(format!("{fleet}/{MAJOR}/chunk/want/+"))
    }

    /// All that people want of rollouts.
    pub fn plans(fleet: &FleetId) -> Self {
        Self(format!("{fleet}/{MAJOR}/plan/+"))
    }

    /// All that has become of rollouts.
    pub fn courses(fleet: &FleetId) -> Self {
        Self(format!("{fleet}/{MAJOR}/course/+"))
    }

    /// All controllers.
    pub fn controllers(fleet: &FleetId) -> Self {
        Self(format!("{fleet}/{MAJOR}/controller/+"))
    }

    /// All progress of rollouts, for people.
    pub fn rollouts(fleet: &FleetId) -> Self {
        Self(format!("{fleet}/{MAJOR}/rollout/+/+"))
    }

    /// One kind of topic of every app of every node.
    pub fn all_apps(fleet: &FleetId, topic: AppTopic) -> Self {
        Self(format!("{fleet}/{MAJOR}/node/+/app/+/{}", topic.name()))
    }

    /// Everything that Home Assistant says, or is told of devices, whoever tells it.
    pub fn assistant() -> Self {
        Self(format!("{}/#", assistant()))
    }

    /// Everything of a fleet.
    pub fn everything(fleet: &FleetId) -> Self {
        Self(format!("{fleet}/{MAJOR}/#"))
    }

    /// The filter as MQTT spells it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&Topic> for Filter {
    fn from(topic: &Topic) -> Self {
        Self(topic.to_string())
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_reads_back_as_itself() {
        let texts = [
            "deploybus/v1/trust",
            "deploybus/v1/release/canary/web",
            "deploybus/v1/bus/availability",
            "deploybus/v1/bus/info",
            "deploybus/v1/bus/event",
            "deploybus/v1/bus/request",
            "deploybus/v1/rollout/all/web",
            "deploybus/v1/plan/web",
            "deploybus/v1/course/web",
            "deploybus/v1/controller/0123456789abcdef",
            "deploybus/v1/enroll/request/0123456789abcdef",
            "deploybus/v1/chunk/want/pico-1",
            "deploybus/v1/chunk/data/pico-1",
            "deploybus/v1/node/pi-1/command",
            "deploybus/v1/node/pi-1/report",
            "deploybus/v1/node/pi-1/record",
            "deploybus/v1/node/pi-1/availability",
            "deploybus/v1/node/pi-1/info",
            "deploybus/v1/node/pi-1/health",
            "deploybus/v1/node/pi-1/event",
            "deploybus/v1/node/pi-1/log",
            "deploybus/v1/node/pi-1/request",
            "deploybus/v1/node/pi-1/app/web/version",
            "deploybus/v1/node/pi-1/app/web/update",
            "deploybus/v1/node/pi-1/app/web/status",
            "homeassistant/status",
            "homeassistant/device/deploybus_pi-1/config",
            "homeassistant/update/deploybus_pi-1/web/config",
            "homeassistant/v1/trust",
        ];
        for text in texts {
            assert_eq!(text.parse::<Topic>().unwrap().to_string(), text);
            assert!(text.split('/').count() <= 8);
        }
    }

    #[test]
    fn foreign_topics_are_refused() {
        for text in [
            "",
            "/",
            "a",
            "a/v1",
            "a/v2/trust",
            "a/v1/node/x",
            "A/v1/trust",
            "a/v1/node/x/app/y",
            "a/v1/trust/x",
            "a/v1/enroll/request/pi-1",
            "a/status",
            "homeassistant/device/pi 1/config",
            "homeassistant/device/x/y",
        ] {
            assert!(text.parse::<Topic>().is_err(), "{text}");
        }
    }
}
