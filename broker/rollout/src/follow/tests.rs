use schemas::topic::NodeTopic;

use super::*;
use crate::samples::{NOW, Sample, ended, idle, node, node_key, outcome, working};

const REVISION: u64 = 50;

fn follow(sample: &Sample, fleet: &Fleet) -> Follow {
    Follow::new(&sample.order(REVISION, Digest::of(b"release")), ours(), fleet)
}

fn ours() -> Digest {
    Digest::of(b"order")
}

fn state(follow: &Follow, name: &str) -> &'static str {
    follow.nodes()[&node(name)].state.name()
}

#[test]
fn a_node_is_followed_from_waiting_to_its_verdict() {
    let sample = Sample::new();
    let mut fleet = sample.fleet(&[("pi-1", Some(idle(7)))]);
    let mut follow = follow(&sample, &fleet);
    assert_eq!((state(&follow, "pi-1"), follow.is_over(60_000)), ("waiting", false));
    sample.says(&mut fleet, "pi-1", 2, Some(working(REVISION, Phase::Fetching, 400)));
    assert_eq!(follow.update(&fleet, 90), [node("pi-1")]);
    assert_eq!(follow.update(&fleet, 95), []);
    assert_eq!((state(&follow, "pi-1"), follow.ending(false)), ("fetching", Ending::Silent));
    sample.says(&mut fleet, "pi-1", 3, Some(ended(outcome(REVISION, Verdict::Kept))));
    follow.update(&fleet, 700);
    follow.update(&fleet, 900);
    assert_eq!(follow.nodes()[&node("pi-1")].ended_ms, Some(700));
    assert!(follow.is_over(900));
    assert_eq!(follow.ending(false), Ending::Kept);
}

#[test]
fn the_verdict_on_another_order_is_none_on_this_one() {
    let sample = Sample::new();
    let fleet = sample.fleet(&[
        ("pi-1", Some(ended(outcome(REVISION - 1, Verdict::Failed)))),
        ("pi-2", Some(ended(outcome(REVISION + 1, Verdict::Kept)))),
    ]);
    let follow = follow(&sample, &fleet);
    assert_eq!((state(&follow, "pi-1"), state(&follow, "pi-2")), ("waiting", "superseded"));
    assert_eq!(follow.ending(false), Ending::NotKept);
}

#[test]
fn every_verdict_but_kept_is_a_failure() {
    let sample = Sample::new();
    for verdict in [Verdict::RolledBack, Verdict::Failed, Verdict::Refused, Verdict::Superseded] {
        let fleet = sample.fleet(&[
            ("pi-1", Some(ended(outcome(REVISION, Verdict::Kept)))),
            ("pi-2", Some(ended(outcome(REVISION, verdict)))),
        ]);
        assert_eq!(follow(&sample, &fleet).ending(true), Ending::NotKept, "{verdict:?}");
    }
}

#[test]
fn a_node_that_was_offline_is_waited_for_a_moment_and_then_excused() {
    let sample = Sample::new();
    let mut fleet = sample.fleet(&[("pi-1", Some(ended(outcome(REVISION, Verdict::Kept)))), ("pi-2", None)]);
    fleet.take(&sample.topic("pi-2", NodeTopic::Availability), b"offline");
    let follow = follow(&sample, &fleet);
    assert_eq!(state(&follow, "pi-2"), "offline");
    assert_eq!((follow.is_over(0), follow.is_over(OFFLINE_GRACE_MS)), (false, true));
    assert_eq!((follow.ending(false), follow.ending(true)), (Ending::Offline, Ending::Kept));
}

#[test]
fn when_all_are_offline_nothing_is_proven() {
    let sample = Sample::new();
    let mut fleet = sample.fleet(&[("pi-1", None)]);
    fleet.take(&sample.topic("pi-1", NodeTopic::Availability), b"offline");
    assert_eq!(follow(&sample, &fleet).ending(true), Ending::Offline);
}

#[test]
fn a_node_that_goes_away_in_the_middle_is_not_excused() {
    let sample = Sample::new();
    let mut fleet = sample.fleet(&[("pi-1", Some(working(REVISION, Phase::Trial, 1_000)))]);
    let mut follow = follow(&sample, &fleet);
    fleet.take(&sample.topic("pi-1", NodeTopic::Availability), b"offline");
    follow.update(&fleet, 10);
    assert_eq!((state(&follow, "pi-1"), follow.is_over(60_000)), ("trial", false));
    assert_eq!(follow.ending(true), Ending::Silent);
    sample.says(&mut fleet, "pi-1", 2, Some(idle(7)));
    follow.update(&fleet, 20);
    assert_eq!(state(&follow, "pi-1"), "waiting");
}

#[test]
fn a_new_refusal_of_the_announcement_is_a_verdict_and_an_old_one_is_not() {
    let sample = Sample::new();
    let mut fleet = sample.fleet(&[("pi-1", None)]);
    let refused = |times, seq, order| {
        let refusal = Refusal {
            topic: "deploybus/v1/release/canary/web".into(),
            reason: Reason::BadSignature,
            text: String::new(),
            order,
            attack: true,
            times,
            at: NOW,
        };
        let bytes = sample.report("pi-1", seq, vec![]);
        let report = schemas::seal::Signed::<schemas::report::Report>::from_bytes(&bytes).unwrap();
        let mut report =
            report.verify_by(&node_key("pi-1").public(), sample.trust.fleet()).unwrap().into_inner();
        report.refusals = vec![refusal];
        schemas::seal::Signed::seal(&report, &[node_key("pi-1")]).to_bytes()
    };
    fleet.take(&sample.topic("pi-1", NodeTopic::Report), &refused(1, 2, Some(ours())));
    let mut follow = follow(&sample, &fleet);
    assert_eq!(state(&follow, "pi-1"), "waiting");
    fleet.take(&sample.topic("pi-1", NodeTopic::Report), &refused(2, 3, Some(Digest::of(b"another"))));
    follow.update(&fleet, 4);
    assert_eq!(state(&follow, "pi-1"), "waiting");
    fleet.take(&sample.topic("pi-1", NodeTopic::Report), &refused(3, 4, Some(ours())));
    follow.update(&fleet, 5);
    assert_eq!((state(&follow, "pi-1"), follow.ending(false)), ("refused", Ending::NotKept));
}

#[test]
fn only_believed_members_of_the_group_count() {
    let (sample, stranger) = (Sample::new(), Sample::of("stranger"));
    let mut fleet = sample.empty_fleet();
    assert_eq!(follow(&sample, &fleet).ending(false), Ending::Nobody);
    fleet.take(&sample.topic("pi-1", NodeTopic::Record), &sample.record("pi-1", &["kitchen"]));
    fleet.take(&sample.topic("pi-2", NodeTopic::Record), &stranger.record("pi-2", &["canary"]));
    assert_eq!(follow(&sample, &fleet).ending(false), Ending::Nobody);
    fleet.take(&sample.topic("pi-1", NodeTopic::Record), &sample.record("pi-1", &["canary"]));
    fleet.take(&sample.topic("pi-1", NodeTopic::Report), &sample.report("pi-9", 1, vec![]));
    let follow = follow(&sample, &fleet);
    assert_eq!((state(&follow, "pi-1"), follow.ending(false)), ("not_believed", Ending::Silent));
}
