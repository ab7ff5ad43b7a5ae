//! The fleet as the bus shows it. Pure: topics and payloads in, a [`Fleet`] out.
//!
//! Only what verifies is believed: orders and records by the fleet's root, reports by the key of the node's record.
//! Retained messages come in any order, so a report waits for the record that proves it.

use std::collections::BTreeMap;

use schemas::{
    announcement::{Announced, Announcement},
    enroll::{Request, words},
    id::{AppId, GroupId, KeyId, NodeId, PublicKey, Revision},
    record::{Record, RecordStatus},
    report::{AppReport, Report},
    root::Trust,
    seal::{Signed, Verified},
    status::availability,
    topic::{Kind, NodeTopic, Topic},
};

use crate::rollouts::Rollouts;

/// What was said on the bus, and what of it is believed.
#[derive(Debug, Clone)]
pub struct Fleet {
    trust: Trust,
    orders: BTreeMap<(GroupId, AppId), Belief<Ordered>>,
    /// As they came, until other keys can prove them.
    order_bytes: BTreeMap<(GroupId, AppId), Vec<u8>>,
    nodes: BTreeMap<NodeId, Node>,
    requests: BTreeMap<KeyId, Verified<Request>>,
    rollouts: Rollouts,
}

/// A document, or why it is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Belief<T> {
    /// It verifies.
    Believed(T),
    /// It does not, and why.
    NotBelieved(String),
}

impl<T> Belief<T> {
    /// The document, when it is believed.
    pub fn believed(&self) -> Option<&T> {
        match self {
            Self::Believed(document) => Some(document),
            Self::NotBelieved(_) => None,
        }
    }
}

/// An announcement as it came and as it was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordered {
    /// As it came, to be kept or published again.
    pub announcement: Announcement,
    /// What it says.
    pub announced: Announced,
}

/// One node.
#[derive(Debug, Clone, Default)]
pub struct Node {
    record: Option<Belief<Verified<Record>>>,
    /// The record as it came, to be kept.
    record_bytes: Vec<u8>,
    report: Option<Belief<Verified<Report>>>,
    /// The bytes of the report, until another record can prove them.
    report_bytes: Vec<u8>,
    /// Why something that came in the place of what is believed is not: that stays, for anybody may write rubbish or nothing there.
    record_doubt: Option<String>,
    report_doubt: Option<String>,
    online: Option<bool>,
}

/// What a message changed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// The order of an app for a group.
    Order(GroupId, AppId),
    /// A node that asks to be let in.
    Request(KeyId),
    /// A node's record.
    Record(NodeId),
    /// A node's report.
    Report(NodeId),
    /// Whether a node is online.
    Availability(NodeId),
    /// What people want of the rollout of an app.
    Plan(AppId),
    /// What has become of the rollout of an app.
    Course(AppId),
    /// A controller.
    Controller(KeyId),
}

impl Node {
    /// The record, when it is believed.
    pub fn record(&self) -> Option<&Verified<Record>> {
        self.record.as_ref()?.believed()
    }

    /// The report, when it is believed.
    pub fn report(&self) -> Option<&Verified<Report>> {
        self.report.as_ref()?.believed()
    }

    /// The record as it came; it is believed when [`Self::record`] gives it.
    pub fn record_bytes(&self) -> &[u8] {
        &self.record_bytes
    }

    /// What the node says about `app`, when it is believed.
    pub fn app(&self, app: &AppId) -> Option<&AppReport> {
        self.report()?.apps.iter().find(|report| report.app == *app)
    }

    /// Whether its session is there; `None` when it never was.
    pub fn online(&self) -> Option<bool> {
        self.online
    }

    /// Why its record or its report is not believed.
    pub fn disbelief(&self) -> Option<&str> {
        let record = self.record_doubt.as_deref().or_else(|| self.record.as_ref().and_then(reason));
        let report = || self.report_doubt.as_deref().or_else(|| self.report.as_ref().and_then(reason));
        record.or_else(report)
    }

    /// Whether it was retired.
    pub fn is_retired(&self) -> bool {
        self.record().is_some_and(|record| record.status == RecordStatus::Revoked)
    }

    /// Whether it is an active member of `group`.
    pub fn is_in(&self, group: &GroupId) -> bool {
        self.record()
            .is_some_and(|record| record.status == RecordStatus::Active && record.groups.contains(group))
    }

    fn judge_report(&mut self, trust: &Trust, name: &NodeId) {
        if self.report_bytes.is_empty() {
            if self.is_retired() {
                self.report = None;
            }
            return;
        }
        let key = self.record().map(|record| record.key);
        let judged = judge_report(&self.report_bytes, key, trust, name);
        match (&self.report, &judged) {
            (Some(Belief::Believed(old)), Belief::Believed(new))
                if (new.boot, new.seq) < (old.boot, old.seq) => {}
            (Some(Belief::Believed(_)), Belief::NotBelieved(text)) => self.report_doubt = Some(text.clone()),
            _ => (self.report, self.report_doubt) = (Some(judged), None),
        }
    }

    /// Takes a record, unless what is believed is newer or better proven.
    fn judge_record(&mut self, payload: &[u8], trust: &Trust, name: &NodeId) {
        if payload.is_empty() {
            return;
        }
        let judged = judge_record(payload, trust, name);
        match (&self.record, &judged) {
            (Some(Belief::Believed(old)), Belief::Believed(new)) if new.seq < old.seq => {}
            (Some(Belief::Believed(_)), Belief::NotBelieved(text)) => self.record_doubt = Some(text.clone()),
            _ => {
                (self.record, self.record_doubt) = (Some(judged), None);
                self.record_bytes = payload.to_vec();
            }
        }
    }
}

fn reason<T>(belief: &Belief<T>) -> Option<&str> {
    match belief {
        Belief::Believed(_) => None,
        Belief::NotBelieved(reason) => Some(reason),
    }
}

impl Fleet {
    /// A fleet of which nothing was heard yet.
    pub fn new(trust: Trust) -> Self {
        Self {
            trust,
            orders: BTreeMap::new(),
            order_bytes: BTreeMap::new(),
            nodes: BTreeMap::new(),
            requests: BTreeMap::new(),
            rollouts: Rollouts::default(),
        }
    }

    /// By which keys messages are believed.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Believes by other keys from now on, and judges everything again that was heard.
    pub(crate) fn believe_by(&mut self, trust: Trust) {
        self.trust = trust;
        for (name, node) in &mut self.nodes {
            let bytes = &node.record_bytes;
            node.record = (!bytes.is_empty()).then(|| judge_record(bytes, &self.trust, name));
            node.report = None;
            (node.record_doubt, node.report_doubt) = (None, None);
            node.judge_report(&self.trust, name);
        }
        for ((group, app), bytes) in std::mem::take(&mut self.order_bytes) {
            self.take_order(&group, &app, &bytes);
        }
        self.rollouts.judge_again(&self.trust);
    }

    /// Takes a message and says what it was about; nothing when this view has no place for it.
    pub fn take(&mut self, topic: &Topic, payload: &[u8]) -> Option<Change> {
        if topic.fleet != *self.trust.fleet() {
            return None;
        }
        match &topic.kind {
            Kind::Release(group, app) => {
                self.take_order(group, app, payload);
                Some(Change::Order(group.clone(), app.clone()))
            }
            Kind::Enroll(key) => {
                let request = Signed::<Request>::from_bytes(payload)
                    .and_then(|signed| signed.verify_own(self.trust.fleet()));
                match request {
                    Ok(request) if request.key.id() == *key => self.requests.insert(*key, request),
                    _ => self.requests.remove(key),
                };
                Some(Change::Request(*key))
            }
            Kind::Node(name, NodeTopic::Record) => {
                self.take_record(name, payload);
                Some(Change::Record(name.clone()))
            }
            Kind::Node(name, NodeTopic::Report) => {
                let node = self.nodes.entry(name.clone()).or_default();
                node.report_bytes = payload.to_vec();
                node.judge_report(&self.trust, name);
                Some(Change::Report(name.clone()))
            }
            Kind::Node(name, NodeTopic::Availability) => {
                let online = (!payload.is_empty()).then(|| payload == availability::ONLINE.as_bytes());
                self.nodes.entry(name.clone()).or_default().online = online;
                Some(Change::Availability(name.clone()))
            }
            Kind::Plan(app) => {
                self.rollouts.take_plan(app, payload, &self.trust);
                Some(Change::Plan(app.clone()))
            }
            Kind::Course(app) => {
                self.rollouts.take_course(app, payload, self.trust.fleet());
                Some(Change::Course(app.clone()))
            }
            Kind::Controller(key) => {
                self.rollouts.take_controller(*key, payload, self.trust.fleet());
                Some(Change::Controller(*key))
            }
            _ => None,
        }
    }

    /// What is said of rollouts.
    pub fn rollouts(&self) -> &Rollouts {
        &self.rollouts
    }

    /// All nodes that were heard of, by name.
    pub fn nodes(&self) -> &BTreeMap<NodeId, Node> {
        &self.nodes
    }

    /// The nodes that ask to be let in, by their keys. Each has its key; the name is its wish.
    pub fn requests(&self) -> &BTreeMap<KeyId, Verified<Request>> {
        &self.requests
    }

    /// The six words that a node which asks shows, too, when nobody in between has put in another root or key.
    pub fn words(&self, request: &Request) -> String {
        words(&self.trust.digest(), &request.key)
    }

    /// The present orders, by group and app.
    pub fn orders(&self) -> &BTreeMap<(GroupId, AppId), Belief<Ordered>> {
        &self.orders
    }

    /// The order of an app for a group, when it is believed.
    pub fn order(&self, group: &GroupId, app: &AppId) -> Option<&Ordered> {
        self.orders.get(&(group.clone(), app.clone()))?.believed()
    }

    /// The orders that are believed.
    pub fn believed_orders(&self) -> impl Iterator<Item = &Ordered> {
        self.orders.values().filter_map(Belief::believed)
    }

    /// The highest revision on the bus, as far as it is believed.
    pub fn highest_revision(&self) -> Revision {
        let of_orders = self.believed_orders().map(|ordered| ordered.announced.order.revision).max();
        // What is set aside for a controller is taken.
        of_orders.max(self.rollouts.highest_revision()).unwrap_or_default()
    }

    fn take_order(&mut self, group: &GroupId, app: &AppId, payload: &[u8]) {
        let key = (group.clone(), app.clone());
        if payload.is_empty() {
            self.orders.remove(&key);
            self.order_bytes.remove(&key);
            return;
        }
        self.order_bytes.insert(key.clone(), payload.to_vec());
        let judged = Announcement::from_bytes(payload).and_then(|announcement| {
            let announced = announcement.verify(&self.trust, group, app)?;
            Ok(Ordered { announcement, announced })
        });
        self.orders.insert(key, belief(judged));
    }

    fn take_record(&mut self, name: &NodeId, payload: &[u8]) {
        let node = self.nodes.entry(name.clone()).or_default();
        let key = node.record().map(|record| record.key);
        node.judge_record(payload, &self.trust, name);
        if node.record().map(|record| record.key) != key {
            // Numbers of another key say nothing about this one's.
            node.report = None;
            node.judge_report(&self.trust, name);
        }
    }
}

fn belief<T, E: std::error::Error>(judged: Result<T, E>) -> Belief<T> {
    match judged {
        Ok(document) => Belief::Believed(document),
        Err(error) => Belief::NotBelieved(error.to_string()),
    }
}

fn judge_record(bytes: &[u8], trust: &Trust, name: &NodeId) -> Belief<Verified<Record>> {
    match Signed::<Record>::from_bytes(bytes).and_then(|signed| signed.verify(trust)) {
        Ok(record) if record.node != *name => Belief::NotBelieved(format!("record is about {}", record.node)),
        judged => belief(judged),
    }
}

fn judge_report(
    bytes: &[u8],
    key: Option<PublicKey>,
    trust: &Trust,
    name: &NodeId,
) -> Belief<Verified<Report>> {
    let Some(key) = key else {
        return Belief::NotBelieved("no record says which key signs its reports".to_owned());
    };
    match Signed::<Report>::from_bytes(bytes).and_then(|signed| signed.verify_by(&key, trust.fleet())) {
        Ok(report) if report.node != *name => Belief::NotBelieved(format!("report is about {}", report.node)),
        judged => belief(judged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Sample;

    #[test]
    fn a_report_waits_for_the_record_that_proves_it() {
        let sample = Sample::new();
        let mut fleet = sample.empty_fleet();
        fleet.take(&sample.topic("pi-1", NodeTopic::Report), &sample.report("pi-1", 1, vec![]));
        let pi = "pi-1".parse().unwrap();
        assert_eq!(fleet.nodes()[&pi].disbelief(), Some("no record says which key signs its reports"));
        fleet.take(&sample.topic("pi-1", NodeTopic::Record), &sample.record("pi-1", &["canary"]));
        assert!(fleet.nodes()[&pi].report().is_some() && fleet.nodes()[&pi].disbelief().is_none());
    }

    #[test]
    fn what_another_signed_is_not_believed() {
        let (sample, other) = (Sample::new(), Sample::of("stranger"));
        let mut fleet = sample.empty_fleet();
        let pi: NodeId = "pi-1".parse().unwrap();
        fleet.take(&sample.topic("pi-1", NodeTopic::Record), &sample.record("pi-1", &["canary"]));
        fleet.take(&sample.topic("pi-1", NodeTopic::Report), &sample.report("pi-2", 1, vec![]));
        assert_eq!(fleet.nodes()[&pi].disbelief(), Some("report has 0 of 1 valid signatures"));
        fleet.take(&sample.topic("pi-1", NodeTopic::Record), &other.record("pi-1", &["canary"]));
        assert_eq!(fleet.nodes()[&pi].disbelief(), Some("record has 0 of 1 valid signatures"));
        let (group, app) = ("canary".parse().unwrap(), "web".parse().unwrap());
        let topic = Kind::Release(group, app).of(sample.trust.fleet());
        fleet.take(&topic, &other.announcement(1, 1, "1.0.0").to_bytes());
        assert_eq!(fleet.believed_orders().count(), 0);
        assert!(matches!(fleet.orders().values().next(), Some(Belief::NotBelieved(_))));
        fleet.take(&topic, b"");
        assert!(fleet.orders().is_empty());
    }

    #[test]
    fn what_is_believed_stays_when_rubbish_or_nothing_comes_in_its_place() {
        let (sample, other) = (Sample::new(), Sample::of("stranger"));
        let mut fleet = sample.fleet(&[("pi-1", None)]);
        let (record, report) =
            (sample.topic("pi-1", NodeTopic::Record), sample.topic("pi-1", NodeTopic::Report));
        for payload in [b"".to_vec(), b"rubbish".to_vec(), other.record("pi-1", &["kitchen"])] {
            fleet.take(&record, &payload);
            fleet.take(&report, &payload);
            let node = &fleet.nodes()[&"pi-1".parse().unwrap()];
            assert!(node.is_in(&"canary".parse().unwrap()) && node.report().is_some());
            assert_eq!(node.disbelief().is_some(), !payload.is_empty());
        }
    }

    #[test]
    fn an_older_report_of_the_same_key_changes_nothing() {
        let sample = Sample::new();
        let mut fleet = sample.empty_fleet();
        let topic = sample.topic("pi-1", NodeTopic::Report);
        fleet.take(&sample.topic("pi-1", NodeTopic::Record), &sample.record("pi-1", &["canary"]));
        for seq in [7, 3] {
            fleet.take(&topic, &sample.report("pi-1", seq, vec![]));
        }
        let seq = fleet.nodes().values().next().unwrap().report().unwrap().seq;
        assert_eq!(seq.0, 7);
    }

    #[test]
    fn topics_of_others_are_nothing_to_it() {
        let sample = Sample::new();
        let mut fleet = sample.empty_fleet();
        assert_eq!(fleet.take(&"other/v1/node/pi/report".parse().unwrap(), b"x"), None);
        assert_eq!(fleet.take(&"deploybus/v1/node/pi/health".parse().unwrap(), b"{}"), None);
        assert!(fleet.nodes().is_empty());
    }
}
