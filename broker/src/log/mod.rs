//! The deploy log: what happened to which node, app and rollout, in one SQLite file that outlives the nodes' reports.
//!
//! One thread writes. Who has something to write hands it over and goes on; many entries share one transaction, and one
//! sync of the disk. Readers have connections of their own and never wait for the writer (WAL). The CBOR of an entry is
//! what its digest is made from and the only place where all of it is; the columns beside it are there to find it.
//!
//! What this is not for: deciding what happened ([`book`]), or telling others about it.

mod book;
mod database;
mod insert;
mod keep;
mod outbox;
mod query;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::BTreeSet,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, SyncSender, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use rollout::{Change, Fleet};
use schemas::{
    deploy_log::{Entry, Query, State},
    id::{Digest, NodeId},
    time::UnixTime,
};
use tokio::sync::watch;

pub(crate) use self::outbox::{Fate, Parcel};
pub use self::{
    database::LogError,
    query::{Found, SeenNode},
};
use self::{
    database::Place,
    writer::{Command, Writer},
};
use crate::{metrics::Tallies, notify::Subscriptions, settings::LogSettings};

/// What may wait for the writer. At a few hundred bytes each, what waits while a disk hangs costs some megabytes.
const MAX_WAITING: usize = 20_000;
/// How long the writer may take to write what it has.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// While so much waits that not even the question whether it is written has a place.
const FULL_PAUSE: Duration = Duration::from_millis(5);

/// Something to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// What happened; its place in the log comes when it is written.
    pub entry: Entry,
    /// Of all drafts with the same, the first one alone is written: whoever is not sure hands it over again.
    pub once: Option<Digest>,
}

/// More waits to be written than may: the disk does not keep up. What was not taken has to be handed over again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the deploy log does not keep up with what is to be written")]
pub struct Full;

/// The log. Clones are the same log.
#[derive(Debug, Clone)]
pub struct Log {
    place: Arc<Place>,
    commands: SyncSender<Command>,
    news: watch::Receiver<u64>,
    closing: Arc<AtomicBool>,
    tallies: Tallies,
}

impl Log {
    /// Opens the log in `folder`, or begins one. A damaged file is moved aside.
    ///
    /// # Errors
    /// When the file cannot be used, or a newer version wrote it.
    pub fn open(folder: &Path, settings: &LogSettings) -> Result<Self, LogError> {
        Self::open_for(folder, settings, Subscriptions::default())
    }

    /// The same, with those who are to be told what is new.
    pub(crate) fn open_for(
        folder: &Path,
        settings: &LogSettings,
        subscriptions: Subscriptions,
    ) -> Result<Self, LogError> {
        let place = Arc::new(Place::new(folder));
        let opened = place.open()?;
        let (commands, orders) = mpsc::sync_channel(MAX_WAITING);
        let closing = Arc::new(AtomicBool::new(false));
        let (told, news) = watch::channel(0);
        let (ends, tallies) = (Arc::clone(&closing), Tallies::default());
        let counts = tallies.clone();
        let writer = Writer::new(&place, opened, settings.clone(), subscriptions, told, ends, counts);
        let spawned = thread::Builder::new().name("deploy-log".into()).spawn(move || writer.run(&orders));
        spawned.map_err(LogError::Thread)?;
        Ok(Self { place, commands, news, closing, tallies })
    }

    /// Hands entries over to be written, all or none, and does not wait for that.
    ///
    /// # Errors
    /// When the disk does not keep up.
    pub fn append(&self, drafts: Vec<Draft>) -> Result<(), Full> {
        if drafts.is_empty() { Ok(()) } else { self.order(Command::Append(drafts)) }
    }

    /// A node was there at that time. This is written with the next entries, or within a minute.
    pub fn seen(&self, node: &NodeId, at: UnixTime) {
        // When there is no place for it, the next time will do.
        let _ = self.order(Command::Seen(node.clone(), at));
    }

    /// The entries that are wanted.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn query(&self, query: &Query) -> Result<Found, LogError> {
        self.place.read(|connection| query::entries(connection, query))
    }

    /// Where the log begins and ends.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn state(&self) -> Result<State, LogError> {
        self.place.read(query::state)
    }

    /// When each node was there last.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn nodes(&self) -> Result<Vec<SeenNode>, LogError> {
        self.place.read(query::nodes)
    }

    /// What was written since the start, counted.
    pub(crate) fn tallies(&self) -> Tallies {
        self.tallies.clone()
    }

    /// Changes whenever something new is in the outbox.
    pub(crate) fn news(&self) -> watch::Receiver<u64> {
        self.news.clone()
    }

    /// The notices that are due for a receiver, oldest first, some of them.
    pub(crate) fn due(&self, url: &str, now_ms: u64) -> Result<Vec<Parcel>, LogError> {
        self.place.read(|connection| outbox::due(connection, url, now_ms))
    }

    /// When the next notice is due for a receiver.
    pub(crate) fn next_due(&self, url: &str) -> Result<Option<u64>, LogError> {
        self.place.read(|connection| outbox::next_due(connection, url))
    }

    /// Keeps in mind what was decided about a notice; lost when too much waits, and then it is delivered once more.
    pub(crate) fn settle(&self, parcel: i64, fate: Fate) {
        let _ = self.order(Command::Settle(parcel, fate));
    }

    /// Drops the notices for all other receivers.
    pub(crate) fn keep_parcels_for(&self, urls: BTreeSet<String>) {
        // Fails only when the writer has too much to do; the next start drops them too.
        let _ = self.order(Command::KeepParcelsFor(urls));
    }

    /// Waits until all that was handed over is on the disk, or for so long that a disk must be hanging.
    pub fn flush(&self) {
        let limit = Instant::now() + CLOSE_LIMIT;
        let (done, wait) = mpsc::sync_channel(1);
        while self.order(Command::Flush(done.clone())).is_err() {
            if Instant::now() > limit {
                return;
            }
            thread::sleep(FULL_PAUSE);
        }
        // Whether it is done or takes too long, there is nothing more to do.
        let _ = wait.recv_timeout(limit.saturating_duration_since(Instant::now()));
    }

    /// Writes what is left; what comes later is not written.
    pub fn close(&self) {
        self.closing.store(true, Ordering::Relaxed);
        self.flush();
    }

    /// The file.
    pub fn path(&self) -> &Path {
        self.place.path()
    }

    fn order(&self, command: Command) -> Result<(), Full> {
        match self.commands.try_send(command) {
            Ok(()) => Ok(()),
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Err(Full),
        }
    }
}

/// Writes what follows from changes that `fleet` just took. Doing so again, as after a restart with everything that is
/// retained, writes nothing twice.
///
/// # Errors
/// When the disk does not keep up: observe the same changes again later.
pub fn observe(log: &Log, fleet: &Fleet, changes: &[Change], now: UnixTime) -> Result<(), Full> {
    for (node, at) in changes.iter().filter_map(|change| book::seen(fleet, change, now)) {
        log.seen(&node, at);
    }
    log.append(changes.iter().flat_map(|change| book::drafts(fleet, change, now)).collect())
}

/// A file name beside `path`.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Says what could not be done with which file.
fn io_error(path: &Path) -> impl FnOnce(io::Error) -> LogError {
    let path = path.to_owned();
    move |source| LogError::Io { path, source }
}
