//! What nodes and controllers say as JSON, for people and tools. It carries no proof: what is made of it is shown, and decides nothing.

use std::collections::BTreeMap;

use schemas::{
    id::{AppId, FleetId, GroupId, NodeId},
    status::{Health, Info, Rollout, Status, Version},
    time::UnixTime,
    topic::{AppTopic, Filter, Kind, NodeTopic, Topic},
};
use serde::de::DeserializeOwned;

/// Apps of one node that are looked at: a stolen one is not to fill the memory, or the pages of others.
const MAX_APPS: usize = 64;

/// What was said last.
#[derive(Debug, Default)]
pub(crate) struct Mirrors {
    nodes: BTreeMap<NodeId, NodeMirror>,
    rollouts: BTreeMap<(GroupId, AppId), Rollout>,
}

/// What a node says.
#[derive(Debug, Default)]
pub(crate) struct NodeMirror {
    /// What it is.
    pub(crate) info: Option<Info>,
    /// How it is.
    pub(crate) health: Option<Health>,
    /// Its apps.
    pub(crate) apps: BTreeMap<AppId, AppMirror>,
    /// When it said something last, as far as is known.
    pub(crate) heard_at: UnixTime,
}

/// What a node says about an app.
#[derive(Debug, Default)]
pub(crate) struct AppMirror {
    /// What is installed.
    pub(crate) version: Option<Version>,
    /// What it does about an order.
    pub(crate) status: Option<Status>,
}

/// Whom a message was about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum About {
    /// A node.
    Node(NodeId),
    /// A rollout.
    Rollout,
}

/// What has to be read on the bus of `fleet`.
pub(crate) fn filters(fleet: &FleetId) -> Vec<Filter> {
    vec![
        Filter::all_nodes(fleet, &NodeTopic::Info),
        Filter::all_nodes(fleet, &NodeTopic::Health),
        Filter::all_apps(fleet, AppTopic::Version),
        Filter::all_apps(fleet, AppTopic::Status),
        Filter::rollouts(fleet),
    ]
}

impl Mirrors {
    /// Takes a message and says whom it was about. `now` is when it was said, unless it was told again.
    pub(crate) fn take(&mut self, topic: &Topic, payload: &[u8], now: Option<UnixTime>) -> Option<About> {
        match &topic.kind {
            Kind::Node(name, of) => self.take_of_node(name, of, payload, now),
            Kind::Rollout(group, app) => {
                let key = (group.clone(), app.clone());
                match read::<Rollout>(payload).filter(|said| said.group == *group && said.app == *app) {
                    Some(said) => self.rollouts.insert(key, said),
                    None => self.rollouts.remove(&key),
                };
                Some(About::Rollout)
            }
            _ => None,
        }
    }

    /// All nodes that said something.
    pub(crate) fn nodes(&self) -> &BTreeMap<NodeId, NodeMirror> {
        &self.nodes
    }

    /// All rollouts, one for each group that they go through.
    pub(crate) fn rollouts(&self) -> &BTreeMap<(GroupId, AppId), Rollout> {
        &self.rollouts
    }

    fn take_of_node(
        &mut self,
        name: &NodeId,
        of: &NodeTopic,
        payload: &[u8],
        now: Option<UnixTime>,
    ) -> Option<About> {
        if payload.is_empty() && !self.nodes.contains_key(name) {
            return None;
        }
        let node = self.nodes.entry(name.clone()).or_default();
        match of {
            NodeTopic::Info => node.info = read::<Info>(payload).filter(|info| info.node == *name),
            NodeTopic::Health => node.health = read::<Health>(payload).filter(|health| health.node == *name),
            NodeTopic::App(app, topic) => node.take_of_app(app, *topic, payload),
            _ => return None,
        }
        let said_at = node.health.as_ref().and_then(|health| health.at.time());
        node.heard_at = node.heard_at.max(now.or(said_at).unwrap_or_default());
        if node.is_nothing() {
            self.nodes.remove(name);
        }
        Some(About::Node(name.clone()))
    }
}

impl NodeMirror {
    fn take_of_app(&mut self, app: &AppId, topic: AppTopic, payload: &[u8]) {
        if !self.apps.contains_key(app) && (payload.is_empty() || self.apps.len() >= MAX_APPS) {
            return;
        }
        let mirror = self.apps.entry(app.clone()).or_default();
        match topic {
            AppTopic::Version => mirror.version = read(payload),
            AppTopic::Status => mirror.status = read(payload),
            AppTopic::Update => {}
        }
        if mirror.version.is_none() && mirror.status.is_none() {
            self.apps.remove(app);
        }
    }

    fn is_nothing(&self) -> bool {
        self.info.is_none() && self.health.is_none() && self.apps.is_empty()
    }
}

/// Nothing for what is no such payload, as for none at all.
fn read<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A topic of the fleet that tests have.
    pub(crate) fn topic(rest: &str) -> Topic {
        format!("home/v1/{rest}").parse().unwrap()
    }

    /// What a node of tests says of itself.
    pub(crate) fn info(node: &str, kind: &str, via: &str) -> String {
        format!(
            r#"{{"node":"{node}","kind":"{kind}","model":"Raspberry Pi 4","serial":"1000","via":"{via}","groups":["all"],"agent":"pi-worker 0.1.0","at":"2026-11-21T02:00:00Z"}}"#
        )
    }

    /// How it is.
    pub(crate) fn health(node: &str, temperature: &str) -> String {
        format!(
            r#"{{"node":"{node}","ok":true,"reason":"","started_at":"2026-11-20T22:00:00Z","uptime_s":14400,"disk_free_bytes":12884901888,{temperature}"memory_free_bytes":2147483648,"at":"2026-11-21T02:00:00Z"}}"#
        )
    }

    /// What is installed on it.
    pub(crate) fn version(node: &str, app: &str, version: &str) -> String {
        format!(
            r#"{{"node":"{node}","app":"{app}","installed":"{version}","previous":"","group":"all","tree_hash":"","commit":"","since":"2026-11-20T22:00:00Z","at":"2026-11-21T02:00:00Z"}}"#
        )
    }

    /// How a rollout stands.
    pub(crate) fn rollout(state: &str, ok: u64) -> String {
        format!(
            r#"{{"group":"all","app":"web","version":"1.1.0","state":"{state}","reason":"","total":6,"ok":{ok},"failed":1,"rolled_back":0,"updating":1,"pending":0,"offline":0,"started_at":"2026-11-20T22:00:00Z","at":"2026-11-21T02:00:00Z"}}"#
        )
    }

    #[test]
    fn what_is_said_last_counts_and_what_is_cleared_is_gone() {
        let (mut mirrors, pi): (_, NodeId) = (Mirrors::default(), "pi-1".parse().unwrap());
        let about = Some(About::Node(pi.clone()));
        let mut take = |rest: &str, payload: &str, now| mirrors.take(&topic(rest), payload.as_bytes(), now);
        assert_eq!(take("node/pi-1/info", &info("pi-1", "pi", ""), None), about);
        assert_eq!(take("node/pi-1/health", &health("pi-1", ""), None), about);
        assert_eq!(take("node/pi-1/app/web/version", &version("pi-1", "web", "1.0.0"), None), about);
        assert_eq!(take("node/pi-1/availability", "online", None), None);
        assert_eq!(take("rollout/all/web", &rollout("running", 4), None), Some(About::Rollout));
        let said_at = "2026-11-21T02:00:00Z".parse().unwrap();
        assert_eq!(mirrors.nodes()[&pi].heard_at, said_at);
        let later = UnixTime(said_at.0 + 7);
        mirrors.take(&topic("node/pi-1/health"), health("pi-1", "").as_bytes(), Some(later));
        assert_eq!((mirrors.nodes()[&pi].heard_at, mirrors.rollouts().len()), (later, 1));
        for rest in ["node/pi-1/app/web/version", "node/pi-1/health", "node/pi-1/info"] {
            assert_eq!(mirrors.take(&topic(rest), b"", None), about);
        }
        assert!(mirrors.nodes().is_empty());
        assert_eq!(mirrors.take(&topic("node/pi-1/info"), b"", None), None);
        mirrors.take(&topic("rollout/all/web"), b"", None);
        assert!(mirrors.rollouts().is_empty());
    }

    #[test]
    fn rubbish_is_nothing_and_no_node_fills_the_memory() {
        let mut mirrors = Mirrors::default();
        for payload in ["{", "[]", r#"{"node":"pi-2"}"#, &info("pi-2", "pi", "")] {
            mirrors.take(&topic("node/pi-1/info"), payload.as_bytes(), None);
        }
        assert!(mirrors.nodes().is_empty());
        for n in 0..1_000 {
            let app = format!("app-{n}");
            let said = version("pi-1", &app, "1.0.0");
            mirrors.take(&topic(&format!("node/pi-1/app/{app}/version")), said.as_bytes(), None);
        }
        assert_eq!(mirrors.nodes().values().map(|node| node.apps.len()).sum::<usize>(), MAX_APPS);
    }
}
