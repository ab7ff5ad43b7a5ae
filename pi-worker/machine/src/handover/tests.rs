use schemas::{reason::Reason, report::Verdict};

use crate::{
    Step, Yield,
    testing::{Node, fault, order},
};

#[test]
fn the_trial_is_in_the_journal_before_anything_is_stopped() {
    let mut node = Node::running(5);
    node.hold("stop");
    node.announce(order(6, 6));
    assert!(matches!(
        &node.disk.as_ref().unwrap().step,
        Step::Trying { slot, tries_left: 3, connected: true, .. } if slot.version == "6.0"
    ));
}

#[test]
fn a_first_install_stops_nothing() {
    let mut node = Node::new();
    node.names();
    node.announce(order(5, 5));
    assert_eq!(node.names(), ["persist", "tell", "fetch", "stage", "persist", "switch", "start", "watch"]);
}

#[test]
fn a_trial_that_cannot_be_journaled_fails_the_order_and_touches_nothing() {
    let mut node = Node::running(5);
    node.hold("stage");
    node.announce(order(6, 6));
    node.fault("persist", fault(Reason::DiskError, false));
    node.names();
    node.release(Ok(Yield::default()));
    node.wait(5_000);
    assert_eq!(node.verdict(), (6, Verdict::Failed, Some(Reason::DiskError)));
    assert_eq!(node.names(), ["persist", "prune", "persist", "tell"]);
}

#[test]
fn a_fault_of_stop_switch_or_start_goes_back() {
    for (effect, reason) in
        [("stop", Reason::Unknown), ("switch", Reason::DiskError), ("start", Reason::StartFailed)]
    {
        let mut node = Node::running(5);
        node.fault(effect, fault(reason, false));
        node.announce(order(6, 6));
        assert_eq!(node.state(), "rolling_back");
        node.healthy();
        assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(reason)));
        assert_eq!(node.link.as_ref().unwrap().version, "5.0");
    }
}

#[test]
fn an_app_that_ends_before_its_start_is_answered_goes_back() {
    let mut node = Node::running(5);
    node.hold("start");
    node.announce(order(6, 6));
    node.exit();
    node.release(Ok(Yield::default()));
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::Exited)));
}

#[test]
fn the_last_words_of_the_app_before_do_not_count_for_the_new_one() {
    let mut node = Node::running(5);
    node.hold("stop");
    node.announce(order(6, 6));
    node.exit();
    node.health(true, "");
    node.release(Ok(Yield::default()));
    assert_eq!((node.state(), node.machine.report().healthy), ("trial", None));
}

#[test]
fn an_order_that_comes_during_the_switch_waits_for_the_verdict() {
    for step in ["stop", "switch", "start"] {
        let mut node = Node::running(5);
        node.hold(step);
        node.announce(order(6, 6));
        node.announce(order(7, 7));
        node.release(Ok(Yield::default()));
        assert_eq!(node.machine.report().target.unwrap().revision.0, 6);
        node.healthy();
        node.wait(6_000);
        assert_eq!((node.version(), node.state()), ("6.0".into(), "trial"));
        node.healthy();
        node.wait(6_000);
        assert_eq!(node.version(), "7.0");
    }
}

#[test]
fn a_release_with_the_same_tree_and_other_settings_takes_over_in_the_same_way() {
    let mut node = Node::running(5);
    let mut draft = order(6, 5).part(|part| {
        part.env.insert("CAMPAIGN".into(), "turboship".into());
    });
    draft.release.version = "5.0b".into();
    node.announce(draft);
    assert_eq!(node.machine.report().healthy, None, "what the old one said does not count");
    node.healthy();
    node.wait(6_000);
    assert_eq!((node.version(), node.verdict().1), ("5.0b".into(), Verdict::Kept));
}
