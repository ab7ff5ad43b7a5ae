use schemas::{reason::Reason, report::Verdict, status::Phase};

use crate::{
    Step,
    testing::{Node, fault, order},
};

#[test]
fn going_back_is_journaled_then_stops_switches_starts_and_watches() {
    let mut node = failing();
    node.healthy();
    #[rustfmt::skip]
    assert_eq!(node.names(), ["persist", "stop", "switch", "start", "watch", "persist", "tell", "prune"]);
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::Exited)));
    assert_eq!(node.disk.as_ref().unwrap().step, Step::Idle);
}

#[test]
fn the_reason_is_in_the_journal_before_anything_is_stopped() {
    let mut node = on_trial();
    node.hold("stop");
    node.exit();
    let Step::RollingBack { reason, text, log_tail, .. } = node.disk.unwrap().step else { panic!() };
    assert_eq!((reason, text.as_str(), log_tail.len()), (Reason::Exited, "text of exited", 1));
}

#[test]
fn a_release_before_that_does_not_get_healthy_either_is_a_failure_and_keeps_running() {
    let mut node = failing();
    node.health(false, "503");
    assert_eq!(node.machine.report().phase, Phase::RollingBack);
    node.wait(60_000);
    assert_eq!(node.verdict(), (6, Verdict::Failed, Some(Reason::RollbackFailed)));
    assert!(node.last().text.contains("exited: text of exited"), "{}", node.last().text);
    let report = node.machine.report();
    assert_eq!((report.installed.unwrap().version.as_str(), report.healthy), ("5.0", Some(false)));
}

#[test]
fn a_first_install_that_fails_leaves_nothing_running() {
    let mut node = Node::new();
    node.announce(order(5, 5));
    node.names();
    node.exit();
    assert_eq!(node.names(), ["persist", "stop", "switch", "persist", "tell", "prune"]);
    assert_eq!(node.verdict(), (5, Verdict::Failed, Some(Reason::Exited)));
    assert_eq!((node.link.is_none(), node.version()), (true, String::new()));
}

#[test]
fn what_comes_back_is_started_again_when_it_ends() {
    let mut node = failing();
    node.exit();
    node.names();
    node.wait(1_000);
    assert_eq!(node.names(), ["start", "watch"]);
    node.healthy();
    assert_eq!(node.verdict().1, Verdict::RolledBack);
}

#[test]
fn a_journal_that_cannot_be_written_does_not_stop_going_back() {
    let mut node = on_trial();
    node.fault("persist", fault(Reason::DiskError, false));
    node.fault("persist", fault(Reason::DiskError, false));
    node.exit();
    node.healthy();
    assert_eq!((node.verdict().1, node.version()), (Verdict::RolledBack, "5.0".into()));
    node.wait(5_000);
    let disk = node.disk.unwrap();
    assert_eq!((disk.step, disk.outcomes.len()), (Step::Idle, 2));
}

#[test]
fn a_slot_that_the_journal_on_the_disk_still_names_is_not_removed() {
    let mut node = on_trial();
    for _ in 0..99 {
        node.fault("persist", fault(Reason::DiskFull, false));
    }
    node.exit();
    node.healthy();
    node.announce(order(7, 7));
    node.wait(60_000);
    let named = crate::testing::tree(6);
    let prunes = node.done.iter().filter_map(|effect| match effect {
        crate::Effect::Prune { keep } => Some(keep.contains(&named)),
        _ => None,
    });
    assert_eq!(prunes.collect::<Vec<_>>(), [true, true]);
}

#[test]
fn a_switch_back_that_fails_is_tried_again_with_the_release_before_running() {
    let mut node = on_trial();
    for _ in 0..3 {
        node.fault("switch", fault(Reason::DiskError, false));
    }
    node.names();
    node.exit();
    assert_eq!(node.names(), ["persist", "stop", "switch", "start", "watch"]);
    node.healthy();
    assert_eq!((node.state(), node.link.as_ref().unwrap().version.as_str()), ("rolling_back", "6.0"));
    node.wait(8_000);
    assert_eq!(
        (node.verdict().1, node.link.as_ref().unwrap().version.as_str()),
        (Verdict::RolledBack, "5.0")
    );
    assert_eq!(node.names().iter().filter(|name| **name == "start").count(), 0);
}

#[test]
fn a_start_that_fails_is_tried_again_until_the_deadline() {
    let mut node = on_trial();
    node.fault("start", fault(Reason::StartFailed, false));
    node.fault("start", fault(Reason::StartFailed, false));
    node.exit();
    node.wait(4_000);
    node.healthy();
    assert_eq!(node.verdict().1, Verdict::RolledBack);
}

#[test]
fn a_release_without_checks_comes_back_with_its_start() {
    let mut node = Node::new();
    node.announce(order(5, 5).part(|part| part.checks.clear()));
    node.wait(6_000);
    node.announce(order(6, 6));
    node.exit();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::Exited)));
}

#[test]
fn an_order_that_was_rolled_back_is_not_begun_again_but_a_new_one_is() {
    let mut node = failing();
    node.healthy();
    node.announce(order(6, 6));
    assert_eq!(node.state(), "idle");
    node.power_cut();
    node.announce(order(6, 6));
    assert_eq!(node.state(), "idle");
    node.announce(order(7, 6));
    assert_eq!(node.state(), "trial");
}

fn on_trial() -> Node {
    let mut node = Node::running(5);
    node.announce(order(6, 6));
    node
}

fn failing() -> Node {
    let mut node = on_trial();
    node.names();
    node.exit();
    node
}
