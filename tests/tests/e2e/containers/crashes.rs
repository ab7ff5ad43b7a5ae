//! `kill -9` of the worker at any moment of a deploy.

use std::{thread, time::Duration};

use schemas::report::Verdict;

use super::world::{KEPT, Shore};

/// The worker is killed so long after the announcement, in steps that cover build, swap and trial.
const KILLED_AFTER_MS: [u64; 9] = [0, 50, 150, 300, 600, 900, 1_300, 1_800, 2_500];

#[test]
fn a_worker_killed_at_any_moment_of_a_deploy_ends_with_the_new_container() {
    let Some(mut shore) = Shore::serving() else { return };
    for (step, after_ms) in KILLED_AFTER_MS.into_iter().enumerate() {
        let version = format!("2.{step}.0");
        shore.app.commit(&version).unwrap();
        shore.world.announce_only(&shore.app, "canary").unwrap();
        // The moment of the crash is what is tried here, not a condition that is waited for.
        thread::sleep(Duration::from_millis(after_ms));
        let node = shore.world.node("pi-1").unwrap();
        node.kill().unwrap();
        node.start().unwrap();
        let outcome = shore.outcome(&version);
        assert_eq!(outcome.verdict, Verdict::Kept, "{after_ms} ms: {}\n{}", outcome.text, shore.worker_log());
        shore.serves(&version);
        shore.tidy();
    }
}

#[test]
fn the_container_does_not_notice_that_its_worker_was_killed() {
    let Some(mut shore) = Shore::serving() else { return };
    let started = shore.engine.inspect("web", "{{.State.StartedAt}}").unwrap();
    let node = shore.world.node("pi-1").unwrap();
    node.kill().unwrap();
    node.start().unwrap();
    shore.world.wait_report("pi-1", "its health", |report| report.apps.first()?.healthy).unwrap();
    assert_eq!(shore.engine.inspect("web", "{{.State.StartedAt}}").unwrap(), started);
    // It is followed again: its end is noticed, and mended.
    shore.engine.docker(&["stop", "web"]).unwrap();
    shore.serves("1.0.0");
}

#[test]
fn an_engine_that_was_killed_and_comes_back_serves_again() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.engine.kill_daemon().unwrap();
    shore.engine.start_daemon().unwrap();
    // It stops what it finds and starts nothing; the worker does.
    shore.serves("1.0.0");
    shore.app.edit_file("app.sh", "says hello", "says good day").unwrap();
    shore.deploy("1.1.0", KEPT);
    shore.serves("1.1.0");
}
