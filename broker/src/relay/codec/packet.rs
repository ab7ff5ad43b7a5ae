//! What a client sends after CONNECT.

use std::num::NonZeroU32;

use bytes::Bytes;

use super::{
    BadPacket, PacketId, Protocol, QoS, Reason,
    connect::properties_of,
    frame::Frame,
    properties::{self, Properties},
    reader::Reader,
};
use crate::relay::topic::{Filter, InvalidTopic, TopicName};

/// Most filters of one session; far above what a dashboard needs, and a bound for the filter tree.
pub(in crate::relay) const MAX_FILTERS: usize = 2000;

/// A packet, whatever version it came in.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::relay) enum Packet {
    /// A message.
    Publish(Publish),
    /// A message was received.
    PubAck(PacketId),
    /// A QoS 2 message is released.
    PubRel(PacketId),
    /// Filters are wanted.
    Subscribe {
        /// What the answer refers to.
        id: PacketId,
        /// What is wanted.
        filters: Vec<Wanted>,
        /// What the client calls these subscriptions.
        subscription_id: Option<NonZeroU32>,
    },
    /// Filters are no longer wanted.
    Unsubscribe {
        /// What the answer refers to.
        id: PacketId,
        /// Which, or why that is no filter.
        filters: Vec<Result<Filter, InvalidTopic>>,
    },
    /// Are you there?
    PingReq,
    /// Good-bye.
    Disconnect {
        /// Whether the will is to be published all the same.
        with_will: bool,
        /// Another time for which the session is kept.
        session_expiry_secs: Option<u32>,
    },
}

/// A message of a client.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::relay) struct Publish {
    /// Where to; `None` when the topic alias says it.
    pub(in crate::relay) topic: Option<TopicName>,
    /// How.
    pub(in crate::relay) qos: QoS,
    /// Its id, above QoS 0.
    pub(in crate::relay) id: Option<PacketId>,
    /// Whether it is to be retained.
    pub(in crate::relay) retain: bool,
    /// What MQTT 5 adds.
    pub(in crate::relay) properties: Properties,
    /// What.
    pub(in crate::relay) payload: Bytes,
}

/// One filter of a SUBSCRIBE.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::relay) struct Wanted {
    /// Which, or why that is no filter.
    pub(in crate::relay) filter: Result<Filter, InvalidTopic>,
    /// How.
    pub(in crate::relay) options: SubscribeOptions,
}

/// How a client wants the messages of one filter (MQTT 5, 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) struct SubscribeOptions {
    /// At most at this quality.
    pub(in crate::relay) qos: QoS,
    /// Not what it published itself.
    pub(in crate::relay) no_local: bool,
    /// With the retain flag of the publisher.
    pub(in crate::relay) retain_as_published: bool,
    /// 0: retained messages now; 1: only if the subscription is new; 2: none.
    pub(in crate::relay) retain_handling: u8,
}

impl Packet {
    /// Understands `frame`.
    pub(in crate::relay) fn read(frame: Frame, protocol: Protocol) -> Result<Self, BadPacket> {
        check_flags(&frame)?;
        let (kind, first) = (frame.kind(), frame.first);
        let mut reader = Reader::new(frame.body);
        match kind {
            3 => Publish::read(first, reader, protocol).map(Self::Publish),
            4 => acknowledged(reader, protocol).map(Self::PubAck),
            6 => acknowledged(reader, protocol).map(Self::PubRel),
            8 => subscribe(reader, protocol),
            10 => unsubscribe(reader, protocol),
            12 => reader.finish().map(|()| Self::PingReq),
            14 => disconnect(&mut reader, protocol),
            // MQTT-3.1.0-2: a second CONNECT is "a Protocol Error". AUTH needs a method that was agreed on, the rest is
            // what a server sends, or answers what this relay never sends.
            _ => Err(BadPacket::protocol_error("packet that a client does not send, or not now")),
        }
    }
}

/// MQTT-2.1.3-1: reserved flags have their value; "if invalid flags are received it is a Malformed Packet".
fn check_flags(frame: &Frame) -> Result<(), BadPacket> {
    let is_good = match frame.kind() {
        // MQTT-3.3.1-4: not both bits of QoS. MQTT-3.3.1-2: DUP is not set at QoS 0.
        3 => frame.flags() & 0x06 != 0x06 && frame.flags() & 0x0e != 0x08,
        // PUBREL (MQTT-3.6.1-1), SUBSCRIBE (MQTT-3.8.1-1), UNSUBSCRIBE (MQTT-3.10.1-1).
        6 | 8 | 10 => frame.flags() == 0x02,
        _ => frame.flags() == 0,
    };
    if is_good { Ok(()) } else { Err(BadPacket::malformed("packet with wrong flags")) }
}

impl Publish {
    fn read(first: u8, mut reader: Reader, protocol: Protocol) -> Result<Self, BadPacket> {
        let qos = QoS::of(first >> 1 & 3).ok_or(BadPacket::malformed("PUBLISH with QoS 3"))?;
        let topic = reader.text(|topic| match topic {
            "" if protocol == Protocol::V5 => Ok(None),
            topic => TopicName::parse(topic).map(Some),
        })?;
        // MQTT-3.3.2-2: "The Topic Name in the PUBLISH packet MUST NOT contain wildcard characters".
        let topic = topic.map_err(|_| BadPacket {
            reason: Reason::TopicNameInvalid,
            what: "topic is empty, too long, or has a wildcard",
        })?;
        let id = if qos == QoS::AtMostOnce { None } else { Some(reader.packet_id()?) };
        let properties = properties_of(&mut reader, protocol, properties::OF_PUBLISH)?;
        if topic.is_none() && properties.topic_alias.is_none() {
            return Err(BadPacket::protocol_error("message without a topic"));
        }
        Ok(Self { topic, qos, id, retain: first & 1 != 0, properties, payload: reader.rest() })
    }
}

/// PUBACK and its kin (3.4). Whether the other side liked the message changes nothing: it has it.
fn acknowledged(mut reader: Reader, protocol: Protocol) -> Result<PacketId, BadPacket> {
    let id = reader.packet_id()?;
    if protocol == Protocol::V5 && !reader.is_empty() {
        reader.u8()?;
        if !reader.is_empty() {
            Properties::read(&mut reader, properties::OF_ACK)?;
        }
    }
    reader.finish().map(|()| id)
}

fn subscribe(mut reader: Reader, protocol: Protocol) -> Result<Packet, BadPacket> {
    let id = reader.packet_id()?;
    let properties = properties_of(&mut reader, protocol, properties::OF_SUBSCRIBE)?;
    let mut filters = Vec::new();
    while !reader.is_empty() {
        not_too_many(&filters)?;
        let filter = reader.text(Filter::parse)?;
        let options = SubscribeOptions::read(reader.u8()?, protocol)?;
        filters.push(Wanted { filter, options });
    }
    at_least_one(&filters)?;
    Ok(Packet::Subscribe { id, filters, subscription_id: properties.subscription_id })
}

fn unsubscribe(mut reader: Reader, protocol: Protocol) -> Result<Packet, BadPacket> {
    let id = reader.packet_id()?;
    properties_of(&mut reader, protocol, properties::OF_UNSUBSCRIBE)?;
    let mut filters = Vec::new();
    while !reader.is_empty() {
        not_too_many(&filters)?;
        filters.push(reader.text(Filter::parse)?);
    }
    at_least_one(&filters)?;
    Ok(Packet::Unsubscribe { id, filters })
}

/// A short filter takes many times its bytes when it is read, so no packet has more than a session may.
fn not_too_many<T>(filters: &[T]) -> Result<(), BadPacket> {
    let what = "more filters than a session may have";
    if filters.len() < MAX_FILTERS { Ok(()) } else { Err(BadPacket { reason: Reason::QuotaExceeded, what }) }
}

/// MQTT-3.8.3-2, MQTT-3.10.3-2 (v3: MQTT-3.8.3-3): "at least one".
fn at_least_one<T>(filters: &[T]) -> Result<(), BadPacket> {
    if filters.is_empty() { Err(BadPacket::protocol_error("packet without a filter")) } else { Ok(()) }
}

impl SubscribeOptions {
    fn read(byte: u8, protocol: Protocol) -> Result<Self, BadPacket> {
        // MQTT-3.8.3-5 (v3: MQTT-3.8.3-4): reserved bits are zero.
        let reserved = if protocol == Protocol::V5 { 0xc0 } else { 0xfc };
        let qos = QoS::of(byte & 3).filter(|_| byte & reserved == 0);
        let qos = qos.ok_or(BadPacket::malformed("subscription with impossible options"))?;
        let retain_handling = byte >> 4 & 3;
        if retain_handling == 3 {
            return Err(BadPacket::protocol_error("subscription with retain handling 3"));
        }
        Ok(Self { qos, no_local: byte & 4 != 0, retain_as_published: byte & 8 != 0, retain_handling })
    }

    /// What a bridge means that has no way to say so: what it gave us must not come back, and what is retained here is to
    /// be retained there.
    pub(in crate::relay) fn of_a_bridge(self) -> Self {
        Self { no_local: true, retain_as_published: true, ..self }
    }
}

fn disconnect(reader: &mut Reader, protocol: Protocol) -> Result<Packet, BadPacket> {
    let (mut with_will, mut session_expiry_secs) = (false, None);
    if protocol == Protocol::V5 && !reader.is_empty() {
        // Everything but a normal good-bye (0x00) leaves the will in force (MQTT-3.14.4-3).
        with_will = reader.u8()? != Reason::Success.code();
        if !reader.is_empty() {
            session_expiry_secs = Properties::read(reader, properties::OF_DISCONNECT)?.session_expiry_secs;
        }
    }
    if !reader.is_empty() {
        return Err(BadPacket::malformed("DISCONNECT is longer than its fields"));
    }
    Ok(Packet::Disconnect { with_will, session_expiry_secs })
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn read(bytes: &[u8], protocol: Protocol) -> Result<Packet, BadPacket> {
        let frame = Frame::take(&mut BytesMut::from(bytes), 1 << 20)?;
        Packet::read(frame.expect("whole packets only"), protocol)
    }

    #[test]
    fn wrong_flags_bodies_and_ids_are_refused_in_both_versions() {
        let (malformed, error) = (Reason::MalformedPacket, Reason::ProtocolError);
        for (bytes, reason) in [
            (&[0x36, 5, 0, 1, b'a', 0, 1][..], malformed),
            (&[0x38, 3, 0, 1, b'a'], malformed),
            (&[0x80, 0], malformed),
            (&[0x60, 2, 0, 1], malformed),
            (&[0xa0, 5, 0, 1, 0, 1, b'a'], malformed),
            (&[0xc1, 0], malformed),
            (&[0xe1, 0], malformed),
            (&[0xf1, 0], malformed),
            (&[0xc0, 1, 0], malformed),
            (&[0x32, 5, 0, 1, b'a', 0, 0], error),
            (&[0x40, 2, 0, 0], error),
            (&[0x30, 3, 0, 1, b'+'], Reason::TopicNameInvalid),
            (&[0x10, 0], error),
            (&[0x20, 2, 0, 0], error),
            (&[0xf0, 0], error),
            (&[0x00, 0], error),
        ] {
            for protocol in [Protocol::V311, Protocol::V5] {
                assert_eq!(read(bytes, protocol).unwrap_err().reason, reason, "{bytes:?} {protocol:?}");
            }
        }
    }

    #[test]
    fn packets_of_3_1_1_are_no_longer_than_they_need_to_be() {
        for bad in [
            &[0x82, 6, 0, 1, 0, 1, b'a', 4][..],
            &[0x82, 10, 0, 1, 0, 1, b'a', 0, 0, 1, b'b', 0x81],
            &[0xa2, 2, 0, 1],
            &[0x40, 4, 0, 1, 0, 0],
            &[0x62, 3, 0, 1, 0],
            &[0xe0, 1, 0],
            &[0x30, 2, 0, 0],
        ] {
            assert!(read(bad, Protocol::V311).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn subscriptions_have_options_in_mqtt_5() {
        let packet = [0x82, 9, 0, 1, 2, 0x0b, 7, 0, 1, b'a', 0b0001_1101];
        let Packet::Subscribe { filters, subscription_id, .. } = read(&packet, Protocol::V5).unwrap() else {
            panic!()
        };
        assert_eq!(subscription_id, NonZeroU32::new(7));
        let options = SubscribeOptions {
            qos: QoS::AtLeastOnce,
            no_local: true,
            retain_as_published: true,
            retain_handling: 1,
        };
        assert_eq!(filters[0].options, options);
        for (options, reason) in
            [(0x40, Reason::MalformedPacket), (3, Reason::MalformedPacket), (0x30, Reason::ProtocolError)]
        {
            let packet = [0x82, 7, 0, 1, 0, 0, 1, b'a', options];
            assert_eq!(read(&packet, Protocol::V5).unwrap_err().reason, reason, "{options:#x}");
        }
        for nothing in [[0x82, 3, 0, 1, 0], [0xa2, 3, 0, 1, 0]] {
            assert_eq!(read(&nothing, Protocol::V5).unwrap_err().reason, Reason::ProtocolError);
        }
    }

    #[test]
    fn a_good_bye_may_say_more_in_mqtt_5() {
        let good_bye = |with_will, session_expiry_secs| Packet::Disconnect { with_will, session_expiry_secs };
        assert_eq!(read(&[0xe0, 0], Protocol::V5), Ok(good_bye(false, None)));
        assert_eq!(read(&[0xe0, 1, 0], Protocol::V5), Ok(good_bye(false, None)));
        assert_eq!(read(&[0xe0, 2, 4, 0], Protocol::V5), Ok(good_bye(true, None)));
        let later = [0xe0, 7, 0, 5, 0x11, 0, 0, 0, 9];
        assert_eq!(read(&later, Protocol::V5), Ok(good_bye(false, Some(9))));
        assert!(read(&[0xe0, 3, 0, 0, 0], Protocol::V5).is_err());
    }

    #[test]
    fn a_message_has_a_topic_or_an_alias() {
        let by_alias = [0x30, 7, 0, 0, 3, 0x23, 0, 1, b'x'];
        let Packet::Publish(publish) = read(&by_alias, Protocol::V5).unwrap() else { panic!() };
        assert_eq!((publish.topic, &publish.payload[..]), (None, &b"x"[..]));
        assert_eq!(read(&[0x30, 3, 0, 0, 0], Protocol::V5).unwrap_err().reason, Reason::ProtocolError);
    }
}
