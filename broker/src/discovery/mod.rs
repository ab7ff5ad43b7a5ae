//! Home Assistant is told what there is, so that devices and entities appear there by themselves.
//!
//! The bus service alone says it: one place knows Home Assistant, nodes need no right to write there, so a stolen one cannot plant
//! entities, and who is retired vanishes. Pure: what the bus shows and the time in, messages out. What was announced before, by this
//! process or an earlier one, is read on the bus; so only what changed is said.

mod device;
mod entities;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use rollout::Fleet;
use schemas::{
    id::{Digest, FleetId, NodeId},
    record::RecordStatus,
    status::availability,
    topic::{AssistantTopic, Kind, Topic},
};

use self::device::Device;
pub use self::settings::{HomeAssistantSettings, Style};
use crate::mirrors::{About, Mirrors};

/// What comes in so long is looked at together: a node that starts says several things at once.
const TOGETHER_MS: u64 = 200;
/// After its start Home Assistant is told everything again: so long it may wait for that at least, and at most.
const AGAIN_MS: (u64, u64) = (1_000, 10_000);

/// All that is said may have so many bytes: a half of what the broker keeps of one user, for orders of rollouts are kept there, too. A
/// node with one app takes 4,000.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// So many messages about our devices are remembered: many times those of the largest fleet that there is room for.
const MAX_SAID: usize = 20_000;

/// A message that is to be retained.
pub(crate) type Said = (Topic, Vec<u8>);
/// What is retained of a device, by its digest and its length: all of it lies with the broker already.
type Configs = BTreeMap<Topic, (Digest, usize)>;

/// What Home Assistant knows, and what is to be looked at.
#[derive(Debug)]
pub(crate) struct Discovery {
    style: Style,
    fleet: FleetId,
    /// What is retained, by device.
    said: BTreeMap<String, Configs>,
    /// Whose entities may be others by now; the bus is nobody's.
    changed: BTreeSet<Option<NodeId>>,
    /// Everything may be.
    has_changed: bool,
    /// Somebody was left out.
    is_full: bool,
    due_ms: Option<u64>,
    /// When all of it is to be said again.
    again_ms: Option<u64>,
}

impl Discovery {
    /// Nothing was said, and everything is to be looked at.
    pub(crate) fn new(style: Style, fleet: FleetId) -> Self {
        Self {
            style,
            fleet,
            said: BTreeMap::new(),
            changed: BTreeSet::new(),
            has_changed: true,
            is_full: false,
            due_ms: Some(0),
            again_ms: None,
        }
    }

    /// Home Assistant says something of itself, or something is said to it. `random` is any number.
    pub(crate) fn hear(&mut self, topic: &Topic, payload: &[u8], now_ms: u64, random: u64) {
        let Kind::Assistant(about) = &topic.kind else { return };
        if *about == AssistantTopic::Status && payload == availability::ONLINE.as_bytes() {
            let (least, most) = AGAIN_MS;
            self.again_ms = Some(now_ms + least + random % (most - least + 1));
        }
        let Some(id) = device_of(about) else { return };
        if device::is_of(&self.fleet, payload) {
            let is_known = self.said.get(id).is_some_and(|said| said.contains_key(topic));
            if !is_known && self.said.values().map(BTreeMap::len).sum::<usize>() >= MAX_SAID {
                // Somebody fills the memory; what is not ours is taken back when all is looked at, and that is not at each message.
                self.has_changed = true;
                self.due_ms.get_or_insert(now_ms + TOGETHER_MS);
                return;
            }
            self.said.entry(id.to_owned()).or_default().insert(topic.clone(), mark(payload));
        } else if let Some(said) = self.said.get_mut(id) {
            // Whoever removes a device in Home Assistant has it back when that starts again, or the device changes.
            said.remove(topic);
        }
    }

    /// Something was heard of somebody.
    pub(crate) fn touch(&mut self, about: &About, now_ms: u64) {
        self.changed.insert(match about {
            About::Node(node) => Some(node.clone()),
            About::Rollout => None,
        });
        self.due_ms.get_or_insert(now_ms + TOGETHER_MS);
    }

    /// Everything was read on the bus once more.
    pub(crate) fn look_at_all(&mut self, now_ms: u64) {
        self.has_changed = true;
        self.due_ms = Some(now_ms);
    }

    /// When it wants to look next.
    pub(crate) fn poll_timeout(&self) -> u64 {
        self.due_ms.into_iter().chain(self.again_ms).min().unwrap_or(u64::MAX)
    }

    /// What is to be said now; an empty payload takes back.
    pub(crate) fn look(&mut self, fleet: &Fleet, mirrors: &Mirrors, now_ms: u64) -> Vec<Said> {
        if self.again_ms.is_some_and(|again_ms| again_ms <= now_ms) {
            self.again_ms = None;
            // As if something else had been said of all.
            for (digest, _) in self.said.values_mut().flat_map(BTreeMap::values_mut) {
                *digest = Digest([0; 32]);
            }
            self.look_at_all(now_ms);
        }
        let mut news = Vec::new();
        if self.due_ms.is_some_and(|due_ms| due_ms <= now_ms) {
            self.due_ms = None;
            let mut changed = std::mem::take(&mut self.changed);
            if std::mem::take(&mut self.has_changed) {
                changed.insert(None);
                changed.extend(mirrors.nodes().keys().cloned().map(Some));
                // Of whom nothing is known any more, too.
                let id = |of: &Option<NodeId>| self.id(of.as_ref());
                let known: BTreeSet<String> = changed.iter().map(id).collect();
                let unknown = self.said.keys().filter(|id| !known.contains(*id)).cloned();
                for id in unknown.collect::<Vec<_>>() {
                    news.extend(self.change(&id, Vec::new()));
                }
            }
            for of in changed {
                let wanted = self.configs(of.as_ref(), fleet, mirrors);
                news.extend(self.change(&self.id(of.as_ref()), wanted));
            }
        }
        news
    }

    fn id(&self, of: Option<&NodeId>) -> String {
        of.map_or_else(|| self.fleet.to_string(), |node| device::id(&self.fleet, node))
    }

    /// What Home Assistant is to know of a node, or of the bus: nothing of who is not in the fleet.
    fn configs(&self, of: Option<&NodeId>, fleet: &Fleet, mirrors: &Mirrors) -> Vec<Said> {
        let Some(name) = of else { return Device::of_bus(&self.fleet, mirrors).configs(self.style) };
        let record = fleet.nodes().get(name).and_then(rollout::Node::record);
        let is_member = record.is_some_and(|record| record.status == RecordStatus::Active);
        let mirror = mirrors.nodes().get(name).filter(|_| is_member);
        let device = mirror.and_then(|mirror| Device::of_node(&self.fleet, name, mirror));
        device.map(|device| device.configs(self.style)).unwrap_or_default()
    }

    /// What has to be said for `wanted` to be all that is retained of a device. First what is taken back: an entity has one config.
    fn change(&mut self, id: &str, wanted: Vec<Said>) -> Vec<Said> {
        let before = self.said.remove(id).unwrap_or_default();
        let wanted = if self.has_room_for(&wanted) { wanted } else { Vec::new() };
        let configs: Configs = wanted.iter().map(|(topic, payload)| (topic.clone(), mark(payload))).collect();
        let old = before.keys().filter(|topic| !configs.contains_key(topic));
        let mut news: Vec<Said> = old.map(|topic| (topic.clone(), Vec::new())).collect();
        news.extend(wanted.into_iter().filter(|(topic, _)| before.get(topic) != configs.get(topic)));
        if !configs.is_empty() {
            self.said.insert(id.to_owned(), configs);
        }
        news
    }

    /// Whether somebody was left out since this was asked last.
    pub(crate) fn take_full(&mut self) -> bool {
        std::mem::take(&mut self.is_full)
    }

    fn has_room_for(&mut self, wanted: &[Said]) -> bool {
        let said: usize = self.said.values().flatten().map(|(_, (_, length))| *length).sum();
        let more: usize = wanted.iter().map(|(_, payload)| payload.len()).sum();
        let has_room = said + more <= MAX_BYTES;
        self.is_full |= !has_room;
        has_room
    }
}

fn mark(payload: &[u8]) -> (Digest, usize) {
    (Digest::of(payload), payload.len())
}

/// The device that a message is about.
fn device_of(topic: &AssistantTopic) -> Option<&str> {
    match topic {
        AssistantTopic::Status => None,
        AssistantTopic::Device(device) | AssistantTopic::Entity(_, device, _) => Some(device),
    }
}
