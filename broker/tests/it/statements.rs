//! Statements of the standards that no other test is about; `docs/mqtt-conformance.md` says which.

use rumqttc::v5::mqttbytes::{
    QoS as QoS5,
    v5::{
        ConnectReturnCode, Disconnect, DisconnectReasonCode, Filter, LastWill, LastWillProperties,
        Packet as Packet5, PubAck as PubAck5, PubAckReason, Publish as Publish5, PublishProperties,
        SubscribeReasonCode, UnsubAckReason, Unsubscribe,
    },
};
use rumqttc::{Packet, Publish, QoS};

use crate::{
    bus::Bus,
    client::{Client, Hello},
    mqtt5::{Client5, Hello5, filter, message, retained},
};

#[test]
fn the_mark_of_a_repeated_publish_is_not_passed_on() {
    let bus = Bus::open();
    let mut client = bus.client("a");
    client.subscribe("a", 1);
    let mut publish = Publish::new("a", QoS::AtLeastOnce, "x");
    (publish.dup, publish.pkid) = (true, 5);
    client.send(&Packet::Publish(publish));
    let came: Vec<_> = (0..2).map(|_| client.packet()).collect();
    let is_unmarked = |packet: &Packet| matches!(packet, Packet::Publish(publish) if !publish.dup);
    assert!(came.iter().any(is_unmarked), "{came:?}");
}

#[test]
fn topics_are_compared_byte_by_byte() {
    let bus = Bus::open();
    let mut client = bus.client("a");
    // Composed and decomposed, with a byte order mark and without, large and small, with a space.
    let topics = ["caf\u{e9}", "cafe\u{301}", "\u{feff}a", "a", "A", "a ", "/a", "a/"];
    client.subscribe_all(&topics.map(|topic| (topic, 0)));
    for topic in topics {
        client.publish(topic, topic, 1, false);
        assert_eq!(client.messages(1), [format!("{topic}={topic} q0")]);
    }
    assert_eq!(client.pending(), [""; 0]);
}

#[test]
fn only_the_very_filter_is_unsubscribed() {
    let bus = Bus::open();
    let mut client = bus.client("a");
    client.subscribe_all(&[("a/+", 0), ("b", 0), ("c", 0)]);
    client.unsubscribe("a/b");
    client.publish("a/b", "x", 1, false);
    assert_eq!(client.messages(1), ["a/b=x q0"]);
    // Two filters in one packet have one answer.
    client.send_bytes(&[0xa2, 8, 0, 9, 0, 1, b'b', 0, 1, b'c']);
    assert!(matches!(client.packet(), Packet::UnsubAck(ack) if ack.pkid == 9));
    client.publish("b", "x", 1, false);
    client.publish("c", "x", 1, false);
    assert_eq!(client.pending(), [""; 0]);
}

#[test]
fn what_was_begun_is_completed_after_unsubscribing() {
    let bus = Bus::open();
    let hello = Hello::new("a").keep();
    let mut client = Client::connect(bus.mqtt(), &hello).unwrap();
    client.subscribe("a", 1);
    client.acknowledges = false;
    bus.client("publisher").publish("a", "x", 1, false);
    assert_eq!(client.messages(1), ["a=x q1"]);
    client.unsubscribe("a");
    client.disconnect();
    let mut back = Client::connect(bus.mqtt(), &hello).unwrap();
    assert_eq!(back.messages(1), ["a=x q1 d"]);
}

#[test]
fn each_filter_of_a_subscription_and_of_its_end_has_its_reason_in_its_place() {
    let bus = Bus::open();
    let mut client = Client5::connect(&bus, Hello5::new("a"));
    let at = |path: &str, qos| Filter::new(path, qos);
    let wanted =
        [at("low", QoS5::AtMostOnce), at("$share/a/b", QoS5::AtLeastOnce), at("high", QoS5::ExactlyOnce)];
    let mut subscribe = rumqttc::v5::mqttbytes::v5::Subscribe::new_many(wanted, None);
    subscribe.pkid = 3;
    client.send(&Packet5::Subscribe(subscribe));
    let Packet5::SubAck(ack) = client.packet() else { panic!("no SUBACK") };
    let granted = [
        SubscribeReasonCode::Success(QoS5::AtMostOnce),
        SubscribeReasonCode::SharedSubscriptionsNotSupported,
        SubscribeReasonCode::Success(QoS5::AtLeastOnce),
    ];
    assert_eq!((ack.pkid, &ack.return_codes[..]), (3, &granted[..]));
    let filters = ["never", "high"].map(str::to_owned).to_vec();
    client.send(&Packet5::Unsubscribe(Unsubscribe { pkid: 4, filters, properties: None }));
    let Packet5::UnsubAck(ack) = client.packet() else { panic!("no UNSUBACK") };
    let reasons = [UnsubAckReason::NoSubscriptionExisted, UnsubAckReason::Success];
    assert_eq!((ack.pkid, &ack.reasons[..]), (4, &reasons[..]));
}

#[test]
fn a_subscription_that_is_made_again_is_replaced_and_loses_nothing() {
    let bus = Bus::open();
    let mut client = Client5::connect(&bus, Hello5::new("a"));
    let mut publisher = Client5::connect(&bus, Hello5::new("publisher"));
    publisher.publish(retained("a", "kept"));
    for id in [1, 2] {
        client.subscribe(filter("a"), Some(id));
        let message = client.message();
        assert_eq!((&message.payload[..], message.retain), (&b"kept"[..], true));
    }
    publisher.publish(message("a", "live"));
    assert_eq!(client.message().properties.unwrap().subscription_identifiers, [2]);
    client.assert_nothing_comes();
}

#[test]
fn a_message_that_was_refused_is_not_sent_again() {
    let bus = Bus::open();
    let mut client = Client5::connect(&bus, Hello5::new("a").keep(600));
    client.subscribe(filter("a"), None);
    Client5::connect(&bus, Hello5::new("publisher")).publish(message("a", "x"));
    let Packet5::Publish(publish) = client.packet() else { panic!("no message") };
    let mut refusal = PubAck5::new(publish.pkid, None);
    refusal.reason = PubAckReason::ImplementationSpecificError;
    client.send(&Packet5::PubAck(refusal));
    client.assert_nothing_comes();
    drop(client);
    let mut back = Client5::connect(&bus, Hello5::new("a").resume());
    assert!(back.welcome.session_present);
    back.assert_nothing_comes();
}

#[test]
fn aliases_end_with_their_connection() {
    let bus = Bus::open();
    let aliased = |topic: &str| {
        let properties = PublishProperties { topic_alias: Some(1), ..PublishProperties::default() };
        Packet5::Publish(Publish5::new(topic, QoS5::AtMostOnce, "x", Some(properties)))
    };
    let mut client = Client5::connect(&bus, Hello5::new("a").keep(600));
    client.send(&aliased("a"));
    client.assert_nothing_comes();
    drop(client);
    let mut back = Client5::connect(&bus, Hello5::new("a").resume());
    back.send(&aliased(""));
    assert_eq!(back.end(), DisconnectReasonCode::ProtocolError);
}

#[test]
fn a_will_has_its_properties_in_their_order_and_a_quality_that_there_is() {
    let bus = Bus::open();
    let mut watcher = Client5::connect(&bus, Hello5::new("watcher"));
    watcher.subscribe(filter("will"), None);
    let properties = || LastWillProperties {
        delay_interval: None,
        payload_format_indicator: Some(1),
        message_expiry_interval: None,
        content_type: Some("text/plain".into()),
        response_topic: Some("answer".into()),
        correlation_data: Some("7".into()),
        user_properties: vec![("b".into(), "1".into()), ("a".into(), "2".into()), ("b".into(), "3".into())],
    };
    let mortal = |qos| {
        let mut hello = Hello5::new("mortal");
        hello.will = Some(LastWill::new("will", "gone", qos, false, Some(properties())));
        hello
    };
    drop(Client5::connect(&bus, mortal(QoS5::AtLeastOnce)));
    let (came, sent) = (watcher.message().properties.unwrap(), properties());
    assert_eq!(came.user_properties, sent.user_properties);
    assert_eq!((came.payload_format_indicator, came.content_type), (Some(1), sent.content_type));
    assert_eq!((came.response_topic, came.correlation_data), (sent.response_topic, sent.correlation_data));
    let refused = Client5::say(bus.mqtt(), mortal(QoS5::ExactlyOnce)).welcome;
    assert_eq!((refused.code, refused.session_present), (ConnectReturnCode::QoSNotSupported, false));
}

#[test]
fn a_refusal_is_no_longer_than_the_client_takes() {
    let bus = Bus::open();
    let hello = |most| {
        Hello5::new("a").with(|properties| {
            properties.authentication_method = Some("SCRAM".into());
            properties.max_packet_size = Some(most);
        })
    };
    let reason = |most| {
        let refused = Client5::say(bus.mqtt(), hello(most)).welcome;
        assert_eq!(refused.code, ConnectReturnCode::BadAuthenticationMethod);
        refused.properties.and_then(|properties| properties.reason_string)
    };
    assert_eq!((reason(5), reason(1000).is_some()), (None, true));
}

#[test]
fn nothing_is_done_with_what_comes_after_a_good_bye_or_a_refusal() {
    let bus = Bus::open();
    let mut watcher = bus.client("watcher");
    watcher.subscribe("a", 1);
    let publish = [0x30, 4, 0, 1, b'a', b'x'];
    let mut client = Client5::connect(&bus, Hello5::new("a"));
    client.send(&Packet5::Disconnect(Disconnect::new(DisconnectReasonCode::NormalDisconnection)));
    client.send_bytes(&publish);
    assert!(client.try_packet().is_none());
    let mut refused = Client::silent(bus.mqtt());
    let without_id = Hello::new("").keep().bytes();
    refused.send_bytes(&[&without_id[..], &publish].concat());
    assert!(matches!(refused.packet(), Packet::ConnAck(_)));
    refused.wait_for_end();
    assert_eq!(watcher.pending(), [""; 0]);
}
