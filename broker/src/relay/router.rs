//! The message core: what goes in comes out once, in order. Behind a small trait, so that it can be replaced.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use rumqttd::{
    Broker, Config, Notification, RouterConfig,
    local::{LinkError, LinkRx, LinkTx},
};
use tracing::error;

use super::{
    message::{Grant, Message},
    topic::TopicName,
};

/// The only topic that rumqttd ever sees: a client's topic could stop it for good (its first character is not ASCII).
const TOPIC: &str = "relay";
/// rumqttd keeps this many segments of this many bytes in memory. More than [`MAX_BYTES_INSIDE`] with a segment for
/// one message of any size at each end, so that nothing is evicted before it was read.
const SEGMENT_BYTES: usize = 1024 * 1024;
const SEGMENTS: usize = 4;

/// How much may be inside a router; the caller waits with the rest.
pub(super) const MAX_BYTES_INSIDE: usize = 1024 * 1024;
/// How many messages may be inside: fewer than the 199 after which rumqttd stops a link until it is asked to go on.
pub(super) const MAX_MESSAGES_INSIDE: usize = 128;

/// The router does not work; the process cannot go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RouterError {
    /// It did not start, or its thread has ended.
    #[error("the message router does not answer")]
    Link(#[source] Box<LinkError>),
    /// Nobody asked the hub to stop.
    #[error("the hub has stopped")]
    Stopped,
    /// A bug.
    #[error("the hub has died")]
    Hub,
}

/// A message core. What is sent comes back in order, by the way that the implementation was given.
pub(super) trait Router: Send + 'static {
    /// Takes one frame.
    fn send(&mut self, frame: Bytes) -> Result<(), RouterError>;
}

/// Numbers what goes through the router, to notice a loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Ticket(pub(super) u64);

/// What goes through the router.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// A published message; when it expires is not part of it.
    Message(Ticket, Message),
    /// Only shows that the way is open.
    Probe,
}

/// A [`Frame::Probe`] as bytes.
pub(super) const PROBE: Bytes = Bytes::from_static(b"P");
/// What precedes topic, properties and payload of a message.
const HEAD_BYTES: usize = 16;

impl Frame {
    /// A message as bytes.
    pub(super) fn encode(Ticket(ticket): Ticket, message: &Message) -> Bytes {
        let topic = message.topic.as_str();
        let mut bytes = BytesMut::with_capacity(HEAD_BYTES + message.weight());
        bytes.put_u8(b'M');
        bytes.put_u64(ticket);
        bytes.put_u8(u8::from(message.retain) << 1 | u8::from(message.grant == Grant::AtLeastOnce));
        bytes.put_u16(topic.len() as u16);
        bytes.put_u32(message.properties.len() as u32);
        bytes.put_slice(topic.as_bytes());
        bytes.put_slice(&message.properties);
        bytes.put_slice(&message.payload);
        bytes.freeze()
    }

    /// The frame that `bytes` are; `None` for what [`Self::encode`] never makes.
    pub(super) fn decode(mut bytes: Bytes) -> Option<Self> {
        if bytes == PROBE {
            return Some(Self::Probe);
        }
        if bytes.len() < HEAD_BYTES || bytes.get_u8() != b'M' {
            return None;
        }
        let ticket = Ticket(bytes.get_u64());
        let flags = bytes.get_u8();
        let (topic, properties) = (usize::from(bytes.get_u16()), bytes.get_u32() as usize);
        if bytes.len() < topic + properties {
            return None;
        }
        let topic = TopicName::parse(std::str::from_utf8(&bytes.split_to(topic)).ok()?).ok()?;
        let properties = if properties == 0 { Bytes::new() } else { bytes.split_to(properties) };
        let grant = if flags & 1 == 0 { Grant::AtMostOnce } else { Grant::AtLeastOnce };
        let retain = flags & 2 != 0;
        Some(Self::Message(
            ticket,
            Message { topic, payload: bytes, grant, retain, properties, expires: None },
        ))
    }
}

/// rumqttd's router, in this process, over two links that never end.
pub(super) struct Rumqttd {
    link: LinkTx,
}

impl Rumqttd {
    /// Starts the router; `deliver` gets what comes out of it.
    pub(super) fn start(deliver: impl Fn(Bytes) + Send + 'static) -> Result<Self, RouterError> {
        let router = RouterConfig {
            max_connections: 4,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        };
        let broker = Broker::new(Config { router, ..Config::default() });
        let failed = |err| RouterError::Link(Box::new(err));
        let (mut subscribe, receive) = broker.link("relay-out").map_err(failed)?;
        subscribe.subscribe(TOPIC).map_err(failed)?;
        let (link, _) = broker.link("relay-in").map_err(failed)?;
        tokio::spawn(forward(subscribe, receive, deliver));
        Ok(Self { link })
    }
}

impl Router for Rumqttd {
    fn send(&mut self, frame: Bytes) -> Result<(), RouterError> {
        self.link.publish(TOPIC, frame).map_err(|err| RouterError::Link(Box::new(err)))?;
        Ok(())
    }
}

/// `_subscribed` is the other half of the link and has to live as long.
async fn forward(_subscribed: LinkTx, mut link: LinkRx, deliver: impl Fn(Bytes)) {
    loop {
        let next = match link.next().await {
            Ok(Some(Notification::Forward(forward))) => {
                deliver(forward.publish.payload);
                continue;
            }
            // Without this answer delivery stops for good.
            Ok(Some(Notification::Unschedule)) => link.ready(),
            Ok(_) => continue,
            Err(err) => Err(err),
        };
        if let Err(err) = next {
            error!(error = %crate::chain(&err), "the message router has ended");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_was() {
        for (topic, retain, grant, properties) in
            [("ä/b", true, Grant::AtLeastOnce, &b"\x01\x01"[..]), ("x", false, Grant::AtMostOnce, b"")]
        {
            let message = Message {
                topic: TopicName::parse(topic).unwrap(),
                payload: Bytes::from_static(b"12"),
                grant,
                retain,
                properties: Bytes::from_static(properties),
                expires: None,
            };
            let bytes = Frame::encode(Ticket(7), &message);
            assert_eq!(Frame::decode(bytes), Some(Frame::Message(Ticket(7), message)));
        }
        assert_eq!(Frame::decode(PROBE), Some(Frame::Probe));
        for bad in [&b""[..], b"M", b"M12345678\x00\x00\x09\0\0\0\0abc", b"X12345678\x00\x00\x01\0\0\0\0a"] {
            assert_eq!(Frame::decode(Bytes::from_static(bad)), None);
        }
    }

    #[tokio::test]
    async fn thousands_of_frames_come_out_once_and_in_order() {
        let (out, mut frames) = tokio::sync::mpsc::unbounded_channel();
        let mut router = Rumqttd::start(move |frame| out.send(frame).unwrap()).unwrap();
        let (mut sent, mut received) = (0_u32, 0_u32);
        while received < 10_000 {
            while sent < 10_000 && sent - received < MAX_MESSAGES_INSIDE as u32 {
                router.send(Bytes::copy_from_slice(&sent.to_be_bytes())).unwrap();
                sent += 1;
            }
            assert_eq!(frames.recv().await.unwrap(), received.to_be_bytes()[..]);
            received += 1;
        }
    }
}
