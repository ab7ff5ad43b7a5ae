use schemas::{reason::Reason, release::First, report::Verdict, status::Phase};

use crate::{
    Effect, Fault, Input, Yield,
    testing::{Node, fault, hook, order, tree},
};

#[test]
fn an_order_goes_through_every_step_in_sequence() {
    let mut node = Node::running(5);
    node.install(order(6, 6).part(|part| part.pre_check = Some(hook())));
    #[rustfmt::skip]
    assert_eq!(node.names(), [
        "persist", "tell", "fetch", "stage", "pre_check", "persist", "stop", "switch", "start", "watch",
        "prove", "persist", "tell", "prune",
    ]);
    let outcome = node.last();
    assert_eq!((outcome.took_ms, outcome.fetched_bytes, outcome.requests), (5_000, 30, 3));
}

#[test]
fn the_journal_knows_the_order_before_anything_is_fetched() {
    let mut node = Node::running(5);
    node.hold("fetch");
    node.announce(order(6, 6));
    assert_eq!(node.disk.as_ref().unwrap().obeyed.0, 6);
}

#[test]
fn a_transient_fault_is_tried_again_with_growing_pauses() {
    let mut node = Node::running(5);
    store_down(&mut node, 4);
    node.announce(order(6, 6));
    let mut pauses = Vec::new();
    while node.state() == "fetching" {
        let pause_ms = node.machine.poll_timeout().unwrap() - node.now.mono_ms;
        pauses.push(pause_ms / 1_000);
        node.wait(pause_ms);
    }
    assert_eq!((pauses, node.state()), (vec![1, 2, 4, 8], "trial"));
}

#[test]
fn a_pause_says_what_it_waits_for_and_which_attempt_comes() {
    let mut node = Node::running(5);
    store_down(&mut node, 2);
    node.announce(order(6, 6));
    let target = node.machine.report().target.unwrap();
    assert_eq!(target.attempt, 2);
    assert!(target.waits_for.contains("store-unreachable"), "{}", target.waits_for);
}

#[test]
fn no_progress_for_a_quarter_of_an_hour_is_a_failure() {
    let mut node = Node::running(5);
    store_down(&mut node, 99);
    node.announce(order(6, 6));
    node.wait(14 * 60_000);
    assert_eq!(node.state(), "fetching");
    node.wait(10 * 60_000);
    assert_eq!(node.verdict(), (6, Verdict::Failed, Some(Reason::StoreUnreachable)));
    assert_eq!((node.version(), node.state()), ("5.0".into(), "idle"));
}

#[test]
fn the_others_of_a_joint_release_are_asked_again_at_once_and_waited_for_for_an_hour() {
    let mut node = Node::running(5);
    for _ in 0..20_000 {
        node.fault("pre_check", fault(Reason::JointApart, true));
    }
    node.announce(order(6, 6).part(|part| part.joint = Some(First::Pico)));
    for minutes in [1, 28, 30] {
        node.wait(minutes * 60_000);
        assert_eq!(node.state(), "staged");
        assert!(node.machine.poll_timeout().unwrap() - node.now.mono_ms <= 500);
    }
    node.wait(60_000);
    assert_eq!(node.verdict(), (6, Verdict::Failed, Some(Reason::JointApart)));
}

#[test]
fn progress_gives_it_another_quarter_of_an_hour_and_short_pauses() {
    let mut node = Node::running(5);
    node.hold("fetch");
    node.announce(order(6, 6));
    node.wait(14 * 60_000);
    node.input(Input::Progress(500));
    assert_eq!(node.machine.report().target.unwrap().progress_permille, 300);
    node.wait(14 * 60_000);
    node.hold("fetch");
    node.release(Err(fault(Reason::StoreUnreachable, true)));
    node.wait(1_500);
    assert!(node.held.is_some());
}

#[test]
fn a_permanent_fault_fails_at_once_and_leaves_what_runs_alone() {
    for (effect, reason) in [
        ("fetch", Reason::ObjectMissing),
        ("fetch", Reason::DiskFull),
        ("stage", Reason::DiskFull),
        ("pre_check", Reason::PreCheckFailed),
        ("pre_check", Reason::HookTimeout),
    ] {
        let mut node = Node::running(5);
        node.fault(effect, fault(reason, false));
        let draft = order(6, 6).part(|part| part.pre_check = Some(hook()));
        node.announce(draft.clone());
        assert_eq!(node.verdict(), (6, Verdict::Failed, Some(reason)));
        assert_eq!(node.last().log_tail, ["a log line"]);
        let names = node.names();
        assert!(names.iter().all(|name| !["stop", "switch", "start"].contains(name)), "{names:?}");
        node.announce(draft);
        assert_eq!(node.names(), Vec::<&str>::new(), "an order that failed is not begun again");
    }
}

#[test]
fn a_torn_object_is_fetched_once_more_and_only_once() {
    for (effect, reason) in [("fetch", Reason::DigestMismatch), ("stage", Reason::SlotMismatch)] {
        let mut node = Node::running(5);
        node.fault(effect, fault(reason, false));
        node.announce(order(6, 6));
        assert_eq!(node.state(), "trial");
        assert_eq!(node.names().iter().filter(|name| **name == "fetch").count(), 2);
        let mut node = Node::running(5);
        node.fault(effect, fault(reason, false));
        node.fault(effect, fault(reason, false));
        node.announce(order(6, 6));
        assert_eq!(node.verdict(), (6, Verdict::Failed, Some(reason)));
    }
}

#[test]
fn a_higher_order_takes_over_from_one_that_is_not_yet_switched() {
    for step in ["fetch", "stage", "pre_check"] {
        let mut node = Node::running(5);
        node.hold(step);
        node.announce(order(6, 6).part(|part| part.pre_check = Some(hook())));
        node.announce(order(7, 7).group("canary"));
        assert_eq!(node.names().last(), Some(&"cancel"));
        node.release(Err(fault(Reason::Unknown, false)));
        let outcome = node.last();
        assert_eq!((outcome.revision.0, outcome.verdict), (6, Verdict::Superseded));
        assert_eq!(outcome.text, "order 7 took its place");
        node.healthy();
        node.wait(6_000);
        assert_eq!(node.verdict(), (7, Verdict::Kept, None));
    }
}

#[test]
fn an_effect_that_ended_well_before_it_was_cancelled_changes_nothing() {
    let mut node = Node::running(5);
    node.hold("stage");
    node.announce(order(6, 6));
    node.announce(order(7, 7));
    node.release(Ok(Yield::default()));
    assert_eq!(node.machine.report().target.unwrap().revision.0, 7);
}

#[test]
fn a_journal_that_cannot_be_written_fails_the_order_and_touches_nothing() {
    let mut node = Node::running(5);
    node.fault("persist", fault(Reason::DiskFull, false));
    node.announce(order(6, 6));
    assert_eq!(node.names(), ["persist", "prune"]);
    node.wait(5_000);
    assert_eq!(node.verdict(), (6, Verdict::Failed, Some(Reason::DiskFull)));
}

#[test]
fn a_power_cut_while_fetching_is_made_up_for_when_the_order_comes_again() {
    let mut node = Node::running(5);
    node.hold("fetch");
    node.announce(order(6, 6));
    node.power_cut();
    assert_eq!((node.state(), node.version()), ("idle", "5.0".into()));
    node.install(order(6, 6));
    assert_eq!(node.version(), "6.0");
}

#[test]
fn an_order_that_is_begun_again_and_again_ends_as_endless() {
    let mut node = Node::running(5);
    for _ in 0..=crate::saved::MAX_STORES {
        node.hold("fetch");
        node.announce(order(6, 6));
        node.power_cut();
    }
    node.announce(order(6, 6));
    assert_eq!(node.verdict(), (6, Verdict::Failed, Some(Reason::Endless)));
    node.install(order(7, 7));
}

#[test]
fn an_answer_that_nothing_waits_for_is_ignored() {
    let mut node = Node::running(5);
    node.input(Input::Done(Ok(Yield::default())));
    node.input(Input::Progress(5));
    assert_eq!((node.state(), node.names().len()), ("idle", 0));
}

#[test]
fn after_a_verdict_three_slots_stay() {
    let mut node = Node::running(4);
    node.install(order(5, 5));
    node.done.clear();
    node.fault("pre_check", fault(Reason::PreCheckFailed, false));
    node.announce(order(6, 6).part(|part| part.pre_check = Some(hook())));
    let kept = node.done.iter().find_map(|effect| match effect {
        Effect::Prune { keep } => Some(keep.clone()),
        _ => None,
    });
    let mut trees = vec![tree(4), tree(5), tree(6)];
    trees.sort_unstable();
    assert_eq!(kept, Some(trees));
}

#[test]
fn the_update_entity_shows_the_way_to_the_new_version() {
    let mut node = Node::running(5);
    assert_eq!(node.machine.latest().version, "5.0");
    node.hold("stage");
    node.announce(order(6, 6));
    node.input(Input::Progress(400));
    let latest = node.machine.latest();
    assert_eq!((latest.version.as_str(), latest.in_progress, latest.percent), ("6.0", true, Some(70)));
    assert_eq!(latest.notes, "notes");
    assert_eq!(node.machine.report().phase, Phase::Staging);
}

fn store_down(node: &mut Node, times: usize) {
    let down: Fault = fault(Reason::StoreUnreachable, true);
    for _ in 0..times {
        node.fault("fetch", down.clone());
    }
}
