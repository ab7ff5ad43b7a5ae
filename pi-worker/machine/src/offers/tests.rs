use schemas::{
    order::{Audience, OrderState},
    reason::Reason,
    report::Verdict,
    status::Phase,
    time::UnixTime,
};

use crate::{
    Effect,
    testing::{Draft, Node, WALL, group, order},
};

#[test]
fn a_lower_revision_on_the_same_topic_is_a_replay() {
    let mut node = Node::running(5);
    node.announce(order(4, 6));
    assert_eq!(refused(&node), [Reason::Replayed]);
    assert_eq!((node.state(), node.version()), ("idle", "5.0".into()));
}

#[test]
fn another_order_of_the_same_revision_is_a_conflict() {
    let mut node = Node::running(5);
    node.announce(order(5, 6));
    assert_eq!(refused(&node), [Reason::RevisionConflict]);
    assert_eq!(node.version(), "5.0");
}

#[test]
fn the_same_order_again_does_nothing() {
    let mut node = Node::running(5);
    node.announce(order(5, 5));
    assert_eq!(node.names(), Vec::<&str>::new());
    node.hold("fetch");
    node.announce(order(6, 6));
    node.names();
    node.announce(order(6, 6));
    assert_eq!((node.names().len(), node.state()), (0, "fetching"));
}

#[test]
fn a_lower_revision_of_another_group_is_only_noted() {
    let mut node = Node::running(5);
    node.announce(order(4, 4).group("canary"));
    assert_eq!(node.names(), ["persist"]);
    assert_eq!(node.disk.as_ref().unwrap().seen[&group("canary")].revision.0, 4);
    assert_eq!(node.version(), "5.0");
}

#[test]
fn an_order_for_others_is_only_noted() {
    let mut node = Node::running(5);
    let others = Audience::Nodes(vec!["pi-2".parse().unwrap()]);
    node.announce(order(6, 6).with(|order| order.audience = others));
    assert_eq!((node.version(), node.machine.report().revision.0), ("5.0".into(), 5));
    assert_eq!(node.disk.as_ref().unwrap().seen[&group("all")].revision.0, 6);
}

#[test]
fn the_highest_order_wins_whatever_group_and_sequence_it_came_in() {
    let orders = || [order(7, 7).group("canary"), order(6, 6).group("all"), order(8, 8).group("kitchen")];
    for first in 0..3 {
        let mut node = Node::new();
        for n in 0..3 {
            node.announce(orders()[(first + n) % 3].clone());
        }
        for _ in 0..3 {
            node.healthy();
            node.wait(6_000);
        }
        assert_eq!((node.version(), node.machine.report().revision.0), ("8.0".into(), 8));
    }
}

#[test]
fn an_expired_order_is_refused_with_slack_for_clocks() {
    let expired = |secs| order(6, 6).with(|order| order.expires = WALL.minus_secs(secs));
    let mut node = Node::running(5);
    node.announce(expired(700));
    assert_eq!(node.verdict(), (6, Verdict::Refused, Some(Reason::Expired)));
    assert_eq!(node.version(), "5.0");
    let mut node = Node::running(5);
    node.announce(expired(500));
    assert_eq!(node.state(), "trial");
}

#[test]
fn an_order_that_was_accepted_does_not_expire() {
    let mut node = Node::running(5);
    node.hold("fetch");
    let draft = order(6, 6).with(|order| order.expires = WALL.plus_secs(100));
    node.announce(draft.clone());
    node.wait(3_600_000);
    node.power_cut();
    node.install(draft);
    assert_eq!(node.version(), "6.0");
}

#[test]
fn a_release_below_the_floor_is_refused() {
    let mut node = Node::new();
    let mut secure = order(5, 5);
    secure.release.min_counter.0 = 5;
    node.install(secure);
    node.announce(order(6, 4));
    assert_eq!(node.verdict(), (6, Verdict::Refused, Some(Reason::BelowFloor)));
}

#[test]
fn a_release_without_a_part_for_the_node_is_refused_once() {
    let mut node = Node::running(5);
    let foreign = order(6, 6).part(|part| part.platform = "linux/riscv64".into());
    node.announce(foreign.clone());
    node.announce(foreign);
    assert_eq!(node.verdict(), (6, Verdict::Refused, Some(Reason::NoPart)));
    assert_eq!(node.machine.report().outcomes.len(), 2);
    assert_eq!(node.machine.report().revision.0, 5);
}

#[test]
fn an_order_that_comes_again_while_its_verdict_is_stored_gets_no_second_one() {
    let mut node = Node::running(5);
    let expired = order(6, 6).with(|order| order.expires = WALL.minus_secs(700));
    node.hold("persist");
    node.announce(expired.clone());
    node.announce(expired);
    node.release_stored();
    assert_eq!(node.machine.report().outcomes.len(), 2);
}

#[test]
fn what_is_installed_already_is_kept_without_a_restart() {
    let mut node = Node::running(5);
    node.announce(order(6, 5));
    assert_eq!(node.names(), ["persist", "tell"]);
    assert_eq!(node.verdict(), (6, Verdict::Kept, None));
    assert_eq!(node.last().text, "already installed");
    assert_eq!(node.machine.report().revision.0, 6);
}

#[test]
fn an_order_waits_for_its_time_and_says_so() {
    let mut node = Node::running(5);
    node.announce(order(6, 6).with(|order| order.not_before = WALL.plus_secs(300)));
    let report = node.machine.report();
    assert_eq!((report.phase, report.revision.0), (Phase::Deferred, 5));
    assert_eq!(report.target.unwrap().waits_for, format!("not before {}", WALL.plus_secs(300)));
    node.wait(280_000);
    assert_eq!(node.state(), "deferred");
    node.wait(30_000);
    assert_eq!(node.state(), "trial");
}

#[test]
fn a_wall_clock_that_is_set_while_an_order_waits_is_noticed_within_a_minute() {
    let mut node = Node::running(5);
    node.announce(order(6, 6).with(|order| order.not_before = WALL.plus_secs(86_000)));
    node.now.wall = WALL.plus_secs(86_001);
    node.wait(60_000);
    assert_eq!(node.state(), "trial");
}

#[test]
fn each_node_takes_its_own_place_within_the_jitter() {
    let mut node = Node::running(5);
    node.announce(order(6, 6).with(|order| order.policy.jitter_ms = 600_000));
    assert_eq!(node.state(), "deferred");
    let place_ms = crate::retry::place_ms(&"pi-1".parse().unwrap(), "6", 600_000);
    node.wait(place_ms - 10_000);
    assert_eq!(node.state(), "deferred");
    node.wait(10_000);
    assert_eq!(node.state(), "trial");
}

#[test]
fn a_lower_order_goes_first_while_a_higher_one_waits() {
    let mut node = Node::running(5);
    node.announce(order(7, 7).group("canary").with(|order| order.not_before = WALL.plus_secs(300)));
    node.install(order(6, 6));
    assert_eq!(node.state(), "deferred");
    node.wait(310_000);
    node.healthy();
    node.wait(6_000);
    assert_eq!(node.version(), "7.0");
}

#[test]
fn a_waiting_order_ends_when_another_takes_its_place() {
    let later = |draft: Draft| draft.with(|order| order.not_before = WALL.plus_secs(300));
    let mut node = Node::running(5);
    node.announce(later(order(6, 6)));
    node.announce(later(order(7, 7)));
    assert_eq!(node.verdict(), (6, Verdict::Superseded, Some(Reason::Superseded)));
    node.announce(order(8, 8).group("canary"));
    assert_eq!(node.verdict(), (7, Verdict::Superseded, Some(Reason::Superseded)));
    assert_eq!(node.state(), "trial");
}

#[test]
fn a_paused_order_begins_nothing_and_lets_what_has_begun_finish() {
    let mut node = Node::running(5);
    node.announce(order(6, 6).state(OrderState::Paused));
    assert_eq!((node.state(), node.machine.report().revision.0), ("idle", 5));
    node.hold("fetch");
    node.announce(order(7, 7));
    node.announce(order(8, 7).state(OrderState::Paused));
    assert_eq!(node.state(), "fetching");
    node.release(Ok(crate::Yield::default()));
    node.healthy();
    node.wait(6_000);
    assert_eq!(node.verdict(), (7, Verdict::Kept, None));
}

#[test]
fn a_withdrawn_order_is_given_up_before_the_switch_and_nothing_lower_is_begun() {
    let mut node = Node::running(5);
    node.hold("fetch");
    node.announce(order(6, 6));
    node.names();
    node.announce(order(7, 6).state(OrderState::Withdrawn { revert: false }));
    assert_eq!(node.names(), ["cancel"]);
    node.release(Err(crate::testing::fault(Reason::Unknown, false)));
    assert_eq!(node.verdict(), (6, Verdict::Superseded, Some(Reason::Withdrawn)));
    assert_eq!((node.version(), node.state()), ("5.0".into(), "idle"));
    node.announce(order(6, 6).group("canary"));
    assert_eq!((node.version(), node.state()), ("5.0".into(), "idle"));
    assert_eq!(node.disk.as_ref().unwrap().obeyed.0, 7);
}

#[test]
fn a_withdrawn_order_that_reverts_goes_back_through_a_trial() {
    let mut node = Node::running(5);
    node.install(order(6, 6));
    node.install(order(7, 6).state(OrderState::Withdrawn { revert: true }));
    assert_eq!((node.version(), node.verdict()), ("5.0".into(), (7, Verdict::Kept, None)));
    assert_eq!(node.machine.report().previous.unwrap().version, "6.0");
}

#[test]
fn a_revert_during_the_trial_waits_for_its_end() {
    let mut node = Node::running(5);
    node.announce(order(6, 6));
    node.announce(order(7, 6).state(OrderState::Withdrawn { revert: true }));
    assert_eq!(node.machine.report().target.unwrap().revision.0, 6);
    node.healthy();
    node.wait(6_000);
    assert_eq!(node.machine.report().target.unwrap().revision.0, 7);
    node.healthy();
    node.wait(6_000);
    assert_eq!(node.version(), "5.0");
}

#[test]
fn a_revert_of_another_release_does_nothing() {
    let mut node = Node::running(5);
    node.install(order(6, 6));
    node.announce(order(7, 9).state(OrderState::Withdrawn { revert: true }));
    assert_eq!((node.version(), node.state()), ("6.0".into(), "idle"));
}

#[test]
fn a_revert_below_the_floor_or_to_nothing_is_refused() {
    let mut node = Node::running(5);
    node.announce(order(6, 5).state(OrderState::Withdrawn { revert: true }));
    assert_eq!(node.verdict(), (6, Verdict::Refused, Some(Reason::Withdrawn)));
    let mut secure = order(7, 7);
    secure.release.min_counter.0 = 7;
    node.install(secure.clone());
    secure.order.revision.0 = 8;
    node.announce(secure.state(OrderState::Withdrawn { revert: true }));
    assert_eq!(node.verdict(), (8, Verdict::Refused, Some(Reason::BelowFloor)));
    assert_eq!(node.version(), "7.0");
}

#[test]
fn a_revert_that_is_refused_takes_lower_orders_back_all_the_same() {
    let mut node = Node::running(5);
    node.hold("fetch");
    node.announce(order(6, 6));
    let revert = order(7, 5).group("canary").state(OrderState::Withdrawn { revert: true });
    node.announce(revert.with(|order| order.expires = WALL.minus_secs(700)));
    node.release(Err(crate::testing::fault(Reason::Unknown, false)));
    let verdicts: Vec<_> = node.machine.report().outcomes.iter().map(|o| (o.revision.0, o.reason)).collect();
    assert_eq!(verdicts[1..], [(7, Some(Reason::Expired)), (6, Some(Reason::Withdrawn))]);
    assert_eq!(node.disk.as_ref().unwrap().obeyed.0, 7);
}

#[test]
fn an_order_for_another_app_is_ignored() {
    let mut node = Node::running(5);
    let mut draft = order(6, 6).with(|order| order.app = "other".parse().unwrap());
    draft.release.app = "other".parse().unwrap();
    node.announce(draft);
    assert_eq!(node.names().len(), 0);
}

#[test]
fn a_clock_without_time_takes_orders() {
    let mut node = Node::new();
    node.now.wall = UnixTime(0);
    node.announce(order(5, 5));
    assert_eq!(node.state(), "trial");
}

fn refused(node: &Node) -> Vec<Reason> {
    let reason = |effect: &Effect| match effect {
        Effect::Refuse(refused) => Some(refused.reason),
        _ => None,
    };
    node.done.iter().filter_map(reason).collect()
}
