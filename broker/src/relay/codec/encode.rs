//! What the relay sends, as bytes.

use std::num::{NonZeroU16, NonZeroU32};

use bytes::{BufMut, Bytes, BytesMut};

use super::{PacketId, Protocol, Reason, properties};

/// An answer of the relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) enum Reply {
    /// To CONNECT.
    Connected(Box<Connected>),
    /// To a QoS 1 PUBLISH.
    PubAck(PacketId, Reason),
    /// To a QoS 2 PUBLISH.
    PubRec(PacketId, Reason),
    /// To PUBREL.
    PubComp(PacketId, Reason),
    /// To SUBSCRIBE: a code for each filter.
    SubAck(PacketId, Box<[Reason]>),
    /// To UNSUBSCRIBE: a code for each filter.
    UnsubAck(PacketId, Box<[Reason]>),
    /// To PINGREQ.
    Pong,
}

/// What a client is told when it is let in. MQTT 3.1.1 has only the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) struct Connected {
    /// Whether its session was kept from an earlier connection.
    pub(in crate::relay) session_present: bool,
    /// For how long the session is kept, if that is not what it asked for.
    pub(in crate::relay) session_expiry_secs: Option<u32>,
    /// Its id, if it had none.
    pub(in crate::relay) assigned_client_id: Option<String>,
    /// How often it must be heard, if that is not what it said (MQTT-3.1.2-21, MQTT-3.2.2-21).
    pub(in crate::relay) keep_alive_secs: Option<u16>,
    /// How many publishes may wait for their PUBACK.
    pub(in crate::relay) receive_maximum: u16,
    /// The longest packet that is taken.
    pub(in crate::relay) maximum_packet_bytes: u32,
    /// The highest topic alias that is taken.
    pub(in crate::relay) topic_alias_maximum: u16,
}

/// Everything of a PUBLISH that precedes the payload.
#[derive(Debug, Clone, Copy)]
pub(in crate::relay) struct PublishHeader<'a> {
    /// Where it was published; empty when an alias says it.
    pub(in crate::relay) topic: &'a str,
    /// Its id, at QoS 1.
    pub(in crate::relay) id: Option<PacketId>,
    /// Whether it may have been sent before.
    pub(in crate::relay) dup: bool,
    /// The retain flag.
    pub(in crate::relay) retain: bool,
    /// Stands for the topic, or will from now on.
    pub(in crate::relay) alias: Option<NonZeroU16>,
    /// How long the message is still of use.
    pub(in crate::relay) expiry_secs: Option<u32>,
    /// What the client calls the subscriptions that the message is for.
    pub(in crate::relay) subscription_ids: &'a [NonZeroU32],
    /// Properties as the publisher wrote them.
    pub(in crate::relay) passed_on: &'a [u8],
    /// How long the payload is.
    pub(in crate::relay) payload_bytes: usize,
}

impl Reply {
    /// Appends the packet.
    pub(in crate::relay) fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        match self {
            Self::Connected(connected) => connected.encode(protocol, out),
            Self::PubAck(id, reason) => put_ack(0x40, *id, *reason, protocol, out),
            Self::PubRec(id, reason) => put_ack(0x50, *id, *reason, protocol, out),
            Self::PubComp(id, reason) => put_ack(0x70, *id, *reason, protocol, out),
            Self::SubAck(id, reasons) => put_acks(0x90, *id, reasons, protocol, out),
            Self::UnsubAck(id, reasons) => match protocol {
                Protocol::V311 => put_acks(0xb0, *id, &[], protocol, out),
                Protocol::V5 => put_acks(0xb0, *id, reasons, protocol, out),
            },
            Self::Pong => out.put_slice(&[0xd0, 0]),
        }
    }
}

impl Connected {
    fn encode(&self, protocol: Protocol, out: &mut BytesMut) {
        let flags = u8::from(self.session_present);
        let mut section = BytesMut::new();
        if protocol == Protocol::V5 {
            self.put_properties(&mut section);
        }
        put_connack(protocol, flags, Reason::Success.code(), &section, out);
    }

    fn put_properties(&self, out: &mut BytesMut) {
        if let Some(secs) = self.session_expiry_secs {
            out.put_u8(properties::SESSION_EXPIRY);
            out.put_u32(secs);
        }
        out.put_u8(properties::RECEIVE_MAXIMUM);
        out.put_u16(self.receive_maximum);
        // MQTT-3.2.2-9: "If a Server does not support QoS 1 or QoS 2 PUBLISH packets it MUST send a Maximum QoS".
        out.put_slice(&[properties::MAXIMUM_QOS, 1]);
        out.put_u8(properties::MAXIMUM_PACKET_SIZE);
        out.put_u32(self.maximum_packet_bytes);
        if let Some(id) = &self.assigned_client_id {
            put_text(properties::ASSIGNED_CLIENT_ID, id, out);
        }
        out.put_u8(properties::TOPIC_ALIAS_MAXIMUM);
        out.put_u16(self.topic_alias_maximum);
        out.put_slice(&[properties::SHARED_SUBSCRIPTION_AVAILABLE, 0]);
        if let Some(secs) = self.keep_alive_secs {
            out.put_u8(properties::SERVER_KEEP_ALIVE);
            out.put_u16(secs);
        }
    }
}

/// The CONNACK that refuses a client and says why, in at most `max_bytes`; `None` where MQTT 3.1.1 has no code for that.
/// MQTT-3.2.2-6: it has no session. MQTT-3.2.2-19: without its text, where that would be too long.
pub(in crate::relay) fn refusal(
    protocol: Protocol,
    reason: Reason,
    why: &str,
    max_bytes: usize,
) -> Option<BytesMut> {
    let mut out = BytesMut::new();
    match protocol {
        Protocol::V311 => put_connack(protocol, 0, reason.connect_code_of_v3()?, &[], &mut out),
        Protocol::V5 => {
            let mut section = BytesMut::new();
            put_text(properties::REASON_STRING, why, &mut section);
            put_connack(protocol, 0, reason.code(), &section, &mut out);
            if out.len() > max_bytes {
                out.clear();
                put_connack(protocol, 0, reason.code(), &[], &mut out);
            }
        }
    }
    Some(out)
}

/// The DISCONNECT with which the relay ends a connection of MQTT 5, in at most `max_bytes`. MQTT-3.14.2-3: without its
/// text, where that would be too long.
pub(in crate::relay) fn disconnect(reason: Reason, why: &str, max_bytes: usize) -> BytesMut {
    let mut section = BytesMut::new();
    put_text(properties::REASON_STRING, why, &mut section);
    let mut out = BytesMut::new();
    out.put_u8(0xe0);
    let length = 1 + varint_bytes(section.len()) + section.len();
    if 1 + varint_bytes(length) + length > max_bytes {
        out.put_slice(&[1, reason.code()]);
        return out;
    }
    put_varint(length, &mut out);
    out.put_u8(reason.code());
    put_section(&section, &mut out);
    out
}

impl PublishHeader<'_> {
    /// How long the packet is with its payload.
    pub(in crate::relay) fn packet_bytes(&self, protocol: Protocol) -> usize {
        let rest = self.remaining(protocol);
        1 + varint_bytes(rest) + rest
    }

    /// The header as bytes. The payload follows as it is, shared.
    pub(in crate::relay) fn encode(&self, protocol: Protocol) -> Bytes {
        let rest = self.remaining(protocol);
        let mut out = BytesMut::with_capacity(5 + rest - self.payload_bytes);
        let flags = u8::from(self.dup) << 3 | u8::from(self.id.is_some()) << 1 | u8::from(self.retain);
        out.put_u8(0x30 | flags);
        put_varint(rest, &mut out);
        out.put_u16(self.topic.len() as u16);
        out.put_slice(self.topic.as_bytes());
        if let Some(PacketId(id)) = self.id {
            out.put_u16(id.get());
        }
        if protocol == Protocol::V5 {
            self.put_properties(&mut out);
        }
        out.freeze()
    }

    fn remaining(&self, protocol: Protocol) -> usize {
        let properties = match protocol {
            Protocol::V311 => 0,
            Protocol::V5 => varint_bytes(self.section_bytes()) + self.section_bytes(),
        };
        2 + self.topic.len() + self.id.map_or(0, |_| 2) + properties + self.payload_bytes
    }

    fn section_bytes(&self) -> usize {
        let ids = self.subscription_ids.iter().map(|id| 1 + varint_bytes(id.get() as usize));
        ids.sum::<usize>()
            + self.alias.map_or(0, |_| 3)
            + self.expiry_secs.map_or(0, |_| 5)
            + self.passed_on.len()
    }

    fn put_properties(&self, out: &mut BytesMut) {
        put_varint(self.section_bytes(), out);
        if let Some(alias) = self.alias {
            out.put_u8(properties::TOPIC_ALIAS);
            out.put_u16(alias.get());
        }
        if let Some(secs) = self.expiry_secs {
            out.put_u8(properties::MESSAGE_EXPIRY);
            out.put_u32(secs);
        }
        for id in self.subscription_ids {
            out.put_u8(properties::SUBSCRIPTION_ID);
            put_varint(id.get() as usize, out);
        }
        out.put_slice(self.passed_on);
    }
}

/// MQTT 5, 1.5.5: seven bits a byte, the lowest first, in as few bytes as can be (MQTT-1.5.5-1).
pub(super) fn put_varint(mut value: usize, out: &mut BytesMut) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// How many bytes [`put_varint`] takes.
fn varint_bytes(value: usize) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        _ => 4,
    }
}

fn put_connack(protocol: Protocol, flags: u8, code: u8, section: &[u8], out: &mut BytesMut) {
    out.put_u8(0x20);
    match protocol {
        Protocol::V311 => out.put_slice(&[2, flags, code]),
        Protocol::V5 => {
            put_varint(2 + varint_bytes(section.len()) + section.len(), out);
            out.put_slice(&[flags, code]);
            put_section(section, out);
        }
    }
}

/// MQTT-2.2.2-1: "If there are no properties, this MUST be indicated by including a Property Length of zero".
fn put_section(section: &[u8], out: &mut BytesMut) {
    put_varint(section.len(), out);
    out.put_slice(section);
}

/// An acknowledgement of one packet. In MQTT 5, success needs no code (3.4.2.1).
fn put_ack(first: u8, PacketId(id): PacketId, reason: Reason, protocol: Protocol, out: &mut BytesMut) {
    let has_code = protocol == Protocol::V5 && reason != Reason::Success;
    out.put_slice(&[first, if has_code { 3 } else { 2 }]);
    out.put_u16(id.get());
    if has_code {
        out.put_u8(reason.code());
    }
}

/// SUBACK, UNSUBACK. MQTT 3.1.1 knows one way to say no.
fn put_acks(first: u8, PacketId(id): PacketId, reasons: &[Reason], protocol: Protocol, out: &mut BytesMut) {
    let properties = usize::from(protocol == Protocol::V5);
    out.put_u8(first);
    put_varint(2 + properties + reasons.len(), out);
    out.put_u16(id.get());
    out.put_bytes(0, properties);
    for reason in reasons {
        let code = if protocol == Protocol::V311 && reason.is_error() {
            Reason::UnspecifiedError.code()
        } else {
            reason.code()
        };
        out.put_u8(code);
    }
}

/// A property that is text; cut where it would be too long for MQTT.
fn put_text(id: u8, text: &str, out: &mut BytesMut) {
    let text = &text[..text.floor_char_boundary(usize::from(u16::MAX))];
    out.put_u8(id);
    out.put_u16(text.len() as u16);
    out.put_slice(text.as_bytes());
}
