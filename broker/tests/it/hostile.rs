//! What must not bring the relay down, or harm other clients.

use std::{thread, time::Duration};

use rumqttc::{ConnectReturnCode, Packet, QoS, Subscribe, SubscribeFilter};

use crate::{
    bus::Bus,
    client::{Client, Hello},
};

#[test]
fn half_a_connect_is_cut_off_and_disturbs_nobody() {
    let bus = Bus::open();
    let hello = Hello::new("half").bytes();
    let mut halves: Vec<_> = (0..hello.len())
        .map(|length| {
            let mut client = Client::silent(bus.mqtt());
            client.send_bytes(&hello[..length]);
            client
        })
        .collect();
    bus.assert_alive();
    for half in &mut halves {
        assert!(half.try_packet().is_none());
    }
}

#[test]
fn topics_of_any_script_go_through() {
    let bus = Bus::open();
    let mut client = bus.client("a");
    client.subscribe("#", 1);
    let longest = "x".repeat(1024);
    for topic in ["ärger/x", "日本/語", "\u{1F600}", "/", "//", " ", "\u{7f}", &longest] {
        client.publish(topic, "x", 1, true);
        assert_eq!(client.message().0.topic, topic);
    }
    let will = Hello::new("mortal").will("ünwohl", "x", false);
    Client::connect(bus.mqtt(), &will).unwrap().reset();
    assert_eq!(client.message().0.topic, "ünwohl");
    let mut overlong = bus.client("overlong");
    overlong.send_publish(&"x".repeat(1025), b"", 0, false);
    assert!(overlong.try_packet().is_none());
    bus.assert_alive();
}

#[test]
fn random_bytes_harm_nobody() {
    let bus = Bus::open();
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut byte = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as u8
    };
    for round in 0..300 {
        let mut client = Client::silent(bus.mqtt());
        if round % 2 == 0 {
            client.send_bytes(&Hello::new("random").bytes());
        }
        let length = usize::from(byte()) * 4;
        let bytes: Vec<u8> = (0..length).map(|_| byte()).collect();
        // The relay hangs up as soon as it has seen enough.
        let _ = client.try_send_bytes(&bytes);
    }
    bus.assert_alive();
}

#[test]
fn mutated_packets_harm_nobody() {
    let bus = Bus::open();
    let packets: [&[u8]; 4] = [
        &[0x82, 8, 0, 1, 0, 3, b'a', b'/', b'#', 1],
        &[0x32, 9, 0, 3, b'a', b'/', b'b', 0, 1, b'x', b'y'],
        &[0xa2, 7, 0, 1, 0, 3, b'a', b'/', b'#'],
        &[0x62, 2, 0, 1],
    ];
    for packet in packets {
        for place in 0..packet.len() {
            for flip in [0x01, 0x80, 0xff] {
                let mut mutated = packet.to_vec();
                mutated[place] ^= flip;
                let mut client = bus.client(&format!("mutant-{place}-{flip}"));
                let _ = client.try_send_bytes(&mutated);
            }
        }
    }
    bus.assert_alive();
}

#[test]
fn a_client_that_leaves_in_a_burst_harms_nobody() {
    let bus = Bus::open();
    let mut publisher = bus.client("publisher");
    let mut steady = bus.client("steady");
    steady.subscribe("burst", 1);
    for round in 0..10 {
        let mut leaver = bus.client("leaver");
        leaver.subscribe("burst", round % 2);
        for _ in 0..300 {
            publisher.send_publish("burst", b"x", 0, false);
        }
        leaver.send(&Packet::Disconnect);
    }
    for _ in 0..3000 {
        steady.message();
    }
    bus.assert_alive();
}

#[test]
fn a_subscriber_that_never_reads_gets_the_newest_values_when_it_is_back() {
    let bus = Bus::with(|settings| settings.limits.queue_messages = 100);
    let mut sleeper = bus.client("sleeper");
    sleeper.subscribe_all(&[("state/#", 0), ("end", 0)]);
    let mut reader = bus.client("reader");
    reader.subscribe("state/#", 0);
    let mut publisher = bus.client("publisher");
    // More than sockets hold, in few messages: who reads nothing for 15 s is put out.
    let payload = |round: usize| format!("{round:04}").repeat(16 * 1024);
    let rounds = 40;
    for round in 0..rounds {
        for topic in 0..10 {
            publisher.publish(&format!("state/{topic}"), &payload(round), 1, true);
            assert_eq!(reader.message().0.payload, payload(round));
        }
    }
    publisher.publish("end", "x", 1, true);
    let mut newest = std::collections::BTreeMap::new();
    while newest.len() < 11
        || newest.iter().any(|(topic, value)| topic != "end" && *value != payload(rounds - 1))
    {
        let message = sleeper.message().0;
        let value = String::from_utf8(message.payload.to_vec()).unwrap();
        let before = newest.insert(message.topic, value.clone());
        assert!(before.is_none_or(|before| before <= value), "an old value after a newer one");
    }
}

#[test]
fn a_huge_packet_is_refused_by_its_announcement() {
    let bus = Bus::open();
    let mut client = bus.client("huge");
    client.send_bytes(&[0x30, 0xff, 0xff, 0xff, 0x7f]);
    assert!(client.try_packet().is_none());
    let mut stranger = Client::silent(bus.mqtt());
    stranger.send_bytes(&[0x10, 0xff, 0xff, 0x7f]);
    assert!(stranger.try_packet().is_none());
    let mut client = bus.client("large");
    client.publish("large", &"x".repeat(1_000_000), 1, true);
    client.subscribe("large", 1);
    assert_eq!(client.message().0.payload.len(), 1_000_000);
}

#[test]
fn a_flood_of_subscriptions_holds_nobody_up() {
    let bus = Bus::open();
    let mut publisher = bus.client("publisher");
    for n in 0..2000 {
        publisher.publish(&format!("state/{n}/x"), "v", 0, true);
    }
    publisher.publish("state/last", "v", 1, true);
    let mut flooder = bus.client("flooder");
    let wide = |n: usize| format!("state/+/{n}");
    let subscribe = |filters: &mut dyn Iterator<Item = String>| {
        let mut packet = Subscribe::new_many(filters.map(|path| SubscribeFilter::new(path, QoS::AtMostOnce)));
        packet.pkid = 1;
        Packet::Subscribe(packet)
    };
    flooder.send(&subscribe(&mut (0..1900).map(wide)));
    flooder.send(&subscribe(&mut (0..2000).map(|_| "state/#".to_owned())));
    for _ in 0..3000 {
        flooder.send(&subscribe(&mut std::iter::once("#".to_owned())));
    }
    bus.assert_alive();
}

#[test]
fn a_slow_client_that_is_not_listened_to_is_not_called_silent() {
    let bus = Bus::open();
    let mut publisher = bus.client("publisher");
    for n in 0..40 {
        publisher.publish(&format!("large/{n}"), &"x".repeat(400_000), 1, true);
    }
    let hello = Hello::new("slow").keep_alive(1);
    let mut slow = Client::connect(bus.mqtt(), &hello).unwrap();
    slow.send(&Packet::Subscribe({
        let mut all = Subscribe::new("large/#", QoS::AtMostOnce);
        all.pkid = 1;
        all
    }));
    // As a thin line does: a little at a time, for longer than the keep-alive allows silence.
    let begin = std::time::Instant::now();
    let mut rest = 40;
    while rest > 0 {
        if let Packet::Publish(_) = slow.packet() {
            rest -= 1;
            let due = Duration::from_millis(75) * (40 - rest);
            thread::sleep(due.saturating_sub(begin.elapsed()));
        }
    }
    assert!(begin.elapsed() > Duration::from_millis(1500));
}

#[test]
fn full_is_said_and_passes() {
    let bus = Bus::with(|settings| settings.limits.connections = 3);
    let mut clients: Vec<_> = (0..3).map(|n| bus.client(&format!("c{n}"))).collect();
    for _ in 0..50 {
        let mut refused = Client::silent(bus.mqtt());
        match refused.try_packet() {
            Some(Packet::ConnAck(ack)) => assert_eq!(ack.code, ConnectReturnCode::ServiceUnavailable),
            other => assert!(other.is_none(), "{other:?}"),
        }
    }
    clients.pop().unwrap().disconnect();
    let begin = std::time::Instant::now();
    // The place is free when the connection's task has ended, which the client cannot see.
    while Client::connect_or_hang_up(bus.mqtt(), &Hello::new("next")).is_none() {
        assert!(begin.elapsed() < Duration::from_secs(10));
        thread::yield_now();
    }
}

#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    let bus = Bus::open();
    let mut flooder = bus.client("flooder");
    let pings = [0xc0, 0x00].repeat(32 * 1024);
    flooder.set_write_timeout(Duration::from_millis(500));
    let mut sent = 0_usize;
    // The relay stops reading when its answers are not taken, so writing must get stuck long before this.
    while sent < 64 << 20 && flooder.try_send_bytes(&pings).is_ok() {
        sent += pings.len();
    }
    assert!(sent < 64 << 20);
    bus.assert_alive();
}
