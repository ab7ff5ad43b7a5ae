//! 500 nodes on a real broker: the real loop of a node, with an installer that takes no time, all in this process.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use agent::{Settings, journal};
use anyhow::{Context as _, Result};
use bus_client::store::{Key, Source, Store};
use e2e::{Mqtt, wait_until};
use schemas::{
    announcement::Announcement,
    id::{Counter, Digest, NodeId, Revision},
    manifest::{Entry, Manifest, Node as Content},
    order::OrderState,
    release::Release,
    report::{Report, Verdict},
    rollout::Controller,
    seal::Signed,
    status::{Event, EventType},
    topic::{Kind, NodeTopic},
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::{
    broker::Broker,
    figure::{Aim, Figures, Measured, Samples, resident_kib},
    fleet::{Fleet, key, seed},
    pretender::Pretender,
    watcher::Watcher,
};

const NODES: usize = 500;
/// The watcher is to miss nothing, however busy the machine is.
const SETTINGS: &str = "root = 'root.cbor'\n[limits]\nqueue_messages = 1000000\nqueue_bytes = 1000000000\n";
const STAGES: &str = "[[stage]]\ngroup = \"all\"\nmax_failures = 1\n";
/// The files of the nodes are there, where it is: this measures the bus and not the disk.
const MEMORY_DISK: &str = "/dev/shm";
const GOOD: &str = "1.0.0";
/// What one node cannot run.
const BAD: &str = "1.1.0";
/// The runtime's threads for files end after 10 s without work.
const SETTLED: Duration = Duration::from_secs(12);
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let of = |what, unit| Measured { bench: "nodes", what, unit };
    let world = World::new()?;
    let before = resident_kib(std::process::id())?;
    let nodes = world.start()?;
    thread::sleep(SETTLED);
    let each = (resident_kib(std::process::id())? - before) / NODES as f64;
    figures.ours(of("memory of each of 500 nodes", "KiB"), &each.into(), Aim::None)?;

    let (begun, kept) = world.announce()?;
    figures.ours(of("order published to begun", "ms"), &begun, Aim::None)?;
    figures.ours(of("order published to kept", "ms"), &kept, Aim::None)?;
    let last = kept.0.iter().copied().fold(0.0, f64::max);
    figures.ours(of("order published to kept by the last", "ms"), &last.into(), Aim::None)?;
    thread::sleep(SETTLED);

    let stopped = world.roll_out(&nodes)?;
    figures.ours(
        of("one failed: its report to the paused order", "ms"),
        &stopped.ordered.into(),
        Aim::None,
    )?;
    figures.ours(
        of("one failed: its report to the last node", "ms"),
        &stopped.everywhere.into(),
        Aim::None,
    )?;
    figures.ours(of("one failed: had begun until then", ""), &stopped.begun.into(), Aim::None)
}

/// How a rollout stopped, in milliseconds after the report of the failed node.
struct Stopped {
    /// The paused order was on the bus.
    ordered: f64,
    /// Every node had it in its journal.
    everywhere: f64,
    /// So many nodes had begun when it was on the bus.
    begun: f64,
}

/// A broker, a release, and the threads of the nodes.
struct World {
    fleet: Fleet,
    manifest: Manifest,
    watcher: Watcher,
    broker: Broker,
    runtime: Runtime,
    folder: TempDir,
}

impl World {
    fn new() -> Result<Self> {
        let fleet = Fleet::new()?;
        let broker = Broker::start_for(fleet.root(), SETTINGS)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let manifest = runtime.block_on(upload(&broker))?;
        let name = fleet.forge.trust.fleet();
        let of_nodes = ["availability", "event", "report"].map(|topic| format!("{name}/v1/node/+/{topic}"));
        let orders = format!("{name}/v1/release/all/+");
        let watcher = Watcher::start(broker.port, of_nodes.into_iter().chain([orders]).collect())?;
        let memory = Path::new(MEMORY_DISK);
        let place = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
        let folder = tempfile::Builder::new().prefix("deploybus-").tempdir_in(place)?;
        Ok(Self { fleet, manifest, watcher, broker, runtime, folder })
    }

    /// Starts all nodes, and waits until they are on the bus.
    fn start(&self) -> Result<Vec<Settings>> {
        let mut publisher = Mqtt::connect(self.broker.port, None)?;
        let mut all = Vec::with_capacity(NODES);
        for number in 0..NODES {
            let node: NodeId = format!("node-{number}").parse()?;
            let record = self.fleet.record(&node);
            publisher.publish(&self.fleet.topic_of(&node, NodeTopic::Record), &record, true)?;
            let settings = self.settings(&node, &record)?;
            let bad = (number == 0).then_some(BAD);
            let installer = move |notices| Arc::new(Pretender::new(notices, bad));
            self.runtime.spawn(agent::run(settings.clone(), installer, |_| (), std::future::pending()));
            all.push(settings);
        }
        let mut online = BTreeSet::new();
        while online.len() < NODES {
            let heard = self.watcher.next()?;
            if let Kind::Node(node, NodeTopic::Availability) = heard.kind {
                online.insert(node);
            }
        }
        Ok(all)
    }

    /// The files of a node, as `publisher node add` writes them.
    fn settings(&self, node: &NodeId, record: &[u8]) -> Result<Settings> {
        let folder = self.folder.path().join(node.as_str());
        fs::create_dir(&folder)?;
        fs::write(folder.join("root.cbor"), self.fleet.root())?;
        fs::write(folder.join("record.cbor"), record)?;
        fs::write(folder.join("node.key"), format!("{}\n", seed(node)))?;
        fs::write(folder.join("password"), "open\n")?;
        let (name, Broker { port, http_port, .. }) = (self.fleet.forge.trust.fleet(), &self.broker);
        let file = folder.join("pi-worker.toml");
        let bus = format!("bus = 'mqtt://127.0.0.1:{port}'\nstore = ['http://127.0.0.1:{http_port}']\n");
        fs::write(&file, format!("node = '{node}'\nfleet = '{name}'\n{bus}data = 'data'\n"))?;
        Ok(Settings::load(&file)?)
    }

    /// One order for everybody: after how long each node has begun, and has kept.
    fn announce(&self) -> Result<(Samples, Samples)> {
        let forge = &self.fleet.forge;
        let order = forge.order(&self.fleet.group, &self.fleet.app, Digest([0; 32]), Revision(10));
        let announcement = forge.announcement(&order, &self.release(GOOD, 1)).to_bytes();
        let topic = self.fleet.topic(Kind::Release(self.fleet.group.clone(), self.fleet.app.clone()));
        let mut publisher = Mqtt::connect(self.broker.port, None)?;
        let begin = Instant::now();
        publisher.publish(&topic, &announcement, true)?;
        let [mut begun, mut kept] = [(); 2].map(|()| Samples::default());
        while kept.0.len() < NODES {
            let heard = self.watcher.next()?;
            let took = heard.at.saturating_duration_since(begin);
            match event(&heard.kind, &heard.payload) {
                Some(EventType::Started) => begun.push_ms(took),
                Some(EventType::Kept) => kept.push_ms(took),
                _ => {}
            }
        }
        Ok((begun, kept))
    }

    /// A rollout in one wave that stops at the first failure.
    fn roll_out(&self, nodes: &[Settings]) -> Result<Stopped> {
        let mut publisher = Mqtt::connect(self.broker.port, None)?;
        let fleet = self.fleet.forge.trust.fleet();
        let controllers = publisher.retained(&format!("{fleet}/v1/controller/+"), Duration::from_secs(1))?;
        let controller = controllers.values().next().context("no controller")?;
        let controller = Signed::<Controller>::from_bytes(controller)?.verify_own(fleet)?.key;
        let release = self.release(BAD, 2);
        let planned = self.fleet.planned(STAGES, &release, Revision(100), vec![controller]);
        let topic = self.fleet.topic(Kind::Plan(self.fleet.app.clone()));
        publisher.publish(&topic, &planned.to_bytes(), true)?;

        self.follow(nodes)
    }

    fn follow(&self, nodes: &[Settings]) -> Result<Stopped> {
        let (mut failed, mut begun) = (None, 0);
        loop {
            let heard = self.watcher.next()?;
            if event(&heard.kind, &heard.payload) == Some(EventType::Started) {
                begun += 1;
            }
            match (&heard.kind, failed) {
                (Kind::Node(node, NodeTopic::Report), None) if self.has_failed(node, &heard.payload) => {
                    failed = Some((heard.at, heard.at_wall));
                }
                (Kind::Release(..), Some((at, at_wall))) => {
                    let Some(paused) = self.paused(&heard.payload) else { continue };
                    let ordered = heard.at.saturating_duration_since(at).as_secs_f64() * 1_000.0;
                    let everywhere = self.everywhere(nodes, paused, at_wall)?;
                    return Ok(Stopped { ordered, everywhere, begun: f64::from(begun) });
                }
                _ => {}
            }
        }
    }

    fn has_failed(&self, node: &NodeId, payload: &[u8]) -> bool {
        let report = Signed::<Report>::from_bytes(payload)
            .and_then(|signed| signed.verify_by(&key(node).public(), self.fleet.forge.trust.fleet()));
        let outcomes = report.iter().flat_map(|report| &report.apps).flat_map(|app| &app.outcomes);
        { outcomes }.any(|outcome| outcome.verdict == Verdict::RolledBack)
    }

    /// The revision of a paused order.
    fn paused(&self, payload: &[u8]) -> Option<Revision> {
        let announced = Announcement::from_bytes(payload).ok()?;
        let announced = announced.verify(&self.fleet.forge.trust, &self.fleet.group, &self.fleet.app).ok()?;
        (announced.order.state == OrderState::Paused).then_some(announced.order.revision)
    }

    /// When the last node had written down that it knows an order, in milliseconds since `since`.
    fn everywhere(&self, nodes: &[Settings], order: Revision, since: SystemTime) -> Result<f64> {
        let mut last = since;
        for settings in nodes {
            let dirs = settings.app_dirs(&self.fleet.app);
            wait_until("a node to know the paused order", PATIENCE, || {
                let saved = journal::load(&dirs).ok()??;
                (saved.seen.get(&self.fleet.group)?.revision >= order).then_some(())
            })?;
            last = last.max(fs::metadata(dirs.root.join("journal.cbor"))?.modified()?);
        }
        Ok(last.duration_since(since)?.as_secs_f64() * 1_000.0)
    }

    fn release(&self, version: &str, counter: u64) -> Release {
        let (tree, manifest_bytes) = (self.manifest.tree_hash(), self.manifest.encode().len() as u64);
        let release =
            self.fleet.forge.release(&self.fleet.app, tree, manifest_bytes, self.manifest.size_bytes());
        Release { version: version.to_owned(), counter: Counter(counter), ..release }
    }
}

/// Puts a tree of one small file into the store.
async fn upload(broker: &Broker) -> Result<Manifest> {
    let content = b"print('hello')\n";
    let (size, digest) = (content.len() as u64, Digest::of(content));
    let file = Content::File { executable: false, size, digest };
    let manifest = Manifest::new(vec![Entry { path: "main.py".to_owned(), node: file }])?;
    let store = Store::open(vec![format!("http://127.0.0.1:{}", broker.http_port).parse()?], None, None)?;
    let manifest_key = Key::Manifest(manifest.tree_hash());
    for (key, plain) in [(Key::Object(digest), &content[..]), (manifest_key, &manifest.encode())] {
        let stored = Source::Bytes(zstd::encode_all(plain, 1)?.into());
        store.upload(key, &stored, &|_| ()).await?;
    }
    Ok(manifest)
}

fn event(kind: &Kind, payload: &[u8]) -> Option<EventType> {
    let Kind::Node(_, NodeTopic::Event) = kind else { return None };
    Some(serde_json::from_slice::<Event>(payload).ok()?.event_type)
}
