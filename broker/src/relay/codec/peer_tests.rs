//! rumqttc's codec as the other side: it reads what is written here, and is read here; and bytes that nobody wrote.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use rumqttc::v5::mqttbytes::{QoS as TheirQoS, v5 as five};

use super::*;

const ONE: PacketId = PacketId(NonZeroU16::MIN);

#[test]
fn a_full_connect_of_mqtt_5_is_understood() {
    let properties = five::ConnectProperties {
        session_expiry_interval: Some(77),
        receive_maximum: Some(5),
        max_packet_size: Some(4096),
        topic_alias_max: Some(9),
        request_response_info: Some(1),
        request_problem_info: Some(0),
        user_properties: vec![("k".into(), "v".into()); 2],
        authentication_method: None,
        authentication_data: None,
    };
    let connect = five::Connect {
        keep_alive: 30,
        client_id: "pi-1".into(),
        clean_start: true,
        properties: Some(properties),
    };
    let will_properties = five::LastWillProperties {
        delay_interval: Some(3),
        message_expiry_interval: Some(60),
        content_type: Some("text/plain".into()),
        payload_format_indicator: None,
        response_topic: None,
        correlation_data: None,
        user_properties: Vec::new(),
    };
    let will = five::LastWill::new("a/b", "gone", TheirQoS::AtLeastOnce, true, Some(will_properties));
    let login = five::Login::new("anna", "secret");
    let mut wire = BytesMut::new();
    five::Packet::Connect(connect, Some(will), Some(login)).write(&mut wire, None).unwrap();

    let Opening::Connect(read) = Opening::read(&mut wire, 1 << 16).unwrap() else { panic!() };

    assert_eq!((read.protocol, read.client_id.as_str(), read.keep_alive_secs), (Protocol::V5, "pi-1", 30));
    assert_eq!(read.properties.session_expiry_secs, Some(77));
    assert_eq!(read.properties.receive_maximum, NonZeroU16::new(5));
    assert_eq!(read.properties.maximum_packet_bytes, NonZeroU32::new(4096));
    assert_eq!(read.properties.topic_alias_maximum, Some(9));
    assert_eq!(read.login.user.as_deref(), Some("anna"));
    assert_eq!(read.login.password.as_deref(), Some(&b"secret"[..]));
    let will = read.will.unwrap();
    assert_eq!((will.topic.unwrap().as_str(), &will.payload[..], will.retain), ("a/b", &b"gone"[..], true));
    assert_eq!((will.qos, will.properties.will_delay_secs), (QoS::AtLeastOnce, Some(3)));
    assert_eq!(will.properties.message_expiry_secs, Some(60));
    assert_eq!(&will.properties.passed_on[..], b"\x03\0\x0atext/plain");
}

#[test]
fn a_message_goes_through_with_all_its_properties() {
    let sent = five::PublishProperties {
        payload_format_indicator: Some(1),
        message_expiry_interval: Some(60),
        topic_alias: None,
        response_topic: Some("answers/here".into()),
        correlation_data: Some(Bytes::from_static(b"\0\xff")),
        user_properties: vec![("k".into(), "2".into()), ("k".into(), "1".into())],
        subscription_identifiers: Vec::new(),
        content_type: Some("application/json".into()),
    };
    let mut publish = five::Publish::new("a/ä", TheirQoS::AtLeastOnce, "payload", Some(sent.clone()));
    (publish.pkid, publish.retain) = (1, true);
    let mut wire = BytesMut::new();
    five::Packet::Publish(publish.clone()).write(&mut wire, None).unwrap();

    let Packet::Publish(read) = read(&mut wire, Protocol::V5) else { panic!() };
    assert_eq!((read.qos, read.id, read.retain), (QoS::AtLeastOnce, Some(ONE), true));
    let header = PublishHeader {
        topic: read.topic.as_ref().unwrap().as_str(),
        id: read.id,
        dup: false,
        retain: true,
        alias: NonZeroU16::new(4),
        expiry_secs: Some(59),
        subscription_ids: &[NonZeroU32::new(7).unwrap(), NonZeroU32::new(300).unwrap()],
        passed_on: &read.properties.passed_on,
        payload_bytes: read.payload.len(),
    };
    let mut wire = BytesMut::from(&header.encode(Protocol::V5)[..]);
    wire.extend_from_slice(&read.payload);
    assert_eq!(header.packet_bytes(Protocol::V5), wire.len());

    publish.properties = Some(five::PublishProperties {
        topic_alias: Some(4),
        message_expiry_interval: Some(59),
        subscription_identifiers: vec![7, 300],
        ..sent
    });
    assert_eq!(five::Packet::read(&mut wire, None).unwrap(), five::Packet::Publish(publish));
}

#[test]
fn every_answer_is_understood_in_both_versions() {
    let connected = Connected {
        session_present: true,
        session_expiry_secs: Some(60),
        assigned_client_id: Some("auto-1".into()),
        keep_alive_secs: Some(99),
        receive_maximum: 1024,
        maximum_packet_bytes: 1 << 20,
        topic_alias_maximum: 16,
    };
    let no = Reason::NotAuthorized;
    let mut lines = Vec::new();
    for reply in [
        Reply::Connected(Box::new(connected)),
        Reply::PubAck(ONE, Reason::Success),
        Reply::PubAck(ONE, no),
        Reply::PubRec(ONE, Reason::Success),
        Reply::PubComp(ONE, Reason::PacketIdentifierNotFound),
        Reply::SubAck(ONE, [Reason::Success, Reason::GrantedQos1, no].into()),
        Reply::UnsubAck(ONE, [Reason::Success, Reason::NoSubscriptionExisted].into()),
        Reply::Pong,
    ] {
        let mut wire = BytesMut::new();
        reply.encode(Protocol::V5, &mut wire);
        lines.push(format!("5:     {:?}", five::Packet::read(&mut wire, None).unwrap()));
        assert!(wire.is_empty());
        reply.encode(Protocol::V311, &mut wire);
        lines.push(format!("3.1.1: {:?}", rumqttc::Packet::read(&mut wire, 1 << 20).unwrap()));
        assert!(wire.is_empty());
    }
    insta::assert_snapshot!(lines.join("\n"));
}

#[test]
fn a_refusal_and_a_good_bye_say_why() {
    let mut wire = refusal(Protocol::V5, Reason::BadUserNameOrPassword, "who?", usize::MAX).unwrap();
    let five::Packet::ConnAck(ack) = five::Packet::read(&mut wire, None).unwrap() else { panic!() };
    assert_eq!(ack.code, five::ConnectReturnCode::BadUserNamePassword);
    assert_eq!(ack.properties.unwrap().reason_string.as_deref(), Some("who?"));
    let mut wire = refusal(Protocol::V311, Reason::NotAuthorized, "no", usize::MAX).unwrap();
    let rumqttc::Packet::ConnAck(ack) = rumqttc::Packet::read(&mut wire, 99).unwrap() else { panic!() };
    assert_eq!(ack.code, rumqttc::ConnectReturnCode::NotAuthorized);
    assert_eq!(refusal(Protocol::V311, Reason::MalformedPacket, "", usize::MAX), None);

    let mut wire = disconnect(Reason::KeepAliveTimeout, "silent", usize::MAX);
    let five::Packet::Disconnect(good_bye) = five::Packet::read(&mut wire, None).unwrap() else { panic!() };
    assert_eq!(good_bye.reason_code, five::DisconnectReasonCode::KeepAliveTimeout);
    assert_eq!(good_bye.properties.unwrap().reason_string.as_deref(), Some("silent"));
    assert_eq!(&disconnect(Reason::KeepAliveTimeout, "silent", 5)[..], [0xe0, 1, 0x8d]);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(mut bytes: Vec<u8>, kind in 1_u8..16, flags in 0_u8..16) {
        bytes.truncate(127);
        let packet = [&[kind << 4 | flags, bytes.len() as u8][..], &bytes].concat();
        for protocol in [Protocol::V311, Protocol::V5] {
            let frame = Frame::take(&mut BytesMut::from(&packet[..]), 200).unwrap().unwrap();
            let _ = Packet::read(frame, protocol);
        }
        let _ = Opening::read(&mut BytesMut::from(&packet[..]), 200);
        let connect = [&[0x10, bytes.len() as u8 + 7, 0, 4][..], b"MQTT", &[5], &bytes].concat();
        let _ = Opening::read(&mut BytesMut::from(&connect[..]), 200);
    }

    #[test]
    fn what_is_understood_here_they_understand_too(mut body: Vec<u8>, flags in 0_u8..16) {
        body.truncate(100);
        let packet = [&[0x30 | flags, body.len() as u8 + 3, 0, 1, b'a'][..], &body].concat();
        let frame = Frame::take(&mut BytesMut::from(&packet[..]), 200).unwrap().unwrap();
        if let Ok(Packet::Publish(ours)) = Packet::read(frame, Protocol::V311) {
            let theirs = rumqttc::Packet::read(&mut BytesMut::from(&packet[..]), 200).unwrap();
            let rumqttc::Packet::Publish(theirs) = theirs else { panic!() };
            prop_assert_eq!((ours.payload, ours.retain), (theirs.payload, theirs.retain));
            prop_assert_eq!(ours.id.map_or(0, |id| id.0.get()), theirs.pkid);
        }
    }
}

fn read(wire: &mut BytesMut, protocol: Protocol) -> Packet {
    let frame = Frame::take(wire, 1 << 20).unwrap().unwrap();
    assert!(wire.is_empty());
    Packet::read(frame, protocol).unwrap()
}
