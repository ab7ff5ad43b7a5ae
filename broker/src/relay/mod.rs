//! The bus: an MQTT broker (3.1.1 and 5) whose front is ours and whose message core is rumqttd's router.
//!
//! A [`listener`] accepts, a [`connection`] speaks with one client, the [`hub`] decides, [`retained`] remembers.

mod budget;
mod codec;
mod connection;
mod denials;
mod handshake;
mod hub;
mod inside;
mod listener;
mod message;
mod outgoing;
mod registry;
mod retained;
mod router;
mod session;
mod stats;
mod subscriptions;
mod topic;
mod transport;
mod wire;

use std::{collections::VecDeque, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
};
use tracing::error;

use self::{
    budget::Budget,
    denials::Denials,
    hub::{Event, Events, Hub, HubSettings, Observer, UserLimits},
    listener::Lobby,
    retained::Quota,
    router::Rumqttd,
    session::QueueLimits,
    stats::Stats,
    transport::Doorman,
};
pub(crate) use self::{
    inside::{Inside, View},
    retained::LogError,
    router::RouterError,
    stats::{RelayCounts, RelayNumbers},
    topic::Filter,
};
pub use self::{topic::InvalidTopic, transport::Transport};
use crate::{
    access::Access,
    advice,
    nodes::Nodes,
    places::{ConnectionLimits, Places},
    settings::{Limits, Settings},
    tls::Tls,
};

/// How long connections may take to end when the relay does.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// How often it is looked whether the users file has changed: a retired node is cut off within a second.
const USERS_PERIOD: Duration = Duration::from_millis(500);

/// Why the relay does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelayError {
    /// The port is taken, or not ours to take.
    #[error("cannot listen for {} on {address}", what(*transport))]
    Bind {
        /// What was to be spoken there.
        transport: Transport,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The retained messages cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The message core does not start.
    #[error("cannot start the message router")]
    Router(#[from] RouterError),
}

impl RelayError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Bind { source, .. } => advice::of_address(source),
            Self::Log(error) => error.advice(),
            Self::Router(_) => advice::SYSTEM,
        }
    }
}

/// What all connections share.
#[derive(Debug)]
struct Shared {
    access: Arc<Access>,
    events: Events,
    budget: Budget,
    max_packet_bytes: usize,
    max_keep_alive_secs: u16,
    session_expiry_secs: u32,
    denials: Denials,
}

impl Shared {
    fn new(access: Arc<Access>, limits: &Limits, events: Events, stats: Arc<Stats>) -> Self {
        Self {
            access,
            events,
            budget: Budget::new(limits.in_transit_bytes, limits.packet_bytes),
            max_packet_bytes: limits.packet_bytes,
            max_keep_alive_secs: limits.keep_alive_secs,
            session_expiry_secs: limits.session_expiry_secs,
            denials: Denials::new(stats),
        }
    }
}

/// A running relay.
#[derive(Debug)]
pub(crate) struct Relay {
    listeners: Vec<(Transport, SocketAddr)>,
    events: Events,
    hub: JoinHandle<Result<(), RouterError>>,
    counts: RelayCounts,
    stop: watch::Sender<bool>,
    connections: mpsc::Receiver<()>,
    /// For the one inside who asked for it.
    view: Option<View>,
    /// Questions of nodes for pieces of objects, for who answers them.
    wants: Option<View>,
}

impl Relay {
    /// Starts a relay that listens where `settings` say, and keeps its state in their folder. Somebody inside will read what is
    /// retained for the filters of `view`.
    pub(crate) fn start(
        settings: &Settings,
        lazy: Vec<Filter>,
        access: Arc<Access>,
        tls: Option<Arc<Tls>>,
        nodes: Option<&Arc<Nodes>>,
        view: &[schemas::topic::Filter],
    ) -> Result<Self, RelayError> {
        let limits = &settings.limits;
        let bound = bind(settings)?;
        let stats = Arc::new(Stats::default());
        let (events, queue) = mpsc::unbounded_channel();
        let of_nodes = nodes.map(|_| inside::observer(&Nodes::filters(&settings.fleet), false));
        let of_view = (!view.is_empty()).then(|| inside::observer(view, true));
        let filters =
            |of: &Option<(Observer, _)>| of.as_ref().map_or_else(Vec::new, |(of, _)| of.filters.clone());
        let (node_filters, view_filters) = (filters(&of_nodes), filters(&of_view));
        let (of_nodes, seen) = of_nodes.unzip();
        let (of_view, seen_by_view) = of_view.unzip();
        let (of_wants, wants) = inside::observer(&[schemas::topic::Filter::wants(&settings.fleet)], true);
        let hub_settings = HubSettings {
            observers: of_nodes.into_iter().chain(of_view).chain([of_wants]).collect(),
            queue: QueueLimits { messages: limits.queue_messages, bytes: limits.queue_bytes },
            sessions: limits.sessions,
            of_user: user_limits(&access, limits),
            lazy,
        };
        let hub = new_hub(&settings.data, limits, hub_settings, &stats, &events)?;
        if let Some((nodes, seen)) = nodes.zip(seen) {
            let inside = Inside(events.clone());
            // Before anybody logs in.
            hub.observed(&node_filters).iter().for_each(|message| inside.observe(nodes, message));
            tokio::spawn(inside.watch(Arc::clone(nodes), seen));
        }
        let view = seen_by_view.map(|seen| View { retained: hub.observed(&view_filters).into(), seen });
        let counts = RelayCounts(Arc::clone(&stats));
        let shared = Arc::new(Shared::new(access, limits, events.clone(), stats));
        let lobby = lobby(settings, tls, &shared);
        let (alive, connections) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(false);
        let mut listeners = Vec::new();
        for (transport, address, listener) in bound {
            listeners.push((transport, address));
            let (lobby, alive, stopped) = (Arc::clone(&lobby), alive.clone(), stopped.clone());
            tokio::spawn(listener::accept(listener, transport, lobby, alive, stopped));
        }
        tokio::spawn(watch_users(shared, stopped));
        let hub = tokio::spawn(hub.run(queue));
        let wants = Some(View { retained: VecDeque::new(), seen: wants });
        Ok(Self { listeners, events, hub, counts, stop, connections, view, wants })
    }

    /// Where it listens.
    pub(crate) fn listeners(&self) -> &[(Transport, SocketAddr)] {
        &self.listeners
    }

    /// What it counts.
    pub(crate) fn counts(&self) -> RelayCounts {
        self.counts.clone()
    }

    /// What somebody inside reads; once.
    pub(crate) fn take_view(&mut self) -> Option<View> {
        self.view.take()
    }

    /// What nodes ask for; once.
    pub(crate) fn take_wants(&mut self) -> Option<View> {
        self.wants.take()
    }

    /// Where the service itself may have things done.
    pub(crate) fn inside(&self) -> Inside {
        Inside(self.events.clone())
    }

    /// Sends something through hub and router; ends when it is back, or never.
    pub(crate) async fn probe(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.events.send(Event::Probe(reply)).is_ok() && answer.await.is_ok()
    }

    /// Ends only when the relay cannot go on.
    pub(crate) async fn failed(&mut self) -> RouterError {
        match (&mut self.hub).await {
            Ok(Err(err)) => err,
            Ok(Ok(())) => RouterError::Stopped,
            Err(_panic) => RouterError::Hub,
        }
    }

    /// Stops accepting, stores what is not stored, ends all connections.
    pub(crate) async fn stop(mut self) {
        // The listener is gone if nobody listens to this.
        let _ = self.stop.send(true);
        let (done, stored) = oneshot::channel();
        if self.events.send(Event::Stop(done)).is_err() || stored.await.is_err() {
            error!("the relay ended before it was stopped");
        }
        // What takes longer than this is cut off by the end of the process.
        let _ = tokio::time::timeout(STOP_LIMIT, self.connections.recv()).await;
    }
}

fn user_limits(access: &Access, limits: &Limits) -> UserLimits {
    match access {
        // Everybody is the same user there.
        Access::Open(_) => UserLimits::NONE,
        Access::Users(_) => {
            UserLimits { sessions: limits.sessions_per_user, filter_levels: limits.filter_levels_per_user }
        }
    }
}

fn lobby(settings: &Settings, tls: Option<Arc<Tls>>, shared: &Arc<Shared>) -> Arc<Lobby> {
    let limits = &settings.limits;
    let places = ConnectionLimits { total: limits.connections, per_address: limits.connections_per_address };
    Arc::new(Lobby {
        places: Places::new(places),
        doorman: Doorman::new(tls, limits.packet_bytes, settings.open_loopback),
        shared: Arc::clone(shared),
    })
}

fn new_hub(
    data: &Path,
    limits: &Limits,
    settings: HubSettings,
    stats: &Arc<Stats>,
    events: &Events,
) -> Result<Hub<Rumqttd>, RelayError> {
    // Events that nobody waits for are lost with the hub.
    let (stored, routed) = (events.clone(), events.clone());
    let quota = Quota {
        topics: limits.retained_topics,
        bytes: limits.retained_bytes,
        topics_per_user: limits.retained_topics_per_user,
        bytes_per_user: limits.retained_bytes_per_user,
    };
    let (retained, writer) = retained::open(data.join("retained.log"), quota, move |outcomes| {
        let _ = stored.send(Event::Stored(outcomes));
    })?;
    let router = Rumqttd::start(move |frame| {
        let _ = routed.send(Event::Routed(frame));
    })?;
    Ok(Hub::new(settings, Arc::clone(stats), retained, writer, router))
}

/// Who was taken out of the users file is cut off without having to log in again.
async fn watch_users(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let mut look = tokio::time::interval(USERS_PERIOD);
    loop {
        tokio::select! {
            _ = look.tick() => {}
            _ = stop.changed() => return,
        }
        let changed = shared.access.take_changed();
        if !changed.is_empty() && shared.events.send(Event::UsersChanged(changed)).is_err() {
            return;
        }
    }
}

/// All or none.
fn bind(settings: &Settings) -> Result<Vec<(Transport, SocketAddr, TcpListener)>, RelayError> {
    let bind = |(transport, address)| {
        let failed = |source| RelayError::Bind { transport, address, source };
        let listener = listener::bind(address).map_err(failed)?;
        Ok((transport, listener.local_addr().map_err(failed)?, listener))
    };
    settings.listeners().map(bind).collect()
}

fn what(transport: Transport) -> &'static str {
    match transport {
        Transport::Mqtt => "MQTT",
        Transport::Mqtts => "MQTT over TLS",
        Transport::Ws => "WebSockets",
        Transport::Wss => "WebSockets over TLS",
    }
}
