//! The log on a disk: what is written once, found, kept, deleted, damaged and killed.

mod crash;
mod keeping;
mod many;
mod reading;

use schemas::deploy_log::{Chained, What, verify};
use tempfile::TempDir;

use super::*;

/// A log in a folder that vanishes.
struct Bench {
    folder: TempDir,
    log: Log,
}

impl Bench {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let log = Log::open(folder.path(), &forever()).unwrap();
        Self { folder, log }
    }

    fn write(&self, drafts: Vec<Draft>) {
        self.log.append(drafts).unwrap();
        self.log.flush();
    }

    /// Closes and opens again, after `meanwhile`.
    fn reopen(self, meanwhile: impl FnOnce(&Path)) -> Self {
        let Self { folder, log } = self;
        log.close();
        drop(log);
        meanwhile(folder.path());
        let log = Log::open(folder.path(), &forever()).unwrap();
        log.flush();
        Self { folder, log }
    }

    fn all(&self) -> Vec<Chained> {
        all(&self.log)
    }
}

/// Nothing is deleted by itself: what happens here happens in 1970.
fn forever() -> LogSettings {
    LogSettings { keep: Duration::from_secs(u64::MAX), entries: u64::MAX }
}

/// Every entry, verified.
fn all(log: &Log) -> Vec<Chained> {
    let (state, mut found) = (log.state().unwrap(), Vec::new());
    let mut query = Query { after: Some(state.anchor_seq), ..Query::default() };
    loop {
        let page = log.query(&query).unwrap();
        found.extend(page.entries);
        if !page.more {
            break;
        }
        query.after = Some(page.next);
    }
    assert_eq!(verify(state.anchor(), &found), Ok(state.head()));
    found
}

/// What happened to `node` at `at`, as something that is told twice.
fn told(node: &str, at: u64) -> Draft {
    let once = Some(Digest::of(format!("{node} {at}").as_bytes()));
    Draft { once, entry: entry(node, at) }
}

fn entry(node: &str, at: u64) -> Entry {
    Entry {
        at: UnixTime(at),
        what: if at.is_multiple_of(2) { What::Installed } else { What::RolledBack },
        node: Some(node.parse().unwrap()),
        app: Some("web".parse().unwrap()),
        group: Some("canary".parse().unwrap()),
        version: format!("1.0.{at}"),
        ..Entry::default()
    }
}

#[test]
fn what_is_told_twice_is_written_once_also_after_a_restart() {
    let bench = Bench::new();
    let drafts: Vec<_> = (1..=9).map(|at| told("pi-1", at)).collect();
    bench.write(drafts.clone());
    bench.write(drafts.clone());
    assert_eq!(bench.all().len(), 9);
    let bench = bench.reopen(|_| {});
    bench.write(drafts);
    bench.write(vec![told("pi-1", 10), told("pi-1", 10)]);
    assert_eq!(bench.all().len(), 10);
    assert_eq!(bench.log.state().unwrap().seq, 10);
}

#[test]
fn a_fleet_that_is_observed_again_after_a_restart_is_written_once() {
    use rollout::samples::{NOW, Sample, ended, node, outcome};
    let sample = Sample::new();
    let fleet = sample.fleet(&[("pi-1", Some(ended(outcome(50, schemas::report::Verdict::Kept))))]);
    let name = node("pi-1");
    let changes = [Change::Record(name.clone()), Change::Report(name.clone()), Change::Availability(name)];
    let mut bench = Bench::new();
    for later in [5, 6, 7] {
        observe(&bench.log, &fleet, &changes, NOW.plus_secs(later)).unwrap();
        bench = bench.reopen(|_| {});
    }
    let whats: Vec<_> = bench.all().iter().map(|link| link.entry.what).collect();
    assert_eq!(whats, [What::NodeAdded, What::Installed]);
    assert_eq!(bench.log.nodes().unwrap()[0].last_seen, NOW.plus_secs(7).to_string());
}

#[test]
fn what_has_no_key_is_written_each_time() {
    let bench = Bench::new();
    let draft = Draft { entry: entry("pi-1", 1), once: None };
    bench.write(vec![draft.clone(), draft]);
    assert_eq!(bench.all().len(), 2);
}

#[test]
fn what_the_log_has_already_is_dropped_before_a_transaction_begins() {
    let bench = Bench::new();
    bench.write(vec![told("pi-1", 1), told("pi-1", 2)]);
    let without_key = Draft { entry: entry("pi-1", 1), once: None };
    let mut drafts = vec![told("pi-1", 2), told("pi-1", 3), without_key.clone(), told("pi-1", 1)];
    let (connection, _) = Place::new(bench.folder.path()).open().unwrap();
    insert::drop_known(&connection, &mut drafts).unwrap();
    assert_eq!(drafts, [told("pi-1", 3), without_key]);
}

#[test]
fn a_node_was_there_last_when_it_was_seen_last() {
    let bench = Bench::new();
    let pi: NodeId = "pi-1".parse().unwrap();
    for at in [5, 9, 7] {
        bench.log.seen(&pi, UnixTime(at));
    }
    let bench = bench.reopen(|_| {});
    bench.log.seen(&pi, UnixTime(8));
    bench.log.flush();
    let expected = SeenNode { node: "pi-1".into(), last_seen: "1970-01-01T00:00:09Z".into() };
    assert_eq!(bench.log.nodes().unwrap(), [expected]);
}

#[test]
fn handing_over_waits_for_no_disk_and_says_when_there_is_no_place() {
    let bench = Bench::new();
    // Another program that holds the file.
    let other = rusqlite::Connection::open(bench.log.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let mut taken = 0;
    while bench.log.append(vec![told("pi-1", taken)]).is_ok() {
        taken += 1;
        assert!(began.elapsed() < Duration::from_secs(4), "{taken} were taken");
    }
    assert!(taken >= MAX_WAITING as u64);
    other.execute_batch("COMMIT").unwrap();
    drop(other);
    while bench.log.state().unwrap().seq < taken {
        assert!(began.elapsed() < Duration::from_mins(1));
        bench.log.flush();
    }
    assert_eq!(bench.all().len() as u64, taken);
}
