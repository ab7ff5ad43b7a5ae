//! Packets of MQTT 3.1.1 and 5: bytes to packets and back. Pure.
//!
//! Strict: what the standard calls malformed or a protocol error is refused here, with the reason code that MQTT 5
//! gives it, so that what comes out can be acted on. Statements of the standard are quoted as `MQTT-x.y.z-n` where they
//! are obeyed; those of MQTT 3.1.1 are marked with `v3`. rumqttc's codec reads what this one writes and the other way
//! round ([`peer_tests`](self)).

mod connect;
mod encode;
mod frame;
mod packet;
mod properties;
mod reader;
mod reason;

use std::num::NonZeroU16;

pub(super) use self::{
    connect::{Connect, Opening, Will},
    encode::{Connected, PublishHeader, Reply, disconnect, refusal},
    frame::Frame,
    packet::{MAX_FILTERS, Packet, Publish, SubscribeOptions, Wanted},
    reason::Reason,
};

/// The version of the protocol that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    /// MQTT 3.1.1.
    V311,
    /// MQTT 5.
    V5,
}

/// MQTT's number of a packet that will be acknowledged; never zero (MQTT-2.2.1-3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PacketId(pub(super) NonZeroU16);

/// The three qualities of service, as a client asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::enum_variant_names, reason = "that is what the standard calls them")]
pub(super) enum QoS {
    /// At most once.
    AtMostOnce,
    /// At least once.
    AtLeastOnce,
    /// Exactly once.
    ExactlyOnce,
}

/// Bytes that no client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub(super) struct BadPacket {
    /// What MQTT 5 calls it.
    pub(super) reason: Reason,
    /// What it is, for people.
    pub(super) what: &'static str,
}

impl BadPacket {
    /// Cannot be parsed.
    pub(super) const fn malformed(what: &'static str) -> Self {
        Self { reason: Reason::MalformedPacket, what }
    }

    /// Can be parsed, and is not allowed.
    pub(super) const fn protocol_error(what: &'static str) -> Self {
        Self { reason: Reason::ProtocolError, what }
    }
}

impl QoS {
    /// The quality with this number.
    pub(super) const fn of(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }
}

#[cfg(test)]
mod peer_tests;
