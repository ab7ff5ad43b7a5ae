//! Retained messages: who gets which when, and what survives.

use std::thread;

use crate::{bus::Bus, client::Hello};

#[test]
fn live_copies_are_not_marked_and_replayed_ones_are() {
    let bus = Bus::open();
    let mut early = bus.client("early");
    early.subscribe("a/#", 1);
    early.publish("a/b", "x", 1, true);
    assert_eq!(early.messages(1), ["a/b=x q1"]);
    let mut late = bus.client("late");
    late.subscribe("a/+", 1);
    assert_eq!(late.messages(1), ["a/b=x r q1"]);
}

#[test]
fn subscribing_again_sends_again() {
    let bus = Bus::open();
    let mut client = bus.client("a");
    client.publish("a", "x", 1, true);
    for _ in 0..3 {
        client.subscribe("a", 0);
        assert_eq!(client.messages(1), ["a=x r q0"]);
    }
}

#[test]
fn only_an_empty_retained_message_clears() {
    let bus = Bus::open();
    let mut client = bus.client("a");
    client.publish("a", "x", 1, true);
    client.publish("a", "", 1, false);
    client.subscribe("a", 0);
    assert_eq!(client.messages(1), ["a=x r q0"]);
    client.publish("a", "", 1, true);
    assert_eq!(client.messages(1), ["a= q0"]);
    client.subscribe("a", 0);
    assert_eq!(client.pending(), [""; 0]);
}

#[test]
fn a_clean_restart_keeps_everything_of_every_class() {
    let mut bus = Bus::open();
    let mut client = bus.client("a");
    client.publish("durable", "1", 1, true);
    client.publish("durable", "2", 1, true);
    client.publish("gone", "1", 1, true);
    client.publish("gone", "", 1, true);
    client.publish("deploybus/v1/node/pi/health", "lazy", 1, true);
    client.publish("quality/0", "x", 0, true);
    client.publish("done", "x", 1, true);
    bus.restart();
    let mut client = bus.client("a");
    client.subscribe("#", 1);
    let expected =
        ["deploybus/v1/node/pi/health=lazy r q1", "done=x r q1", "durable=2 r q1", "quality/0=x r q0"];
    assert_eq!(client.messages(4), expected);
    assert_eq!(client.pending(), [""; 0]);
}

#[test]
fn a_dashboard_gets_all_of_ten_thousand() {
    let bus = Bus::open();
    let mut client = bus.client("publisher");
    for n in 0..10_000 {
        client.send_publish(&format!("many/{n}"), b"x", 0, true);
    }
    client.publish("many/last", "x", 1, true);
    for qos in [0, 1] {
        let mut dashboard = bus.client("dashboard");
        dashboard.subscribe("many/#", qos);
        let mut topics: Vec<_> = (0..10_001).map(|_| dashboard.message().0.topic).collect();
        topics.sort();
        topics.dedup();
        assert_eq!(topics.len(), 10_001);
        assert_eq!(dashboard.pending(), [""; 0]);
    }
}

#[test]
fn nobody_ever_gets_an_old_value_after_a_newer_one() {
    let bus = Bus::open();
    let mut publisher = bus.client("publisher");
    let writer = thread::spawn(move || {
        for n in 1..=500 {
            publisher.publish("counter", &n.to_string(), 1, true);
        }
    });
    for n in 0.. {
        let mut client = bus.client(&format!("reader-{n}"));
        client.subscribe("counter", 1);
        let mut last = 0;
        for _ in 0..5 {
            if last == 500 {
                break;
            }
            let message = client.message();
            let value: u32 = std::str::from_utf8(&message.0.payload).unwrap().parse().unwrap();
            assert!(value >= last, "{value} after {last}");
            last = value;
        }
        if last == 500 {
            break;
        }
    }
    writer.join().unwrap();
}

#[test]
fn what_a_publisher_was_acknowledged_is_what_the_next_subscriber_sees() {
    let bus = Bus::open();
    let (mut publisher, mut reader) = (bus.client("publisher"), bus.client("reader"));
    for n in 0..50 {
        publisher.publish("a", &n.to_string(), 1, true);
        reader.subscribe("a", 0);
        assert_eq!(reader.message().text(), format!("a={n}"));
        reader.unsubscribe("a");
    }
}

#[test]
fn a_publish_that_does_not_fit_is_not_acknowledged() {
    let bus = Bus::with(|settings| settings.limits.retained_topics = 20);
    let mut client = bus.client("a");
    let mut acknowledged = 0;
    while client.try_publish(&format!("t/{acknowledged}"), b"x").is_some() && client.try_packet().is_some() {
        acknowledged += 1;
    }
    // The relay's own values take some of the room.
    assert!((1..20).contains(&acknowledged), "{acknowledged}");
    let mut reader = bus.client("reader");
    reader.subscribe("t/#", 0);
    assert_eq!(reader.pending().len(), acknowledged);
    bus.assert_alive();
}

#[test]
fn a_retained_will_survives_a_restart() {
    let mut bus = Bus::open();
    let mut watcher = bus.client("watcher");
    watcher.subscribe("will", 0);
    let hello = Hello::new("mortal").will("will", "gone", true);
    crate::client::Client::connect(bus.mqtt(), &hello).unwrap().reset();
    assert_eq!(watcher.messages(1), ["will=gone q0"]);
    bus.restart();
    let mut watcher = bus.client("watcher");
    watcher.subscribe("will", 0);
    assert_eq!(watcher.messages(1), ["will=gone r q0"]);
}
