//! Packets of MQTT 3.1.1: rumqttc's codec, made strict where it is lenient, and the relay's answers.

use bytes::BytesMut;
use rumqttc::{
    ConnAck, ConnectReturnCode, Packet, PingResp, PubAck, PubComp, PubRec, SubAck, SubscribeReasonCode,
    UnsubAck,
};

use super::message::PacketId;

/// The protocol level of MQTT 3.1.1.
const LEVEL_3_1_1: u8 = 4;

/// Bytes from a client that are not MQTT 3.1.1.
#[derive(Debug, thiserror::Error)]
pub(super) enum BadPacket {
    /// What rumqttc says.
    #[error("malformed packet")]
    Malformed(#[source] rumqttc::mqttbytes::Error),
    /// MQTT-2.2.2-2, MQTT-3.3.1-2 and -4.
    #[error("packet with the flags {0:#04x}")]
    Flags(u8),
    /// MQTT-3.8.3-4, MQTT-3.10.3-2, and what has a fixed length.
    #[error("packet of type {0} with a wrong body")]
    Body(u8),
    /// MQTT-2.3.1-1.
    #[error("packet without an id")]
    NoId,
    /// MQTT-3.1.2-3, MQTT-3.1.2-22.
    #[error("CONNECT with the flags {0:#04x}")]
    ConnectFlags(u8),
    /// MQTT-3.1.0-1.
    #[error("first packet is not a CONNECT")]
    NotConnect,
}

/// What the first bytes of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// Not enough yet.
    Incomplete,
    /// A CONNECT of MQTT 3.1.1.
    V311,
    /// A CONNECT of another level of the protocol.
    OtherLevel,
}

/// An answer of the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// To CONNECT.
    Connected {
        /// Whether the client's session was kept from an earlier connection.
        session_present: bool,
    },
    /// To a QoS 1 PUBLISH.
    PubAck(PacketId),
    /// To a QoS 2 PUBLISH.
    PubRec(PacketId),
    /// To PUBREL.
    PubComp(PacketId),
    /// To SUBSCRIBE.
    SubAck(PacketId, Vec<SubscribeReasonCode>),
    /// To UNSUBSCRIBE.
    UnsubAck(PacketId),
    /// To PINGREQ.
    Pong,
}

/// Looks at what a client opens with, before anything is decoded by the rules of one level.
pub(super) fn opening(input: &[u8], max_packet: usize) -> Result<Opening, BadPacket> {
    match input.first() {
        None => return Ok(Opening::Incomplete),
        Some(0x10) => {}
        Some(_) => return Err(BadPacket::NotConnect),
    }
    match rumqttc::mqttbytes::check(input.iter(), max_packet) {
        Ok(header) => {
            // The variable header starts with the protocol's name, which has its own length, then the level.
            let body = &input[header_bytes(input)..header.frame_length()];
            let (name_length, rest) = body.split_first_chunk::<2>().ok_or(BadPacket::NotConnect)?;
            let level = rest.get(usize::from(u16::from_be_bytes(*name_length)));
            let flags = rest.get(usize::from(u16::from_be_bytes(*name_length)) + 1);
            match (rest, level, flags) {
                ([b'M', b'Q', b'T', b'T', ..], Some(&LEVEL_3_1_1), Some(flags)) => {
                    check_connect_flags(*flags)
                }
                ([b'M', b'Q', ..], Some(_), _) => Ok(Opening::OtherLevel),
                _ => Err(BadPacket::NotConnect),
            }
        }
        Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => Ok(Opening::Incomplete),
        Err(err) => Err(BadPacket::Malformed(err)),
    }
}

/// Takes the next whole packet from `input`, if there is one.
pub(super) fn next(input: &mut BytesMut, max_packet: usize) -> Result<Option<Packet>, BadPacket> {
    let Some(first) = input.first() else { return Ok(None) };
    let first = *first;
    check_flags(first)?;
    if let Some(body) = body(input, max_packet) {
        check_body(first >> 4, body)?;
    }
    match Packet::read(input, max_packet) {
        Ok(packet) => check_id(packet).map(Some),
        Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => Ok(None),
        Err(err) => Err(BadPacket::Malformed(err)),
    }
}

/// The CONNACK that refuses a client.
pub(super) fn refusal(code: ConnectReturnCode) -> BytesMut {
    let mut bytes = BytesMut::new();
    let _infallible = ConnAck::new(code, false).write(&mut bytes);
    bytes
}

impl Reply {
    /// Appends the packet. rumqttc's writers fail for packets over 256 MB only; these have a few bytes.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let _infallible = match self {
            Self::Connected { session_present } => {
                ConnAck::new(ConnectReturnCode::Success, *session_present).write(out)
            }
            Self::PubAck(PacketId(id)) => PubAck::new(*id).write(out),
            Self::PubRec(PacketId(id)) => PubRec::new(*id).write(out),
            Self::PubComp(PacketId(id)) => PubComp::new(*id).write(out),
            Self::SubAck(PacketId(id), codes) => SubAck::new(*id, codes.clone()).write(out),
            Self::UnsubAck(PacketId(id)) => UnsubAck::new(*id).write(out),
            Self::Pong => PingResp.write(out),
        };
    }
}

/// MQTT-3.1.2-3: the reserved flag is zero. MQTT-3.1.2-22: no password without a user name.
fn check_connect_flags(flags: u8) -> Result<Opening, BadPacket> {
    if flags & 0x01 != 0 || flags & 0xc0 == 0x40 {
        return Err(BadPacket::ConnectFlags(flags));
    }
    Ok(Opening::V311)
}

fn check_flags(first: u8) -> Result<(), BadPacket> {
    let (kind, flags) = (first >> 4, first & 0x0f);
    let allowed = match kind {
        // PUBLISH: QoS is not 3, and DUP is not set at QoS 0.
        3 => flags & 0x06 != 0x06 && flags & 0x0e != 0x08,
        // PUBREL, SUBSCRIBE, UNSUBSCRIBE.
        6 | 8 | 10 => flags == 0x02,
        _ => flags == 0,
    };
    if allowed { Ok(()) } else { Err(BadPacket::Flags(first)) }
}

/// What follows the fixed header of the first packet, once it is whole.
fn body(input: &[u8], max_packet: usize) -> Option<&[u8]> {
    let header = rumqttc::mqttbytes::check(input.iter(), max_packet).ok()?;
    input.get(header_bytes(input)..header.frame_length())
}

/// How long the fixed header of a packet is: its type and its length, of which each byte but the last has the top bit.
fn header_bytes(input: &[u8]) -> usize {
    2 + input[1..].iter().take_while(|byte| **byte & 0x80 != 0).count()
}

/// What rumqttc lets pass; the rest of the body is its business.
fn check_body(kind: u8, body: &[u8]) -> Result<(), BadPacket> {
    let allowed = match kind {
        // PUBACK, PUBREC, PUBREL, PUBCOMP.
        4..=7 => body.len() == 2,
        8 => has_plain_qos(body),
        // UNSUBSCRIBE has at least one filter.
        10 => body.len() > 2,
        // PINGREQ, DISCONNECT.
        12 | 14 => body.is_empty(),
        _ => true,
    };
    if allowed { Ok(()) } else { Err(BadPacket::Body(kind)) }
}

/// Whether each filter of a SUBSCRIBE is followed by a QoS and nothing else; a filter that is cut off is not looked at.
fn has_plain_qos(body: &[u8]) -> bool {
    let mut rest = body.get(2..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk() {
        let Some((qos, next)) =
            after.get(usize::from(u16::from_be_bytes(*length))..).and_then(<[u8]>::split_first)
        else {
            return true;
        };
        if *qos > 2 {
            return false;
        }
        rest = next;
    }
    true
}

fn check_id(packet: Packet) -> Result<Packet, BadPacket> {
    let id = match &packet {
        Packet::Subscribe(subscribe) => subscribe.pkid,
        Packet::Unsubscribe(unsubscribe) => unsubscribe.pkid,
        _ => return Ok(packet),
    };
    if id == 0 { Err(BadPacket::NoId) } else { Ok(packet) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1 << 20;

    fn connect(level: u8, flags: u8) -> Vec<u8> {
        let mut bytes = vec![0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', level, flags, 0, 60, 0, 1, b'x'];
        bytes[1] = (bytes.len() - 2) as u8;
        bytes
    }

    #[test]
    fn an_opening_is_recognised_at_every_length() {
        let whole = connect(4, 2);
        for length in 0..whole.len() {
            assert_eq!(opening(&whole[..length], MAX).unwrap(), Opening::Incomplete);
        }
        assert_eq!(opening(&whole, MAX).unwrap(), Opening::V311);
        assert_eq!(opening(&connect(5, 2), MAX).unwrap(), Opening::OtherLevel);
        let old = [0x10, 12, 0, 6, b'M', b'Q', b'I', b's', b'd', b'p', 3, 2, 0, 60];
        assert_eq!(opening(&old, MAX).unwrap(), Opening::OtherLevel);
    }

    #[test]
    fn an_opening_that_is_not_mqtt_is_refused_at_once() {
        assert!(matches!(opening(b"GET / HTTP/1.1", MAX), Err(BadPacket::NotConnect)));
        assert!(matches!(opening(&[0x10, 0x02, 0, 9], MAX), Err(BadPacket::NotConnect)));
        assert!(matches!(opening(&connect(4, 3), MAX), Err(BadPacket::ConnectFlags(3))));
        assert!(matches!(opening(&connect(4, 0x42), MAX), Err(BadPacket::ConnectFlags(0x42))));
        assert!(matches!(opening(&[0x10, 0xff, 0xff, 0xff, 0x7f], MAX), Err(BadPacket::Malformed(_))));
    }

    #[test]
    fn bodies_that_the_codec_lets_pass_are_refused() {
        for bad in [
            &[0x82, 6, 0, 1, 0, 1, b'a', 4][..],
            &[0x82, 10, 0, 1, 0, 1, b'a', 0, 0, 1, b'b', 0x81],
            &[0xa2, 2, 0, 1],
            &[0x40, 4, 0, 1, 0, 0],
            &[0x62, 3, 0, 1, 0],
            &[0xc0, 1, 0],
            &[0xe0, 1, 0],
        ] {
            assert!(matches!(next(&mut BytesMut::from(bad), MAX), Err(BadPacket::Body(_))), "{bad:?}");
        }
        let good = [0x82, 10, 0, 1, 0, 1, b'a', 2, 0, 1, b'b', 0];
        assert!(next(&mut BytesMut::from(&good[..]), MAX).unwrap().is_some());
    }

    #[test]
    fn reserved_flags_and_missing_ids_are_refused() {
        for bad in [&[0x36, 5, 0, 1, b'a', 0, 1][..], &[0x38, 3, 0, 1, b'a'], &[0x80, 0], &[0xc1, 0]] {
            assert!(matches!(next(&mut BytesMut::from(bad), MAX), Err(BadPacket::Flags(_))), "{bad:?}");
        }
        let subscribe = [0x82, 6, 0, 0, 0, 1, b'a', 0];
        assert!(matches!(next(&mut BytesMut::from(&subscribe[..]), MAX), Err(BadPacket::NoId)));
    }
}
