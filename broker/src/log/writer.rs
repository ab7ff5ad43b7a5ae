//! The one thread that writes.

use std::{
    collections::BTreeSet,
    iter, mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use schemas::{deploy_log::Head, id::NodeId, time::UnixTime};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::{
    Draft,
    database::{self, Place},
    insert::{self, Batch},
    keep,
    outbox::Fate,
};
use crate::{clock, metrics::Tallies, notify::Subscriptions, settings::LogSettings};

/// Most commands that share a transaction.
const MAX_BATCH: usize = 1_000;
/// How old what is known of nodes that were seen may get in memory: each write wears an SD card.
const SEEN_PERIOD: Duration = Duration::from_mins(1);
/// How often is looked for what is to be deleted.
const PRUNE_PERIOD: Duration = Duration::from_mins(10);
/// Time between two tries of what does not work, at first and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));

/// What the writer is asked for.
#[derive(Debug)]
pub(super) enum Command {
    Append(Vec<Draft>),
    Seen(NodeId, UnixTime),
    /// What was decided about a parcel.
    Settle(i64, Fate),
    /// Drops the parcels of all other receivers.
    KeepParcelsFor(BTreeSet<String>),
    /// Answers when all before it is on the disk.
    Flush(SyncSender<()>),
}

/// The writer's own.
#[derive(Debug)]
pub(super) struct Writer {
    place: Arc<Place>,
    connection: Connection,
    head: Head,
    settings: LogSettings,
    subscriptions: Subscriptions,
    /// How many parcels were put into the outbox.
    news: watch::Sender<u64>,
    closing: Arc<AtomicBool>,
    /// Where new entries are counted.
    tallies: Tallies,
    /// What came and is not written yet.
    batch: Batch,
    seen_due: Instant,
    prune_due: Instant,
}

impl Writer {
    pub(super) fn new(
        place: &Arc<Place>,
        (connection, head): (Connection, Head),
        settings: LogSettings,
        subscriptions: Subscriptions,
        news: watch::Sender<u64>,
        closing: Arc<AtomicBool>,
        tallies: Tallies,
    ) -> Self {
        let (place, now) = (Arc::clone(place), Instant::now());
        Self {
            place,
            connection,
            head,
            settings,
            subscriptions,
            news,
            closing,
            tallies,
            batch: Batch::default(),
            seen_due: now + SEEN_PERIOD,
            prune_due: now,
        }
    }

    /// Writes until nobody has anything to write any more.
    pub(super) fn run(mut self, commands: &Receiver<Command>) {
        self.check();
        loop {
            let wait = self.seen_due.min(self.prune_due).saturating_duration_since(Instant::now());
            let mut waiting = Vec::new();
            let ended = match commands.recv_timeout(wait) {
                Ok(command) => {
                    let more = commands.try_iter().take(MAX_BATCH);
                    iter::once(command).chain(more).for_each(|command| self.take(command, &mut waiting));
                    false
                }
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => true,
            };
            self.carry_out(ended || !waiting.is_empty());
            for done in waiting {
                // Who no longer waits has no use for it.
                let _ = done.send(());
            }
            if ended {
                return;
            }
        }
    }

    fn take(&mut self, command: Command, waiting: &mut Vec<SyncSender<()>>) {
        let batch = &mut self.batch;
        match command {
            Command::Append(drafts) => batch.drafts.extend(drafts),
            Command::Seen(node, at) => {
                let last = batch.seen.entry(node).or_default();
                *last = at.max(*last);
            }
            Command::Settle(parcel, fate) => batch.fates.push((parcel, fate)),
            Command::KeepParcelsFor(receivers) => batch.receivers = Some(receivers),
            Command::Flush(done) => waiting.push(done),
        }
    }

    fn carry_out(&mut self, is_asked: bool) {
        // Most reports say nothing new, and each transaction is a sync of the disk. What cannot be told apart is written as it is.
        if let Err(err) = insert::drop_known(&self.connection, &mut self.batch.drafts) {
            debug!(error = %err, "cannot look for what the deploy log has already");
        }
        let now = Instant::now();
        let is_due = is_asked || now >= self.seen_due || self.batch.has_more_than_seen();
        if is_due && !self.batch.is_empty() {
            let batch = mem::take(&mut self.batch);
            self.insist("cannot write to the deploy log", |writer| writer.write(&batch));
        }
        if now >= self.seen_due {
            self.seen_due = now + SEEN_PERIOD;
        }
        if now >= self.prune_due {
            self.prune_due = now + PRUNE_PERIOD;
            self.prune();
        }
    }

    fn write(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let written = insert::write(&mut self.connection, self.head, batch, &self.subscriptions)?;
        self.head = written.head;
        if written.parcels > 0 {
            self.news.send_modify(|all| *all += written.parcels);
        }
        for place in written.entries {
            self.tallies.count(&batch.drafts[place].entry);
        }
        Ok(())
    }

    fn prune(&mut self) {
        match keep::prune(&mut self.connection, &self.settings, clock::now()) {
            Ok(0) => {}
            Ok(entries) => info!(entries, "the oldest entries of the deploy log were deleted"),
            // It is tried again by itself.
            Err(err) => warn!(error = %err, "cannot delete old entries of the deploy log"),
        }
    }

    /// Looks through the whole file once, while what is to be written waits.
    fn check(&mut self) {
        match database::is_whole(&self.connection) {
            Ok(true) => {}
            Ok(false) => self.begin_anew("its pages do not fit together"),
            Err(err) if database::is_damage(&err) => self.begin_anew(&err.to_string()),
            Err(err) => warn!(error = %err, "cannot check the deploy log"),
        }
    }

    /// Does it until it works; gives up only when the service ends.
    fn insist(&mut self, what: &str, work: impl Fn(&mut Self) -> rusqlite::Result<()>) {
        let (mut pause, longest) = RETRY;
        while let Err(err) = work(self) {
            if self.closing.load(Ordering::Relaxed) {
                return error!(error = %err, "{what}, and the service ends");
            }
            if database::is_damage(&err) {
                self.begin_anew(&err.to_string());
            } else {
                warn!(error = %err, retry_s = pause.as_secs_f64(), "{what}: see that its disk has space and works");
            }
            thread::sleep(pause);
            pause = (pause * 2).min(longest);
        }
    }

    fn begin_anew(&mut self, why: &str) {
        let opened = self.place.move_aside(why).and_then(|()| self.place.open());
        match opened {
            Ok((connection, head)) => (self.connection, self.head) = (connection, head),
            Err(err) => error!(error = %crate::chain(&err), "cannot begin a new deploy log"),
        }
    }
}
