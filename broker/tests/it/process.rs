//! The program itself: its one line, its exit codes, and `kill -9`.

use std::{collections::BTreeMap, net::SocketAddr, process::Stdio, sync::mpsc, thread};

use rumqttc::Packet;
use tempfile::TempDir;

use crate::{
    client::{Client, Hello},
    program::{Broker, broker, first_line, terminate},
};

#[test]
fn every_acknowledged_retained_message_survives_kill_9_under_load() {
    let folder = TempDir::new().unwrap();
    let mut known = BTreeMap::new();
    for round in 0..4 {
        let broker = Broker::start(folder.path());
        let (tell, acknowledged) = mpsc::channel();
        let publishers: Vec<_> = (0..4)
            .map(|publisher| {
                let (address, tell) = (broker.mqtt(), tell.clone());
                thread::spawn(move || publish_until_the_end(address, publisher, round, &tell))
            })
            .collect();
        drop(tell);
        for _ in 0..1000 {
            let (topic, value) = acknowledged.recv().unwrap();
            known.insert(topic, value);
        }
        broker.kill();
        for publisher in publishers {
            publisher.join().unwrap();
        }
        known.extend(acknowledged);

        let broker = Broker::start(folder.path());
        let mut reader = broker.client("reader");
        reader.subscribe("load/#", 0);
        let mut found = BTreeMap::new();
        while !known.iter().all(|(topic, value)| found.get(topic).is_some_and(|found| found >= value)) {
            let message = reader.message().0;
            found.insert(message.topic, String::from_utf8(message.payload.to_vec()).unwrap());
        }
        assert!(broker.terminate().success());
    }
    assert!(known.len() > 100);
}

#[test]
fn a_second_broker_on_the_same_folder_or_port_says_what_is_wrong() {
    let folder = TempDir::new().unwrap();
    let first = Broker::start(folder.path());
    let (code, text) = failed(&["--open-loopback", "--data", folder.path().to_str().unwrap()]);
    assert_eq!(code, 1);
    assert!(text.contains("is in use by another broker (process"), "{text}");

    let other = TempDir::new().unwrap();
    let taken = first.mqtt().to_string();
    let data = other.path().to_str().unwrap();
    for (flag, what) in [("--mqtt", "MQTT"), ("--http", "http")] {
        let free = if flag == "--mqtt" { "--http" } else { "--mqtt" };
        let (code, text) = failed(&["--open-loopback", "--data", data, flag, &taken, free, "127.0.0.1:0"]);
        assert_eq!(code, 1);
        assert!(text.contains(&format!("cannot listen for {what} on {taken}")), "{text}");
    }
    assert!(first.terminate().success());
}

#[test]
fn wrong_usage_ends_with_2() {
    for args in [
        &["--open-loopback", "--mqtt", "0.0.0.0:0"][..],
        &["--no-such-flag"],
        &["--mqtt", "nonsense"],
        &["--open-loopback", "--bus", "http://host"],
        &[],
    ] {
        let (code, text) = failed(args);
        assert_eq!(code, 2, "{args:?}: {text}");
        assert!(!text.is_empty());
    }
}

#[test]
fn with_another_bus_only_the_store_runs() {
    let folder = TempDir::new().unwrap();
    let mut child = broker(&["--open-loopback", "--http", "127.0.0.1:0", "--bus", "mqtt://127.0.0.1:1"])
        .arg("--data")
        .arg(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let line = first_line(&mut child);
    assert!(line.starts_with("broker ready bus=mqtt://127.0.0.1:1 http=127.0.0.1:"), "{line}");
    terminate(&child);
    assert!(child.wait().unwrap().success());
}

fn publish_until_the_end(
    address: SocketAddr,
    publisher: usize,
    round: usize,
    tell: &mpsc::Sender<(String, String)>,
) {
    let mut client = Client::connect(address, &Hello::new(&format!("publisher-{publisher}"))).unwrap();
    let mut sent = BTreeMap::new();
    for n in 0.. {
        let topic = format!("load/{publisher}/{}", n % 50);
        let value = format!("{round:03}-{n:09}-{}", "x".repeat(500));
        let Some(id) = client.try_publish(&topic, value.as_bytes()) else { return };
        sent.insert(id, (topic, value));
        if sent.len() < 8 {
            continue;
        }
        match client.try_packet() {
            // An acknowledgement counts from when it is read; nobody listens any more after enough of them.
            Some(Packet::PubAck(ack)) => drop(tell.send(sent.remove(&ack.pkid).unwrap())),
            Some(other) => panic!("expected PUBACK, got {other:?}"),
            None => return,
        }
    }
}

fn failed(args: &[&str]) -> (i32, String) {
    let output = broker(args).stderr(Stdio::piped()).output().unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}
