//! What MQTT 3.1.1 says about connections, publishes and subscriptions.

use rumqttc::{ConnectReturnCode, Packet, PubRel, Publish, QoS, SubscribeReasonCode};

use crate::{
    bus::Bus,
    client::{Client, Hello},
};

#[test]
fn messages_come_at_the_lower_of_both_qualities() {
    let bus = Bus::open();
    let mut client = bus.client("a");
    client.subscribe_all(&[("low", 0), ("high", 1)]);
    for qos in 0..3 {
        client.publish("low", "x", qos, false);
        client.publish("high", "x", qos, false);
    }
    let expected = ["low=x q0", "high=x q0", "low=x q0", "high=x q1", "low=x q0", "high=x q1"];
    assert_eq!(client.messages(6), expected);
}

#[test]
fn at_most_quality_1_is_granted() {
    let bus = Bus::open();
    let granted = |qos| SubscribeReasonCode::Success(qos);
    let codes = bus.client("a").subscribe_all(&[("a", 0), ("b", 1), ("c", 2)]);
    assert_eq!(codes, [granted(QoS::AtMostOnce), granted(QoS::AtLeastOnce), granted(QoS::AtLeastOnce)]);
}

#[test]
fn a_bridge_gets_retained_flags_and_not_its_own_messages() {
    let bus = Bus::open();
    let mut hello = Hello::new("bridge").bytes();
    // Behind the fixed header and the protocol's name: the version, with the bit by which Mosquitto tells a bridge.
    hello[8] |= 0x80;
    let mut bridge = Client::silent(bus.mqtt());
    bridge.send_bytes(&hello);
    assert!(matches!(bridge.packet(), Packet::ConnAck(_)));
    bridge.subscribe("a", 1);
    bridge.publish("a", "its own", 1, true);
    bus.client("other").publish("a", "another's", 1, true);
    let message = bridge.message();
    assert_eq!(message.detail(), "a=another's r q1");
}

#[test]
fn who_says_everything_at_once_is_answered() {
    let bus = Bus::open();
    let (connack, pingresp) = ([0x20, 2, 0, 0], [0xd0, 0]);
    for round in 0..20 {
        let mut client = Client::silent(bus.mqtt());
        let hello = Hello::new(&format!("hasty-{round}")).bytes();
        let (pingreq, disconnect) = ([0xc0, 0], [0xe0, 0]);
        client.send_bytes(&[&hello[..], &pingreq, &disconnect].concat());
        assert_eq!(client.rest(), [&connack[..], &pingresp].concat());
    }
}

#[test]
fn overlapping_filters_give_one_copy_at_the_highest_quality() {
    let bus = Bus::open();
    let mut client = bus.client("a");
    client.subscribe_all(&[("a/#", 0), ("a/+", 1), ("a/b", 0)]);
    client.publish("a/b", "x", 1, false);
    assert_eq!(client.messages(1), ["a/b=x q1"]);
    assert_eq!(client.pending(), [""; 0]);
}

#[test]
fn nothing_comes_after_unsubscribing() {
    let bus = Bus::open();
    let mut client = bus.client("a");
    client.subscribe("a", 0);
    client.unsubscribe("a");
    client.unsubscribe("never/there");
    client.publish("a", "x", 1, false);
    assert_eq!(client.pending(), [""; 0]);
}

#[test]
fn a_quality_2_publish_is_routed_once_however_often_it_is_sent() {
    let bus = Bus::open();
    let mut client = bus.client("a");
    client.subscribe("a", 0);
    let mut publish = Publish::new("a", QoS::ExactlyOnce, "x");
    publish.pkid = 9;
    client.send(&Packet::Publish(publish.clone()));
    let mut answers = vec![client.packet(), client.packet()];
    publish.dup = true;
    for _ in 0..2 {
        client.send(&Packet::Publish(publish.clone()));
        answers.push(client.packet());
    }
    let count = |kind: fn(&Packet) -> bool| answers.iter().filter(|packet| kind(packet)).count();
    assert_eq!(count(|p| matches!(p, Packet::PubRec(r) if r.pkid == 9)), 3);
    assert_eq!(count(|p| matches!(p, Packet::Publish(_))), 1);
    client.send(&Packet::PubRel(PubRel::new(9)));
    assert!(matches!(client.packet(), Packet::PubComp(comp) if comp.pkid == 9));
    publish.dup = false;
    client.send(&Packet::Publish(publish));
    let answers = [client.packet(), client.packet()];
    assert!(answers.iter().any(|packet| matches!(packet, Packet::Publish(_))), "{answers:?}");
}

#[test]
fn other_protocol_levels_are_refused_with_code_1() {
    let bus = Bus::open();
    let v6 = [0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 6, 2, 0, 60, 0, 0, 0];
    let v31 = [0x10, 15, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 2, 0, 60, 0, 1, b'x'];
    for hello in [&v6[..], &v31] {
        let mut client = Client::silent(bus.mqtt());
        client.send_bytes(hello);
        let Packet::ConnAck(ack) = client.packet() else { panic!() };
        assert_eq!(ack.code, ConnectReturnCode::RefusedProtocolVersion);
        assert!(client.try_packet().is_none());
    }
}

#[test]
fn a_client_may_send_on_without_waiting_for_its_welcome() {
    let bus = Bus::open();
    let mut bytes = Hello::new("hasty").bytes();
    bytes.extend([0x82, 6, 0, 1, 0, 1, b'a', 0]);
    bytes.extend([0x30, 4, 0, 1, b'a', b'x']);
    let mut client = Client::silent(bus.mqtt());
    client.send_bytes(&bytes);
    assert!(matches!(client.packet(), Packet::ConnAck(_)));
    assert!(matches!(client.packet(), Packet::SubAck(_)));
    assert_eq!(client.messages(1), ["a=x q0"]);
}

#[test]
fn an_empty_client_id_needs_a_clean_session() {
    let bus = Bus::open();
    let connect = |hello: &Hello| Client::connect(bus.mqtt(), hello);
    let (first, second) = (connect(&Hello::new("")), connect(&Hello::new("")));
    assert!(first.is_ok() && second.is_ok());
    assert!(first.unwrap().pending().is_empty());
    assert_eq!(connect(&Hello::new("").keep()).err(), Some(ConnectReturnCode::BadClientId));
    assert_eq!(connect(&Hello::new(&"x".repeat(257))).err(), Some(ConnectReturnCode::BadClientId));
    assert!(connect(&Hello::new("/+#$ ä")).is_ok());
}

#[test]
fn a_client_that_breaks_the_rules_is_cut_off() {
    let bus = Bus::open();
    let subscribe = |filter: &str| {
        let mut bytes = vec![0x82, (filter.len() + 5) as u8, 0, 1, 0, filter.len() as u8];
        bytes.extend(filter.as_bytes());
        bytes.push(0);
        bytes
    };
    let second_connect = Hello::new("a").bytes();
    for (offence, bytes) in [
        ("a second CONNECT", &second_connect[..]),
        ("publish to a wildcard", &[0x30, 5, 0, 3, b'a', b'/', b'+']),
        ("publish to nowhere", &[0x30, 2, 0, 0]),
        ("publish to null", &[0x30, 3, 0, 1, 0]),
        ("quality 3", &[0x36, 5, 0, 1, b'a', 0, 1]),
        ("misplaced wildcard", &subscribe("a/#/b")),
        ("half a wildcard", &subscribe("a+")),
        ("no filter", &[0x82, 2, 0, 1]),
        ("reserved flags", &[0x80, 6, 0, 1, 0, 1, b'a', 0]),
        ("a server's packet", &[0x20, 2, 0, 0]),
        ("packet type 0", &[0x00, 0]),
        ("packet type 15", &[0xf0, 0]),
        ("length of five bytes", &[0x30, 0xff, 0xff, 0xff, 0xff, 0x01]),
    ] {
        let mut client = bus.client("offender");
        client.send_bytes(bytes);
        assert!(client.try_packet().is_none(), "{offence}");
    }
    bus.assert_alive();
}

#[test]
fn the_relay_speaks_about_itself() {
    let bus = Bus::open();
    let mut client = bus.client("a");
    client.subscribe("#", 0);
    client.subscribe("$SYS/broker/version", 0);
    assert!(client.message().text().starts_with("$SYS/broker/version=deploybus "));
    client.publish("$SYS/broker/version", "mine", 1, true);
    assert_eq!(client.pending(), [""; 0]);
}

#[test]
fn silence_ends_a_connection_after_one_and_a_half_keep_alives_even_when_it_receives() {
    let bus = Bus::open();
    let mut patient = bus.client("patient");
    let mut silent = Client::connect(bus.mqtt(), &Hello::new("silent").keep_alive(1)).unwrap();
    silent.subscribe("a", 0);
    let begin = std::time::Instant::now();
    let ended = std::thread::spawn(move || {
        silent.wait_for_end();
        begin.elapsed()
    });
    while !ended.is_finished() {
        patient.publish("a", "x", 1, false);
    }
    let lasted = ended.join().unwrap().as_millis();
    assert!((1400..6000).contains(&lasted), "{lasted} ms");
    assert_eq!(patient.pending(), [""; 0], "a client without keep-alive may be silent");
}
