//! One user with a good password and bad intentions: how much of the relay it gets, and what is left for the others.

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{DisconnectReasonCode, Filter, Packet, PubAckReason, Publish, Subscribe},
};
use tempfile::TempDir;

use crate::{
    bus::user_line,
    client::{Client, Hello},
    mqtt5::{Client5, Hello5},
    program::{Broker, broker},
};

/// A broker with an intruder, who has the password of a node, and an honest user.
struct Site {
    broker: Broker,
    folder: TempDir,
}

const OWN: &str = "deploybus/v1/node/pi-1";
const DAY_SECS: u32 = 24 * 60 * 60;

#[test]
fn sessions_with_large_wills_that_wait_a_day_are_bounded() {
    let site = Site::start("");
    let will = "x".repeat(60_000);
    for n in 0..2000 {
        let mortal = intruder(n).keep(DAY_SECS).will_of(&format!("{OWN}/gone"), &will, DAY_SECS);
        drop(Client5::say(site.broker.mqtt(), mortal));
    }
    site.assert_serves_within(80);
}

#[test]
fn what_is_retained_fills_no_queue_however_often_it_is_asked_for() {
    let site = Site::start("");
    let mut intruder = site.client5(0);
    for n in 0..10_000 {
        let publish = Publish::new(format!("{OWN}/many/{n}"), QoS::AtMostOnce, "x", None);
        intruder.send(&Packet::Publish(Publish { retain: true, ..publish }));
    }
    let last = message(OWN, "x");
    assert_eq!(intruder.publish(Publish { retain: true, ..last }), PubAckReason::Success);
    // Each name makes another subscription of what takes the same. At once, so that they are all read before an answer.
    let mut flood = Vec::new();
    for name in 1..=120 {
        let filter = format!("{OWN}/many/#");
        flood.extend([0x82, filter.len() as u8 + 8, 0, 1, 2, 0x0b, name, 0, filter.len() as u8]);
        flood.extend(filter.as_bytes());
        flood.push(0);
    }
    let done = format!("{OWN}/done");
    flood.extend([0x30, done.len() as u8 + 3, 0, done.len() as u8]);
    flood.extend(done.as_bytes());
    flood.push(0);
    let mut honest = site.honest();
    honest.subscribe(&done, 0);
    intruder.send_bytes(&flood);
    assert_eq!(honest.message().0.topic, done);
    site.assert_serves_within(50);
}

#[test]
fn sessions_that_acknowledge_nothing_are_bounded() {
    let site = Site::start("");
    let mut publisher = site.client5(0);
    let payload = "x".repeat(250_000);
    for n in 1..=12 {
        let mut sleeper = Client5::say(site.broker.mqtt(), intruder(n).keep(DAY_SECS));
        let topic = format!("{OWN}/{n}");
        sleeper.subscribe(Filter::new(&topic, QoS::AtLeastOnce), None);
        sleeper.only_read();
        for _ in 0..32 {
            publisher.publish(message(&topic, &payload));
        }
    }
    site.assert_serves_within(100);
}

#[test]
fn filters_of_many_levels_are_bounded() {
    let site = Site::start("");
    let levels = "+/".repeat(25);
    let mut intruders: Vec<_> = (0..10).map(|n| site.client5(n)).collect();
    for (n, intruder) in intruders.iter_mut().enumerate() {
        let filter = |k| Filter::new(format!("{OWN}/{n}/{k}/{levels}x"), QoS::AtMostOnce);
        let mut subscribe = Subscribe::new_many((0..1000).map(filter), None);
        subscribe.pkid = 1;
        intruder.send(&Packet::Subscribe(subscribe));
        assert!(matches!(intruder.packet(), Packet::SubAck(_)));
    }
    site.assert_serves_within(100);
}

#[test]
fn packets_of_nothing_but_short_filters_are_refused_before_they_take_memory() {
    let site = Site::start("");
    for n in 0..30 {
        let mut intruder = site.client5(n);
        // Filters of one byte, as many as a packet of 1 MB has.
        let mut packet = vec![0x82, 0xc3, 0x84, 0x3d, 0, 1, 0];
        packet.extend([0, 1, b'a', 0].repeat(250_000));
        intruder.send_bytes(&packet);
        assert_eq!(intruder.end(), DisconnectReasonCode::QuotaExceeded);
    }
    assert!(site.broker.peak_mib() < 60, "{} MiB", site.broker.peak_mib());
}

#[test]
fn log_ins_that_are_given_up_take_no_more_memory_than_those_that_wait() {
    let site = Site::start("");
    // What a slow password costs is paid by who asks for it, one at a time.
    let slow = "slow admin argon2:$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$x59UGLuAwBDnzRfVUBQJ7zA6GJrOY5gZkOVPda70TuA\n";
    let users = site.folder.path().join("users");
    fs::write(&users, fs::read_to_string(&users).unwrap() + slow).unwrap();
    for _ in 0..200 {
        let mut store = TcpStream::connect(site.broker.http()).unwrap();
        let digest = "0".repeat(64);
        // slow:guess
        let head = "Host: x\r\nAuthorization: Basic c2xvdzpndWVzcw==\r\nContent-Length: 0";
        write!(store, "PUT /v1/manifests/{digest} HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
        // So long that the hash has begun, and not so long that it is done.
        thread::sleep(Duration::from_millis(3));
    }
    let is_wrong =
        |name: &str| Client::connect(site.broker.mqtt(), &Hello::new("x").password(name, "guess")).is_err();
    assert!(is_wrong("slow"), "the last of the queue");
    site.assert_serves_within(120);
    assert!(site.broker.peak_mib() < 70, "{} MiB", site.broker.peak_mib());
}

#[test]
fn refusals_are_told_to_the_client_and_do_not_flood_the_log() {
    let site = Site::start("retained_topics_per_user = 1");
    let mut intruder = site.client5(0);
    let publish = |topic: &str| Publish { retain: true, ..message(&format!("{OWN}/{topic}"), "x") };
    assert_eq!(intruder.publish(publish("one")), PubAckReason::Success);
    let begin = Instant::now();
    for _ in 0..2000 {
        assert_eq!(intruder.publish(publish("two")), PubAckReason::QuotaExceeded);
    }
    let seconds = begin.elapsed().as_secs() as usize;
    let log = site.log();
    assert!(log.contains("may not retain") && log.lines().count() < 20 + 2 * seconds, "{seconds} s: {log}");
    site.assert_serves_within(60);
}

#[test]
fn an_honest_user_waits_behind_little() {
    let site = Site::start("");
    let mut intruders: Vec<_> = (0..30).map(|n| site.client5(n)).collect();
    let flood = Packet::Publish(Publish::new(OWN, QoS::AtMostOnce, "x".repeat(100_000), None));
    let flooding = thread::spawn(move || {
        for _ in 0..40 {
            for intruder in &mut intruders {
                intruder.send(&flood);
            }
        }
    });
    let mut honest = site.honest();
    let mut slowest = Duration::ZERO;
    while !flooding.is_finished() {
        let begin = Instant::now();
        honest.publish("deploybus/v1/trust", "x", 1, false);
        slowest = slowest.max(begin.elapsed());
    }
    flooding.join().unwrap();
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    site.assert_serves_within(120);
}

fn message(topic: &str, payload: &str) -> Publish {
    Publish { pkid: 1, ..Publish::new(topic, QoS::AtLeastOnce, payload.to_owned(), None) }
}

fn intruder(n: usize) -> Hello5 {
    Hello5::new(&format!("pi-1.{n}")).user("pi-1")
}

impl Site {
    /// With `limits` other than the usual ones.
    fn start(limits: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let users = user_line("pi-1 node groups=all") + &user_line("anna admin");
        fs::write(folder.path().join("users"), users).unwrap();
        let settings = folder.path().join("broker.toml");
        fs::write(&settings, format!("users = 'users'\n[limits]\n{limits}\n")).unwrap();
        let mut command = broker(&["--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config"]);
        command.arg(settings).arg("--data").arg(folder.path().join("data"));
        command.stderr(fs::File::create(Self::log_path(&folder)).unwrap());
        Self { broker: Broker::spawn(&mut command), folder }
    }

    fn log_path(folder: &TempDir) -> PathBuf {
        folder.path().join("broker.log")
    }

    fn log(&self) -> String {
        fs::read_to_string(Self::log_path(&self.folder)).unwrap()
    }

    fn client5(&self, n: usize) -> Client5 {
        Client5::say(self.broker.mqtt(), intruder(n))
    }

    fn honest(&self) -> Client {
        Client::connect(self.broker.mqtt(), &Hello::new("anna").user("anna")).unwrap()
    }

    /// Fails unless others are served at once, and the broker has no more than this in memory.
    fn assert_serves_within(&self, mib: u64) {
        let mut honest = self.honest();
        let begin = Instant::now();
        honest.subscribe("alive", 1);
        honest.publish("alive", "yes", 1, false);
        assert_eq!(honest.message().text(), "alive=yes");
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        let has = self.broker.resident_mib();
        println!("{has} MiB");
        assert!(has < mib, "{has} MiB");
    }
}
