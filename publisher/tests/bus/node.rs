//! A node that ends every order at once, in the way that a test wants.

use std::{fs, path::Path};

use bus_client::bus::{Bus, ClientId, Event, Events, Message, Options};
use schemas::{
    announcement::Announcement,
    id::{Digest, NodeId, Seq},
    order::{Order, OrderState},
    reason::Reason,
    release::Release,
    report::{AppReport, Installed, Outcome, Report, Verdict},
    root::{Root, Trust},
    seal::{Head, SecretKey, Signed, Verified},
    status::{Phase, availability},
    time::UnixTime,
    topic::{Filter, Kind, NodeTopic},
};
use tokio::runtime::Runtime;

use crate::world::World;

/// A connected node; it leaves when it is dropped.
pub(crate) struct FakeNode {
    _runtime: Runtime,
}

struct Life {
    name: NodeId,
    trust: Trust,
    key: SecretKey,
    verdict: Verdict,
    reason: Option<Reason>,
    seq: u64,
}

impl FakeNode {
    /// A node that ends each order with `verdict`.
    pub(crate) fn start(world: &World, name: &str, verdict: Verdict, reason: Option<Reason>) -> Self {
        Self::connect(world, name, Some((verdict, reason)))
    }

    /// A node that is online and says nothing.
    pub(crate) fn silent(world: &World, name: &str) -> Self {
        Self::connect(world, name, None)
    }

    fn connect(world: &World, name: &str, ends: Option<(Verdict, Option<Reason>)>) -> Self {
        let folder = world.path("home/.deploybus/nodes").join(name);
        let root = Signed::<Root>::from_bytes(&fs::read(folder.join("root.cbor")).unwrap()).unwrap();
        let trust = Trust::first(&root).unwrap();
        let name: NodeId = name.parse().unwrap();
        let url = format!("mqtt://127.0.0.1:{}", world.bus_port).parse().unwrap();
        let mut options = Options::new(url, ClientId::from(&name));
        let online = Kind::Node(name.clone(), NodeTopic::Availability).of(trust.fleet());
        options.credentials = Some(bus_client::Credentials::new(name.as_str(), "x"));
        let runtime = Runtime::new().unwrap();
        let (bus, mut events) = runtime.block_on(async { Bus::connect(options) });
        runtime
            .block_on(async { bus.set_retained(Message::new(online, availability::ONLINE)).await })
            .unwrap();
        let canary = "canary".parse().unwrap();
        let filter = Filter::releases(trust.fleet(), &canary);
        bus.subscribe([filter.clone()]);
        runtime.block_on(until_subscribed(&mut events, &filter));
        if let Some((verdict, reason)) = ends {
            let key = node_key(&folder);
            let life = Life { name, trust, key, verdict, reason, seq: 0 };
            runtime.spawn(life.live(bus, events));
        } else {
            runtime.spawn(async move {
                let _bus = bus;
                while events.next().await.is_some() {}
            });
        }
        Self { _runtime: runtime }
    }
}

fn node_key(folder: &Path) -> SecretKey {
    let seed: Digest = fs::read_to_string(folder.join("node.key")).unwrap().trim().parse().unwrap();
    SecretKey::from_seed(&seed.0)
}

async fn until_subscribed(events: &mut Events, filter: &Filter) {
    while !matches!(events.next().await.unwrap(), Event::Subscribed(done) if done == *filter) {}
}

impl Life {
    async fn live(mut self, bus: Bus, mut events: Events) {
        while let Some(event) = events.next().await {
            let Event::Message(message) = event else { continue };
            let Kind::Release(group, app) = &message.topic.kind else { continue };
            let announcement = Announcement::from_bytes(&message.payload).unwrap();
            let announced = announcement.verify(&self.trust, group, app).unwrap();
            let order = &announced.order;
            if order.state != OrderState::Active || !order.audience.includes(&self.name) {
                continue;
            }
            let report = self.report(&announced.order, &announced.release);
            let topic = Kind::Node(self.name.clone(), NodeTopic::Report).of(self.trust.fleet());
            let signed = Signed::seal(&report, std::slice::from_ref(&self.key)).to_bytes();
            bus.set_retained(Message::new(topic, signed)).await.unwrap();
        }
    }

    fn report(&mut self, order: &Verified<Order>, release: &Verified<Release>) -> Report {
        self.seq += 1;
        let now = UnixTime(1_795_240_000);
        let installed = Installed {
            release: release.digest(),
            version: release.version.clone(),
            counter: release.counter,
            commit: String::new(),
            tree_hash: release.parts[0].tree_hash,
            group: order.group.clone(),
            since: now,
        };
        let app = AppReport {
            app: order.app.clone(),
            phase: Phase::Idle,
            revision: order.revision,
            installed: (self.verdict == Verdict::Kept).then_some(installed),
            previous: None,
            target: None,
            healthy: Some(true),
            outcomes: vec![self.outcome(order, release, now)],
        };
        Report {
            head: Head::new(self.trust.fleet().clone(), now),
            node: self.name.clone(),
            boot: 1,
            seq: Seq(self.seq),
            root_version: 1,
            clock_unset: false,
            apps: vec![app],
            refusals: Vec::new(),
        }
    }

    fn outcome(&self, order: &Verified<Order>, release: &Verified<Release>, now: UnixTime) -> Outcome {
        Outcome {
            revision: order.revision,
            release: release.digest(),
            version: release.version.clone(),
            verdict: self.verdict,
            reason: self.reason,
            text: "it answered 500".to_owned(),
            log_tail: vec!["last words".to_owned()],
            took_ms: 7,
            fetched_bytes: 511,
            requests: 1,
            built: None,
            at: now,
        }
    }
}
