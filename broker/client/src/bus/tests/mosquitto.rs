//! The client with a real broker. Without one installed these tests pass and say that they saw nothing.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;
use tokio::{runtime::Runtime, time::Instant};

use super::{
    Bus, BusUrl, Event, Events, Filter, Message, Options, PATIENCE, availability_topic, event_topic, fleet,
    info_topic, next_event, next_message, until_connected, until_delivered, until_subscribed,
};
use crate::{Credentials, bus::Lost};

/// Where Debian puts it.
const PROGRAM: &str = "/usr/sbin/mosquitto";

#[tokio::test]
async fn messages_get_through_and_retained_ones_are_told_from_live_ones() {
    let Some(broker) = Mosquitto::start() else { return };
    let filter = Filter::everything(&fleet());
    let (reader, mut events) = broker.connect("reader");
    let (writer, _events) = broker.connect("writer");
    until_delivered([writer.set_retained(Message::new(info_topic(), "kept"))]).await;
    reader.subscribe([filter.clone()]);
    until_subscribed(&mut events, &filter).await;
    let kept = next_message(&mut events).await;
    assert_eq!((kept.topic, &*kept.payload, kept.retained), (info_topic(), &b"kept"[..], true));
    until_delivered([writer.publish(Message::new(event_topic(), "live"))]).await;
    let live = next_message(&mut events).await;
    assert_eq!((live.topic, &*live.payload, live.retained), (event_topic(), &b"live"[..], false));
    reader.subscribe([filter]);
    assert_eq!(next_message(&mut events).await.payload, "kept");
}

#[tokio::test]
async fn what_was_unsubscribed_comes_no_more() {
    let Some(broker) = Mosquitto::start() else { return };
    let (reader, mut events) = broker.connect("reader");
    let (writer, _events) = broker.connect("writer");
    let (all, info) = (Filter::everything(&fleet()), Filter::from(&info_topic()));
    reader.subscribe([all.clone(), info.clone()]);
    until_subscribed(&mut events, &info).await;
    reader.unsubscribe([all]);
    // The broker handles the requests of a client in order, so this one's answer means that the other was done.
    reader.subscribe([info.clone()]);
    until_subscribed(&mut events, &info).await;
    until_delivered([writer.publish(Message::new(event_topic(), "1"))]).await;
    until_delivered([writer.publish(Message::new(info_topic(), "2"))]).await;
    assert_eq!(next_message(&mut events).await.payload, "2");
}

#[tokio::test]
async fn a_broker_that_was_killed_and_has_forgotten_everything_is_told_all_again() {
    let Some(mut broker) = Mosquitto::start() else { return };
    let filter = Filter::everything(&fleet());
    let (bus, mut events) = broker.connect("pi");
    bus.subscribe([filter.clone()]);
    until_delivered([bus.set_retained(Message::new(info_topic(), "state"))]).await;
    until_subscribed(&mut events, &filter).await;
    broker.kill();
    while !matches!(next_event(&mut events).await, Event::Disconnected(Lost::BrokerDown { .. })) {}
    let meanwhile = bus.publish(Message::new(event_topic(), "meanwhile"));
    assert!(broker.run());
    let restarted = Instant::now();
    until_connected(&mut events).await;
    println!("connected again {:?} after the broker was back", restarted.elapsed());
    until_delivered([meanwhile]).await;
    let (fresh, mut seen) = broker.connect("fresh");
    fresh.subscribe([Filter::from(&info_topic())]);
    assert_eq!(next_message(&mut seen).await.payload, "state");
}

#[tokio::test]
async fn the_will_is_said_when_a_client_dies_and_taken_back_when_it_returns() {
    let Some(broker) = Mosquitto::start() else { return };
    let (watcher, mut seen) = broker.connect("watcher");
    watcher.subscribe([Filter::from(&availability_topic())]);
    until_subscribed(&mut seen, &Filter::from(&availability_topic())).await;
    let mut options = broker.options("pi");
    options.will = Some(Message::new(availability_topic(), "offline"));
    options.greeting = vec![Message::new(availability_topic(), "online")];
    let dying = Runtime::new().unwrap();
    let _life = dying.spawn({
        let options = options.clone();
        async { Bus::connect(options) }
    });
    assert_eq!(next_message(&mut seen).await.payload, "online");
    dying.shutdown_background();
    assert_eq!(next_message(&mut seen).await.payload, "offline");
    let (bus, _events) = Bus::connect(options);
    assert_eq!(next_message(&mut seen).await.payload, "online");
    until_delivered([bus.set_retained(Message::new(availability_topic(), "offline"))]).await;
    bus.close().await;
    assert_eq!(next_message(&mut seen).await.payload, "offline");
}

#[tokio::test]
async fn a_wrong_password_is_told_with_what_to_do() {
    let Some(broker) = Mosquitto::start_with_user("anna", "right") else { return };
    let mut options = broker.options("laptop");
    options.credentials = Some(Credentials::new("anna", "wrong"));
    let (_bus, mut events) = Bus::connect(options.clone());
    let event = next_event(&mut events).await;
    let Event::Disconnected(lost @ Lost::Refused { .. }) = event else { panic!("{event:?}") };
    assert!(lost.to_string().contains("`anna`"), "{lost}");
    options.client_id = "laptop2".parse().unwrap();
    options.credentials = Some(Credentials::new("anna", "right"));
    let (_bus, mut events) = Bus::connect(options);
    until_connected(&mut events).await;
}

/// A mosquitto on a port of its own that keeps nothing over a restart.
pub(super) struct Mosquitto {
    folder: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Mosquitto {
    pub(super) fn start() -> Option<Self> {
        Self::start_in(TempDir::new().unwrap(), "allow_anonymous true")
    }

    /// With the certificate and key that lie in `folder`.
    pub(super) fn start_with_tls(folder: TempDir) -> Option<Self> {
        let file = |name| folder.path().join(name).display().to_string();
        let tls = format!("allow_anonymous true\ncertfile {}\nkeyfile {}", file("cert.pem"), file("key.pem"));
        Self::start_in(folder, &tls)
    }

    fn start_with_user(user: &str, password: &str) -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let users = folder.path().join("users");
        let made =
            Command::new("mosquitto_passwd").args(["-b", "-c"]).arg(&users).args([user, password]).status();
        if !made.is_ok_and(|status| status.success()) {
            println!("skipped: mosquitto_passwd is not installed");
            return None;
        }
        let access = format!("allow_anonymous false\npassword_file {}", users.display());
        Self::start_in(folder, &access)
    }

    fn start_in(folder: TempDir, access: &str) -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            println!("skipped: {PROGRAM} is not installed");
            return None;
        }
        let mut broker = Self { folder, port: 0, process: None };
        for _ in 0..10 {
            broker.port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let config =
                format!("listener {} 127.0.0.1\nuser root\npersistence false\n{access}\n", broker.port);
            fs::write(broker.config(), config).unwrap();
            if broker.run() {
                return Some(broker);
            }
        }
        panic!("no port was free for mosquitto");
    }

    /// True once it listens; false when it ended, for instance because somebody else had taken the port.
    fn run(&mut self) -> bool {
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(self.config()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = self.process.insert(command.spawn().unwrap());
        let began = Instant::now();
        while process.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            assert!(began.elapsed() < PATIENCE, "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// As by a power cut.
    pub(super) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn tls_url(&self, host: &str) -> BusUrl {
        format!("mqtts://{host}:{}", self.port).parse().unwrap()
    }

    fn config(&self) -> PathBuf {
        self.folder.path().join("mosquitto.conf")
    }

    pub(super) fn options(&self, client_id: &str) -> Options {
        let url: BusUrl = format!("mqtt://127.0.0.1:{}", self.port).parse().unwrap();
        Options::new(url, client_id.parse().unwrap())
    }

    pub(super) fn connect(&self, client_id: &str) -> (Bus, Events) {
        Bus::connect(self.options(client_id))
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.kill();
    }
}
