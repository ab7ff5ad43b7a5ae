//! A connection to the bus for the time of one command: read what is retained, publish, read back.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result};
use bus_client::bus::{Bus, ClientId, Event, Events, Lost, Message, Options};
use bytes::Bytes;
use rollout::{Change, Fleet};
use schemas::{
    id::{Digest, NodeId},
    root::RootChain,
    status::Info,
    topic::{Filter, Kind, NodeTopic, Topic},
};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::{
    home::{Home, WRITABLE},
    problem::{Advise as _, problem},
};

/// A broker on the same network answers in milliseconds; a person waits no longer than this to hear that none does.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// Retained messages come in one burst; so long a silence after the last one means that it is over.
const QUIET: Duration = Duration::from_millis(300);
/// The burst of a large fleet over a slow link.
const READ_LIMIT: Duration = Duration::from_secs(5);
/// How long the message may take to come back before it is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The broker answers after its disk has the message.
const PUBLISH_LIMIT: Duration = Duration::from_secs(10);
/// Servers of a cluster answer nothing, or refuse what they allow else, until they agree on who leads after one was lost
/// (seen with NATS 2.9: 4 to 20 s, and more than 30 s on a busy machine).
const ELECTION_LIMIT: Duration = Duration::from_secs(90);
/// Commands that can be connected at the same time from one home.
const MAX_SESSIONS: u32 = 64;

/// A connection to the bus.
pub(crate) struct Session {
    bus: Bus,
    events: Events,
    filters: Vec<Filter>,
    /// How many servers the bus has.
    servers: usize,
    user: String,
    settings_file: PathBuf,
    /// Held so that no other command takes the same client id.
    _slot: File,
}

/// What a live session has to tell.
pub(crate) enum News {
    /// Something in the fleet changed.
    Changed(Change),
    /// The bus is away; the session connects again by itself.
    Lost(Lost),
    /// The bus is back.
    Back,
}

impl Session {
    /// Connects, does what is to be done, and leaves in order, also when that failed.
    pub(crate) async fn with<T>(home: &Home, work: impl AsyncFnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let mut session = Self::open(home).await?;
        let result = work(&mut session).await;
        session.close().await;
        result
    }

    /// Connects, or says within five seconds why that does not work.
    async fn open(home: &Home) -> Result<Self> {
        let (slot, client_id) = take_slot(home)?;
        let mut options = Options::new(home.settings.bus.clone(), client_id);
        options.credentials = Some(home.settings.credentials());
        options.tls = home.tls()?;
        let (bus, events) = Bus::connect(options);
        let mut session = Self {
            bus,
            events,
            filters: Vec::new(),
            servers: home.settings.bus.servers().count(),
            user: home.settings.user.clone(),
            settings_file: home.path("fleet.toml"),
            _slot: slot,
        };
        session.connected(home).await?;
        Ok(session)
    }

    async fn connected(&mut self, home: &Home) -> Result<()> {
        let file = self.settings_file.display().to_string();
        let what = "cannot reach the bus";
        let broker = home.path("broker/broker.toml");
        let start = format!(
            "start it with `broker run --config {} --data DIR`, or correct `bus` in {file}",
            broker.display()
        );
        let mut last = None;
        let first = async {
            loop {
                match self.events.next().await {
                    Some(Event::Connected) => return Ok(()),
                    // The others of a cluster are still to be tried.
                    Some(Event::Disconnected(lost)) if self.servers > 1 => last = Some(lost),
                    Some(Event::Disconnected(lost)) => return Err(lost),
                    Some(_) => {}
                    // The session holds the bus, so it is not closed here; were it, the limit below would end this.
                    None => std::future::pending().await,
                }
            }
        };
        let connected = timeout(CONNECT_LIMIT, first).await;
        match connected.or_else(|late| last.map(Err).ok_or(late)) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(lost @ Lost::Refused { .. })) => Err(lost).advise(what, home.let_in()),
            Ok(Err(lost @ (Lost::BrokerDown { .. } | Lost::Unreachable { .. }))) => {
                Err(lost).advise(what, start)
            }
            Ok(Err(lost)) => {
                let advice = format!("{}; the address is `bus` in {file}", lost.advice());
                Err(lost).advise(what, advice)
            }
            Err(_) => {
                let (bus, secs) = (&home.settings.bus, CONNECT_LIMIT.as_secs());
                Err(problem(format!("{what} at {bus}: no answer for {secs} s"), start))
            }
        }
    }

    /// The fleet as the bus retains it. From now on the session hears what changes.
    pub(crate) async fn read_fleet(&mut self, home: &Home) -> Result<Fleet> {
        let id = &home.settings.fleet;
        let of_nodes = [NodeTopic::Record, NodeTopic::Report, NodeTopic::Availability];
        let mut awaited: Vec<Filter> = of_nodes.iter().map(|topic| Filter::all_nodes(id, topic)).collect();
        let trust = Kind::Trust.of(id);
        awaited.extend([Filter::all_releases(id), Filter::enrollments(id), Filter::from(&trust)]);
        awaited.extend([Filter::plans(id), Filter::courses(id), Filter::controllers(id)]);
        self.subscribe(awaited.clone());
        let mut fleet = Fleet::new(home.trust.clone());
        let limit = Instant::now() + self.patience(READ_LIMIT);
        let (mut quiet_at, mut denied, mut chain) = (limit, None, None);
        loop {
            let event = match timeout_at(quiet_at.min(limit), self.events.next()).await {
                Ok(event) => event.context("bus connection was closed")?,
                Err(_) if awaited.is_empty() => {
                    self.settle_trust(home, chain).await?;
                    return Ok(fleet);
                }
                Err(_) => match denied {
                    Some(filter) => return Err(self.denied(&format!("read {filter}"))),
                    None => return Err(self.unanswered("did not answer a subscription")),
                },
            };
            match event {
                Event::Subscribed(filter) => awaited.retain(|other| *other != filter),
                Event::Denied(filter) if self.is_cluster() => denied = Some(filter),
                Event::Denied(filter) => return Err(self.denied(&format!("read {filter}"))),
                Event::Message(message) if message.topic == trust => chain = Some(message.payload),
                Event::Message(message) => {
                    fleet.take(&message.topic, &message.payload);
                }
                Event::Connected | Event::Disconnected(_) => {}
            }
            if awaited.is_empty() {
                quiet_at = Instant::now() + QUIET;
            }
        }
    }

    /// Sees that bus and home have the same root documents. `there` is what the bus has.
    async fn settle_trust(&mut self, home: &Home, there: Option<Bytes>) -> Result<()> {
        let ours = home.chain()?;
        let theirs = there.as_ref().and_then(|bytes| RootChain::from_bytes(bytes).ok());
        if let Some(theirs) = theirs.filter(|theirs| theirs.last() > home.trust.version()) {
            match home.follow(&theirs) {
                Ok(_) => {
                    return Err(problem(
                        "the fleet's keys were changed by another home",
                        "this one knows it now: run the command again",
                    ));
                }
                Err(error) => tracing::warn!("The bus had root documents that are not believed: {error:#}"),
            }
        }
        if let Some(theirs) = there.as_ref().and_then(|bytes| RootChain::from_bytes(bytes).ok())
            && theirs.last() == home.trust.version()
            && let Err(error) = home.trust.follow(&theirs)
        {
            tracing::warn!(
                "The bus has other root documents than this home, which puts its own there: were keys changed in two homes at once? {error}"
            );
        }
        let (payload, is_first) = (ours.to_bytes(), home.trust.version() == 1);
        if there.is_some_and(|there| there == payload) || is_first {
            return Ok(());
        }
        self.publish(Kind::Trust.of(&home.settings.fleet), payload).await
    }

    /// What nodes say of themselves, as the bus retains it; not signed.
    pub(crate) async fn read_infos(&mut self, home: &Home) -> Result<Vec<Info>> {
        let infos = self.read_mirrors::<Info>(home, &NodeTopic::Info).await?;
        Ok(infos.into_iter().filter(|(node, info)| *node == info.node).map(|(_, info)| info).collect())
    }

    /// One topic of every node that speaks, as far as it is in the form that is asked for; not signed.
    pub(crate) async fn read_mirrors<T: DeserializeOwned>(
        &mut self,
        home: &Home,
        of: &NodeTopic,
    ) -> Result<BTreeMap<NodeId, T>> {
        let filter = Filter::all_nodes(&home.settings.fleet, of);
        self.subscribe(vec![filter.clone()]);
        let limit = Instant::now() + self.patience(READ_LIMIT);
        let (mut mirrors, mut quiet_at) = (BTreeMap::new(), limit);
        while let Ok(event) = timeout_at(quiet_at.min(limit), self.events.next()).await {
            match event.context("bus connection was closed")? {
                Event::Subscribed(ours) if ours == filter => quiet_at = Instant::now() + QUIET,
                Event::Denied(ours) if ours == filter => return Err(self.denied(&format!("read {filter}"))),
                Event::Message(message) => {
                    if let Kind::Node(node, topic) = message.topic.kind
                        && topic == *of
                        && let Ok(mirror) = serde_json::from_slice(&message.payload)
                    {
                        mirrors.insert(node, mirror);
                    }
                }
                _ => {}
            }
        }
        Ok(mirrors)
    }

    fn subscribe(&mut self, filters: Vec<Filter>) {
        self.filters.extend(filters.iter().cloned());
        self.bus.subscribe(filters);
    }

    /// Publishes, and waits until the broker has it on its disk.
    pub(crate) async fn publish(&self, topic: Topic, payload: Vec<u8>) -> Result<()> {
        let delivery = self.bus.publish(Message::new(topic.clone(), payload));
        match timeout(self.patience(PUBLISH_LIMIT), delivery).await {
            Ok(delivered) => delivered.with_context(|| format!("cannot publish on {topic}")),
            Err(_) => Err(self.unanswered(&format!("did not acknowledge the message on {topic}"))),
        }
    }

    /// Asks the broker for what it retains on `topic` until that is `payload`. It acknowledges also what it drops, so
    /// this alone proves that the message is there.
    pub(crate) async fn read_back(&mut self, fleet: &mut Fleet, topic: &Topic, payload: &[u8]) -> Result<()> {
        let filter = Filter::from(topic);
        self.subscribe(vec![filter.clone()]);
        let limit = Instant::now() + self.patience(READ_LIMIT);
        let (mut ask_at, mut other) = (Instant::now() + ASK_AGAIN, false);
        loop {
            let event = match timeout_at(ask_at.min(limit), self.events.next()).await {
                Ok(event) => event.context("bus connection was closed")?,
                Err(_) if Instant::now() < limit => {
                    // The servers of a cluster agree a little later on what is retained.
                    self.bus.subscribe([filter.clone()]);
                    ask_at = Instant::now() + ASK_AGAIN;
                    continue;
                }
                Err(_) => return Err(self.not_read_back(topic, other)),
            };
            match event {
                Event::Message(message) => {
                    fleet.take(&message.topic, &message.payload);
                    if message.topic == *topic {
                        if message.retained && message.payload == payload {
                            return Ok(());
                        }
                        other |= message.payload != payload;
                    }
                }
                Event::Denied(filter) if !self.is_cluster() => {
                    return Err(self.denied(&format!("read {filter}")));
                }
                Event::Subscribed(_) | Event::Denied(_) | Event::Connected | Event::Disconnected(_) => {}
            }
        }
    }

    fn not_read_back(&self, topic: &Topic, other: bool) -> anyhow::Error {
        if !other {
            return self.denied(&format!("publish on {topic}"));
        }
        problem(
            format!("another message took the place of ours on {topic}"),
            "somebody else announced at the same time: look at `publisher status`, then announce again",
        )
    }

    /// The next thing worth telling; what came in is in `fleet` by then. May be cancelled at any time.
    pub(crate) async fn next(&mut self, fleet: &mut Fleet) -> Option<News> {
        loop {
            match self.events.next().await? {
                Event::Message(message) => {
                    if let Some(change) = fleet.take(&message.topic, &message.payload) {
                        return Some(News::Changed(change));
                    }
                }
                Event::Connected => return Some(News::Back),
                Event::Disconnected(lost) => return Some(News::Lost(lost)),
                Event::Subscribed(_) | Event::Denied(_) => {}
            }
        }
    }

    /// Listens to a topic that is no part of the fleet's state, once the broker has agreed.
    pub(crate) async fn listen(&mut self, topic: &Topic) -> Result<()> {
        let filter = Filter::from(topic);
        self.subscribe(vec![filter.clone()]);
        let limit = Instant::now() + self.patience(READ_LIMIT);
        loop {
            match timeout_at(limit, self.events.next()).await {
                Ok(Some(Event::Subscribed(of))) if of == filter => return Ok(()),
                Ok(Some(Event::Denied(of))) if of == filter => {
                    return Err(self.denied(&format!("read {filter}")));
                }
                Ok(event) => drop(event.context("bus connection was closed")?),
                Err(_) => return Err(self.unanswered("did not answer a subscription")),
            }
        }
    }

    /// The next message on `topic`, over outages; nothing when the session is closed. May be cancelled at any time.
    pub(crate) async fn next_on(&mut self, topic: &Topic) -> Option<Bytes> {
        loop {
            let (of, payload) = self.next_message().await?;
            if of == *topic {
                return Some(payload);
            }
        }
    }

    /// The next message on whatever is listened to; the same otherwise.
    pub(crate) async fn next_message(&mut self) -> Option<(Topic, Bytes)> {
        loop {
            if let Event::Message(message) = self.events.next().await? {
                return Some((message.topic, message.payload));
            }
        }
    }

    /// Leaves in order, so that the broker keeps no messages for a session that may never come back.
    async fn close(self) {
        self.bus.unsubscribe(self.filters);
        self.bus.close().await;
    }

    fn is_cluster(&self) -> bool {
        self.servers > 1
    }

    /// How long an answer may take that one server gives within `limit`.
    fn patience(&self, limit: Duration) -> Duration {
        if self.is_cluster() { ELECTION_LIMIT } else { limit }
    }

    fn unanswered(&self, what: &str) -> anyhow::Error {
        problem(
            format!("the bus {what}"),
            format!("see the log of the broker; its address is `bus` in {}", self.settings_file.display()),
        )
    }

    fn denied(&self, what: &str) -> anyhow::Error {
        problem(
            format!("the bus does not let user `{}` {what}", self.user),
            "see that the broker's users file gives this user the role publisher, and that broker and fleet.toml name the same fleet",
        )
    }
}

/// A client id that no other running command uses, and that comes again, so that the broker does not keep a session for
/// each command that ever ran.
fn take_slot(home: &Home) -> Result<(File, ClientId)> {
    let folder = home.path("sessions");
    let what = || format!("cannot use {}", folder.display());
    fs::create_dir_all(&folder).advise(what(), WRITABLE)?;
    let machine = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let place = Digest::of(
        format!("{}\0{machine}", fs::canonicalize(&folder).with_context(what)?.display()).as_bytes(),
    );
    for slot in 0..MAX_SESSIONS {
        let file = File::create(folder.join(slot.to_string())).advise(what(), WRITABLE)?;
        if file.try_lock().is_ok() {
            return Ok((file, format!("publisher-{}-{slot}", place.short()).parse().with_context(what)?));
        }
    }
    Err(problem(
        format!("{MAX_SESSIONS} commands use {} already", folder.display()),
        "end some of the `publisher watch` that run on this machine",
    ))
}

/// Waits until `limit`, or for ever.
pub(crate) async fn until(limit: Option<Instant>) {
    match limit {
        Some(limit) => sleep_until(limit).await,
        None => std::future::pending().await,
    }
}
