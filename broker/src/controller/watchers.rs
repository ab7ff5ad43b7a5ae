//! What people and tools are told that no rollout depends on: that the bus service is there, and what Home Assistant needs to know.

use rollout::{Change, Desk, course::Now};
use schemas::{
    hold::BusAsk,
    id::FleetId,
    record::RecordStatus,
    status::{BusInfo, availability},
    time::UnixTime,
    topic::{BusTopic, Filter, Kind, Topic},
};

use tracing::warn;

use crate::{
    discovery::{Discovery, Style},
    metrics::FleetFacts,
    mirrors::{self, About, Mirrors},
};

/// Records come in one burst: so long the number of nodes may be an old one.
const TOGETHER_MS: u64 = 200;

/// What is heard and said for people and tools.
#[derive(Debug)]
pub(super) struct Watchers {
    fleet: FleetId,
    mirrors: Mirrors,
    discovery: Discovery,
    started_at: UnixTime,
    said: Option<BusInfo>,
    /// When to look whether something is to be said of the bus itself.
    due_ms: Option<u64>,
    /// Somebody has said for us that we are gone.
    is_said_gone: bool,
    /// It was said that not all nodes are announced.
    has_warned: bool,
}

/// What else has to be read on the bus of `fleet`.
pub(super) fn filters(fleet: &FleetId) -> Vec<Filter> {
    let bus = [BusTopic::Availability, BusTopic::Request];
    let own = bus.map(|topic| Filter::from(&Kind::Bus(topic).of(fleet)));
    mirrors::filters(fleet).into_iter().chain(own).chain([Filter::assistant()]).collect()
}

/// Whether the bus service is there, as its topic says it.
pub(super) fn presence(fleet: &FleetId, is_there: bool) -> (Topic, Vec<u8>) {
    let word = if is_there { availability::ONLINE } else { availability::OFFLINE };
    (Kind::Bus(BusTopic::Availability).of(fleet), word.into())
}

/// What somebody asks of a rollout; nothing for anything else. One that the bus kept was meant for what was then.
pub(super) fn asked(topic: &Topic, payload: &[u8], is_new: bool) -> Option<BusAsk> {
    let is_ask = is_new && topic.kind == Kind::Bus(BusTopic::Request);
    is_ask.then(|| serde_json::from_slice(payload).ok()).flatten()
}

impl Watchers {
    /// Nothing was heard, and nothing said.
    pub(super) fn new(fleet: FleetId, style: Style, started_at: UnixTime) -> Self {
        let discovery = Discovery::new(style, fleet.clone());
        Self {
            fleet,
            mirrors: Mirrors::default(),
            discovery,
            started_at,
            said: None,
            due_ms: Some(0),
            is_said_gone: false,
            has_warned: false,
        }
    }

    /// Takes a message. `random` is any number.
    pub(super) fn hear(
        &mut self,
        topic: &Topic,
        payload: &[u8],
        is_new: bool,
        now: Now,
        random: impl FnOnce() -> u64,
    ) {
        match &topic.kind {
            Kind::Assistant(_) => self.discovery.hear(topic, payload, now.mono_ms, random()),
            Kind::Bus(BusTopic::Availability) => {
                self.is_said_gone = payload != availability::ONLINE.as_bytes();
                self.due_ms = self.due_ms.or(self.is_said_gone.then_some(now.mono_ms));
            }
            _ => {
                if let Some(about) = self.mirrors.take(topic, payload, is_new.then_some(now.wall)) {
                    self.discovery.touch(&about, now.mono_ms);
                }
            }
        }
    }

    /// The fleet has taken a change.
    pub(super) fn observe(&mut self, change: &Change, now: Now) {
        if let Change::Record(node) = change {
            self.discovery.touch(&About::Node(node.clone()), now.mono_ms);
            self.due_ms.get_or_insert(now.mono_ms + TOGETHER_MS);
        }
    }

    /// Everything that the bus keeps was read.
    pub(super) fn has_read(&mut self, now: Now) {
        self.said = None;
        self.is_said_gone = true;
        self.due_ms = Some(now.mono_ms);
        self.discovery.look_at_all(now.mono_ms);
    }

    /// What is measured of the fleet.
    pub(super) fn facts(&self, desk: &Desk) -> FleetFacts {
        FleetFacts::of(desk.fleet(), &self.mirrors)
    }

    /// When to look next, by the clock that never jumps.
    pub(super) fn poll_timeout(&self) -> u64 {
        self.due_ms.unwrap_or(u64::MAX).min(self.discovery.poll_timeout())
    }

    /// What is to be said now.
    pub(super) fn look(&mut self, desk: &Desk, now: Now) -> Vec<(Topic, Vec<u8>)> {
        let mut news = self.discovery.look(desk.fleet(), &self.mirrors, now.mono_ms);
        if self.discovery.take_full() && !std::mem::replace(&mut self.has_warned, true) {
            warn!(
                "the fleet is too large to be announced to Home Assistant as a whole: some nodes are left out"
            );
        }
        if self.due_ms.is_some_and(|due_ms| due_ms <= now.mono_ms) {
            self.due_ms = None;
            if std::mem::take(&mut self.is_said_gone) {
                news.push(presence(&self.fleet, true));
            }
            news.extend(self.info(desk, now.wall));
        }
        news
    }

    /// `bus/info`, when it says something new.
    fn info(&mut self, desk: &Desk, at: UnixTime) -> Option<(Topic, Vec<u8>)> {
        let records = desk.fleet().nodes().values().filter_map(rollout::Node::record);
        let info = BusInfo {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at.into(),
            nodes: records.filter(|record| record.status == RecordStatus::Active).count() as u64,
            at: at.into(),
        };
        if self.said.as_ref().is_some_and(|said| said.nodes == info.nodes) {
            return None;
        }
        let payload = serde_json::to_vec(&info).expect("texts and numbers are always JSON");
        self.said = Some(info);
        Some((Kind::Bus(BusTopic::Info).of(&self.fleet), payload))
    }
}

#[cfg(test)]
mod tests {
    use rollout::{Event, samples};
    use schemas::topic::NodeTopic;
    use serde_json::Value;

    use super::*;

    /// A desk that has heard of these nodes, and watchers that have read the bus.
    fn read(nodes: &[&str]) -> (samples::Sample, Desk, Watchers) {
        let sample = samples::Sample::new();
        let mut watchers = Watchers::new("home".parse().unwrap(), Style::Off, samples::NOW);
        let mut desk = samples::desk(sample.empty_fleet());
        for name in nodes {
            let (topic, record) = (sample.topic(name, NodeTopic::Record), sample.record(name, &["all"]));
            desk.handle(Event::Message(&topic, &record), samples::at(0));
        }
        watchers.has_read(samples::at(0));
        (sample, desk, watchers)
    }

    fn texts(news: Vec<(Topic, Vec<u8>)>) -> Vec<(String, String)> {
        news.into_iter()
            .map(|(topic, payload)| (topic.to_string(), String::from_utf8(payload).unwrap()))
            .collect()
    }

    #[test]
    fn that_it_is_there_and_how_many_nodes_there_are_is_said_and_said_anew_when_that_changes() {
        let (sample, mut desk, mut watchers) = read(&["pi-1", "pi-2"]);
        let said = texts(watchers.look(&desk, samples::at(0)));
        assert_eq!(said[0], ("home/v1/bus/availability".into(), "online".into()));
        let info: Value = serde_json::from_str(&said[1].1).unwrap();
        let keys: Vec<&str> = info.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((keys, &info["nodes"]), (vec!["at", "nodes", "started_at", "version"], &Value::from(2)));
        assert!(
            info.as_object().unwrap().values().all(|value| value.is_string() || value.is_u64()),
            "{info}"
        );
        assert!(info["at"].as_str().unwrap().ends_with('Z'));
        assert_eq!(watchers.poll_timeout(), u64::MAX);

        let (topic, record) = (sample.topic("pi-2", NodeTopic::Record), sample.revoked("pi-2"));
        let change = desk.handle(Event::Message(&topic, &record), samples::at(1)).unwrap();
        watchers.observe(&change, samples::at(1));
        assert_eq!(watchers.poll_timeout(), samples::at(1).mono_ms + TOGETHER_MS);
        let said = texts(watchers.look(&desk, samples::at(2)));
        assert!(said.len() == 1 && said[0].1.contains("\"nodes\":1"), "{said:?}");
        watchers.observe(&change, samples::at(3));
        assert!(watchers.look(&desk, samples::at(4)).is_empty());
    }

    #[test]
    fn whoever_says_that_it_is_gone_while_it_is_there_is_answered() {
        let (_, desk, mut watchers) = read(&[]);
        watchers.look(&desk, samples::at(0));
        let (topic, _) = presence(&"home".parse().unwrap(), false);
        watchers.hear(&topic, b"online", true, samples::at(1), || 0);
        assert!(watchers.look(&desk, samples::at(1)).is_empty());
        watchers.hear(&topic, b"offline", true, samples::at(2), || 0);
        assert_eq!(texts(watchers.look(&desk, samples::at(2))), [(topic.to_string(), "online".to_owned())]);
    }

    #[test]
    fn only_what_is_asked_just_now_is_an_ask() {
        let topic = "home/v1/bus/request".parse().unwrap();
        let ask = br#"{"do":"halt","app":"web"}"#;
        assert!(asked(&topic, ask, true).is_some() && asked(&topic, ask, false).is_none());
        assert!(asked(&topic, b"{", true).is_none());
        assert!(asked(&"home/v1/bus/event".parse().unwrap(), ask, true).is_none());
    }
}
