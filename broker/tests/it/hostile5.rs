//! What MQTT 5 adds to the ways of harming a relay, and storms of what is allowed once.

use std::{
    io::Write as _,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use rumqttc::v5::mqttbytes::{
    QoS,
    v5::{Filter, Packet, Publish, PublishProperties, Subscribe, SubscribeProperties},
};

use crate::{
    bus::Bus,
    client::{Client, Hello},
    mqtt5::{Client5, Hello5},
};

/// With a will, properties of every kind, user and password.
const CONNECT: &[u8] =
    b"\x10\x4f\0\x04MQTT\x05\xc6\0\x0a\x1b\x11\0\0\0\x09\x21\0\x05\x27\0\0\x04\0\x22\0\x03\
    \x17\x01\x26\0\x01k\0\x01v\0\x06mutant\x0a\x18\0\0\0\x01\x02\0\0\0\x09\0\x02wi\0\x01w\0\x01u\0\x01p";
/// PUBLISH with properties; SUBSCRIBE, UNSUBSCRIBE, PUBACK, PUBREL, DISCONNECT and AUTH with some.
const LATER: [&[u8]; 7] = [
    b"\x33\x1f\0\x03a/b\0\x01\x16\x01\x01\x02\0\0\0\x09\x03\0\x01c\x23\0\x01\x26\0\x01k\0\x01vxy",
    b"\x82\x0b\0\x01\x02\x0b\x07\0\x03a/#\x2d",
    b"\xa2\x0f\0\x01\x07\x26\0\x01k\0\x01v\0\x03a/#",
    b"\x40\x0b\0\x01\x10\x07\x26\0\x01k\0\x01v",
    b"\x62\x04\0\x01\0\0",
    b"\xe0\x07\x04\x05\x11\0\0\0\x09",
    b"\xf0\x07\x18\x05\x15\0\x02ab",
];

#[test]
fn mutated_packets_of_mqtt_5_harm_nobody() {
    let bus = Bus::open();
    let address = bus.mqtt();
    let say = |bytes: &[&[u8]]| {
        let mut stream = TcpStream::connect(address).unwrap();
        // The relay hangs up as soon as it has seen enough.
        let _ = stream.write_all(&bytes.concat());
    };
    let mutate = |packet: &[u8], then: &dyn Fn(&[u8])| {
        for place in 0..packet.len() {
            for flip in [0x01, 0x10, 0x80, 0xff] {
                let mut mutated = packet.to_vec();
                mutated[place] ^= flip;
                then(&mutated);
            }
            then(&[&packet[..place], &packet[place + 1..]].concat());
        }
    };
    // As they are, they are fine.
    let mut whole = Client::silent(address);
    whole.send_bytes(&[&[CONNECT], &LATER[..5]].concat().concat());
    bus.assert_alive();
    mutate(CONNECT, &|mutated| say(&[mutated, LATER[0]]));
    for packet in LATER {
        mutate(packet, &|mutated| say(&[CONNECT, mutated]));
    }
    bus.assert_alive();
}

#[test]
fn who_takes_packets_of_one_byte_gets_none_and_is_served() {
    let bus = Bus::open();
    let mut watcher = bus.client("watcher");
    watcher.subscribe("a", 1);
    let mut tiny = Client::silent(bus.mqtt());
    tiny.send_bytes(b"\x10\x16\0\x04MQTT\x05\x02\0\0\x05\x27\0\0\0\x01\0\x04tiny");
    tiny.send_bytes(b"\x82\x07\0\x01\0\0\x01#\x01");
    for id in 1..100 {
        tiny.send_bytes(&[0x32, 7, 0, 1, b'a', 0, id, 0, b'x']);
    }
    assert_eq!(watcher.messages(99).len(), 99);
    bus.assert_alive();
}

#[test]
fn a_message_of_nothing_but_properties_goes_through_unaltered() {
    let bus = Bus::open();
    let mut client = Client5::connect(&bus, Hello5::new("a"));
    client.subscribe(Filter::new("a", QoS::AtMostOnce), None);
    let user_properties: Vec<_> = (0..50_000).map(|n| (format!("k{}", n % 7), n.to_string())).collect();
    let properties =
        PublishProperties { user_properties: user_properties.clone(), ..PublishProperties::default() };
    client.send(&Packet::Publish(Publish::new("a", QoS::AtMostOnce, "x", Some(properties))));
    assert_eq!(client.message().properties.unwrap().user_properties, user_properties);
}

#[test]
fn a_message_for_a_thousand_subscriptions_of_one_client_is_one_packet() {
    let bus = Bus::open();
    let mut client = Client5::connect(&bus, Hello5::new("a"));
    let level = |n: usize, bit: usize| if n >> bit & 1 == 0 { "+" } else { "x" };
    for n in 0..1024 {
        let path: Vec<_> = (0..10).map(|bit| level(n, bit)).collect();
        let filter = Filter::new(path.join("/"), QoS::AtMostOnce);
        let properties = SubscribeProperties { id: Some(n + 1), user_properties: Vec::new() };
        let mut subscribe = Subscribe::new(filter, Some(properties));
        subscribe.pkid = 1;
        client.send(&Packet::Subscribe(subscribe));
        assert!(matches!(client.packet(), Packet::SubAck(_)));
    }
    let topic = ["x"; 10].join("/");
    let begin = Instant::now();
    for _ in 0..100 {
        client.send(&Packet::Publish(Publish::new(&topic, QoS::AtMostOnce, "x", None)));
        // rumqttc counts a byte too many for each identifier and takes the last ones for the payload.
        let message = client.message();
        assert!(message.properties.unwrap().subscription_identifiers.len() > 500);
        assert!(message.payload.ends_with(b"x"));
    }
    client.assert_nothing_comes();
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
}

#[test]
fn floods_of_answers_to_nothing_and_of_farewells_to_nothing_hold_nobody_up() {
    let bus = Bus::open();
    let mut client = Client5::connect(&bus, Hello5::new("flooder"));
    let acks: Vec<u8> = (1..=u16::MAX).flat_map(|id| [&[0x40, 2][..], &id.to_be_bytes()].concat()).collect();
    for _ in 0..4 {
        client.send_bytes(&acks);
    }
    for id in 1..=1000_u16 {
        let [high, low] = id.to_be_bytes();
        client.send_bytes(&[0x62, 2, high, low]);
        client.send_bytes(&[0xa2, 6, high, low, 0, 0, 1, b'z']);
    }
    let mut answers = 0;
    while answers < 2000 {
        answers += usize::from(matches!(client.packet(), Packet::PubComp(_) | Packet::UnsubAck(_)));
    }
    // An alias may stand for another topic with each message.
    for n in 0..20_000 {
        let properties = PublishProperties { topic_alias: Some(n % 16 + 1), ..PublishProperties::default() };
        let publish = Publish::new(format!("t/{n}"), QoS::AtMostOnce, "", Some(properties));
        client.send(&Packet::Publish(publish));
    }
    bus.assert_alive();
}

#[test]
fn who_never_acknowledges_harms_only_itself() {
    let bus = Bus::open();
    let mut careless = bus.client("careless");
    careless.acknowledges = false;
    careless.subscribe("a", 1);
    let mut steady = bus.client("steady");
    steady.subscribe("a", 1);
    let mut publisher = bus.client("publisher");
    for n in 0..2000 {
        publisher.publish("a", &n.to_string(), 1, false);
        assert_eq!(steady.message().text(), format!("a={n}"));
    }
    assert_eq!(careless.pending().len(), 64);
}

#[test]
fn two_clients_that_throw_each_other_out_starve_nobody() {
    let bus = Bus::open();
    let address = bus.mqtt();
    let until = Instant::now() + Duration::from_secs(2);
    let fight = move || {
        let hello = Hello::new("same").keep().will("gone", "x", true);
        let mut wins = 0;
        while Instant::now() < until {
            wins += usize::from(Client::connect_or_hang_up(address, &hello).is_some());
        }
        wins
    };
    let fighters: Vec<_> = (0..2).map(|_| thread::spawn(fight)).collect();
    let mut honest = bus.client("honest");
    let mut slowest = Duration::ZERO;
    while Instant::now() < until {
        let begin = Instant::now();
        honest.publish("a", "x", 1, false);
        slowest = slowest.max(begin.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    let wins: Vec<_> = fighters.into_iter().map(|fighter| fighter.join().unwrap()).collect();
    assert!(wins.iter().all(|wins| *wins > 10), "{wins:?}");
    // And then there is one.
    let mut last = Client::connect(address, &Hello::new("same")).unwrap();
    assert_eq!(last.pending(), [""; 0]);
}

#[test]
fn a_connect_byte_by_byte_has_five_seconds() {
    let bus = Bus::open();
    let mut slow = Client::silent(bus.mqtt());
    let hello = Hello::new(&"x".repeat(200)).bytes();
    let begin = Instant::now();
    let is_cut_off = hello.iter().any(|byte| {
        thread::sleep(Duration::from_millis(100));
        slow.try_send_bytes(&[*byte]).is_err()
    });
    let lasted = begin.elapsed();
    assert!(is_cut_off && (4..8).contains(&lasted.as_secs()), "{lasted:?}");
}
