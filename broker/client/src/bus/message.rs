//! What goes out over the bus and what comes in.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use schemas::topic::Topic;
use tokio::sync::oneshot;

/// Largest MQTT packet that is sent or taken. Documents for nodes stay below 64 KiB, the JSON of a whole fleet below this.
pub const MAX_PACKET_BYTES: usize = 256 * 1024;

/// Fixed header with four length bytes, length of the topic, packet id.
const PUBLISH_OVERHEAD_BYTES: usize = 9;

/// A message to send, at QoS 1. Its topic says whether the broker keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it is said.
    pub topic: Topic,
    /// What is said; empty clears a retained topic.
    pub payload: Bytes,
}

impl Message {
    /// `payload`, said on `topic`.
    pub fn new(topic: Topic, payload: impl Into<Bytes>) -> Self {
        Self { topic, payload: payload.into() }
    }

    /// Upper bound of the packet that carries it.
    pub(super) fn packet_bytes(&self) -> usize {
        PUBLISH_OVERHEAD_BYTES + self.topic.to_string().len() + self.payload.len()
    }
}

/// A message that came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Incoming {
    /// Where it was said.
    pub topic: Topic,
    /// What was said.
    pub payload: Bytes,
    /// Whether it was kept by the broker and came because of a subscription, not because it was said just now.
    pub retained: bool,
}

/// Why a message will not be delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undelivered {
    /// The broker would close the connection over it, again and again.
    #[error(
        "message of {bytes} bytes for `{topic}` is larger than a packet may be ({MAX_PACKET_BYTES} bytes)"
    )]
    TooLarge {
        /// Where it was to be said.
        topic: Topic,
        /// Size of its packet.
        bytes: usize,
    },
    /// The bus has been away for so long that there is no room for more.
    #[error("message for `{topic}` has no room: too many wait for the bus to come back")]
    QueueFull {
        /// Where it was to be said.
        topic: Topic,
    },
    /// It was to be said on the connection that was there, and on no later one.
    #[error("message for `{topic}` was not acknowledged before the bus was lost")]
    Lost {
        /// Where it was to be said.
        topic: Topic,
    },
    /// Only what the broker keeps can be own retained state.
    #[error("topic `{topic}` is not a retained one")]
    NotRetained {
        /// Where it was to be said.
        topic: Topic,
    },
    /// The client was closed before the broker had acknowledged it.
    #[error("message for `{topic}` was not acknowledged before the bus client was closed")]
    Closed {
        /// Where it was to be said.
        topic: Topic,
    },
}

/// The fate of a message: resolves when the broker has acknowledged it, or when that cannot happen any more.
///
/// Dropping it changes nothing about the message. A broker of MQTT 3.1.1 acknowledges also what it drops for want of a
/// permission; who must know that a retained message is there reads it back.
#[derive(Debug)]
pub struct Delivery {
    topic: Topic,
    fate: oneshot::Receiver<Result<(), Undelivered>>,
}

impl Delivery {
    /// A delivery to `topic`, and the ticket through which its fate becomes known.
    pub(super) fn new(topic: Topic) -> (Ticket, Self) {
        let (ticket, fate) = oneshot::channel();
        (Ticket(ticket), Self { topic, fate })
    }
}

impl Future for Delivery {
    type Output = Result<(), Undelivered>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let fate = ready!(Pin::new(&mut self.fate).poll(context));
        Poll::Ready(fate.unwrap_or_else(|_| Err(Undelivered::Closed { topic: self.topic.clone() })))
    }
}

/// The other end of a [`Delivery`]; dropping it says that the client was closed.
#[derive(Debug)]
pub(super) struct Ticket(oneshot::Sender<Result<(), Undelivered>>);

impl Ticket {
    /// Tells who waits, if anybody still does.
    pub(super) fn resolve(self, fate: Result<(), Undelivered>) {
        // Nobody waits any more when this fails, which is allowed.
        self.0.send(fate).ok();
    }

    /// Whether anybody waits.
    pub(super) fn is_awaited(&self) -> bool {
        !self.0.is_closed()
    }
}
