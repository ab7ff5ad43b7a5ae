//! The one task that owns the connection: it turns whatever happens into an [`Input`] and never waits while it
//! handles one.
//!
//! Every connection gets a fresh MQTT client. What the old one knew (packet ids, pending packets, a collision) would
//! be wrong in the next, and the ledger knows what must be said again. The client's own `poll` loses packets
//! when it is dropped half-way, so it lives inside a stream that keeps it from one turn of the loop to the next.

use std::{future::pending, ops::RangeInclusive, pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event as Mqtt, EventLoop, Incoming as Packet, NetworkOptions,
    Outgoing, Publish, QoS, SubscribeFilter, SubscribeReasonCode,
};
use schemas::topic::{Filter, Topic};
use tokio::{
    select,
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tracing::{debug, trace};

use super::{
    address::Server,
    events::{Event, Inbox},
    ledger::{Ledger, Request, WINDOW},
    lost::Lost,
    message::{Incoming, Message, Ticket},
    options::Options,
};
use crate::backoff::{Backoff, between, random};

/// The first retry comes within this time, so that a broker's restart is healed within about a second.
const FIRST_RETRY: Duration = Duration::from_millis(300);
/// The longest time between two tries.
const LONGEST_RETRY: Duration = Duration::from_mins(1);
/// TCP connect and CONNACK; the same for a flush. In seconds.
const NETWORK_LIMIT_SECS: u64 = 5;
/// When nothing is to be done at a certain time.
const NO_WAKE_UP: Duration = Duration::from_hours(24);

/// What holders of a [`super::Bus`] ask for.
#[derive(Debug)]
pub(super) enum Command {
    Subscribe(Vec<Filter>),
    Unsubscribe(Vec<Filter>),
    Publish(Message, Ticket),
    SetRetained(Message, Ticket),
    Renew,
    Close(oneshot::Sender<()>),
}

enum Input {
    Command(Command),
    HoldersGone,
    Polled(Polled),
    Timeout,
}

/// What one poll of the MQTT client gave: events, and perhaps the error that ended the connection after them.
struct Polled {
    events: Vec<Mqtt>,
    error: Option<ConnectionError>,
}

/// A connection, or the attempt at one.
struct Wire {
    client: AsyncClient,
    polls: Pin<Box<dyn Stream<Item = Polled> + Send>>,
}

enum Link {
    Away { retry_at: Instant },
    Connecting,
    Online { since: Instant, renew_at: Instant },
    Leaving { until: Instant },
}

struct Closing {
    deadline: Instant,
    /// Dropped at the end, which is what those who closed us wait for.
    waiting: Vec<oneshot::Sender<()>>,
}

/// State of the polling task.
pub(super) struct Courier {
    options: Options,
    ledger: Ledger,
    inbox: Arc<Inbox>,
    backoff: Backoff,
    link: Link,
    wire: Option<Wire>,
    lost: Option<Lost>,
    /// Connections that ended or did not begin; says which server is next.
    failures: usize,
    closing: Option<Closing>,
    foreign: u64,
    is_done: bool,
}

/// Runs until the client is closed, or all handles on it are gone.
pub(super) async fn run(mut courier: Courier, mut commands: mpsc::UnboundedReceiver<Command>) {
    let mut has_holders = true;
    while !courier.is_done {
        let wakes_at = courier.wakes_at();
        let input = select! {
            polled = next_poll(&mut courier.wire) => Input::Polled(polled),
            command = commands.recv(), if has_holders => command.map_or(Input::HoldersGone, Input::Command),
            () = sleep_until(wakes_at) => Input::Timeout,
        };
        has_holders &= !matches!(input, Input::HoldersGone);
        courier.handle(input, Instant::now());
    }
}

async fn next_poll(wire: &mut Option<Wire>) -> Polled {
    if let Some(wire) = wire
        && let Some(polled) = wire.polls.next().await
    {
        return polled;
    }
    pending().await
}

impl Courier {
    /// A courier that connects as soon as it runs.
    pub(super) fn new(options: Options, inbox: Arc<Inbox>) -> Self {
        let ledger = Ledger::new(options.will.clone(), options.greeting.clone());
        Self {
            ledger: if options.forgets_when_lost { ledger.that_forgets() } else { ledger },
            options,
            inbox,
            backoff: Backoff::new(FIRST_RETRY, LONGEST_RETRY),
            link: Link::Away { retry_at: Instant::now() },
            wire: None,
            lost: None,
            failures: 0,
            closing: None,
            foreign: 0,
            is_done: false,
        }
    }

    fn wakes_at(&self) -> Instant {
        let deadline = self.closing.as_ref().map_or_else(|| Instant::now() + NO_WAKE_UP, |c| c.deadline);
        match self.link {
            Link::Away { retry_at } => retry_at.min(deadline),
            Link::Connecting => deadline,
            Link::Online { renew_at, .. } => renew_at.min(deadline),
            Link::Leaving { until } => until,
        }
    }

    fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Command(command) => self.obey(command, now),
            Input::HoldersGone => self.begin_closing(None, now),
            Input::Polled(Polled { events, error }) => {
                for event in events {
                    self.on_event(event, now);
                }
                if let Some(error) = error {
                    self.on_lost(error, now);
                }
            }
            Input::Timeout => self.on_timeout(now),
        }
        self.hand_over();
        self.leave_when_settled(now);
    }

    fn obey(&mut self, command: Command, now: Instant) {
        match command {
            Command::Subscribe(filters) => self.ledger.subscribe(&filters),
            Command::Unsubscribe(filters) => self.ledger.unsubscribe(filters),
            Command::Publish(message, ticket) => self.ledger.publish(message, ticket),
            Command::SetRetained(message, ticket) => self.ledger.set_retained(message, ticket),
            Command::Renew => self.ledger.renew(),
            Command::Close(done) => self.begin_closing(Some(done), now),
        }
    }

    fn begin_closing(&mut self, done: Option<oneshot::Sender<()>>, now: Instant) {
        let deadline = now + self.options.close_limit;
        let closing = self.closing.get_or_insert_with(|| Closing { deadline, waiting: Vec::new() });
        closing.waiting.extend(done);
    }

    fn on_timeout(&mut self, now: Instant) {
        match self.link {
            Link::Away { retry_at } if retry_at <= now => {
                self.link = Link::Connecting;
                self.wire = Some(Wire::new(&self.options, self.server()));
            }
            Link::Online { since, renew_at } if renew_at <= now => {
                self.link = Link::Online { since, renew_at: now + drawn(&self.options.resubscribe_every) };
                self.ledger.renew();
            }
            Link::Leaving { until } if until <= now => self.is_done = true,
            Link::Away { .. } | Link::Connecting | Link::Online { .. } | Link::Leaving { .. } => {}
        }
    }

    fn on_event(&mut self, event: Mqtt, now: Instant) {
        match event {
            Mqtt::Incoming(Packet::ConnAck(_)) => self.on_connected(now),
            Mqtt::Incoming(Packet::Publish(publish)) => self.on_message(&publish),
            Mqtt::Incoming(Packet::PubAck(ack)) => self.ledger.acked(ack.pkid),
            Mqtt::Incoming(Packet::SubAck(ack)) => self.on_subscribed(ack.pkid, &ack.return_codes, now),
            Mqtt::Outgoing(
                Outgoing::Publish(packet_id)
                | Outgoing::Subscribe(packet_id)
                | Outgoing::Unsubscribe(packet_id),
            ) => self.ledger.sent(packet_id),
            Mqtt::Outgoing(Outgoing::Disconnect) => self.is_done = true,
            Mqtt::Incoming(_) | Mqtt::Outgoing(_) => {}
        }
    }

    fn on_connected(&mut self, now: Instant) {
        debug!(bus = %self.server(), "Connected");
        let Options { cluster_settles_in, resubscribe_every, .. } = &self.options;
        let renew_in = if self.is_cluster() { cluster_settles_in } else { resubscribe_every };
        self.link = Link::Online { since: now, renew_at: now + drawn(renew_in) };
        self.lost = None;
        self.ledger.connected();
        self.inbox.put(Event::Connected);
    }

    fn is_cluster(&self) -> bool {
        self.options.url.servers().count() > 1
    }

    /// Where we are connected or connect next.
    fn server(&self) -> &Server {
        self.options.url.server_after(self.failures)
    }

    fn on_message(&mut self, publish: &Publish) {
        let topic = match publish.topic.parse::<Topic>() {
            Ok(topic) => topic,
            Err(error) => {
                self.foreign += 1;
                trace!(foreign = self.foreign, %error, "Message of a foreign topic");
                return;
            }
        };
        trace!(%topic, bytes = publish.payload.len(), retained = publish.retain, "Message");
        // A copy, for the original would keep the whole read buffer alive for as long as anybody keeps the message.
        let payload = Bytes::copy_from_slice(&publish.payload);
        let incoming = Incoming { topic, payload, retained: publish.retain };
        self.ledger.overhear(&incoming);
        self.inbox.put(Event::Message(incoming));
    }

    fn on_subscribed(&mut self, packet_id: u16, codes: &[SubscribeReasonCode], now: Instant) {
        let granted: Vec<bool> =
            codes.iter().map(|code| matches!(code, SubscribeReasonCode::Success(_))).collect();
        if granted.contains(&false)
            && self.is_cluster()
            && let Link::Online { since, renew_at } = self.link
        {
            // Servers that lost their leader refuse what they grant once they have another one.
            let soon = now + drawn(&self.options.cluster_settles_in);
            self.link = Link::Online { since, renew_at: renew_at.min(soon) };
        }
        for (filter, is_granted) in self.ledger.subscribed(packet_id, &granted) {
            self.inbox.put(if is_granted { Event::Subscribed(filter) } else { Event::Denied(filter) });
        }
    }

    fn on_lost(&mut self, error: ConnectionError, now: Instant) {
        self.wire = None;
        self.ledger.lost();
        if let Link::Online { since, .. } = self.link
            && now - since >= self.options.stable_after
        {
            self.backoff.reset();
        }
        let delay = self.backoff.next(random());
        self.link = Link::Away { retry_at: now + delay };
        debug!(bus = %self.server(), %error, ?delay, "Bus is away");
        let lost = Lost::new(error, &self.options, self.server());
        self.failures = self.failures.wrapping_add(1);
        if !self.lost.as_ref().is_some_and(|known| known.is_like(&lost)) {
            self.inbox.put(Event::Disconnected(lost.clone()));
        }
        self.lost = Some(lost);
    }

    fn hand_over(&mut self) {
        if let (Link::Online { .. }, Some(wire)) = (&self.link, &self.wire) {
            while let Some(request) = self.ledger.next() {
                wire.ask(request).expect("the channel of the MQTT client has room for the whole window");
            }
        }
    }

    fn leave_when_settled(&mut self, now: Instant) {
        let Some(closing) = &self.closing else { return };
        if !self.ledger.is_settled() && now < closing.deadline {
            return;
        }
        match (&self.link, &self.wire) {
            (Link::Leaving { .. }, _) => {}
            (Link::Online { .. }, Some(wire)) if wire.client.try_disconnect().is_ok() => {
                self.link = Link::Leaving { until: now + Duration::from_secs(NETWORK_LIMIT_SECS) };
            }
            _ => self.is_done = true,
        }
    }
}

impl Drop for Courier {
    /// However the task ends, its reader gets to know.
    fn drop(&mut self) {
        self.inbox.end();
    }
}

impl Wire {
    fn new(options: &Options, server: &Server) -> Self {
        // One more than the window, for the DISCONNECT.
        let (client, mut event_loop) = AsyncClient::new(options.to_mqtt(server), WINDOW + 1);
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        network.set_connection_timeout(NETWORK_LIMIT_SECS);
        event_loop.set_network_options(network);
        Self { client, polls: Box::pin(polls(event_loop)) }
    }

    fn ask(&self, request: Request) -> Result<(), ClientError> {
        match request {
            Request::Subscribe(filters) => self.client.try_subscribe_many(
                filters.iter().map(|f| SubscribeFilter::new(f.to_string(), QoS::AtLeastOnce)),
            ),
            Request::Unsubscribe(filter) => self.client.try_unsubscribe(filter.to_string()),
            Request::Publish(Message { topic, payload }) => {
                self.client.try_publish(topic.to_string(), QoS::AtLeastOnce, topic.is_retained(), payload)
            }
        }
    }
}

fn drawn(range: &RangeInclusive<Duration>) -> Duration {
    between(*range.start(), *range.end(), random())
}

/// Polls until the first error. What was still buffered then belongs to the connection that ended, so it is given out
/// with the error.
fn polls(event_loop: EventLoop) -> impl Stream<Item = Polled> + Send {
    stream::unfold(Some(event_loop), |event_loop| async {
        let mut event_loop = event_loop?;
        let (first, error) = match event_loop.poll().await {
            Ok(event) => (Some(event), None),
            Err(error) => (None, Some(error)),
        };
        let events = first.into_iter().chain(event_loop.state.events.drain(..)).collect();
        let rest = error.is_none().then_some(event_loop);
        Some((Polled { events, error }, rest))
    })
}
