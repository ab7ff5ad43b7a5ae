//! The thread that owns the retained log: many waiting publishes share one sync.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{error, info};

use super::{
    format::Record,
    log::{LogError, RetainedLog},
};
use crate::relay::{budget::Permit, topic::TopicName};

/// How long a value of the lazy class may be lost for: a write to an SD card every minute does not wear it out.
const LAZY_PERIOD: Duration = Duration::from_mins(1);
/// Most that is written before a sync, so that the first of a long queue does not wait for the last.
const MAX_BATCH_BYTES: usize = 4 * 1024 * 1024;
/// How many values of the lazy class may wait; more are written at once.
const MAX_LAZY: usize = 10_000;

/// Whether a message is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::relay) enum Outcome {
    /// It is.
    Stored,
    /// It is not; the log said why.
    Failed,
}

enum Job {
    /// To be stored before it is acknowledged.
    Store(Record),
    /// Nothing to store: takes its turn behind what is.
    Pass,
    /// To be stored some time. The memory of its message is given back when the thread has it, where a newer value of its
    /// topic takes its place.
    Lazy(Record, Option<Arc<Permit>>),
    Stop,
}

/// The way to the thread. Each [`Writer::store`] and [`Writer::pass`] has one outcome, in their order.
#[derive(Debug)]
pub(in crate::relay) struct Writer {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the thread; `report` gets the outcomes.
    pub(super) fn start(
        log: RetainedLog,
        report: impl Fn(Vec<Outcome>) + Send + 'static,
    ) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel();
        let thread = thread::Builder::new().name("retained-log".into()).spawn(move || {
            Work { log, lazy: HashMap::new(), lazy_since: None, failing: false, report }.run(&queue);
        })?;
        Ok(Self { jobs, thread })
    }

    /// Stores `record`, then reports.
    pub(in crate::relay) fn store(&self, record: Record) {
        self.send(Job::Store(record));
    }

    /// Reports when everything before is done.
    pub(in crate::relay) fn pass(&self) {
        self.send(Job::Pass);
    }

    /// Stores `record` within a minute, without a report.
    pub(in crate::relay) fn store_lazily(&self, record: Record, permit: Option<Arc<Permit>>) {
        self.send(Job::Lazy(record, permit));
    }

    /// Stores everything and ends the thread.
    pub(in crate::relay) fn finish(self) {
        self.send(Job::Stop);
        if self.thread.join().is_err() {
            error!("the thread of the retained log died");
        }
    }

    fn send(&self, job: Job) {
        // The thread only ends in `finish`, or by a panic, which ends the process (`panic = "abort"`).
        if self.jobs.send(job).is_err() {
            error!("the thread of the retained log is gone");
        }
    }
}

struct Work<F> {
    log: RetainedLog,
    lazy: HashMap<TopicName, Record>,
    lazy_since: Option<Instant>,
    failing: bool,
    report: F,
}

impl<F: Fn(Vec<Outcome>)> Work<F> {
    fn run(mut self, queue: &Receiver<Job>) {
        loop {
            let first = match self.wait(queue) {
                Ok(job) => Some(job),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let Some(first) = first else {
                self.flush_lazy();
                continue;
            };
            if self.batch(first, queue) {
                break;
            }
            // Also when there is always something else to do.
            if self.lazy.len() >= MAX_LAZY
                || self.lazy_since.is_some_and(|since| since.elapsed() >= LAZY_PERIOD)
            {
                self.flush_lazy();
            }
            self.log.tidy();
        }
        self.flush_lazy();
    }

    fn wait(&self, queue: &Receiver<Job>) -> Result<Job, RecvTimeoutError> {
        match self.lazy_since {
            None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(since) => queue.recv_timeout(LAZY_PERIOD.saturating_sub(since.elapsed())),
        }
    }

    /// Does `first` and everything else that waits; says whether it is time to stop.
    fn batch(&mut self, first: Job, queue: &Receiver<Job>) -> bool {
        let mut records = Vec::new();
        let mut stored = Vec::new();
        let mut bytes = 0;
        let mut stop = false;
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Store(record) => {
                    bytes += record.message.weight();
                    // A value that still waits to be written lazily is older than this one.
                    self.lazy.remove(&record.message.topic);
                    records.push(record);
                    stored.push(true);
                }
                Job::Pass => stored.push(false),
                Job::Lazy(record, _permit) => {
                    self.lazy.insert(record.message.topic.clone(), record);
                    self.lazy_since.get_or_insert_with(Instant::now);
                }
                Job::Stop => stop = true,
            }
            next = if stop || bytes >= MAX_BATCH_BYTES { None } else { queue.try_recv().ok() };
        }
        let written = if records.is_empty() { Outcome::Stored } else { self.write(&records) };
        if !stored.is_empty() {
            let outcome = |stored| if stored { written } else { Outcome::Stored };
            (self.report)(stored.into_iter().map(outcome).collect());
        }
        stop
    }

    fn flush_lazy(&mut self) {
        self.lazy_since = None;
        let records: Vec<Record> = self.lazy.drain().map(|(_, record)| record).collect();
        if records.is_empty() || self.write(&records) == Outcome::Stored {
            return;
        }
        self.lazy_since = Some(Instant::now());
        self.lazy.extend(records.into_iter().map(|record| (record.message.topic.clone(), record)));
    }

    fn write(&mut self, records: &[Record]) -> Outcome {
        let result = self.log.append(records);
        self.tell(result.as_ref().err());
        if result.is_ok() { Outcome::Stored } else { Outcome::Failed }
    }

    /// Once when it starts to fail and once when it works again, not for each message.
    fn tell(&mut self, err: Option<&LogError>) {
        match err {
            Some(err) if !self.failing => {
                error!(
                    error = %crate::chain(err),
                    "retained messages are refused until the log can be written again"
                );
            }
            None if self.failing => info!("retained messages are stored again"),
            _ => {}
        }
        self.failing = err.is_some();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tempfile::TempDir;

    use super::*;
    use crate::relay::message::Message;

    #[test]
    fn each_job_has_one_outcome_in_its_order_and_a_batch_shares_its_fate() {
        let folder = TempDir::new().unwrap();
        let (log, _) = RetainedLog::open(folder.path().join("retained.log")).unwrap();
        let (tell, outcomes) = mpsc::channel();
        let report = move |batch| tell.send(batch).unwrap();
        let mut work = Work { log, lazy: HashMap::new(), lazy_since: None, failing: false, report };
        let (jobs, queue) = mpsc::channel();

        jobs.send(Job::Pass).unwrap();
        jobs.send(Job::Store(record("b"))).unwrap();
        assert!(!work.batch(Job::Store(record("a")), &queue));
        assert_eq!(outcomes.recv().unwrap(), [Outcome::Stored; 3]);

        work.log.fill_disk(true);
        jobs.send(Job::Pass).unwrap();
        assert!(!work.batch(Job::Store(record("c")), &queue));
        assert_eq!(outcomes.recv().unwrap(), [Outcome::Failed, Outcome::Stored]);

        work.log.fill_disk(false);
        assert!(!work.batch(Job::Store(record("d")), &queue));
        assert_eq!(outcomes.recv().unwrap(), [Outcome::Stored]);
        assert_eq!(stored(&folder), ["a", "b", "d"]);
    }

    #[test]
    fn lazy_values_are_stored_at_the_end_and_never_over_a_newer_one() {
        let folder = TempDir::new().unwrap();
        let (log, _) = RetainedLog::open(folder.path().join("retained.log")).unwrap();
        let writer = Writer::start(log, |_| {}).unwrap();
        writer.store_lazily(record("lazy"), None);
        writer.store_lazily(record("cleared"), None);
        let cleared = record("cleared").message;
        let empty = Message::clearing(cleared.topic.clone());
        writer.store(Record::new(Arc::new(empty), "anna".into()));
        writer.finish();
        assert_eq!(stored(&folder), ["lazy"]);
    }

    fn record(topic: &str) -> Record {
        let topic = TopicName::parse(topic).unwrap();
        let message = Message { payload: Bytes::from_static(b"x"), ..Message::clearing(topic) };
        Record::new(Arc::new(message), "anna".into())
    }

    fn stored(folder: &TempDir) -> Vec<String> {
        let (_, loaded) = RetainedLog::open(folder.path().join("retained.log")).unwrap();
        loaded.into_keys().map(|topic| topic.to_string()).collect()
    }
}
