//! What the node says of itself: one signed report, the JSON topics that mirror it, and the same as a file.

use std::collections::{BTreeMap, BTreeSet};

use bus_client::bus::{Bus, Message};
use machine::Latest;
use schemas::{
    id::{AppId, FleetId, GroupId, NodeId, Seq},
    prune::Pruned,
    report::{AppReport, Refusal, Report},
    seal::{Head, SecretKey, Signed},
    status::{Event, LogLines, Timestamp, availability},
    time::UnixTime,
    topic::{AppTopic, Kind, NodeTopic, Topic},
};
use serde::Serialize;

use crate::{
    facts::Facts,
    installer::About,
    keeper::Keeper,
    mirror,
    report::fit,
    status_file::{self, AppStatus, NodeStatus},
};

/// A node's own topic.
pub(super) fn topic(fleet: &FleetId, node: &NodeId, topic: NodeTopic) -> Topic {
    Kind::Node(node.clone(), topic).of(fleet)
}

/// Whether the node is there, as its availability topic says it.
pub(super) fn presence(fleet: &FleetId, node: &NodeId, is_there: bool) -> Message {
    let word = if is_there { availability::ONLINE } else { availability::OFFLINE };
    Message::new(topic(fleet, node, NodeTopic::Availability), word)
}

/// Who speaks.
pub(super) struct Voice {
    pub(super) fleet: FleetId,
    pub(super) node: NodeId,
    pub(super) key: SecretKey,
    pub(super) boot: u64,
    pub(super) started_at: UnixTime,
    pub(super) about: About,
}

/// What there is to say.
pub(super) struct View<'a> {
    pub(super) now: UnixTime,
    /// The root whose keys count.
    pub(super) root_version: u64,
    pub(super) clock_unset: bool,
    pub(super) groups: BTreeSet<GroupId>,
    pub(super) apps: Vec<(AppReport, Latest)>,
    pub(super) refusals: &'a [Refusal],
    /// How the bus is, for people.
    pub(super) bus: &'a str,
    pub(super) facts: Facts,
}

/// Says what changed, and remembers what was said.
pub(super) struct Speaker {
    voice: Voice,
    bus: Bus,
    seq: Seq,
    /// The last report, as it is without its time and its number.
    reported: Option<Report>,
    /// The last payload of every topic, as it is without its time.
    said: BTreeMap<NodeTopic, Vec<u8>>,
    file: Keeper<Option<NodeStatus>>,
}

impl Speaker {
    /// One that has said nothing yet.
    pub(super) fn new(voice: Voice, bus: Bus, file: std::path::PathBuf) -> Self {
        let file = Keeper::start(None, move |status: &Option<NodeStatus>| {
            status.as_ref().map_or(Ok(()), |status| status_file::replace(&file, status))
        });
        Self { voice, bus, seq: Seq(0), reported: None, said: BTreeMap::new(), file }
    }

    /// Says everything that changed since it was said last.
    pub(super) fn speak(&mut self, view: &View<'_>) {
        let report = self.report(view);
        let at = Timestamp::from(view.now);
        let info = self.mirror(NodeTopic::Info, view.now, |voice, at| {
            mirror::info(&voice.node, &voice.about, view.groups.clone(), at)
        });
        let problem = mirror::problem(view.apps.iter().map(|(report, _)| report));
        let health = mirror::health(&self.voice.node, view.facts, problem, self.voice.started_at, at.clone());
        // Its figures always differ; they are said when the node was looked at.
        let is_news = mirror::health(
            &self.voice.node,
            Facts::default(),
            health.reason.clone(),
            UnixTime(0),
            at_start(),
        );
        if self.is_news(&NodeTopic::Health, &is_news) {
            self.say(NodeTopic::Health, &health);
        }
        let apps =
            view.apps.iter().map(|(report, latest)| self.mirror_app(report, latest, view.now)).collect();
        let (pid, bus) = (std::process::id(), view.bus.to_owned());
        self.file.keep(Some(NodeStatus { pid, at, bus, info, health, apps, report }));
    }

    /// What the node is, from now on.
    pub(super) fn about_is(&mut self, about: About) {
        self.voice.about = about;
    }

    /// The figures of the node are news the next time.
    pub(super) fn look_again(&mut self) {
        self.said.remove(&NodeTopic::Health);
    }

    /// Says what just happened.
    pub(super) fn tell(&self, event: &Event) {
        self.say(NodeTopic::Event, event);
    }

    /// Says lines of a log.
    pub(super) fn pass_on(&self, said: &LogLines) {
        self.say(NodeTopic::Log, said);
    }

    /// Answers who asked to prune.
    pub(super) fn answer(&self, said: &Pruned) {
        self.say(NodeTopic::Answer, said);
    }

    /// Says the last words, and ends when they are on the disk; the bus is closed by who opened it.
    pub(super) async fn finish(self) {
        drop(self.bus.set_retained(presence(&self.voice.fleet, &self.voice.node, false)));
        self.file.finish().await;
    }

    /// The report, which is published when it says something new.
    fn report(&mut self, view: &View<'_>) -> Report {
        let mut report = fit(Report {
            head: Head::new(self.voice.fleet.clone(), UnixTime(0)),
            node: self.voice.node.clone(),
            boot: self.voice.boot,
            seq: Seq(0),
            root_version: view.root_version,
            clock_unset: view.clock_unset,
            apps: view.apps.iter().map(|(report, _)| report.clone()).collect(),
            refusals: view.refusals.to_vec(),
        });
        let is_news = self.reported.as_ref() != Some(&report);
        if is_news {
            self.reported = Some(report.clone());
            self.seq = self.seq.next(1);
        }
        report.seq = self.seq;
        report.head.issued_at = view.now;
        if is_news {
            let signed = Signed::seal(&report, std::slice::from_ref(&self.voice.key));
            let topic = topic(&self.voice.fleet, &self.voice.node, NodeTopic::Report);
            drop(self.bus.set_retained(Message::new(topic, signed.to_bytes())));
        }
        report
    }

    fn mirror_app(&mut self, report: &AppReport, latest: &Latest, now: UnixTime) -> (AppId, AppStatus) {
        let topic = |topic| NodeTopic::App(report.app.clone(), topic);
        let status = AppStatus {
            version: self
                .mirror(topic(AppTopic::Version), now, |voice, at| mirror::version(&voice.node, report, at)),
            update: self.mirror(topic(AppTopic::Update), now, |_, _| mirror::update(report, latest)),
            status: self
                .mirror(topic(AppTopic::Status), now, |voice, at| mirror::status(&voice.node, report, at)),
        };
        (report.app.clone(), status)
    }

    /// The payload of a topic, which is published when more than its time changed.
    fn mirror<T: Serialize>(
        &mut self,
        topic: NodeTopic,
        now: UnixTime,
        payload: impl Fn(&Voice, Timestamp) -> T,
    ) -> T {
        let is_news = self.is_news(&topic, &payload(&self.voice, at_start()));
        let payload = payload(&self.voice, now.into());
        if is_news {
            self.say(topic, &payload);
        }
        payload
    }

    fn is_news(&mut self, topic: &NodeTopic, without_time: &impl Serialize) -> bool {
        let payload = json(without_time);
        let is_news = self.said.get(topic) != Some(&payload);
        if is_news {
            self.said.insert(topic.clone(), payload);
        }
        is_news
    }

    fn say(&self, node_topic: NodeTopic, payload: &impl Serialize) {
        let topic = topic(&self.voice.fleet, &self.voice.node, node_topic);
        let is_retained = topic.is_retained();
        let message = Message::new(topic, json(payload));
        // Delivered sooner or later; the client says it again until then.
        drop(if is_retained { self.bus.set_retained(message) } else { self.bus.publish(message) });
    }
}

/// The time that stands in for all others where they are not compared.
fn at_start() -> Timestamp {
    UnixTime(0).into()
}

fn json(payload: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(payload).expect("payloads have no serializer that fails")
}
