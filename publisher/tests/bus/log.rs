//! `publisher log` with a store whose log is as a test wants it.

use std::{
    fs,
    time::{Duration, Instant},
};

use schemas::{
    deploy_log::{Entry, Head, What},
    reason::Reason,
    time::UnixTime,
};
use serde_json::Value;

use crate::{store::Mood, world::World};

fn entries(from: u64, to: u64) -> impl Iterator<Item = Entry> {
    (from..=to).map(|at| Entry {
        at: UnixTime(1_795_000_000 + at),
        what: if at.is_multiple_of(5) { What::RolledBack } else { What::Installed },
        node: Some(format!("pi-{}", at % 2).parse().unwrap()),
        app: Some("web".parse().unwrap()),
        version: format!("1.0.{at}"),
        took_ms: 812,
        reason: at.is_multiple_of(5).then_some(Reason::Unhealthy),
        ..Entry::default()
    })
}

fn world() -> Option<World> {
    let world = World::start()?;
    world.store.write(entries(1, 20));
    Some(world)
}

#[test]
fn the_newest_are_shown_with_the_newest_last() {
    let Some(world) = world() else { return };
    let ran = world.run(&["log", "--limit", "10"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let lines: Vec<_> = ran.stdout.lines().collect();
    assert_eq!(lines.len(), 11);
    assert!(lines[1].contains("1.0.11") && lines[10].contains("1.0.20"), "{}", ran.stdout);
    assert!(lines[10].contains("rolled back") && lines[10].ends_with("unhealthy"), "{}", ran.stdout);
    assert_eq!(world.run(&["log"]).stdout.lines().count(), 21);

    let ran = world.run(&["log", "--node", "pi-1", "--result", "rolled_back", "--json"]);
    let versions: Vec<_> = ran
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["version"].clone())
        .collect();
    assert_eq!(versions, ["1.0.5", "1.0.15"]);
    let csv = world.run(&["log", "--limit", "1", "--csv"]).stdout;
    assert!(csv.starts_with("seq,at,what,") && csv.lines().nth(1).unwrap().starts_with("20,"), "{csv}");
    assert_eq!(world.run(&["log", "--node", "pi-9"]).stdout, "nothing of this kind happened\n");
    for wrong in
        [&["log", "--result", "moon"][..], &["log", "--since", "yesterday"], &["log", "--limit", "0"]]
    {
        assert_eq!(world.run(wrong).code, Some(2), "{wrong:?}");
    }
}

#[test]
fn what_happens_next_is_followed() {
    let Some(world) = world() else { return };
    let watch = world.watch_by(&["log", "--follow", "--node", "pi-1", "--limit", "1"]);
    world.store.write(entries(21, 40));
    let started = Instant::now();
    while !watch.said().contains("pi-1 web 1.0.39 installed after 812 ms") {
        assert!(started.elapsed() < Duration::from_secs(20), "{}", watch.said());
        std::thread::yield_now();
    }
    assert!(watch.said().contains("1.0.35 rolled back after 812 ms: unhealthy"), "{}", watch.said());
    assert!(!watch.said().contains("pi-0"), "{}", watch.said());
    assert_eq!(watch.interrupt(), Some(0));
}

#[test]
fn a_log_that_only_grew_and_lost_its_oldest_verifies_again_and_again() {
    let Some(world) = world() else { return };
    let first = world.run(&["log", "verify"]);
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    assert!(first.stdout.starts_with("the deploy log is whole: 20 entries up to 20 "), "{}", first.stdout);
    assert!(first.stdout.contains("never done before"), "{}", first.stdout);
    world.store.write(entries(21, 30));
    world.store.delete(15);
    let second = world.run(&["log", "verify"]);
    assert!(second.stdout.contains("15 entries up to 30"), "{}{}", second.stdout, second.stderr);
    assert!(second.stdout.contains("entry 20 is still what it was"), "{}", second.stdout);
    world.store.delete(15);
    let said: Value = serde_json::from_str(&world.run(&["log", "verify", "--json"]).stdout).unwrap();
    assert_eq!((said["entries"].as_u64(), said["before_seq"].as_u64()), (Some(0), Some(30)));
}

#[test]
fn a_log_that_was_changed_or_written_anew_is_found_out_with_1() {
    let Some(world) = world() else { return };
    let verify = || {
        let ran = world.run(&["log", "verify"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
        ran.stderr
    };
    world.store.log(|log| log[8].entry.version = "6.6.6".into());
    assert!(verify().contains("THE DEPLOY LOG WAS CHANGED: entry 9 was changed"), "{}", verify());
    world.store.log(|log| log[8].entry.version = "1.0.9".into());
    assert_eq!(world.run(&["log", "verify"]).code, Some(0));

    let kept = fs::read(world.path("home/.deploybus/log-head.json")).unwrap();
    world.store.log(Vec::clear);
    assert!(verify().contains("it ends with entry 0, and 20 was there before"), "{}", verify());
    world.store.write(entries(2, 31));
    assert!(verify().contains("entry 20 is another one than before"), "{}", verify());
    world.store.delete(25);
    assert!(verify().contains("entry 20, the last that was verified, was deleted"), "{}", verify());
    assert_eq!(fs::read(world.path("home/.deploybus/log-head.json")).unwrap(), kept, "it stays in mind");
    assert!(
        verify().contains("remove ") && verify().contains("log-head.json and verify again"),
        "{}",
        verify()
    );
}

#[test]
fn a_log_whose_end_is_not_what_the_broker_says_is_found_out() {
    let Some(world) = world() else { return };
    world.store.log(|log| {
        let last = log.last_mut().unwrap();
        *last = Head { seq: 19, digest: schemas::id::Digest([7; 32]) }.next(last.entry.clone());
    });
    let ran = world.run(&["log", "verify"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("entry 20 was changed"), "{}", ran.stderr);
}

#[test]
fn all_of_it_is_exported_into_a_file_that_was_not_there() {
    let Some(world) = world() else { return };
    let ran = world.run(&["log", "export", "deploys.jsonl"]);
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(0), "wrote 20 entries to deploys.jsonl\n"),
        "{}",
        ran.stderr
    );
    let text = fs::read_to_string(world.path("deploys.jsonl")).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((rows.len(), rows[19]["seq"].as_u64()), (20, Some(20)));
    let again = world.run(&["log", "export", "deploys.jsonl", "--csv"]);
    assert_eq!(again.code, Some(1));
    assert!(again.stderr.contains("deploys.jsonl is there already"), "{}", again.stderr);
    assert_eq!(fs::read_to_string(world.path("deploys.jsonl")).unwrap(), text);
    assert_eq!(world.run(&["log", "export", "deploys.csv", "--csv"]).code, Some(0));
    assert_eq!(fs::read_to_string(world.path("deploys.csv")).unwrap().lines().count(), 21);
    assert_eq!(world.run(&["log", "export", "nowhere/deploys.csv"]).code, Some(1));
}

#[test]
fn a_broker_that_does_not_answer_or_permit_is_named_with_what_to_do() {
    let Some(world) = world() else { return };
    world.store.set(Mood::Denies);
    let ran = world.run(&["log"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("cannot read the deploy log: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("broker/users to the broker's machine"), "{}", ran.stderr);
    world.store.set(Mood::Down);
    assert!(world.run(&["log", "verify"]).stderr.contains("see that the broker runs"));
}
