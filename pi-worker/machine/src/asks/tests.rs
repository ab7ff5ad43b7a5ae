use schemas::{
    hold::HoldCode,
    id::{Counter, Revision},
    order::OrderState,
    reason::Reason,
    release::First,
    report::Verdict,
};

use crate::{
    Hold, Input,
    testing::{Node, fault, order},
};

#[test]
fn going_back_tries_what_ran_before_and_the_order_that_was_left_is_not_begun_again() {
    let mut node = Node::running(5);
    node.install(order(6, 6));
    node.input(Input::GoBack);
    assert_eq!((node.state(), node.machine.report().target.unwrap().version.as_str()), ("trial", "5.0"));
    node.healthy();
    node.wait(6_000);
    assert_eq!((node.version(), node.verdict()), ("5.0".into(), (5, Verdict::Kept, None)));
    node.announce(order(6, 6));
    node.restart("boot-2");
    node.announce(order(6, 6));
    node.wait(600_000);
    assert_eq!((node.state(), node.version()), ("idle", "5.0".into()));
    // Nor by a later order of its series, but by the next one.
    node.announce(order(7, 6).with(|order| order.continues = Some(Revision(6))));
    assert_eq!(node.state(), "idle");
    node.install(order(8, 8));
}

#[test]
fn what_ran_before_and_does_not_prove_itself_is_left_again() {
    let mut node = Node::running(5);
    node.install(order(6, 6));
    node.fault("prove", fault(Reason::StaleCode, false));
    node.input(Input::GoBack);
    node.healthy();
    node.wait(6_000);
    node.healthy();
    assert_eq!((node.version(), node.last().verdict), ("6.0".into(), Verdict::RolledBack));
}

#[test]
fn going_back_outlives_a_power_cut_once_it_has_switched() {
    let mut node = Node::running(5);
    node.install(order(6, 6));
    node.input(Input::GoBack);
    node.power_cut();
    node.healthy();
    node.wait(6_000);
    assert_eq!(node.version(), "5.0");
}

#[test]
fn nobody_is_asked_to_go_below_the_floor_to_nothing_or_past_the_lock() {
    let mut node = Node::running(5);
    node.input(Input::GoBack);
    assert_eq!(node.state(), "idle", "there is nothing to go back to");
    let mut secure = order(6, 6);
    secure.release.min_counter = Counter(6);
    node.install(secure);
    node.input(Input::GoBack);
    assert_eq!((node.state(), node.version()), ("idle", "6.0".into()));
    node.install(order(7, 7));
    node.input(Input::Holds(HoldCode::ALL.map(hold).into()));
    node.input(Input::GoBack);
    assert_eq!(node.state(), "idle");
    let but_lock = HoldCode::ALL.into_iter().filter(|code| *code != HoldCode::Lock);
    node.input(Input::Holds(but_lock.map(hold).collect()));
    node.input(Input::GoBack);
    assert_eq!(node.state(), "trial");
}

#[test]
fn what_is_kept_with_others_is_not_left_alone() {
    let mut node = Node::running(5);
    node.install(order(6, 6).part(|part| part.joint = Some(First::Pico)));
    node.input(Input::GoBack);
    assert_eq!((node.state(), node.version()), ("idle", "6.0".into()));
}

#[test]
fn what_did_not_prove_itself_is_tried_once_more() {
    let mut node = failed();
    node.input(Input::Holds(vec![hold(HoldCode::Consent)]));
    node.input(Input::Retry);
    node.healthy();
    node.wait(6_000);
    assert_eq!((node.version(), node.verdict()), ("6.0".into(), (6, Verdict::Kept, None)));
    assert_eq!(node.machine.report().outcomes.iter().filter(|outcome| outcome.revision.0 == 6).count(), 1);
    node.input(Input::Retry);
    assert_eq!(node.state(), "idle", "what was kept needs no other try");
}

#[test]
fn what_fails_again_may_be_tried_again() {
    let mut node = failed();
    for _ in 0..3 {
        node.fault("fetch", fault(Reason::ObjectMissing, false));
        node.input(Input::Retry);
        assert_eq!(node.verdict(), (6, Verdict::Failed, Some(Reason::ObjectMissing)));
    }
    node.input(Input::Retry);
    node.healthy();
    node.wait(6_000);
    assert_eq!(node.version(), "6.0");
}

#[test]
fn another_try_that_a_later_order_ends_leaves_the_verdict_of_the_first() {
    let mut node = failed();
    node.hold("fetch");
    node.input(Input::Retry);
    node.announce(order(7, 7).group("canary"));
    node.release(Err(fault(Reason::Unknown, false)));
    let about_6 = |outcome: &schemas::report::Outcome| outcome.revision.0 == 6;
    let report = node.machine.report();
    assert_eq!(report.outcomes.iter().find(|of| about_6(of)).unwrap().verdict, Verdict::RolledBack);
    node.healthy();
    node.wait(6_000);
    assert_eq!(node.version(), "7.0");
    // So a later order of its series does not begin with it again.
    node.announce(order(8, 6).with(|order| order.continues = Some(Revision(6))));
    assert_eq!((node.state(), node.version()), ("idle", "7.0".into()));
}

#[test]
fn an_order_that_says_to_wait_to_forget_it_or_is_late_is_not_tried_once_more() {
    for state in [OrderState::Paused, OrderState::Withdrawn { revert: false }] {
        let mut node = failed();
        node.announce(order(7, 6).state(state).with(|order| order.continues = Some(Revision(6))));
        node.input(Input::Retry);
        assert_eq!((node.state(), node.version()), ("idle", "5.0".into()), "{state:?}");
    }
    let mut node = failed();
    node.wait(3 * 86_400_000);
    node.input(Input::Retry);
    assert_eq!(node.version(), "5.0");
    assert_eq!(node.state(), "idle");
}

#[test]
fn holds_that_nobody_chose_for_convenience_keep_from_another_try() {
    for code in HoldCode::ALL.into_iter().filter(|code| *code != HoldCode::Consent) {
        let mut node = failed();
        node.input(Input::Holds(vec![hold(code)]));
        node.input(Input::Retry);
        assert_eq!(node.state(), "idle", "{code}");
        node.input(Input::Holds(Vec::new()));
        assert_eq!(node.state(), "idle", "a wish that cannot be followed is forgotten");
    }
}

#[test]
fn a_hold_by_hand_lasts_until_somebody_asks_to_install() {
    let mut node = Node::running(5);
    node.input(Input::HoldByHand);
    node.power_cut();
    node.announce(order(6, 6));
    let target = node.machine.report().target.unwrap();
    assert_eq!((node.state(), target.hold), ("deferred", Some(HoldCode::Consent)));
    node.input(Input::Consent);
    node.healthy();
    node.wait(6_000);
    assert_eq!(node.version(), "6.0");
    node.install(order(7, 7));
    // Said while nothing waits, too.
    node.input(Input::HoldByHand);
    node.input(Input::Consent);
    node.install(order(8, 8));
}

#[test]
fn what_is_under_way_goes_on_whatever_is_asked() {
    for ask in [Input::GoBack, Input::Retry, Input::HoldByHand] {
        let mut node = Node::running(5);
        node.install(order(6, 6));
        node.hold("fetch");
        node.announce(order(7, 7));
        node.input(ask);
        node.release_stored();
        node.healthy();
        node.wait(6_000);
        assert_eq!(node.verdict(), (7, Verdict::Kept, None));
        node.wait(60_000);
        assert_eq!((node.state(), node.version()), ("idle", "7.0".into()));
    }
}

/// A node that runs release 5 and went back from release 6.
fn failed() -> Node {
    let mut node = Node::running(5);
    node.fault("prove", fault(Reason::StaleCode, false));
    node.announce(order(6, 6));
    node.healthy();
    node.wait(6_000);
    node.healthy();
    assert_eq!(node.last().verdict, Verdict::RolledBack);
    node
}

fn hold(code: HoldCode) -> Hold {
    Hold { code, text: code.name().into(), until: None }
}
