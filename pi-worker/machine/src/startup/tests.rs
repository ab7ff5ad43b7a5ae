use schemas::{reason::Reason, report::Verdict};

use crate::{
    Bus, Effect, Input, Saved, Step,
    state::ARROWS,
    testing::{Node, fault, hook, order},
};

#[test]
fn a_worker_that_starts_brings_the_committed_release_up() {
    let mut node = Node::running(5);
    node.power_cut();
    assert_eq!(node.names(), ["start", "watch", "prune"]);
    node.healthy();
    assert_eq!(node.machine.report().healthy, Some(true));
}

#[test]
fn a_lost_journal_is_rebuilt_from_the_symlink() {
    let mut node = Node::running(5);
    node.disk = None;
    node.power_cut();
    let disk = node.disk.as_ref().unwrap();
    assert_eq!((disk.current.as_ref().unwrap().version.as_str(), disk.obeyed.0), ("5.0", 5));
    node.announce(order(5, 5));
    assert_eq!(node.verdict(), (5, Verdict::Kept, None));
    assert_eq!(node.last().text, "already installed");
}

#[test]
fn a_lost_symlink_is_set_again_before_the_start() {
    let mut node = Node::running(5);
    node.link = None;
    node.fault("switch", fault(Reason::DiskError, true));
    node.power_cut();
    node.wait(2_000);
    assert_eq!(node.names(), ["switch", "prune", "switch", "start", "watch"]);
    assert_eq!(node.link.unwrap().version, "5.0");
}

#[test]
fn the_symlink_is_the_truth_about_what_is_committed() {
    let mut node = Node::running(5);
    let before = node.link.clone();
    node.install(order(6, 6));
    node.link = before;
    node.power_cut();
    let report = node.machine.report();
    assert_eq!(report.installed.unwrap().version, "5.0");
    assert_eq!(report.previous.unwrap().version, "6.0");
    assert_eq!(node.disk.as_ref().unwrap().current.as_ref().unwrap().version, "5.0");
}

#[test]
fn a_power_cut_before_the_switch_switches_again() {
    let mut node = Node::running(5);
    node.hold("switch");
    node.announce(order(6, 6));
    node.names();
    node.power_cut();
    assert_eq!(node.names(), ["persist", "stop", "switch", "start", "watch"]);
    node.healthy();
    node.wait(6_000);
    assert_eq!(node.version(), "6.0");
}

#[test]
fn a_power_cut_after_the_switch_begins_the_trial_anew_without_a_stop() {
    let mut node = on_trial();
    node.healthy();
    node.wait(4_000);
    node.power_cut();
    assert_eq!(node.names(), ["persist", "start", "watch"]);
    assert_eq!(tries_left(&node), 2);
    node.healthy();
    node.wait(4_000);
    assert_eq!(node.state(), "trial");
    node.wait(2_000);
    assert_eq!(node.version(), "6.0");
}

#[test]
fn equal_trees_are_switched_again_after_a_power_cut() {
    let mut node = Node::running(5);
    let mut draft = order(6, 5);
    draft.release.version = "5.0b".into();
    node.announce(draft);
    node.names();
    node.power_cut();
    assert_eq!(node.names(), ["persist", "stop", "switch", "start", "watch"]);
}

#[test]
fn a_trial_that_takes_the_node_down_too_often_goes_back() {
    let mut node = on_trial();
    for tries_left in [2, 1, 0] {
        node.power_cut();
        assert_eq!(tries_left_of(node.disk.as_ref()), tries_left);
    }
    node.power_cut();
    assert_eq!(node.link.as_ref().unwrap().version, "5.0");
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::TriesUsedUp)));
    assert_eq!(node.last().text, "node or worker went down 4 times during the trial");
}

#[test]
fn a_try_that_the_guard_counted_is_not_counted_again() {
    let mut node = on_trial();
    let mut disk = node.disk.clone().unwrap();
    (disk.guarded, disk.step) = (Some("boot-2".into()), trying(disk.step, 0));
    node.disk = Some(disk);
    node.power_cut();
    let disk = node.disk.as_ref().unwrap();
    assert_eq!((tries_left(&node), &disk.guarded), (0, &None));
    assert_eq!(node.state(), "trial");
    node.restart("boot-2");
    assert_eq!(node.state(), "rolling_back");
}

#[test]
fn a_power_cut_while_going_back_goes_back_again() {
    for step in ["persist", "stop", "switch", "start"] {
        let mut node = on_trial();
        node.hold(step);
        node.exit();
        node.power_cut();
        node.healthy();
        node.wait(6_000);
        // Before the journal knows, the trial begins anew.
        let version = if step == "persist" { "6.0" } else { "5.0" };
        assert_eq!(node.version(), version);
    }
}

#[test]
fn going_back_again_and_again_ends_as_a_failure() {
    let mut node = on_trial();
    node.exit();
    for _ in 0..=crate::saved::MAX_STORES {
        node.power_cut();
    }
    assert_eq!(node.verdict(), (6, Verdict::Failed, Some(Reason::RollbackFailed)));
    assert_eq!((node.version(), node.state()), ("5.0".into(), "idle"));
}

#[test]
fn a_trial_that_is_stored_too_often_goes_back_as_endless() {
    let mut node = on_trial();
    let mut disk = node.disk.clone().unwrap();
    disk.stores = crate::saved::MAX_STORES + 1;
    node.disk = Some(disk);
    node.power_cut();
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::Endless)));
}

#[test]
fn a_resumed_trial_that_cannot_be_journaled_goes_back() {
    let mut node = on_trial();
    node.fault("persist", fault(Reason::DiskError, false));
    node.power_cut();
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::DiskError)));
}

#[test]
fn what_an_order_cost_is_summed_over_restarts() {
    let mut node = on_trial();
    node.wait(10_000);
    node.power_cut();
    node.healthy();
    node.wait(6_000);
    let outcome = node.last();
    assert_eq!((outcome.took_ms, outcome.fetched_bytes, outcome.requests), (5_000, 20, 2));
}

#[test]
fn every_arrow_of_the_diagram_exists() {
    let mut arrows: Vec<(&str, &str)> = every_history().into_iter().flat_map(|n| n.machine.arrows).collect();
    arrows.sort_unstable();
    arrows.dedup();
    let missing: Vec<_> = ARROWS.iter().filter(|arrow| !arrows.contains(arrow)).collect();
    assert_eq!(missing, Vec::<&(&str, &str)>::new());
}

/// One history for each way through the diagram.
fn every_history() -> Vec<Node> {
    let checked = |revision| order(revision, revision).part(|part| part.pre_check = Some(hook()));
    let later =
        |revision| order(revision, revision).with(|o| o.not_before = crate::testing::WALL.plus_secs(9));
    let mut nodes = Vec::new();
    for effect in ["persist", "fetch", "stage", "pre_check", "switch"] {
        let mut node = Node::running(5);
        node.fault(effect, fault(Reason::SlotMismatch, false));
        node.announce(checked(6));
        node.wait(6_000);
        nodes.push(node);
    }
    let mut waits = Node::running(5);
    waits.announce(later(6));
    waits.announce(order(7, 5));
    waits.announce(later(8));
    waits.wait(10_000);
    nodes.push(waits);
    let mut torn = Node::running(5);
    torn.fault("stage", fault(Reason::SlotMismatch, false));
    torn.fault("stage", fault(Reason::DiskFull, false));
    torn.announce(order(6, 6));
    nodes.push(torn);
    let mut unsaved = Node::running(5);
    unsaved.hold("stage");
    unsaved.announce(order(6, 6));
    unsaved.fault("persist", fault(Reason::DiskFull, false));
    unsaved.release(Ok(crate::Yield::default()));
    nodes.push(unsaved);
    for exits in [false, true] {
        let mut node = on_trial();
        node.power_cut();
        if exits {
            node.exit();
            node.power_cut();
        }
        node.healthy();
        node.wait(6_000);
        nodes.push(node);
    }
    nodes.push({
        let mut node = on_trial();
        node.exit();
        node
    });
    nodes.push({
        let mut node = Node::running(5);
        node.fault("fetch", fault(Reason::ObjectMissing, false));
        node.announce(order(6, 6));
        node
    });
    nodes
}

fn on_trial() -> Node {
    let mut node = Node::running(5);
    node.announce(order(6, 6));
    node.names();
    node.input(Input::Bus(Bus::Connected));
    assert!(!node.done.iter().any(Effect::is_answered));
    node
}

fn tries_left(node: &Node) -> u32 {
    tries_left_of(node.disk.as_ref())
}

fn tries_left_of(disk: Option<&Saved>) -> u32 {
    match disk.map(|saved| &saved.step) {
        Some(Step::Trying { tries_left, .. }) => *tries_left,
        step => panic!("nothing on trial: {step:?}"),
    }
}

fn trying(step: Step, left: u32) -> Step {
    match step {
        Step::Trying { slot, connected, spent, .. } => {
            Step::Trying { slot, tries_left: left, connected, spent }
        }
        step => step,
    }
}
