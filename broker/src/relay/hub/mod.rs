//! The one place that knows who is connected, who is subscribed to what, and what is retained.
//!
//! Everything that happens becomes an [`Event`]; a synchronous function handles one after the other. A published
//! message takes this way: accepted → (retained log, synced) → router → shown: retained, handed to the subscribers'
//! sessions, acknowledged. The last step is one event, so all see the same order.

mod attach;
mod publish;
mod subscribe;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rumqttc::SubscribeReasonCode;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{debug, error};

use self::{
    attach::Waiting,
    publish::{Accepted, InRouter},
};
use super::{
    message::{Grant, Message, PacketId},
    registry::{ClientId, ClientKey, Presence, Registry},
    retained::{Outcome, Retained, Writer},
    router::{Frame, Router, RouterError, Ticket},
    session::{Attachment, End, QueueLimits, SharedSession},
    stats::Stats,
    subscriptions::Subscriptions,
    topic::Filter,
};

/// How often `$SYS` is published and forgotten sessions are looked for.
const TICK: Duration = Duration::from_secs(10);

/// Where events are sent to.
pub(super) type Events = mpsc::UnboundedSender<Event>;

/// Everything that can happen. What clients cause carries a permit: their share of the memory for what is on its way.
#[derive(Debug)]
pub(super) enum Event {
    /// A client has logged in.
    Attach(Attach),
    /// A connection has ended.
    Detach {
        /// Whose it was.
        key: ClientKey,
        /// Which it was.
        attachment: Attachment,
        /// Whether the client said good-bye: then its will is not published (MQTT-3.14.4-3).
        in_peace: bool,
    },
    /// A client publishes.
    Publish(Publish),
    /// A client subscribes.
    Subscribe {
        /// Who.
        from: From,
        /// To what; `None` for each filter that it may not have.
        filters: Vec<Option<(Filter, Grant)>>,
        /// The packet to acknowledge.
        id: PacketId,
        /// Its memory.
        permit: OwnedSemaphorePermit,
        /// Told when it is done.
        done: oneshot::Sender<()>,
    },
    /// A client unsubscribes.
    Unsubscribe {
        /// Who.
        from: From,
        /// From what.
        filters: Vec<Filter>,
        /// The packet to acknowledge.
        id: PacketId,
        /// Its memory.
        permit: OwnedSemaphorePermit,
    },
    /// A slow client is ready for what it missed.
    CatchUp(From),
    /// Outcomes of what was given to the retained log.
    Stored(Vec<Outcome>),
    /// Something came out of the router.
    Routed(Bytes),
    /// Time has passed.
    Tick,
    /// Shows that hub and router work.
    Probe(oneshot::Sender<()>),
    /// The relay ends.
    Stop(oneshot::Sender<()>),
}

/// A client that has logged in.
#[derive(Debug)]
pub(super) struct Attach {
    /// What it calls itself.
    pub(super) id: ClientId,
    /// Who it logged in as.
    pub(super) user: Arc<str>,
    /// Whether the id names that user: then nobody else keeps a session under it.
    pub(super) owns_id: bool,
    /// Whether its session begins and ends with this connection.
    pub(super) clean: bool,
    /// What is published when the connection is lost.
    pub(super) will: Option<Arc<Message>>,
    /// Where to tell that it is attached.
    pub(super) reply: oneshot::Sender<Result<Attached, Refused>>,
}

/// A connection's place in the hub.
#[derive(Debug)]
pub(super) struct Attached {
    /// How to name it in events.
    pub(super) from: From,
    /// What waits for the client.
    pub(super) session: SharedSession,
    /// Whether the session was kept from an earlier connection (MQTT-3.2.2-2).
    pub(super) session_present: bool,
}

/// Why a client is not attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
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
pub(super) struct From {
    /// The client.
    pub(super) key: ClientKey,
    /// Its connection.
    pub(super) attachment: Attachment,
}

/// A message of a client.
#[derive(Debug)]
pub(super) struct Publish {
    /// What.
    pub(super) message: Arc<Message>,
    /// Whose quota it counts against.
    pub(super) user: Arc<str>,
    /// Whom to acknowledge it to; nobody for a will.
    pub(super) origin: Origin,
    /// Its memory.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// Where a message came from and what it wants to hear.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The client's session.
    pub(super) session: SharedSession,
    /// Its connection.
    pub(super) attachment: Attachment,
    /// What to answer.
    pub(super) ack: Ack,
}

/// How a publish is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ack {
    /// QoS 0, or a will.
    None,
    /// QoS 1: PUBACK.
    Received(PacketId),
    /// QoS 2: PUBREC.
    ReceivedOnce(PacketId),
}

/// What the hub is told at its start.
#[derive(Debug)]
pub(super) struct HubSettings {
    /// How much may wait for one client.
    pub(super) queue: QueueLimits,
    /// Most sessions, connected or kept.
    pub(super) sessions: usize,
    /// How long the session of an absent client is kept.
    pub(super) session_expiry: Duration,
    /// Topics whose retained values are stored lazily.
    pub(super) lazy: Vec<Filter>,
}

/// See the module's description.
pub(super) struct Hub<R> {
    settings: HubSettings,
    stats: Arc<Stats>,
    registry: Registry,
    subscriptions: Subscriptions,
    retained: Retained,
    writer: Option<Writer>,
    router: R,
    /// In the retained log's queue.
    in_log: VecDeque<Accepted>,
    /// Waiting for room in the router.
    ready: VecDeque<Accepted>,
    in_router: VecDeque<InRouter>,
    bytes_in_router: usize,
    last_ticket: Ticket,
    last_attachment: Attachment,
    /// Logged in, but an earlier connection with the same id has not ended yet.
    waiting: HashMap<ClientKey, Waiting>,
    probes: VecDeque<oneshot::Sender<()>>,
    stopping: bool,
    started: Instant,
}

impl<R: Router> Hub<R> {
    /// A hub without clients.
    pub(super) fn new(
        settings: HubSettings,
        stats: Arc<Stats>,
        retained: Retained,
        writer: Writer,
        router: R,
    ) -> Self {
        Self {
            settings,
            stats,
            registry: Registry::default(),
            subscriptions: Subscriptions::default(),
            retained,
            writer: Some(writer),
            router,
            in_log: VecDeque::new(),
            ready: VecDeque::new(),
            in_router: VecDeque::new(),
            bytes_in_router: 0,
            last_ticket: Ticket::default(),
            last_attachment: Attachment::default(),
            waiting: HashMap::new(),
            probes: VecDeque::new(),
            stopping: false,
            started: Instant::now(),
        }
    }

    /// Handles events until it is told to stop. An error means that the process cannot go on.
    pub(super) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) -> Result<(), RouterError> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            let event = tokio::select! {
                event = events.recv() => event,
                _ = tick.tick() => Some(Event::Tick),
            };
            match event {
                Some(Event::Stop(done)) => {
                    self.stop().await;
                    // Who asked may have given up waiting.
                    let _ = done.send(());
                    return Ok(());
                }
                Some(event) => self.handle(event)?,
                None => return Ok(()),
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), RouterError> {
        match event {
            Event::Attach(attach) => self.attach(attach),
            Event::Detach { key, attachment, in_peace } => self.detach(key, attachment, in_peace)?,
            Event::Publish(publish) => self.publish(publish)?,
            Event::Subscribe { from, filters, id, permit, done } => {
                self.subscribe(from, filters, id);
                drop(permit);
                // The connection may have gone.
                let _ = done.send(());
            }
            Event::Unsubscribe { from, filters, id, permit } => {
                self.unsubscribe(from, filters, id);
                drop(permit);
            }
            Event::CatchUp(from) => self.catch_up(from),
            Event::Stored(outcomes) => self.stored(&outcomes)?,
            Event::Routed(frame) => self.routed(frame)?,
            Event::Tick => self.tick(),
            Event::Probe(reply) => {
                self.probes.push_back(reply);
                self.router.send(Frame::Probe.encode())?;
            }
            Event::Stop(_) => {}
        }
        Ok(())
    }

    fn tick(&mut self) {
        self.publish_about_itself();
        let expiry = self.settings.session_expiry;
        let expired: Vec<ClientKey> = self
            .registry
            .iter()
            .filter(
                |(_, client)| matches!(client.presence, Presence::Away(since) if since.elapsed() > expiry),
            )
            .map(|(key, _)| key)
            .collect();
        for key in expired {
            debug!(?key, "session expired");
            self.forget(key);
        }
    }

    /// Ends all connections, and stores what is not stored yet. Wills are for clients that are lost, not for ours.
    async fn stop(&mut self) {
        self.stopping = true;
        for (_, client) in self.registry.iter() {
            if let Presence::Connected(attachment) = client.presence {
                client.session.end(attachment, End::Shutdown);
            }
        }
        if let Some(writer) = self.writer.take()
            && tokio::task::spawn_blocking(move || writer.finish()).await.is_err()
        {
            error!("retained log was not finished");
        }
    }
}

/// What SUBACK says about one filter.
fn grant_code(grant: Option<Grant>) -> SubscribeReasonCode {
    match grant {
        Some(Grant::AtMostOnce) => SubscribeReasonCode::Success(rumqttc::QoS::AtMostOnce),
        Some(Grant::AtLeastOnce) => SubscribeReasonCode::Success(rumqttc::QoS::AtLeastOnce),
        None => SubscribeReasonCode::Failure,
    }
}
