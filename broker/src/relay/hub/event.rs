//! Everything that can happen to the hub.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::relay::{
    budget::Permit,
    codec::{PacketId, Protocol, Reason},
    message::Message,
    registry::{ClientId, ClientKey, Will},
    retained::Outcome,
    session::{Attachment, SharedSession},
    subscriptions::Subscription,
    topic::Filter,
};

/// Where events are sent to.
pub(in crate::relay) type Events = mpsc::UnboundedSender<Event>;

/// Everything that can happen. What clients cause carries a permit: their share of the memory for what is on its way.
#[derive(Debug)]
pub(in crate::relay) enum Event {
    /// A client has logged in.
    Attach(Attach),
    /// A connection has ended.
    Detach {
        /// Which.
        from: From,
        /// Whether the client said good-bye: then its will is not published (MQTT-3.14.4-3).
        in_peace: bool,
        /// Another time for which its session is to be kept, if it said one.
        expiry_secs: Option<u32>,
    },
    /// A client publishes.
    Publish(Publish),
    /// A client subscribes.
    Subscribe(Subscribe),
    /// A client unsubscribes.
    Unsubscribe {
        /// Who.
        from: From,
        /// From what; or why that is not known.
        filters: Vec<Result<Filter, Reason>>,
        /// The packet to acknowledge.
        id: PacketId,
        /// Its memory.
        permit: Permit,
    },
    /// A slow client is ready for what it missed.
    CatchUp(From),
    /// These users are gone, or may now do other things than before.
    UsersChanged(BTreeSet<Arc<str>>),
    /// The service itself has this retained.
    Put(Message),
    /// What is retained is cleared.
    Clear {
        /// For this filter.
        filter: Filter,
        /// But for topics that end so.
        but: &'static str,
    },
    /// Outcomes of what was given to the retained log.
    Stored(Vec<Outcome>),
    /// Something came out of the router.
    Routed(Bytes),
    /// Shows that hub and router work.
    Probe(oneshot::Sender<()>),
    /// The relay ends.
    Stop(oneshot::Sender<()>),
}

/// A client that has logged in.
#[derive(Debug)]
pub(in crate::relay) struct Attach {
    /// What it calls itself.
    pub(in crate::relay) id: ClientId,
    /// Who it logged in as.
    pub(in crate::relay) user: Arc<str>,
    /// Whether the id names that user: then nobody else keeps a session under it.
    pub(in crate::relay) owns_id: bool,
    /// Whether an earlier session ends here.
    pub(in crate::relay) clean_start: bool,
    /// For how long the session outlives the connection.
    pub(in crate::relay) expiry_secs: u32,
    /// What is published when the connection is lost.
    pub(in crate::relay) will: Option<Box<Will>>,
    /// Where the connection will say that it is over.
    pub(in crate::relay) events: Events,
    /// Where to tell that it is attached.
    pub(in crate::relay) reply: oneshot::Sender<Result<Attached, Refused>>,
}

/// A connection's place in the hub.
#[derive(Debug)]
pub(in crate::relay) struct Attached {
    /// How to name it in events.
    pub(in crate::relay) from: From,
    /// What waits for the client.
    pub(in crate::relay) session: SharedSession,
    /// Whether the session was kept from an earlier connection (MQTT-3.2.2-3, v3: MQTT-3.2.2-2).
    pub(in crate::relay) session_present: bool,
    /// How to leave it.
    pub(in crate::relay) farewell: Farewell,
}

/// Tells the hub that a connection is over, however it came to that; also when the place in the hub never reached it.
#[derive(Debug)]
pub(in crate::relay) struct Farewell {
    events: Events,
    /// What is left to say.
    event: Option<Event>,
}

impl Farewell {
    /// Of a connection that has not begun: nobody was there, so there is no will.
    pub(super) fn new(events: Events, from: From) -> Self {
        Self { events, event: Some(Event::Detach { from, in_peace: true, expiry_secs: None }) }
    }

    /// The connection has begun: from now on, its end is a loss.
    pub(in crate::relay) fn begin(&mut self) {
        if let Some(Event::Detach { in_peace, .. }) = &mut self.event {
            *in_peace = false;
        }
    }

    /// Says it now.
    pub(in crate::relay) fn say(&mut self, is_in_peace: bool, expires_after_secs: Option<u32>) {
        if let Some(Event::Detach { in_peace, expiry_secs, .. }) = &mut self.event {
            (*in_peace, *expiry_secs) = (is_in_peace, expires_after_secs);
        }
        self.send();
    }

    fn send(&mut self) {
        if let Some(event) = self.event.take() {
            // When the hub is gone, so are all sessions.
            let _ = self.events.send(event);
        }
    }
}

impl Drop for Farewell {
    fn drop(&mut self) {
        self.send();
    }
}

/// Why a client is not attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::relay) enum Refused {
    /// The session belongs to another user.
    #[error("client id is used by another user")]
    ForeignId,
    /// There are as many sessions as there may be.
    #[error("too many sessions")]
    TooMany,
    /// Another connection with the same client id came while this one waited.
    #[error("taken over before it began")]
    Superseded,
    /// The relay is about to stop.
    #[error("the relay stops")]
    Stopping,
}

/// Who sent an event: a connection of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) struct From {
    /// The client.
    pub(in crate::relay) key: ClientKey,
    /// Its connection.
    pub(in crate::relay) attachment: Attachment,
}

impl From {
    /// No client at all: the first one is given another number.
    pub(super) fn nobody() -> Self {
        Self { key: ClientKey(u32::MAX), attachment: Attachment::default() }
    }
}

/// A message of a client.
#[derive(Debug)]
pub(in crate::relay) struct Publish {
    /// What.
    pub(in crate::relay) message: Arc<Message>,
    /// Whose quota it counts against.
    pub(in crate::relay) user: Arc<str>,
    /// Where it came from.
    pub(in crate::relay) origin: Origin,
    /// Its memory.
    pub(in crate::relay) permit: Option<Permit>,
}

/// Where a message came from and what it wants to hear.
#[derive(Debug, Clone)]
pub(in crate::relay) struct Origin {
    /// The client and its connection.
    pub(in crate::relay) from: From,
    /// The client's session.
    pub(in crate::relay) session: SharedSession,
    /// What to answer.
    pub(in crate::relay) ack: Ack,
}

/// How a publish is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum Ack {
    /// QoS 0, or a will.
    None,
    /// QoS 1: PUBACK, in this version.
    Received(PacketId, Protocol),
    /// QoS 2: PUBREC.
    ReceivedOnce(PacketId),
}

/// A subscription of a client.
#[derive(Debug)]
pub(in crate::relay) struct Subscribe {
    /// Who.
    pub(in crate::relay) from: From,
    /// To what; or why it may not have that.
    pub(in crate::relay) filters: Vec<Result<Asked, Reason>>,
    /// The packet to acknowledge.
    pub(in crate::relay) id: PacketId,
    /// Its memory.
    pub(in crate::relay) permit: Permit,
    /// Told when it is done.
    pub(in crate::relay) done: oneshot::Sender<()>,
}

/// A filter that a client may have.
#[derive(Debug)]
pub(in crate::relay) struct Asked {
    /// Which.
    pub(in crate::relay) filter: Filter,
    /// How.
    pub(in crate::relay) subscription: Subscription,
    /// When what is retained is sent for it.
    pub(in crate::relay) replay: ReplayWhen,
}

/// When retained messages are sent for a subscription: the retain handling of MQTT 5 (3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum ReplayWhen {
    /// MQTT-3.3.1-9: at each subscribing (v3: always so).
    Always,
    /// MQTT-3.3.1-10: if it was not there before.
    New,
    /// MQTT-3.3.1-11: never.
    Never,
}
