//! What a connection is about to write: packets as a queue of shared pieces, so that a payload is never copied.

use std::{
    collections::{HashMap, VecDeque},
    io::IoSlice,
    num::NonZeroU16,
};

use bytes::{Buf, Bytes, BytesMut};

use super::{
    codec::{PacketId, Protocol, PublishHeader, Reply},
    message::{Delivery, Grant},
    topic::TopicName,
};

/// Beyond this many bytes nothing more is taken from the session: it stays there, where its limits hold.
const FULL_BYTES: usize = 32 * 1024;
/// Beyond this many pieces likewise.
const FULL_PIECES: usize = 128;
/// Most pieces in one system call.
pub(super) const MAX_SLICES: usize = 64;
/// Most topics of one client that get an alias: a bound for its memory.
const MAX_ALIASES: u16 = 16;
/// A topic of this length or less is not worth an alias, which takes three bytes itself.
const SHORT_TOPIC_BYTES: usize = 8;

/// What a client takes, as it said in CONNECT.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms {
    /// The version that it speaks.
    pub(super) protocol: Protocol,
    /// How many QoS 1 messages it takes before it acknowledges one (MQTT-3.3.4-9).
    pub(super) window: usize,
    /// The longest packet (MQTT-3.1.2-24).
    pub(super) maximum_packet_bytes: usize,
    /// The highest topic alias (MQTT-3.1.2-26, -27).
    pub(super) topic_alias_maximum: u16,
}

/// Bytes on their way to one client.
#[derive(Debug)]
pub(super) struct Outgoing {
    terms: Terms,
    pieces: VecDeque<Bytes>,
    bytes: usize,
    aliases: HashMap<TopicName, NonZeroU16>,
}

impl Terms {
    /// Before CONNECT.
    pub(super) const UNKNOWN: Self = Self {
        protocol: Protocol::V311,
        window: 0,
        maximum_packet_bytes: usize::MAX,
        topic_alias_maximum: 0,
    };
}

impl Outgoing {
    /// Nothing yet, for a client with these `terms`.
    pub(super) fn new(terms: Terms) -> Self {
        Self { terms, pieces: VecDeque::new(), bytes: 0, aliases: HashMap::new() }
    }

    /// What the client takes.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// Whether enough is waiting.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= FULL_BYTES || self.pieces.len() >= FULL_PIECES
    }

    /// Adds an answer, unless it is longer than the client takes.
    pub(super) fn push_reply(&mut self, reply: &Reply) {
        let mut bytes = BytesMut::new();
        reply.encode(self.terms.protocol, &mut bytes);
        if bytes.len() <= self.terms.maximum_packet_bytes {
            self.push(bytes.freeze());
        }
    }

    /// Adds bytes as they are.
    pub(super) fn push_bytes(&mut self, bytes: Bytes) {
        self.push(bytes);
    }

    /// Whether the client takes a packet of this length. MQTT-3.1.2-25: "Where a Packet is too large to send, the Server
    /// MUST discard it without sending it".
    pub(super) fn takes(&self, delivery: &Delivery) -> bool {
        let Terms { protocol, maximum_packet_bytes, .. } = self.terms;
        if maximum_packet_bytes == usize::MAX {
            return true;
        }
        let id = (delivery.grant == Grant::AtLeastOnce).then_some(PacketId(NonZeroU16::MAX));
        let mut header = delivery.header(id, false);
        self.shorten(&mut header, &delivery.message.topic);
        header.packet_bytes(protocol) <= maximum_packet_bytes
    }

    /// Adds a message.
    pub(super) fn push_publish(&mut self, delivery: &Delivery, id: Option<PacketId>, dup: bool) {
        let mut header = delivery.header(id, dup);
        let topic = &delivery.message.topic;
        if !self.shorten(&mut header, topic)
            && let Some(alias) = self.free_alias(topic)
            && (PublishHeader { alias: Some(alias), ..header }).packet_bytes(self.terms.protocol)
                <= self.terms.maximum_packet_bytes
        {
            header.alias = Some(alias);
            self.aliases.insert(topic.clone(), alias);
        }
        let header = header.encode(self.terms.protocol);
        self.push(header);
        self.push(delivery.message.payload.clone());
    }

    /// Fills `slices` with what comes first; returns how many are filled.
    pub(super) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut filled = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.pieces) {
            *slice = IoSlice::new(piece);
            filled += 1;
        }
        filled
    }

    /// Forgets the first `count` bytes: they are written.
    pub(super) fn written(&mut self, mut count: usize) {
        self.bytes -= count;
        while let Some(piece) = self.pieces.front_mut() {
            if piece.len() > count {
                piece.advance(count);
                return;
            }
            count -= piece.len();
            self.pieces.pop_front();
        }
        self.pieces.shrink_to(0);
    }

    /// Puts the alias that the client knows already in the place of the topic.
    fn shorten(&self, header: &mut PublishHeader<'_>, topic: &TopicName) -> bool {
        let Some(alias) = self.aliases.get(topic) else { return false };
        (header.topic, header.alias) = ("", Some(*alias));
        true
    }

    fn free_alias(&self, topic: &TopicName) -> Option<NonZeroU16> {
        let next = self.aliases.len() as u16 + 1;
        let is_worth_it = topic.as_str().len() > SHORT_TOPIC_BYTES;
        NonZeroU16::new(next)
            .filter(|_| is_worth_it && next <= self.terms.topic_alias_maximum.min(MAX_ALIASES))
    }

    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes += piece.len();
            self.pieces.push_back(piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::relay::message::{Message, SubscriptionIds};

    #[test]
    fn partial_writes_continue_in_the_middle_of_a_piece() {
        let mut out = Outgoing::new(terms(usize::MAX, 0));
        for piece in ["abc", "", "defg", "h"] {
            out.push(Bytes::from_static(piece.as_bytes()));
        }
        out.written(2);
        out.written(2);
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = out.slices(&mut slices);
        assert_eq!(slices[..filled].iter().map(|s| &**s).collect::<Vec<_>>(), [&b"efg"[..], b"h"]);
        out.written(4);
        assert!(out.is_empty());
    }

    #[test]
    fn a_topic_is_sent_once_and_then_by_its_alias() {
        let mut out = Outgoing::new(terms(usize::MAX, 1));
        for topic in ["long/topic/one", "long/topic/one", "long/topic/two", "short"] {
            out.push_publish(&delivery(topic), None, false);
        }
        let lengths: Vec<_> = out.pieces.iter().map(Bytes::len).filter(|length| *length > 1).collect();
        assert_eq!(lengths, [2 + 16 + 4, 2 + 2 + 4, 2 + 16 + 1, 2 + 7 + 1]);
    }

    #[test]
    fn a_packet_of_the_longest_length_is_taken_and_a_longer_one_is_not() {
        let exact = 2 + 2 + "long/topic/one".len() + 2 + 1 + 1;
        assert!(Outgoing::new(terms(exact, 9)).takes(&delivery("long/topic/one")));
        assert!(!Outgoing::new(terms(exact - 1, 9)).takes(&delivery("long/topic/one")));
        let mut out = Outgoing::new(terms(exact, 9));
        out.push_publish(&delivery("long/topic/one"), Some(PacketId(NonZeroU16::MIN)), false);
        assert_eq!(out.bytes, exact, "no alias is introduced where there is no room");
    }

    fn terms(maximum_packet_bytes: usize, topic_alias_maximum: u16) -> Terms {
        Terms { protocol: Protocol::V5, window: 9, maximum_packet_bytes, topic_alias_maximum }
    }

    fn delivery(topic: &str) -> Delivery {
        let message = Message {
            topic: TopicName::parse(topic).unwrap(),
            payload: Bytes::from_static(b"x"),
            grant: Grant::AtLeastOnce,
            retain: false,
            properties: Bytes::new(),
            expires: None,
        };
        Delivery {
            message: Arc::new(message),
            grant: Grant::AtLeastOnce,
            retain: false,
            subscriptions: SubscriptionIds::None,
        }
    }
}
