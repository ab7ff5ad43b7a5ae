use schemas::{
    id::Counter,
    reason::Reason,
    release::{First, Part, PartKind},
    report::{MAX_OUTCOMES, Verdict},
};

use crate::{
    Bus, Input, Yield,
    testing::{Node, WALL, fault, order},
};

#[test]
fn a_release_is_kept_after_it_was_healthy_without_a_break() {
    let mut node = on_trial();
    node.wait(10_000);
    node.healthy();
    node.wait(4_000);
    node.health(false, "503");
    node.healthy();
    node.wait(4_900);
    assert_eq!(node.state(), "trial");
    node.wait(100);
    assert_eq!(node.verdict(), (6, Verdict::Kept, None));
    let installed = node.machine.report().installed.unwrap();
    assert_eq!((installed.version.as_str(), installed.since), ("6.0", WALL.plus_secs(25)));
    assert_eq!(node.machine.report().previous.unwrap().version, "5.0");
}

#[test]
fn a_release_without_checks_is_healthy_from_its_start() {
    let mut node = Node::running(5);
    node.announce(order(6, 6).part(|part| part.checks.clear()));
    node.wait(5_000);
    assert_eq!(node.version(), "6.0");
    assert_eq!(node.machine.report().healthy, Some(true));
}

#[test]
fn what_is_not_healthy_in_time_goes_back_with_what_its_check_said() {
    let mut node = on_trial();
    node.health(false, "GET /healthz answered 503");
    node.wait(60_000);
    node.healthy();
    let outcome = node.last();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::Unhealthy)));
    assert_eq!((outcome.text.as_str(), outcome.log_tail.len()), ("GET /healthz answered 503", 1));
}

#[test]
fn what_is_unhealthy_makes_way_for_a_newer_order() {
    let mut node = on_trial();
    node.health(false, "GET /healthz answered 503");
    node.announce(order(7, 7));
    assert_eq!(node.state(), "rolling_back");
    node.healthy();
    let text = "order 7 came before it was healthy: GET /healthz answered 503";
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::Superseded)));
    assert_eq!((node.last().text.as_str(), node.state()), (text, "trial"));
    node.healthy();
    node.wait(5_000);
    assert_eq!(node.version(), "7.0");
}

#[test]
fn what_has_not_answered_or_is_healthy_is_not_cut_short() {
    let mut node = on_trial();
    node.announce(order(7, 7));
    assert_eq!(node.state(), "trial");
    node.healthy();
    assert_eq!(node.state(), "trial");
    node.health(false, "503");
    assert_eq!(node.state(), "rolling_back");
}

#[test]
fn an_order_whose_time_comes_later_ends_an_unhealthy_trial_then() {
    let mut node = on_trial();
    node.health(false, "503");
    let mut later = order(7, 7);
    later.order.not_before = WALL.plus_secs(40);
    node.announce(later);
    node.wait(20_000);
    assert_eq!(node.state(), "trial");
    node.wait(20_000);
    assert_eq!(node.state(), "rolling_back");
}

#[test]
fn going_back_to_what_was_installed_ends_an_unhealthy_trial() {
    let mut node = on_trial();
    node.health(false, "503");
    node.announce(order(7, 5));
    node.healthy();
    assert_eq!(node.verdict(), (7, Verdict::Kept, None));
    assert_eq!((node.version(), node.state()), ("5.0".into(), "idle"));
}

#[test]
fn a_trial_says_what_its_check_answered_and_until_when_it_waits() {
    let mut node = on_trial();
    node.health(false, "GET /healthz answered 503");
    let target = node.machine.report().target.unwrap();
    assert_eq!(target.waits_for, "its health checks: GET /healthz answered 503");
    assert_eq!(target.until, Some(WALL.plus_secs(6 + 60)), "it began after 6 s");
}

#[test]
fn what_flaps_until_the_deadline_goes_back() {
    let mut node = on_trial();
    for _ in 0..30 {
        node.healthy();
        node.wait(1_500);
        node.health(false, "flaps");
        node.wait(500);
    }
    node.wait(10_000);
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::Unhealthy)));
}

#[test]
fn stale_code_goes_back_at_once() {
    let mut node = on_trial();
    node.fault("prove", fault(Reason::StaleCode, false));
    node.healthy();
    node.wait(5_000);
    assert_eq!(node.state(), "rolling_back");
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::StaleCode)));
}

#[test]
fn a_missing_proof_is_asked_for_each_second_until_the_deadline() {
    let mut node = on_trial();
    for _ in 0..3 {
        node.fault("prove", fault(Reason::NoProof, false));
    }
    node.names();
    node.healthy();
    node.wait(8_000);
    assert_eq!(node.version(), "6.0");
    assert_eq!(node.names().iter().filter(|name| **name == "prove").count(), 4);
    let mut node = on_trial();
    for _ in 0..99 {
        node.fault("prove", fault(Reason::Unknown, true));
    }
    node.healthy();
    node.wait(60_000);
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::NoProof)));
    assert_eq!(node.last().text, "text of unknown");
}

#[test]
fn an_app_that_ends_during_its_trial_goes_back_with_its_log() {
    let mut node = on_trial();
    node.healthy();
    node.exit();
    assert_eq!(node.link.as_ref().unwrap().version, "5.0");
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::Exited)));
    assert_eq!(node.last().log_tail, ["a log line"]);
}

#[test]
fn an_app_that_ends_while_it_is_asked_for_proof_goes_back() {
    let mut node = on_trial();
    node.hold("prove");
    node.healthy();
    node.wait(5_000);
    node.exit();
    node.release(Ok(Yield::default()));
    assert_eq!(node.state(), "rolling_back");
}

#[test]
fn an_app_that_ends_while_the_commit_is_stored_is_kept_and_started_again() {
    let mut node = on_trial();
    node.hold("persist");
    node.healthy();
    node.wait(5_000);
    node.exit();
    node.release_stored();
    assert_eq!((node.version(), node.state()), ("6.0".into(), "idle"));
    node.names();
    node.wait(2_000);
    assert_eq!(node.names(), ["start", "watch"]);
}

#[test]
fn a_release_that_cuts_the_node_off_goes_back_after_a_minute() {
    let mut node = on_trial();
    node.input(Input::Bus(Bus::Unreachable));
    node.healthy();
    node.wait(64_000);
    assert_eq!(node.state(), "trial");
    assert_eq!(node.machine.report().target.unwrap().waits_for, "the bus");
    node.wait(1_000);
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::BusLost)));
}

#[test]
fn a_bus_that_comes_back_within_the_minute_lets_it_pass() {
    let mut node = on_trial();
    node.input(Input::Bus(Bus::Unreachable));
    node.healthy();
    node.wait(60_000);
    node.input(Input::Bus(Bus::Connected));
    assert_eq!(node.version(), "6.0");
}

#[test]
fn a_broker_that_is_down_is_waited_for_without_limit() {
    let mut node = on_trial();
    node.input(Input::Bus(Bus::BrokerDown));
    node.healthy();
    node.wait(86_400_000);
    assert_eq!((node.state(), node.machine.poll_timeout()), ("trial", None));
    node.input(Input::Bus(Bus::Unreachable));
    node.wait(50_000);
    node.input(Input::Bus(Bus::Connected));
    assert_eq!(node.version(), "6.0");
}

#[test]
fn a_node_that_had_no_bus_before_the_switch_is_not_held_up_by_it() {
    let mut node = Node::running(5);
    node.hold("stage");
    node.announce(order(6, 6));
    node.input(Input::Bus(Bus::Unreachable));
    node.release(Ok(Yield::default()));
    node.healthy();
    node.wait(5_000);
    assert_eq!(node.version(), "6.0");
}

#[test]
fn the_bus_is_still_asked_for_after_a_restart_in_the_trial() {
    let mut node = on_trial();
    node.power_cut();
    node.input(Input::Bus(Bus::Unreachable));
    node.healthy();
    node.wait(65_000);
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::BusLost)));
}

#[test]
fn a_commit_that_cannot_be_stored_is_tried_again_while_the_app_is_healthy() {
    let mut node = on_trial();
    for _ in 0..3 {
        node.fault("persist", fault(Reason::DiskFull, false));
    }
    node.healthy();
    node.wait(5_000);
    assert_eq!(node.state(), "trial");
    node.wait(15_000);
    assert_eq!(node.verdict(), (6, Verdict::Kept, None));
    let mut node = on_trial();
    for _ in 0..3 {
        node.fault("persist", fault(Reason::DiskFull, false));
    }
    node.healthy();
    node.wait(5_000);
    node.exit();
    assert_eq!(node.link.as_ref().unwrap().version, "5.0");
}

#[test]
fn the_floor_rises_when_a_security_release_is_kept_and_not_before() {
    let mut node = Node::running(5);
    let mut draft = order(6, 6);
    draft.release.min_counter = Counter(6);
    node.announce(draft);
    assert_eq!(node.machine.saved().floor, Counter(0));
    node.healthy();
    node.wait(5_000);
    assert_eq!(node.disk.as_ref().unwrap().floor, Counter(6));
}

#[test]
fn only_the_last_outcomes_are_kept() {
    let mut node = Node::running(1);
    for n in 2..9 {
        node.install(order(n, n));
    }
    let revisions: Vec<u64> = node.machine.report().outcomes.iter().map(|o| o.revision.0).collect();
    assert_eq!((revisions, MAX_OUTCOMES), (vec![5, 6, 7, 8], 4));
}

fn on_trial() -> Node {
    let mut node = Node::running(5);
    node.announce(order(6, 6));
    assert_eq!(node.state(), "trial");
    node
}

/// A Pico's half of a joint release.
fn beside_a_pi(part: &mut Part) {
    (part.kind, part.joint) = (PartKind::MicroPython, Some(First::Pico));
}

#[test]
fn a_pico_that_is_well_waits_for_its_pi_beyond_its_deadline() {
    let mut node = Node::running(5);
    for _ in 0..200 {
        node.fault("prove", fault(Reason::JointApart, true));
    }
    node.announce(order(6, 6).part(beside_a_pi));
    node.healthy();
    node.wait(180_000);
    assert_eq!(node.state(), "trial");
    let target = node.machine.report().target.unwrap();
    assert_eq!((target.waits_for.as_str(), target.until), ("its proof: text of joint-apart", None));
    node.wait(60_000);
    assert_eq!(node.verdict(), (6, Verdict::Kept, None));
}

#[test]
fn what_the_others_gave_up_goes_back_at_once() {
    let mut node = Node::running(5);
    node.fault("prove", fault(Reason::JointApart, false));
    node.announce(order(6, 6).part(beside_a_pi));
    node.healthy();
    node.wait(5_000);
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::JointApart)));
}

#[test]
fn a_pico_that_is_not_well_does_not_wait_for_its_pi() {
    let mut node = Node::running(5);
    node.announce(order(6, 6).part(beside_a_pi));
    node.health(false, "silent");
    node.wait(60_000);
    assert_eq!(node.state(), "rolling_back");
}

#[test]
fn a_pi_waits_for_its_picos_until_its_deadline_and_says_so() {
    let mut node = Node::running(5);
    for _ in 0..200 {
        node.fault("prove", fault(Reason::JointApart, true));
    }
    node.announce(order(6, 6).part(|part| part.joint = Some(First::Pi)));
    node.healthy();
    node.wait(60_000);
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::JointApart)));
}

#[test]
fn what_others_wait_for_is_proven_after_the_bus_is_back() {
    let mut node = Node::running(5);
    node.announce(order(6, 6).part(|part| part.joint = Some(First::Pico)));
    node.input(Input::Bus(Bus::Unreachable));
    node.healthy();
    node.wait(20_000);
    assert_eq!((node.state(), node.names().contains(&"prove")), ("trial", false));
    node.input(Input::Bus(Bus::Connected));
    assert_eq!(node.verdict(), (6, Verdict::Kept, None));
}

#[test]
fn a_joint_release_that_cuts_the_node_off_goes_back_and_a_broker_that_is_down_is_not_waited_for() {
    let mut node = Node::running(5);
    node.announce(order(6, 6).part(|part| {
        (part.joint, part.trial.deadline_ms) = (Some(First::Pico), 120_000);
    }));
    node.input(Input::Bus(Bus::Unreachable));
    node.healthy();
    node.wait(65_000);
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::BusLost)));
    node.input(Input::Bus(Bus::Connected));
    node.announce(order(7, 7).part(|part| part.joint = Some(First::Pico)));
    node.input(Input::Bus(Bus::BrokerDown));
    node.healthy();
    node.wait(5_000);
    assert_eq!(node.verdict(), (7, Verdict::Kept, None));
}

#[test]
fn a_pico_does_not_wait_for_the_bus_by_itself() {
    let mut node = Node::running(5);
    node.announce(order(6, 6).part(beside_a_pi));
    node.input(Input::Bus(Bus::Unreachable));
    node.healthy();
    node.wait(5_000);
    assert_eq!(node.verdict(), (6, Verdict::Kept, None));
}
