//! Properties of MQTT 5 (2.2.2).

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, Bytes, BytesMut};

use super::{BadPacket, Reason, reader::Reader};

/// A property's number.
type Id = u8;

pub(super) const PAYLOAD_FORMAT: Id = 0x01;
pub(super) const MESSAGE_EXPIRY: Id = 0x02;
pub(super) const CONTENT_TYPE: Id = 0x03;
pub(super) const RESPONSE_TOPIC: Id = 0x08;
pub(super) const CORRELATION_DATA: Id = 0x09;
pub(super) const SUBSCRIPTION_ID: Id = 0x0b;
pub(super) const SESSION_EXPIRY: Id = 0x11;
pub(super) const ASSIGNED_CLIENT_ID: Id = 0x12;
pub(super) const SERVER_KEEP_ALIVE: Id = 0x13;
pub(super) const AUTHENTICATION_METHOD: Id = 0x15;
pub(super) const AUTHENTICATION_DATA: Id = 0x16;
pub(super) const REQUEST_PROBLEM_INFORMATION: Id = 0x17;
pub(super) const WILL_DELAY: Id = 0x18;
pub(super) const REQUEST_RESPONSE_INFORMATION: Id = 0x19;
pub(super) const REASON_STRING: Id = 0x1f;
pub(super) const RECEIVE_MAXIMUM: Id = 0x21;
pub(super) const TOPIC_ALIAS_MAXIMUM: Id = 0x22;
pub(super) const TOPIC_ALIAS: Id = 0x23;
pub(super) const MAXIMUM_QOS: Id = 0x24;
pub(super) const USER_PROPERTY: Id = 0x26;
pub(super) const MAXIMUM_PACKET_SIZE: Id = 0x27;
pub(super) const SHARED_SUBSCRIPTION_AVAILABLE: Id = 0x2a;

/// A set of properties: one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed(u64);

/// What a publisher says about its message, for those who get it.
const PASSED_ON: Allowed =
    Allowed::only(&[PAYLOAD_FORMAT, CONTENT_TYPE, RESPONSE_TOPIC, CORRELATION_DATA, USER_PROPERTY]);
/// Of CONNECT (3.1.2.11).
pub(super) const OF_CONNECT: Allowed = Allowed::only(&[
    SESSION_EXPIRY,
    RECEIVE_MAXIMUM,
    MAXIMUM_PACKET_SIZE,
    TOPIC_ALIAS_MAXIMUM,
    REQUEST_RESPONSE_INFORMATION,
    REQUEST_PROBLEM_INFORMATION,
    USER_PROPERTY,
    AUTHENTICATION_METHOD,
    AUTHENTICATION_DATA,
]);
/// Of a will (3.1.3.2).
pub(super) const OF_WILL: Allowed = PASSED_ON.and(&[WILL_DELAY, MESSAGE_EXPIRY]);
/// Of PUBLISH (3.3.2.3) from a client. MQTT-3.3.4-6: it "MUST NOT contain a Subscription Identifier".
pub(super) const OF_PUBLISH: Allowed = PASSED_ON.and(&[MESSAGE_EXPIRY, TOPIC_ALIAS]);
/// Of PUBACK and its kin (3.4.2.2).
pub(super) const OF_ACK: Allowed = Allowed::only(&[REASON_STRING, USER_PROPERTY]);
/// Of SUBSCRIBE (3.8.2.1).
pub(super) const OF_SUBSCRIBE: Allowed = Allowed::only(&[SUBSCRIPTION_ID, USER_PROPERTY]);
/// Of UNSUBSCRIBE (3.10.2.1).
pub(super) const OF_UNSUBSCRIBE: Allowed = Allowed::only(&[USER_PROPERTY]);
/// Of DISCONNECT (3.14.2.2) from a client.
pub(super) const OF_DISCONNECT: Allowed = Allowed::only(&[SESSION_EXPIRY, REASON_STRING, USER_PROPERTY]);

/// What a client said in the properties of one packet, as far as it matters to the relay.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(in crate::relay) struct Properties {
    /// How long the session outlives the connection.
    pub(in crate::relay) session_expiry_secs: Option<u32>,
    /// How many unacknowledged messages the client takes.
    pub(in crate::relay) receive_maximum: Option<NonZeroU16>,
    /// The longest packet that the client takes.
    pub(in crate::relay) maximum_packet_bytes: Option<NonZeroU32>,
    /// The highest topic alias that the client takes.
    pub(in crate::relay) topic_alias_maximum: Option<u16>,
    /// Stands for a topic.
    pub(in crate::relay) topic_alias: Option<NonZeroU16>,
    /// What the client calls a subscription.
    pub(in crate::relay) subscription_id: Option<NonZeroU32>,
    /// How long the message is of use.
    pub(in crate::relay) message_expiry_secs: Option<u32>,
    /// How long a will waits for the client to come back.
    pub(in crate::relay) will_delay_secs: Option<u32>,
    /// Whether the client wants another way to log in.
    pub(in crate::relay) has_authentication_method: bool,
    has_authentication_data: bool,
    /// What is passed on, as it came: MQTT-3.3.2-4, -15, -16, -17, -18 and -20 all say "unaltered", and that the order
    /// of user properties is kept.
    pub(in crate::relay) passed_on: Bytes,
}

impl Allowed {
    const fn only(ids: &[Id]) -> Self {
        Self(0).and(ids)
    }

    const fn and(self, ids: &[Id]) -> Self {
        let mut bits = self.0;
        let mut place = 0;
        while place < ids.len() {
            bits |= 1 << ids[place];
            place += 1;
        }
        Self(bits)
    }

    const fn has(self, id: Id) -> bool {
        id < 64 && self.0 & (1 << id) != 0
    }
}

impl Properties {
    /// Reads the properties at the start of `packet`: their length, then each with its number.
    pub(super) fn read(packet: &mut Reader, allowed: Allowed) -> Result<Self, BadPacket> {
        let length = packet.varint()? as usize;
        let section = packet.bytes(length)?;
        let mut reader = Reader::new(section.clone());
        let mut read = Self::default();
        let mut seen = Allowed(0);
        let mut passed_on = BytesMut::new();
        while !reader.is_empty() {
            let start = section.len() - reader.len();
            let id = reader.u8()?;
            if !allowed.has(id) {
                return Err(BadPacket::malformed("property that this packet does not have"));
            }
            if seen.has(id) && id != USER_PROPERTY {
                return Err(BadPacket::protocol_error("property that is there twice"));
            }
            seen = seen.and(&[id]);
            read.take(id, &mut reader)?;
            if PASSED_ON.has(id) {
                passed_on.put_slice(&section[start..section.len() - reader.len()]);
            }
        }
        if read.has_authentication_data && !read.has_authentication_method {
            return Err(BadPacket::protocol_error("authentication data without a method"));
        }
        read.passed_on = passed_on.freeze();
        Ok(read)
    }

    fn take(&mut self, id: Id, reader: &mut Reader) -> Result<(), BadPacket> {
        match id {
            SESSION_EXPIRY => self.session_expiry_secs = Some(reader.u32()?),
            RECEIVE_MAXIMUM => self.receive_maximum = Some(not_zero(NonZeroU16::new(reader.u16()?))?),
            MAXIMUM_PACKET_SIZE => {
                self.maximum_packet_bytes = Some(not_zero(NonZeroU32::new(reader.u32()?))?);
            }
            TOPIC_ALIAS_MAXIMUM => self.topic_alias_maximum = Some(reader.u16()?),
            TOPIC_ALIAS => self.topic_alias = Some(topic_alias(reader.u16()?)?),
            SUBSCRIPTION_ID => self.subscription_id = Some(not_zero(NonZeroU32::new(reader.varint()?))?),
            MESSAGE_EXPIRY => self.message_expiry_secs = Some(reader.u32()?),
            WILL_DELAY => self.will_delay_secs = Some(reader.u32()?),
            AUTHENTICATION_METHOD => self.has_authentication_method = reader.text(|_| true)?,
            AUTHENTICATION_DATA => {
                reader.binary()?;
                self.has_authentication_data = true;
            }
            PAYLOAD_FORMAT | REQUEST_PROBLEM_INFORMATION | REQUEST_RESPONSE_INFORMATION => yes_or_no(reader)?,
            RESPONSE_TOPIC => response_topic(reader)?,
            CORRELATION_DATA => drop(reader.binary()?),
            USER_PROPERTY => {
                reader.text(|_| ())?;
                reader.text(|_| ())?;
            }
            // CONTENT_TYPE, REASON_STRING.
            _ => reader.text(|_| ())?,
        }
        Ok(())
    }
}

fn not_zero<T>(value: Option<T>) -> Result<T, BadPacket> {
    value.ok_or(BadPacket::protocol_error("property that must not be zero"))
}

/// MQTT-3.3.2-8: "A sender MUST NOT send a PUBLISH packet containing a Topic Alias which has the value 0".
fn topic_alias(alias: u16) -> Result<NonZeroU16, BadPacket> {
    NonZeroU16::new(alias).ok_or(BadPacket { reason: Reason::TopicAliasInvalid, what: "topic alias is zero" })
}

fn yes_or_no(reader: &mut Reader) -> Result<(), BadPacket> {
    if reader.u8()? > 1 {
        return Err(BadPacket::protocol_error("property that is neither 0 nor 1"));
    }
    Ok(())
}

/// MQTT-3.3.2-14: "The Response Topic MUST NOT contain wildcard characters".
fn response_topic(reader: &mut Reader) -> Result<(), BadPacket> {
    if reader.text(|topic| topic.is_empty() || topic.contains(['+', '#']))? {
        return Err(BadPacket::protocol_error("response topic is empty or has a wildcard"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(section: &[u8], allowed: Allowed) -> Result<Properties, BadPacket> {
        let packet = [&[section.len() as u8][..], section].concat();
        let mut reader = Reader::new(packet.into());
        let properties = Properties::read(&mut reader, allowed)?;
        reader.finish()?;
        Ok(properties)
    }

    #[test]
    fn what_is_passed_on_keeps_its_bytes_and_order() {
        let section = [
            &[USER_PROPERTY, 0, 1, b'k', 0, 1, b'2'][..],
            &[MESSAGE_EXPIRY, 0, 0, 0, 9],
            &[USER_PROPERTY, 0, 1, b'k', 0, 1, b'1'],
            &[PAYLOAD_FORMAT, 1],
            &[TOPIC_ALIAS, 0, 3],
        ]
        .concat();
        let properties = read(&section, OF_PUBLISH).unwrap();
        assert_eq!(properties.message_expiry_secs, Some(9));
        assert_eq!(properties.topic_alias, NonZeroU16::new(3));
        assert_eq!(properties.passed_on, [&section[..7], &section[12..21]].concat());
    }

    #[test]
    fn what_is_wrong_has_its_reason() {
        let malformed = Reason::MalformedPacket;
        let error = Reason::ProtocolError;
        for (section, allowed, reason) in [
            (&[SUBSCRIPTION_ID, 1][..], OF_PUBLISH, malformed),
            (&[0x7f, 0], OF_PUBLISH, malformed),
            (&[0xff, 0], OF_PUBLISH, malformed),
            (&[MESSAGE_EXPIRY, 0, 0], OF_PUBLISH, malformed),
            (&[CONTENT_TYPE, 0, 1, 0xff], OF_PUBLISH, malformed),
            (&[USER_PROPERTY, 0, 1, b'a', 0, 1, 0xff], OF_PUBLISH, malformed),
            (&[USER_PROPERTY, 0, 1, 0xff, 0, 1, b'a'], OF_PUBLISH, malformed),
            (&[RESPONSE_TOPIC, 0, 1, 0xff], OF_PUBLISH, malformed),
            (&[PAYLOAD_FORMAT, 1, PAYLOAD_FORMAT, 1], OF_PUBLISH, error),
            (&[PAYLOAD_FORMAT, 2], OF_PUBLISH, error),
            (&[RESPONSE_TOPIC, 0, 1, b'#'], OF_PUBLISH, error),
            (&[RESPONSE_TOPIC, 0, 0], OF_PUBLISH, error),
            (&[TOPIC_ALIAS, 0, 0], OF_PUBLISH, Reason::TopicAliasInvalid),
            (&[SUBSCRIPTION_ID, 0], OF_SUBSCRIBE, error),
            (&[SUBSCRIPTION_ID, 1, SUBSCRIPTION_ID, 2], OF_SUBSCRIBE, error),
            (&[RECEIVE_MAXIMUM, 0, 0], OF_CONNECT, error),
            (&[MAXIMUM_PACKET_SIZE, 0, 0, 0, 0], OF_CONNECT, error),
            (&[REQUEST_PROBLEM_INFORMATION, 7], OF_CONNECT, error),
            (&[AUTHENTICATION_DATA, 0, 0], OF_CONNECT, error),
        ] {
            assert_eq!(read(section, allowed).unwrap_err().reason, reason, "{section:?}");
        }
    }
}
