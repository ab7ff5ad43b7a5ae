//! Thousands of random histories of one node, each rule checked after every step.
//!
//! `SEED=7 cargo test -p e2e --test simulator` tells history 7 alone; `HISTORIES=100000` runs more of them.

use std::{env, thread};

use e2e::simulator::{Broken, Catalog, Summary, run};

/// Enough to see every way through the machine many times over, in a few seconds.
const HISTORIES: u64 = 5_000;

#[test]
fn a_node_keeps_every_rule_in_thousands_of_random_histories() {
    let (first, count) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("HISTORIES").unwrap_or(HISTORIES)),
    };
    let summary = run_all(first, count).unwrap_or_else(|broken| panic!("{broken}SEED={}", broken.seed));
    println!("{count} histories: {summary:#?}");
    if count >= HISTORIES {
        assert_saw_everything(&summary);
    }
}

#[test]
fn a_history_follows_from_its_seed_alone() {
    let steps =
        |catalog: &mut Catalog| (0..20).map(|seed| run(seed, catalog).map(|s| s.steps).ok()).collect();
    let (mut one, mut other) = (Catalog::default(), Catalog::default());
    let first: Vec<Option<u64>> = steps(&mut one);
    assert_eq!(first, steps(&mut other));
    assert_eq!(first, steps(&mut one));
}

/// A model in which nothing happens would keep every rule too.
fn assert_saw_everything(summary: &Summary) {
    let expected = [
        "Started",
        "Kept",
        "RolledBack exited",
        "RolledBack unhealthy",
        "RolledBack stale-code",
        "RolledBack no-proof",
        "RolledBack bus-lost",
        "RolledBack start-failed",
        "RolledBack tries-used-up",
        "Failed exited",
        "Failed store-unreachable",
        "Failed digest-mismatch",
        "Failed slot-mismatch",
        "Failed disk-full",
        "Failed hook-timeout",
        "Failed rollback-failed",
        "Refused expired",
        "Refused below-floor",
        "Refused no-part",
        "Superseded superseded",
        "Superseded withdrawn",
        "replayed",
        "held",
    ];
    let missing: Vec<_> = expected.iter().filter(|name| !summary.told.contains_key(**name)).collect();
    assert!(missing.is_empty(), "no history shows {missing:?}");
}

fn run_all(first: u64, count: u64) -> Result<Summary, Broken> {
    let workers = thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let share = |worker: u64| {
        move || run_some((first..first + count).skip(worker as usize).step_by(workers as usize))
    };
    let results: Vec<_> = thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|worker| scope.spawn(share(worker))).collect();
        running.into_iter().map(|worker| worker.join().expect("a worker ends")).collect()
    });
    results.into_iter().try_fold(Summary::default(), |mut all, some| {
        all.add(&some?);
        Ok(all)
    })
}

fn run_some(seeds: impl Iterator<Item = u64>) -> Result<Summary, Broken> {
    let mut catalog = Catalog::default();
    seeds.map(|seed| run(seed, &mut catalog)).try_fold(Summary::default(), |mut all, one| {
        all.add(&one?);
        Ok(all)
    })
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}
