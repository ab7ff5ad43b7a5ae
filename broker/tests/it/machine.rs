//! A machine without files, without a disk, or with a bad one: the broker serves on or says why it does not.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpStream,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{PubAckReason, Publish},
};
use tempfile::TempDir;

use crate::{
    client::{Client, Hello},
    mqtt5::{Client5, Hello5},
    program::{Broker, open_broker},
};

#[test]
fn a_broker_with_64_files_serves_those_that_it_has_and_idles() {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new("prlimit");
    let inner = open_broker(&folder.path().join("data"));
    command.arg("--nofile=64").arg(inner.get_program()).args(inner.get_args());
    let log = folder.path().join("log");
    let broker = Broker::spawn(command.stderr(File::create(&log).unwrap()));
    let mut served = Vec::new();
    let mut others = Vec::new();
    for n in 0..200 {
        served.extend(Client::connect_or_hang_up(broker.mqtt(), &Hello::new(&format!("c{n}"))));
        others.push(TcpStream::connect(broker.http()).unwrap());
    }
    assert!((20..64).contains(&served.len()), "{}", served.len());
    let before = broker.cpu_time();
    thread::sleep(Duration::from_secs(1));
    let used = broker.cpu_time().saturating_sub(before);
    assert!(used < Duration::from_millis(300), "{used:?} of a second");
    for client in &mut served {
        client.subscribe("a", 0);
        client.publish("a/b", "x", 1, true);
    }
    let lines = fs::read_to_string(&log).unwrap().lines().count();
    assert!(lines < 50, "{lines} lines in the log");
    drop((served, others));
    while Client::connect_or_hang_up(broker.mqtt(), &Hello::new("next")).is_none() {
        thread::yield_now();
    }
}

#[test]
fn a_full_disk_refuses_what_is_retained_until_there_is_room_and_serves_the_rest() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data");
    let Some(disk) = SmallDisk::mount(&data) else {
        return println!("skipped: needs root to mount a small disk");
    };
    let filler = data.join("filler");
    fs::write(&filler, vec![0; 1 << 20]).unwrap();
    let log = folder.path().join("log");
    let broker = Broker::spawn(open_broker(&data).stderr(File::create(&log).unwrap()));
    let mut client5 = Client5::say(broker.mqtt(), Hello5::new("five"));
    let payload = "x".repeat(100_000);
    let mut publish = |n: usize| {
        let publish = Publish::new(format!("t/{n}"), QoS::AtLeastOnce, payload.clone(), None);
        client5.publish(Publish { pkid: 1, retain: true, ..publish })
    };
    let stored = (0..50).take_while(|n| publish(*n) == PubAckReason::Success).count();
    assert!((2..12).contains(&stored), "{stored}");
    for n in 0..20 {
        assert_eq!(publish(stored + n), PubAckReason::ImplementationSpecificError);
    }
    let mut client3 = broker.client("three");
    client3.try_publish("t/no", payload.as_bytes()).unwrap();
    assert!(client3.try_packet().is_none(), "MQTT 3.1.1 has no other way to say no");
    broker.assert_alive();

    fs::remove_file(filler).unwrap();

    for n in 0..3 {
        assert_eq!(publish(stored + n), PubAckReason::Success);
    }
    let said = fs::read_to_string(&log).unwrap();
    assert_eq!(said.matches("retained messages are refused until").count(), 1, "{said}");
    assert_eq!(said.matches("retained messages are stored again").count(), 1, "{said}");
    broker.kill();
    let broker = Broker::start(&data);
    assert_eq!(retained(&broker).len(), stored + 3);
    drop((broker, disk));
}

#[test]
fn a_log_that_is_cut_or_changed_anywhere_costs_what_was_there_and_nothing_else() {
    let folder = TempDir::new().unwrap();
    let whole = folder.path().join("whole");
    let broker = Broker::start(&whole);
    let header = fs::metadata(whole.join("retained.log")).unwrap().len() as usize;
    let mut client = broker.client("publisher");
    for n in 0..40 {
        client.publish(&topic(n), &payload(n), 1, true);
    }
    broker.kill();
    let log = fs::read(whole.join("retained.log")).unwrap();
    for step in 0..24 {
        let place = header + (log.len() - header) * step / 24;
        let found = restart_with(&log[..place]);
        let is_start = found.keys().enumerate().all(|(n, found)| *found == topic(n));
        assert!(is_start && found.len() * 25 >= step * 20, "cut at {place}: {found:?}");

        let mut changed = log.clone();
        changed[place + 1] ^= 0x10;
        let found = restart_with(&changed);
        assert!(found.len() >= 39, "changed at {place}: {found:?}");
    }
    for tail in [&b"\0"[..], &[0; 5000], &[0xff; 70], &log[log.len() / 2..log.len() - 9]] {
        assert_eq!(restart_with(&[&log, tail].concat()).len(), 40);
    }
}

/// What a broker has that starts with this log, and that it can go on.
fn restart_with(log: &[u8]) -> BTreeMap<String, String> {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("retained.log"), log).unwrap();
    let broker = Broker::start(folder.path());
    let found = retained(&broker);
    for (n, found) in (0..40).filter_map(|n| Some((n, found.get(&topic(n))?))) {
        assert_eq!(*found, payload(n), "a value that nobody published");
    }
    broker.client("publisher").publish("more", "x", 1, true);
    broker.kill();
    let broker = Broker::start(folder.path());
    assert_eq!(retained(&broker).len(), found.len() + 1);
    found
}

fn retained(broker: &Broker) -> BTreeMap<String, String> {
    let mut reader = broker.client("reader");
    // The last one in the order in which they come.
    reader.publish("~", "end", 1, true);
    reader.subscribe("#", 0);
    let next = || {
        let message = reader.message().0;
        (message.topic != "~").then(|| (message.topic, String::from_utf8(message.payload.to_vec()).unwrap()))
    };
    std::iter::from_fn(next).collect()
}

fn topic(n: usize) -> String {
    format!("t{n:02}")
}

fn payload(n: usize) -> String {
    format!("{n}-{}", "x".repeat(n * 37 % 900))
}

/// A file system of 2 MiB, gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Option<Self> {
        fs::create_dir_all(folder).unwrap();
        let mount =
            Command::new("mount").args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"]).arg(folder).output();
        mount.is_ok_and(|output| output.status.success()).then(|| Self(folder.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, for what is being killed may still hold it.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
