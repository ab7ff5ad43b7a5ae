//! A log of many entries, which are written, found, verified and pruned. With a million of them, the figures of
//! docs/measurements.md: `ENTRIES=1000000 cargo test --release -p broker --lib -- --nocapture many_entries`.

use std::fs;

use super::*;

/// Whole thousands; enough for several pages when nothing is said.
fn wanted_entries() -> u64 {
    let said = std::env::var("ENTRIES").ok().and_then(|text| text.parse().ok());
    said.unwrap_or(3_000_u64).max(1_000) / 1_000 * 1_000
}

const NODES: u64 = 1_000;
/// Each entry a minute: two years of them.
const PERIOD_SECS: u64 = 60;

fn of_a_fleet(at: u64) -> Draft {
    let draft = told(&format!("pi-{}", at * 7 % NODES), at);
    let is_bad = at.is_multiple_of(50);
    let entry = Entry {
        at: UnixTime(at * PERIOD_SECS),
        what: if is_bad { What::RolledBack } else { What::Installed },
        app: Some(format!("app-{}", at % 5).parse().unwrap()),
        commit: "0123456789abcdef0123456789abcdef01234567".into(),
        release: draft.once,
        log_tail: if is_bad {
            vec!["a line that an app wrote before it died".into(); 10]
        } else {
            Vec::new()
        },
        ..draft.entry
    };
    Draft { entry, ..draft }
}

fn timed<T>(what: &str, work: impl Fn() -> T) -> T {
    let mut took: Vec<_> = (0..11)
        .map(|_| {
            let began = Instant::now();
            work();
            began.elapsed()
        })
        .collect();
    took.sort();
    println!("{what}: {:.2} / {:.2} ms", took[5].as_secs_f64() * 1e3, took[10].as_secs_f64() * 1e3);
    work()
}

#[test]
fn many_entries_are_found_verified_and_pruned() {
    let total = wanted_entries();
    let bench = Bench::new();
    let began = Instant::now();
    for thousand in 0..total / 1_000 {
        let drafts: Vec<_> = (thousand * 1_000 + 1..=(thousand + 1) * 1_000).map(of_a_fleet).collect();
        while bench.log.append(drafts.clone()).is_err() {
            bench.log.flush();
        }
    }
    while bench.log.state().unwrap().seq < total {
        bench.log.flush();
    }
    println!("a thousand at a time: {:.0} per s", total as f64 / began.elapsed().as_secs_f64());
    let began = Instant::now();
    for at in 1..=200 {
        bench.write(vec![of_a_fleet(total + at)]);
    }
    println!("one, and wait for the disk: {:.2} ms", began.elapsed().as_secs_f64() * 1e3 / 200.0);
    println!("file: {} MB", fs::metadata(bench.log.path()).unwrap().len() / 1_000_000);
    let day = |day: u64| UnixTime(day * 86_400).to_string();
    for (what, query) in [
        ("newest 50", r#"{"newest":true,"limit":50}"#.to_owned()),
        ("newest 50 of a node", r#"{"newest":true,"limit":50,"node":"pi-7"}"#.to_owned()),
        ("newest 50 that were rolled back", r#"{"newest":true,"limit":50,"what":"rolled_back"}"#.to_owned()),
        (
            "newest 50 of an app that were rolled back",
            r#"{"newest":true,"limit":50,"app":"app-0","what":"rolled_back"}"#.to_owned(),
        ),
        (
            "newest 50 of a node that failed (none did)",
            r#"{"newest":true,"node":"pi-7","what":"failed"}"#.to_owned(),
        ),
        ("newest 50 of a group (all are)", r#"{"newest":true,"limit":50,"group":"canary"}"#.to_owned()),
        ("newest 50 of a group (none is)", r#"{"newest":true,"limit":50,"group":"none"}"#.to_owned()),
        (
            "newest 50 of a day a year ago",
            format!(r#"{{"newest":true,"limit":50,"since":"{}","until":"{}"}}"#, day(300), day(301)),
        ),
        ("newest 50 since a year", format!(r#"{{"newest":true,"limit":50,"since":"{}"}}"#, day(300))),
        ("a page of 500 in the middle", format!(r#"{{"after":{}}}"#, total / 2)),
    ] {
        let query: Query = serde_json::from_str(&query).unwrap();
        let found = timed(what, || bench.log.query(&query).unwrap());
        println!("    {} found", found.entries.len());
    }
    let began = Instant::now();
    assert_eq!(bench.all().len() as u64, total + 200);
    println!("read and verified: {:.1} s", began.elapsed().as_secs_f64());
    let began = Instant::now();
    let bench = bench.reopen(|_| {});
    println!("closed, opened and checked: {:.2} s", began.elapsed().as_secs_f64());
    let (mut connection, _) = bench.log.place.open().unwrap();
    let few = LogSettings { entries: total / 2, ..forever() };
    let began = Instant::now();
    let deleted = keep::prune(&mut connection, &few, UnixTime(0)).unwrap();
    println!("deleted {deleted}: {:.1} ms", began.elapsed().as_secs_f64() * 1e3);
}
