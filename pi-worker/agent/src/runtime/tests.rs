//! A whole node with a real broker, a store and an installer that only pretends. Without a broker installed these tests
//! pass and say that they saw nothing.

mod pretender;

use std::{collections::BTreeMap, time::Duration};

use bus_client::{
    bus::{Event, Events, Message},
    store::Key,
};
use schemas::{
    id::Digest,
    manifest::{Entry, Manifest, Node as Path},
    reason::Reason,
    record::RecordStatus,
    release::Release,
    report::{Report, Verdict},
    root::RootChain,
    seal::Signed,
    status::Phase,
    topic::Filter,
};
use serde_json::Value;
use tokio::{sync::oneshot, task::JoinHandle};

use self::pretender::Pretender;
use super::*;
use crate::{
    status_file,
    testing::{
        self, Home,
        mosquitto::Mosquitto,
        server::{Server, Trick},
    },
};

#[tokio::test]
async fn installs_what_is_announced_and_says_so_everywhere() {
    let Some(mut world) = World::new().await else { return };
    let node = world.start();
    world.announce("canary", 7).await;
    let report = world.wait_report(|report| report.apps.iter().any(|app| !app.outcomes.is_empty())).await;
    let outcome = &report.apps[0].outcomes[0];
    assert_eq!((outcome.verdict, outcome.reason, outcome.requests), (Verdict::Kept, None, 2));
    assert_eq!(report.apps[0].installed.as_ref().unwrap().version, "1.1.0");
    world
        .wait_json("app/web/update", |update| {
            update["installed_version"] == "1.1.0" && !update["in_progress"].as_bool().unwrap()
        })
        .await;
    world.wait_json("app/web/version", |version| version["group"] == "canary").await;
    world
        .wait_json("app/web/status", |status| status["last_result"] == "kept" && status["phase"] == "idle")
        .await;
    world.wait_json("health", |health| health["ok"] == true).await;
    world.wait_json("info", |info| info["groups"] == serde_json::json!(["all", "canary"])).await;
    assert_eq!(world.events, ["started", "kept"]);
    assert_eq!(world.said["availability"], "online");
    node.stop().await;
    world.wait(|said| said["availability"] == "offline").await;
    let status = status_file::read(&world.settings().status_file()).unwrap();
    assert_eq!((status.report.apps, status.bus.as_str()), (report.apps, "connected"));
}

#[tokio::test]
async fn an_app_that_cannot_be_opened_keeps_no_other_from_starting() {
    let Some(mut world) = World::new().await else { return };
    let apps = world.settings().app_dirs(&"web".parse().unwrap()).root.parent().unwrap().to_owned();
    std::fs::create_dir_all(&apps).unwrap();
    std::fs::write(apps.join("broken"), "a file where the folder of an app should be").unwrap();
    let node = world.start();
    world.announce("canary", 7).await;
    world.wait_report(|report| report.apps.iter().any(|app| !app.outcomes.is_empty())).await;
    node.stop().await;
}

#[tokio::test]
async fn what_is_not_believed_is_reported_and_changes_nothing() {
    let Some(mut world) = World::new().await else { return };
    let node = world.start();
    let elsewhere = testing::announcement("all", "web", 9).to_bytes();
    world.publish("release/canary/web", elsewhere).await;
    let report = world.wait_report(|report| !report.refusals.is_empty()).await;
    let refusal = &report.refusals[0];
    assert_eq!((refusal.reason, refusal.attack, refusal.times), (Reason::WrongTopic, true, 1));
    assert!(refusal.topic.ends_with("release/canary/web") && report.apps.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn goes_by_a_newer_record_at_once_and_after_a_restart() {
    let Some(mut world) = World::new().await else { return };
    let node = world.start();
    world.announce("kitchen", 7).await;
    let record = world.home.record(2, &["kitchen"], RecordStatus::Active);
    world.publish("node/pi-1/record", record).await;
    world
        .wait_report(|report| {
            report.apps.iter().any(|app| app.phase == Phase::Idle && app.installed.is_some())
        })
        .await;
    world.wait_json("info", |info| info["groups"] == serde_json::json!(["kitchen"])).await;
    node.stop().await;
    let node = world.start();
    let report = world.wait_report(|report| report.boot == 2).await;
    assert_eq!(report.apps[0].installed.as_ref().unwrap().version, "1.1.0");
    world.wait_json("info", |info| info["groups"] == serde_json::json!(["kitchen"])).await;
    node.stop().await;
}

#[tokio::test]
async fn what_was_ordered_for_a_group_ends_when_the_node_leaves_it() {
    let Some(mut world) = World::new().await else { return };
    world.store.play(world.object(), &[Trick::Hang]);
    let node = world.start();
    world.announce("canary", 7).await;
    testing::wait_until(|| !world.store.asked(world.object()).is_empty()).await;
    world.publish("node/pi-1/record", world.home.record(2, &["kitchen"], RecordStatus::Active)).await;
    let report = world.wait_report(|report| report.apps.iter().any(|app| !app.outcomes.is_empty())).await;
    let outcome = &report.apps[0].outcomes[0];
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Superseded, Some(Reason::Withdrawn)));
    assert!(outcome.text.contains("left the group canary") && report.apps[0].installed.is_none());
    world.announce("kitchen", 8).await;
    world.wait_report(|report| report.apps[0].installed.is_some()).await;
    node.stop().await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_fetch_is_quick_and_is_gone_on_from() {
    let Some(mut world) = World::new().await else { return };
    world.store.play(world.object(), &[Trick::Hang]);
    let node = world.start();
    world.announce("all", 7).await;
    testing::wait_until(|| !world.store.asked(world.object()).is_empty()).await;
    let stopping = Instant::now();
    node.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(4), "{:?}", stopping.elapsed());
    let node = world.start();
    world.wait_report(|report| report.boot == 2 && report.apps[0].installed.is_some()).await;
    node.stop().await;
}

#[tokio::test]
async fn a_stop_while_no_release_runs_waits_until_one_does() {
    let Some(mut world) = World::new().await else { return };
    let data = world.settings().data;
    let node = world.start();
    world.announce("all", 7).await;
    world.wait_report(|report| report.apps.iter().any(|app| app.installed.is_some())).await;
    std::fs::write(data.join("hold"), "").unwrap();
    world.announce_version("1.2.0", "all", 8).await;
    let is_switching = |status: &Value| status["phase"] == "switching" && status["target"] == "1.2.0";
    world.wait_json("app/web/status", is_switching).await;
    let going_on = async {
        tokio::task::yield_now().await;
        std::fs::remove_file(data.join("hold")).unwrap();
    };
    tokio::join!(node.stop(), going_on);
    assert_eq!(std::fs::read_to_string(data.join("started")).unwrap(), "1.2.0");
}

#[tokio::test]
async fn a_release_that_ends_at_once_is_rolled_back_with_its_last_words() {
    let Some(mut world) = World::new().await else { return };
    let node = world.start();
    world.announce("all", 7).await;
    world.wait_report(|report| report.apps.iter().any(|app| app.installed.is_some())).await;
    world.announce_version("bad", "all", 8).await;
    let report = world.wait_report(|report| report.apps[0].outcomes.len() == 2).await;
    let outcome = report.apps[0].outcomes.last().unwrap();
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::RolledBack, Some(Reason::Exited)));
    assert_eq!(outcome.log_tail, ["last words"]);
    assert_eq!(report.apps[0].installed.as_ref().unwrap().version, "1.1.0");
    node.stop().await;
}

#[tokio::test]
async fn what_the_new_keys_signed_is_taken_when_the_new_root_comes_also_if_that_is_later() {
    let Some(mut world) = World::new().await else { return };
    let node = world.start();
    let release = world.release("1.1.0", 7);
    let announcement = testing::announcement_by(&testing::root_key(3), &release, "all", "web", 7);
    world.publish("release/all/web", announcement.to_bytes()).await;
    world.wait_report(|report| !report.refusals.is_empty() && report.root_version == 1).await;

    let chain = RootChain::new(1, testing::roots(3, &[])).to_bytes();
    world.publish("trust", chain).await;
    let is_kept =
        |report: &Report| report.root_version == 3 && report.apps.iter().any(|app| app.installed.is_some());
    world.wait_report(is_kept).await;
    node.stop().await;
    let node = world.start();
    world.wait_report(|report| report.boot == 2 && is_kept(report)).await;
    node.stop().await;
}

/// A broker, a store with one release, and somebody who watches the node.
struct World {
    broker: Mosquitto,
    store: Server,
    home: Home,
    manifest: Manifest,
    bus: Bus,
    heard: Events,
    /// What was said last on the node's retained topics.
    said: BTreeMap<String, String>,
    report: Option<Report>,
    events: Vec<String>,
}

/// A node that runs.
struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Running {
    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
    }
}

impl World {
    async fn new() -> Option<Self> {
        let broker = Mosquitto::start()?;
        let store = Server::start().await;
        let content = b"print('hello')\n";
        let file = Path::File { executable: false, size: content.len() as u64, digest: Digest::of(content) };
        let manifest = Manifest::new(vec![Entry { path: "main.py".into(), node: file }]).unwrap();
        store.put(Key::Object(Digest::of(content)), zstd::encode_all(&content[..], 1).unwrap());
        store.put(Key::Manifest(manifest.tree_hash()), zstd::encode_all(&manifest.encode()[..], 1).unwrap());
        let options = Options::new(broker.url().parse().unwrap(), "watcher".parse().unwrap());
        let (bus, heard) = Bus::connect(options);
        bus.subscribe([Filter::everything(&testing::fleet())]);
        let (home, said, events) = (Home::new(), BTreeMap::new(), Vec::new());
        Some(Self { broker, store, home, manifest, bus, heard, said, report: None, events })
    }

    fn settings(&self) -> Settings {
        self.home.settings_for(&self.broker.url(), self.store.url())
    }

    fn object(&self) -> Key {
        Key::Object(*self.manifest.objects().keys().next().unwrap())
    }

    fn start(&self) -> Running {
        let settings = self.settings();
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async {
            stopped.await.ok();
        };
        let data = settings.data.clone();
        let installer = move |notices| Arc::new(Pretender::new(data, notices));
        Running { stop, task: tokio::spawn(run(settings, installer, |_| (), shutdown)) }
    }

    fn parts(&self) -> Vec<schemas::release::Part> {
        let mut part = testing::part(self.manifest.tree_hash());
        (part.size_bytes, part.manifest_bytes) =
            (self.manifest.size_bytes(), self.manifest.encode().len() as u64);
        part.trial.min_healthy_ms = 50;
        vec![part]
    }

    async fn announce(&self, group: &str, revision: u64) {
        self.announce_version("1.1.0", group, revision).await;
    }

    /// The revision is the release's counter too.
    async fn announce_version(&self, version: &str, group: &str, revision: u64) {
        let release = self.release(version, revision);
        let announcement = testing::announcement_of(&release, group, "web", revision);
        self.publish(&format!("release/{group}/web"), announcement.to_bytes()).await;
    }

    fn release(&self, version: &str, counter: u64) -> Release {
        let mut release = testing::release("web");
        (release.version, release.counter.0, release.parts) = (version.into(), counter, self.parts());
        release
    }

    async fn publish(&self, topic: &str, payload: Vec<u8>) {
        let topic = format!("home/v1/{topic}").parse().unwrap();
        self.bus.publish(Message::new(topic, payload)).await.unwrap();
    }

    async fn wait_report(&mut self, holds: impl Fn(&Report) -> bool) -> Report {
        while !self.report.as_ref().is_some_and(&holds) {
            self.listen("the report").await;
        }
        self.report.clone().unwrap()
    }

    async fn wait_json(&mut self, topic: &str, holds: impl Fn(&Value) -> bool) {
        let holds = |said: &BTreeMap<String, String>| {
            said.get(topic).is_some_and(|text| holds(&serde_json::from_str(text).unwrap()))
        };
        self.wait(holds).await;
    }

    async fn wait(&mut self, holds: impl Fn(&BTreeMap<String, String>) -> bool) {
        while !holds(&self.said) {
            self.listen("a topic").await;
        }
    }

    /// Takes in the next message of the node.
    async fn listen(&mut self, what: &str) {
        let next = tokio::time::timeout(Duration::from_secs(10), self.heard.next());
        let event =
            next.await.unwrap_or_else(|_| panic!("{what} does not come: {:?} {:?}", self.said, self.report));
        let Some(Event::Message(message)) = event else { return };
        let topic = message.topic.to_string();
        match topic.strip_prefix("home/v1/node/pi-1/") {
            Some("report") => {
                let signed = Signed::<Report>::from_bytes(&message.payload).unwrap();
                let report = signed.verify_by(&testing::node_key().public(), &testing::fleet()).unwrap();
                self.report = Some(report.into_inner());
            }
            Some("event") => {
                let event: Value = serde_json::from_slice(&message.payload).unwrap();
                self.events.push(event["event_type"].as_str().unwrap().to_owned());
            }
            Some("record") | None => {}
            Some(rest) => {
                self.said.insert(rest.to_owned(), String::from_utf8(message.payload.to_vec()).unwrap());
            }
        }
    }
}
