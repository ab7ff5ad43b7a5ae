//! The loop: whatever happens becomes one event, and one handler takes it.

mod app;
mod cadence;
mod event;
mod hands;
mod node;
mod speaker;
#[cfg(test)]
mod tests;

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use bus_client::{
    Tls,
    bus::{self, Bus, ClientId, Options},
    store::{Store, StoreError},
};
use schemas::id::AppId;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::{
    event::Event,
    hands::Hands,
    node::{Node, State},
    speaker::{Speaker, Voice},
};
use crate::{
    clock::{self, Clock},
    durable::DurableError,
    facts,
    fetch::Fetcher,
    hold::Judge,
    identity::{Identity, IdentityError, open_tls},
    installer::{Installer, Notice, Notices},
    journal::JournalError,
    memory::Memory,
    mirror,
    settings::Settings,
};

/// Between two signs of life: often enough for a watchdog, rare enough for an idle device.
const PULSE_EVERY: Duration = Duration::from_secs(5);

/// What the loop tells the process around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pulse {
    /// The machines of all apps are there and the loop begins; told once.
    Ready,
    /// The loop still goes round; told every few seconds.
    Alive,
}

/// Why a node cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It cannot say who it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its own files cannot be read or written.
    #[error(transparent)]
    Data(DurableError),
    /// The journal of an app cannot be read.
    #[error(transparent)]
    Journal(JournalError),
    /// There is no way to fetch objects.
    #[error("cannot set up the store")]
    Store(#[source] StoreError),
}

impl RunError {
    /// What a person should do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Identity(error) => error.advice(),
            Self::Data(error) | Self::Journal(error) => error.advice(),
            Self::Store(error) => error.advice(),
        }
    }
}

/// Runs a node until `shutdown`, which gives what is under way a few seconds.
///
/// `installer` is called once, with where the installer tells by itself what happened.
///
/// # Errors
/// When the node's files are missing, wrong or unreadable. Whatever happens later is reported, and gone on from.
pub async fn run<I: Installer>(
    settings: Settings,
    installer: impl FnOnce(Notices) -> Arc<I>,
    mut pulse: impl FnMut(Pulse),
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let (notices, mut told) = mpsc::unbounded_channel();
    let (events, mut ended) = mpsc::unbounded_channel();
    let (mut node, mut heard) = open(settings, installer(notices), events)?;
    node.start().map_err(RunError::Journal)?;
    pulse(Pulse::Ready);
    let mut shutdown = pin!(shutdown);
    let (mut is_ending, mut pulse_at) = (false, Instant::now() + PULSE_EVERY);
    while !node.has_ended() {
        let due = node.due();
        let event = tokio::select! {
            // What an installer tells comes before the end of the effect that made it tell.
            biased;
            () = &mut shutdown, if !is_ending => Event::Stop,
            Some(notice) = told.recv() => notice_event(notice),
            Some(event) = ended.recv() => event,
            () = sleep_until(due.min(pulse_at)) => Event::Due,
            Some(event) = heard.next() => Event::Bus(event),
        };
        is_ending |= matches!(event, Event::Stop);
        node.handle(event);
        if pulse_at <= Instant::now() {
            pulse(Pulse::Alive);
            pulse_at = Instant::now() + PULSE_EVERY;
        }
    }
    node.finish().await;
    Ok(())
}

fn notice_event((app, notice): (AppId, Notice)) -> Event {
    Event::Notice(app, notice)
}

fn open<I: Installer>(
    settings: Settings,
    installer: Arc<I>,
    events: mpsc::UnboundedSender<Event>,
) -> Result<(Node<I>, bus::Events), RunError> {
    let (memory, keeper) = Memory::open(settings.memory_file(), clock::system().0).map_err(RunError::Data)?;
    let identity = Identity::open(&settings, &memory)?;
    let clock = Clock::start(memory.floor.max(identity.record().head.issued_at));
    // Reading needs no credentials, so they are not shown to the store.
    let tls = open_tls(&settings, clock.now().wall)?;
    let store = Store::open(settings.store.clone(), None, tls.as_ref()).map_err(RunError::Store)?;
    let place: Vec<_> = settings.store.iter().map(ToString::to_string).collect();
    let fetcher = Fetcher::new(store, &place.join(" or "), settings.fetch);
    let (bus, heard) = Bus::connect(options(&settings, &identity, tls));
    let voice = Voice {
        fleet: identity.fleet.clone(),
        node: identity.node.clone(),
        key: identity.key.clone(),
        boot: memory.boot,
        started_at: clock.now().wall,
        about: installer.about().unwrap_or_else(|| mirror::pi(facts::hardware())),
    };
    let node = Node {
        speaker: Speaker::new(voice, bus.clone(), settings.status_file()),
        facts: facts::read(&settings.data),
        judge: Judge::new(settings.hold.clone(), settings.node.clone(), settings.data.clone()),
        hands: Hands { installer, fetcher, events },
        state: State::default(),
        settings,
        identity,
        memory,
        keeper,
        clock,
        bus,
    };
    Ok((node, heard))
}

fn options(settings: &Settings, identity: &Identity, tls: Option<Tls>) -> Options {
    let presence = |is_there| speaker::presence(&identity.fleet, &identity.node, is_there);
    let mut options = Options::new(settings.bus.clone(), ClientId::from(&identity.node));
    options.credentials = Some(identity.credentials.clone());
    options.tls = tls;
    options.will = Some(presence(false));
    options.greeting = vec![presence(true)];
    options
}
