use schemas::{order::OrderState, report::Verdict, status::Phase};

use super::*;
use crate::{
    Input,
    testing::{Draft, Node, WALL, fault, order},
};

#[test]
fn an_order_waits_while_something_holds_and_goes_on_by_itself() {
    for code in HoldCode::ALL {
        let mut node = held_by(&[code]);
        node.announce(order(6, 6));
        let report = node.machine.report();
        let target = report.target.unwrap();
        assert_eq!((report.phase, report.revision.0), (Phase::Deferred, 5));
        assert_eq!((target.hold, target.waits_for.as_str()), (Some(code), code.name()));
        node.wait(600_000);
        assert_eq!(node.state(), "deferred");
        node.input(Input::Holds(Vec::new()));
        assert_eq!(node.state(), "trial");
    }
}

#[test]
fn what_a_person_has_to_end_first_is_shown_with_the_rest_behind_it() {
    let until = WALL.plus_secs(3_600);
    let mut window = hold(HoldCode::Window);
    window.until = Some(until);
    let mut node = Node::running(5);
    node.input(Input::Holds(vec![window.clone(), hold(HoldCode::Lock)]));
    node.announce(order(6, 6));
    let target = node.machine.report().target.unwrap();
    assert_eq!(
        (target.hold, target.until, target.waits_for),
        (Some(HoldCode::Lock), None, "lock; window".into())
    );
    node.input(Input::Holds(vec![window]));
    let target = node.machine.report().target.unwrap();
    assert_eq!((target.hold, target.until), (Some(HoldCode::Window), Some(until)));
}

#[test]
fn what_has_begun_goes_on() {
    for step in ["persist", "fetch", "stage", "stop", "start"] {
        let mut node = Node::running(5);
        node.hold(step);
        node.announce(order(6, 6));
        node.input(Input::Holds(HoldCode::ALL.map(hold).into()));
        node.release_stored();
        node.healthy();
        node.wait(6_000);
        assert_eq!(node.verdict(), (6, Verdict::Kept, None), "{step}");
    }
}

#[test]
fn what_has_begun_goes_on_after_a_power_cut() {
    let mut node = Node::running(5);
    node.hold("fetch");
    node.announce(order(6, 6));
    node.power_cut();
    node.input(Input::Holds(HoldCode::ALL.map(hold).into()));
    node.install(order(6, 6));
}

#[test]
fn a_release_that_fails_goes_back_whatever_holds() {
    let mut node = Node::running(5);
    node.announce(order(6, 6));
    node.input(Input::Holds(HoldCode::ALL.map(hold).into()));
    node.fault("prove", fault(schemas::reason::Reason::StaleCode, false));
    node.healthy();
    node.wait(6_000);
    node.healthy();
    assert_eq!((node.last().verdict, node.version()), (Verdict::RolledBack, "5.0".into()));
}

#[test]
fn an_urgent_order_waits_neither_for_the_window_nor_for_consent() {
    let urgent = || order(6, 6).with(|order| order.policy.urgent = true);
    for code in HoldCode::ALL {
        let mut node = held_by(&[code]);
        node.announce(urgent());
        let expected = if code.is_choice() { "trial" } else { "deferred" };
        assert_eq!(node.state(), expected, "{code}");
    }
}

#[test]
fn going_back_waits_for_the_lock_alone() {
    let revert = || order(7, 6).state(OrderState::Withdrawn { revert: true });
    for back in [revert(), order(7, 5)] {
        let mut node = Node::running(5);
        node.install(order(6, 6));
        node.input(Input::Holds(HoldCode::ALL.map(hold).into()));
        node.announce(back.clone());
        assert_eq!(node.machine.report().target.unwrap().waits_for, "lock");
        let but_lock = HoldCode::ALL.into_iter().filter(|code| *code != HoldCode::Lock);
        node.input(Input::Holds(but_lock.map(hold).collect()));
        node.healthy();
        node.wait(6_000);
        assert_eq!((node.version(), node.verdict()), ("5.0".into(), (7, Verdict::Kept, None)));
    }
}

#[test]
fn a_revert_that_is_held_takes_lower_orders_back_all_the_same() {
    let mut node = Node::running(5);
    node.install(order(6, 6));
    node.hold("fetch");
    node.announce(order(7, 7));
    node.input(Input::Holds(vec![hold(HoldCode::Lock)]));
    node.announce(order(8, 6).group("canary").state(OrderState::Withdrawn { revert: true }));
    node.release(Err(fault(schemas::reason::Reason::Unknown, false)));
    assert_eq!((node.last().revision.0, node.last().verdict), (7, Verdict::Superseded));
    assert_eq!((node.state(), node.version()), ("deferred", "6.0".into()));
    node.input(Input::Holds(Vec::new()));
    assert_eq!(node.state(), "trial");
}

#[test]
fn what_is_installed_already_waits_for_nothing() {
    let mut node = held_by(&HoldCode::ALL);
    node.announce(order(6, 5));
    assert_eq!(node.verdict(), (6, Verdict::Kept, None));
}

#[test]
fn a_yes_is_about_the_release_that_waits_and_no_other() {
    let mut node = held_by(&[HoldCode::Consent]);
    node.input(Input::Consent);
    node.announce(order(6, 6));
    assert_eq!(node.state(), "deferred", "a yes to nothing is none to what comes later");
    node.announce(order(7, 7));
    node.input(Input::Consent);
    assert_eq!(node.machine.report().target.unwrap().version, "7.0");
    node.healthy();
    node.wait(6_000);
    assert_eq!(node.version(), "7.0");
    node.announce(order(8, 8));
    node.input(Input::Holds(vec![hold(HoldCode::Consent)]));
    assert_eq!(node.state(), "deferred");
}

#[test]
fn a_yes_outlives_a_power_cut_and_later_orders_of_the_series() {
    let later = |revision| order(revision, 6).with(|order| order.continues = Some(schemas::id::Revision(6)));
    let mut node = held_by(&[HoldCode::Consent, HoldCode::Window]);
    node.announce(order(6, 6));
    node.input(Input::Consent);
    assert_eq!(node.machine.report().target.unwrap().hold, Some(HoldCode::Window));
    node.power_cut();
    node.input(Input::Holds(vec![hold(HoldCode::Consent)]));
    node.install(later(7));
    assert_eq!(node.disk.as_ref().unwrap().consented, None);
}

#[test]
fn a_lower_order_that_is_urgent_goes_first() {
    let urgent = |draft: Draft| draft.with(|order| order.policy.urgent = true);
    let mut node = held_by(&[HoldCode::Window]);
    node.announce(order(7, 7));
    node.install(urgent(order(6, 6).group("canary")));
    assert_eq!((node.state(), node.version()), ("deferred", "6.0".into()));
}

fn held_by(codes: &[HoldCode]) -> Node {
    let mut node = Node::running(5);
    node.input(Input::Holds(codes.iter().copied().map(hold).collect()));
    node
}

fn hold(code: HoldCode) -> Hold {
    Hold { code, text: code.name().into(), until: None }
}
