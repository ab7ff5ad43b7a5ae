//! A message on its way: what was published, and how a subscriber gets it.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::topic::TopicName;

/// The quality of service that the relay grants; what is published at QoS 2 is delivered at QoS 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Grant {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// A published message; shared by all who get it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Where it was published.
    pub(super) topic: TopicName,
    /// What was published.
    pub(super) payload: Bytes,
    /// The quality at which it was published.
    pub(super) grant: Grant,
    /// Whether the publisher asked for it to be retained.
    pub(super) retain: bool,
}

/// A message for one subscriber.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    /// The message.
    pub(super) message: Arc<Message>,
    /// The lower of what was published and what was granted.
    pub(super) grant: Grant,
    /// Set for what is sent because of a new subscription, not for what is published just now (MQTT-3.3.1-8, -9).
    pub(super) replayed: bool,
}

/// MQTT's number of a packet that will be acknowledged; never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct PacketId(pub(super) u16);

impl Message {
    /// What this message costs in a queue.
    pub(super) fn weight(&self) -> usize {
        self.topic.as_str().len() + self.payload.len()
    }
}

impl Delivery {
    /// The message as it is for somebody who subscribed at `granted`.
    pub(super) fn new(message: &Arc<Message>, granted: Grant, replayed: bool) -> Self {
        Self { message: Arc::clone(message), grant: message.grant.min(granted), replayed }
    }

    /// Everything of the PUBLISH packet that precedes the payload. The payload follows as it is, shared.
    pub(super) fn header(&self, id: Option<PacketId>, dup: bool) -> Bytes {
        let topic = self.message.topic.as_str();
        let rest = 2 + topic.len() + if id.is_some() { 2 } else { 0 } + self.message.payload.len();
        let mut header = BytesMut::with_capacity(9 + topic.len());
        let flags = u8::from(dup) << 3 | u8::from(id.is_some()) << 1 | u8::from(self.replayed);
        header.put_u8(0x30 | flags);
        put_length(&mut header, rest);
        header.put_u16(topic.len() as u16);
        header.put_slice(topic.as_bytes());
        if let Some(PacketId(id)) = id {
            header.put_u16(id);
        }
        header.freeze()
    }
}

/// MQTT 2.2.3: seven bits a byte, the lowest first.
fn put_length(out: &mut BytesMut, mut length: usize) {
    while length >= 0x80 {
        out.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
}

#[cfg(test)]
mod tests {
    use rumqttc::{Packet, QoS};

    use super::*;

    #[test]
    fn rumqttc_reads_what_is_written_here() {
        for (size, id) in
            [(0, None), (1, Some(PacketId(7))), (117, None), (127, Some(PacketId(65535))), (20_000, None)]
        {
            let message = Arc::new(Message {
                topic: TopicName::parse("a/ä").unwrap(),
                payload: vec![7; size].into(),
                grant: Grant::AtLeastOnce,
                retain: true,
            });
            let delivery = Delivery::new(&message, Grant::AtLeastOnce, true);
            let mut wire = BytesMut::from(&delivery.header(id, id.is_some())[..]);
            wire.extend_from_slice(&message.payload);

            let Packet::Publish(read) = Packet::read(&mut wire, 1 << 20).unwrap() else { panic!() };

            assert!(wire.is_empty());
            assert_eq!((read.topic.as_str(), read.payload.len(), read.retain), ("a/ä", size, true));
            assert_eq!((read.pkid, read.dup), (id.map_or(0, |id| id.0), id.is_some()));
            assert_eq!(read.qos, if id.is_some() { QoS::AtLeastOnce } else { QoS::AtMostOnce });
        }
    }
}
