//! The one place that knows who is connected, who is subscribed to what, and what is retained.
//!
//! Everything that happens becomes an [`Event`]; a synchronous function handles one after the other. A published
//! message takes this way: accepted → (retained log, synced) → router → shown: retained, handed to the subscribers'
//! sessions, acknowledged. The last step is one event, so all see the same order.

mod attach;
mod away;
mod event;
mod publish;
mod replay;
mod subscribe;
mod sys;

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tracing::error;

pub(super) use self::event::{
    Ack, Asked, Attach, Attached, Event, Events, Farewell, From, Origin, Publish, Refused, ReplayWhen,
    Subscribe,
};
use self::publish::{Accepted, InRouter};
use super::{
    budget::Permit,
    denials::Denials,
    message::Message,
    registry::{ClientKey, Presence, Registry},
    retained::{Retained, Writer},
    router::{PROBE, Router, RouterError, Ticket},
    session::{Attachment, End, QueueLimits, Session, SharedSession},
    stats::Stats,
    subscriptions::Subscriptions,
    topic::Filter,
};

/// How often `$SYS` is published and expired messages are looked for.
const TICK: Duration = Duration::from_secs(10);

/// What the hub is told at its start.
#[derive(Debug)]
pub(super) struct HubSettings {
    /// How much may wait for one client.
    pub(super) queue: QueueLimits,
    /// Most sessions, connected or kept.
    pub(super) sessions: usize,
    /// How much of that is for one user.
    pub(super) of_user: UserLimits,
    /// Topics whose retained values are stored lazily.
    pub(super) lazy: Vec<Filter>,
    /// Who is told of retained messages.
    pub(super) observers: Vec<Observer>,
}

/// A message that was retained, and its memory.
pub(super) type Observed = (Arc<Message>, Option<Arc<Permit>>);

/// The service itself, as far as it looks at messages.
#[derive(Debug)]
pub(super) struct Observer {
    /// Which ones it looks at.
    pub(super) filters: Vec<Filter>,
    /// Whether it looks at those that are not retained, too.
    pub(super) looks_at_all: bool,
    /// Where they go.
    pub(super) sink: mpsc::UnboundedSender<Observed>,
}

/// What one user may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct UserLimits {
    /// Most sessions, connected or kept.
    pub(super) sessions: usize,
    /// Most levels of all filters.
    pub(super) filter_levels: usize,
}

impl UserLimits {
    /// As much as there is.
    pub(super) const NONE: Self = Self { sessions: usize::MAX, filter_levels: usize::MAX };
}

/// See the module's description.
pub(super) struct Hub<R> {
    settings: HubSettings,
    stats: Arc<Stats>,
    denials: Denials,
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
    waiting: HashMap<ClientKey, Attach>,
    /// When something is to be done about clients that are away: wills that wait, sessions that end.
    due: BTreeSet<(Instant, ClientKey)>,
    probes: VecDeque<oneshot::Sender<()>>,
    stopping: bool,
    started: Instant,
    next_tick: Instant,
    /// Of messages that no client sent.
    own_session: SharedSession,
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
            own_session: Arc::new(Session::new(settings.queue)),
            settings,
            denials: Denials::new(Arc::clone(&stats)),
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
            due: BTreeSet::new(),
            probes: VecDeque::new(),
            stopping: false,
            started: Instant::now(),
            next_tick: Instant::now(),
        }
    }

    /// Handles events until it is told to stop. An error means that the process cannot go on.
    pub(super) async fn run(mut self, mut events: mpsc::UnboundedReceiver<Event>) -> Result<(), RouterError> {
        loop {
            let wake = self.due.first().map_or(self.next_tick, |(due, _)| self.next_tick.min(*due));
            tokio::select! {
                biased;
                event = events.recv() => match event {
                    Some(Event::Stop(done)) => {
                        self.stop().await;
                        // Who asked may have given up waiting.
                        let _ = done.send(());
                        return Ok(());
                    }
                    Some(event) => self.handle(event)?,
                    None => return Ok(()),
                },
                () = sleep_until(wake) => {}
            }
            // Also when events come without a pause.
            let now = Instant::now();
            if wake <= now {
                self.time_passed(now)?;
            }
        }
    }

    fn handle(&mut self, event: Event) -> Result<(), RouterError> {
        match event {
            Event::Attach(attach) => self.attach(attach)?,
            Event::Detach { from, in_peace, expiry_secs } => self.detach(from, in_peace, expiry_secs)?,
            Event::Publish(publish) => self.publish(publish)?,
            Event::Subscribe(subscribe) => self.subscribe(subscribe),
            Event::Unsubscribe { from, filters, id, permit } => {
                self.unsubscribe(from, filters, id);
                drop(permit);
            }
            Event::CatchUp(from) => self.catch_up(from),
            Event::UsersChanged(users) => self.users_changed(&users)?,
            Event::Put(message) => self.put(message)?,
            Event::Clear { filter, but } => self.clear(&filter, but)?,
            Event::Stored(outcomes) => self.stored(&outcomes)?,
            Event::Routed(frame) => self.routed(frame)?,
            Event::Probe(reply) => {
                self.probes.push_back(reply);
                self.router.send(PROBE)?;
            }
            Event::Stop(_) => {}
        }
        Ok(())
    }

    fn time_passed(&mut self, now: Instant) -> Result<(), RouterError> {
        if self.next_tick <= now {
            self.next_tick = now + TICK;
            self.publish_about_itself();
            self.drop_expired();
        }
        self.settle_due(now)
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
