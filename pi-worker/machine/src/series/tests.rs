use schemas::{
    id::Revision,
    order::OrderState,
    reason::Reason,
    report::{MAX_OUTCOMES, Verdict},
};

use crate::testing::{Draft, Node, WALL, fault, order};

/// Order `revision` for release `counter`, which continues order `first`.
fn later(revision: u64, counter: u64, first: u64) -> Draft {
    order(revision, counter).with(|order| order.continues = Some(Revision(first)))
}

#[test]
fn a_release_that_was_kept_is_not_reported_once_more() {
    let mut node = Node::running(5);
    node.install(order(6, 6));
    node.names();
    node.announce(later(7, 6, 6));
    assert_eq!(node.names(), ["persist"]);
    assert_eq!(node.machine.report().outcomes.len(), 2);
    node.announce(later(8, 6, 6).state(OrderState::Paused));
    node.announce(later(9, 6, 6).group("canary"));
    node.power_cut();
    node.announce(later(9, 6, 6).group("canary"));
    assert_eq!((node.verdict(), node.state()), ((6, Verdict::Kept, None), "idle"));
}

#[test]
fn a_release_that_failed_is_not_tried_again() {
    for effect in ["stage", "start"] {
        let mut node = Node::running(5);
        node.fault(effect, fault(Reason::DiskError, false));
        node.announce(order(6, 6));
        node.healthy();
        let before = node.machine.report().outcomes;
        assert_ne!(node.last().verdict, Verdict::Kept);
        node.announce(later(7, 6, 6).with(|order| order.expires = WALL.minus_secs(700)));
        node.announce(later(8, 6, 6));
        assert_eq!((node.machine.report().outcomes, node.state()), (before, "idle"));
        node.announce(order(9, 6));
        assert_ne!(node.state(), "idle", "an order of its own is another try");
    }
}

#[test]
fn another_release_or_an_earlier_series_is_nothing_to_go_by() {
    let mut node = Node::running(5);
    node.install(order(6, 6));
    node.install(later(7, 7, 6));
    node.announce(later(8, 6, 7));
    assert_eq!(node.state(), "trial");
}

#[test]
fn what_was_refused_or_superseded_is_begun() {
    let mut node = Node::running(5);
    node.announce(order(6, 6).with(|order| order.expires = WALL.minus_secs(700)));
    assert_eq!(node.last().verdict, Verdict::Refused);
    node.install(later(7, 6, 6));

    let mut node = Node::running(5);
    node.hold("fetch");
    node.announce(order(6, 6));
    node.announce(order(7, 6).group("canary").state(OrderState::Withdrawn { revert: false }));
    node.release(Err(fault(Reason::Unknown, false)));
    assert_eq!(node.last().verdict, Verdict::Superseded);
    node.install(later(8, 6, 6));
}

#[test]
fn a_later_order_of_the_series_takes_the_place_of_one_that_waits() {
    let waits = |draft: Draft| draft.with(|order| order.not_before = WALL.plus_secs(300));
    let mut node = Node::running(5);
    node.announce(waits(order(6, 6)));
    node.announce(waits(later(7, 6, 6)));
    assert_eq!((node.state(), node.machine.report().target.unwrap().revision.0), ("deferred", 7));
    node.announce(waits(later(8, 6, 6)).state(OrderState::Paused));
    assert_eq!(node.state(), "idle");
    node.announce(waits(later(9, 6, 6).group("canary")));
    node.announce(waits(later(10, 6, 6)));
    node.wait(310_000);
    node.healthy();
    node.wait(6_000);
    let revisions: Vec<u64> = node.machine.report().outcomes.iter().map(|o| o.revision.0).collect();
    assert_eq!(revisions, [5, 10]);
}

#[test]
fn the_place_within_the_jitter_stays_the_same_through_the_series() {
    let spread = |draft: Draft| draft.with(|order| order.policy.jitter_ms = 600_000);
    let place_ms = crate::retry::place_ms(&"pi-1".parse().unwrap(), "6", 600_000);
    let mut node = Node::running(5);
    node.announce(spread(order(6, 6)));
    node.wait(place_ms - 20_000);
    let now = node.now.wall;
    node.announce(spread(later(7, 6, 6)).with(|order| order.head.issued_at = now));
    assert_eq!(node.state(), "deferred");
    node.wait(20_000);
    assert_eq!(node.state(), "trial");
}

#[test]
fn what_is_prepared_goes_on_under_the_order_that_began_it() {
    let mut node = Node::running(5);
    node.hold("fetch");
    node.announce(order(6, 6));
    node.announce(later(7, 6, 6));
    node.announce(later(8, 6, 6).group("canary").with(|order| order.expires = WALL.minus_secs(700)));
    node.announce(later(9, 6, 6).state(OrderState::Paused));
    node.announce(later(10, 6, 6));
    assert_eq!(node.state(), "fetching");
    assert!(!node.names().contains(&"cancel"));
    node.release_stored();
    node.healthy();
    node.wait(6_000);
    let ended: Vec<_> = node.machine.report().outcomes.iter().map(|o| (o.revision.0, o.verdict)).collect();
    assert_eq!(ended, [(5, Verdict::Kept), (6, Verdict::Kept)]);
}

#[test]
fn another_release_between_two_orders_of_a_series_comes_to_the_same_end_in_any_sequence() {
    for kept_first in [true, false] {
        let mut node = Node::running(5);
        node.install(order(6, 6));
        let (between, after) = (order(7, 7).group("canary"), later(8, 6, 6));
        if kept_first {
            node.install(between);
            node.announce(after);
        } else {
            node.announce(after);
            node.install(between);
        }
        assert_eq!((node.version(), node.state()), ("7.0".into(), "idle"));
    }
}

#[test]
fn the_outcome_that_a_series_goes_by_is_never_dropped() {
    let mut node = Node::running(5);
    node.install(order(6, 6));
    for revision in 7..13 {
        let expired = order(revision, 9).group("canary").with(|order| order.expires = WALL.minus_secs(700));
        node.announce(expired);
    }
    node.install(order(13, 13).group("kitchen"));
    let outcomes = node.machine.report().outcomes;
    assert!(outcomes.len() == MAX_OUTCOMES && outcomes.iter().any(|o| o.revision.0 == 6), "{outcomes:?}");
    node.announce(later(14, 6, 6));
    assert_eq!((node.version(), node.state()), ("13.0".into(), "idle"));
}
