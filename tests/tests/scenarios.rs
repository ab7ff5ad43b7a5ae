//! The scenarios of `tests/scenarios/`, and thousands of random ones, in the simulator; every rule is checked after every step.
//!
//! - `UPDATE=1 cargo test -p e2e --test scenarios` writes the timelines beside the scenarios anew: they are reviewed like code.
//! - `HISTORIES=100000 SEED=1 cargo test -p e2e --test scenarios` plays more random ones, from another one on. One that breaks a rule
//!   is made short and saved in `target/histories/`, and `cargo run -p e2e -- replay target/histories/SEED.txt` tells it.
//!
//! What the rules find was tried with faults that were put into the engine one at a time: a wave that does not soak, absent nodes
//! that count as well, no pause after failures, no limit of parallel installs, orders that belong to no series, numbers of orders
//! that begin anew after a restart, a stop that does not come in mid-wave, a wave that opens early, orders before what remembers
//! them, silence that is no failure, somebody else's order that is not noticed, an end that orders nothing, an end that is not
//! for everybody, a node that was given up and comes back by what it had said before.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use e2e::scenario::{Histories, Scenario};

/// Enough that each rule is asked hundreds of thousands of times.
const HISTORIES: u64 = 10_000;

#[test]
fn every_story_goes_as_it_is_written() {
    let stories = stories();
    assert!(stories.len() >= 30, "{} stories", stories.len());
    let failed: Vec<String> = stories.iter().filter_map(|path| play(path).err()).collect();
    assert!(
        failed.is_empty(),
        "{} of {} stories failed:\n{}",
        failed.len(),
        stories.len(),
        failed.join("\n")
    );
}

#[test]
fn stories_that_are_marked_real_have_nothing_that_real_processes_cannot_do() {
    for path in stories() {
        let scenario = Scenario::parse(&fs::read_to_string(&path).unwrap()).unwrap();
        if scenario.is_real {
            scenario.rehearse().unwrap_or_else(|failed| panic!("{}: {failed}", path.display()));
        }
    }
}

#[test]
fn a_rollout_keeps_every_rule_in_thousands_of_random_histories() {
    let first = number("SEED").unwrap_or(0);
    let count = number("HISTORIES").unwrap_or(HISTORIES);
    let summary = Histories { first, count }.play().unwrap_or_else(|broken| panic!("{broken:#}"));
    println!("{count} histories: {summary:#?}");
    if count >= HISTORIES {
        let expected = ["Completed", "Stopped", "Resumed", "Aborted", "Superseded", "RolledBack, unhealthy"];
        let missing: Vec<_> = expected.iter().filter(|name| !summary.told.contains_key(**name)).collect();
        assert!(missing.is_empty(), "no history shows {missing:?}");
    }
}

#[test]
fn what_cannot_be_read_is_named_with_its_line() {
    let error = |text: &str| Scenario::parse(text).unwrap_err().to_string();
    assert_eq!(error("fleet 2 pi in all\n\nfly 3"), "line 3 (`fly 3`): there is no verb `fly`");
    assert_eq!(error("after soon"), "line 1 (`after soon`): `soon` is no time like `90s`, `10m` or `2h`");
    assert_eq!(error("fleet two pi in all"), "line 1 (`fleet two pi in all`): `two` is no number of nodes");
    assert_eq!(error("fleet 2 pi"), "line 1 (`fleet 2 pi`): `in` is missing after `pi`");
    assert_eq!(error("retire pi-1 now"), "line 1 (`retire pi-1 now`): `now` is too much");
    assert_eq!(error("plan all wives 3"), "line 1 (`plan all wives 3`): a plan has no `wives`");
}

/// Plays a story and compares what happened with what is written beside it.
fn play(path: &Path) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let scenario = Scenario::parse(&text).map_err(|failed| format!("{name}: {failed}"))?;
    let played =
        scenario.play().map_err(|failed| format!("{name}: {failed}\n  {}", failed.timeline.join("\n  ")))?;
    let timeline = played.timeline.join("\n") + "\n";
    let golden = path.with_extension("out");
    if env::var_os("UPDATE").is_some() {
        return fs::write(&golden, timeline).map_err(|error| format!("{name}: {error}"));
    }
    let known = fs::read_to_string(&golden).unwrap_or_default();
    let differs = timeline.lines().zip(known.lines()).position(|(is, was)| is != was);
    match differs {
        _ if timeline == known => Ok(()),
        Some(at) => Err(format!(
            "{name}: another timeline from line {} on:\n  is  {}\n  was {}\n  UPDATE=1 writes it anew",
            at + 1,
            timeline.lines().nth(at).unwrap_or_default(),
            known.lines().nth(at).unwrap_or_default()
        )),
        None => Err(format!("{name}: a timeline of another length; UPDATE=1 writes it anew")),
    }
}

fn stories() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = fs::read_dir(folder).expect("there are scenarios").flatten().map(|entry| entry.path());
    let mut stories: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|of| of == "scn")).collect();
    stories.sort();
    stories
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok()?.parse().ok()
}
