use rollout::samples::{NOW, Sample, ended, idle, node, outcome};
use schemas::{
    reason::Reason,
    report::{Outcome, Verdict},
    topic::NodeTopic,
};

use super::*;

fn report() -> Change {
    Change::Report(node("pi-1"))
}

fn later() -> UnixTime {
    NOW.plus_secs(5)
}

#[test]
fn each_outcome_is_an_entry_with_what_node_and_order_say() {
    let sample = Sample::new();
    let announcement = sample.announcement(50, 9, "1.1.0");
    let release = announcement.release.digest();
    let failed = Outcome {
        release,
        reason: Some(Reason::Unhealthy),
        text: "it answered 500".into(),
        log_tail: vec!["last words".into()],
        took_ms: 9_500,
        ..outcome(50, Verdict::RolledBack)
    };
    let app = AppReport {
        outcomes: vec![Outcome { at: UnixTime(7), ..outcome(49, Verdict::Kept) }, failed],
        ..idle(50)
    };
    let mut fleet = sample.fleet(&[("pi-1", Some(app))]);
    let kind = Kind::Release("canary".parse().unwrap(), "web".parse().unwrap());
    fleet.take(&kind.of(sample.trust.fleet()), &announcement.to_bytes());
    let drafts = drafts(&fleet, &report(), later());
    assert_eq!(
        drafts.iter().map(|draft| draft.entry.what).collect::<Vec<_>>(),
        [What::Installed, What::RolledBack]
    );
    let expected = Entry {
        seq: 0,
        at: later(),
        what: What::RolledBack,
        node: Some(node("pi-1")),
        app: Some("web".parse().unwrap()),
        group: Some("canary".parse().unwrap()),
        version: "1.1.0".into(),
        counter: Counter(9),
        revision: schemas::id::Revision(50),
        release: Some(release),
        started_at: Some(NOW.minus_secs(9)),
        ended_at: Some(NOW),
        took_ms: 9_500,
        fetched_bytes: 511,
        requests: 1,
        reason: Some(Reason::Unhealthy),
        text: "it answered 500".into(),
        log_tail: vec!["last words".into()],
        ..Entry::default()
    };
    assert_eq!(drafts[1].entry, expected);
}

#[test]
fn without_the_order_the_slot_says_where_a_release_came_from() {
    let sample = Sample::new();
    let fleet = sample.fleet(&[("pi-1", Some(ended(outcome(50, Verdict::Kept))))]);
    let drafts = drafts(&fleet, &report(), later());
    assert_eq!(drafts[0].entry.group, Some("canary".parse().unwrap()));
    assert_eq!(drafts[0].entry.counter, Counter(1));
}

#[test]
fn the_same_report_gives_the_same_keys_and_another_outcome_another() {
    let sample = Sample::new();
    let keys = |outcome: Outcome, now| {
        let fleet = sample.fleet(&[("pi-1", Some(ended(outcome)))]);
        drafts(&fleet, &report(), now)[0].once
    };
    let first = keys(outcome(50, Verdict::Kept), NOW);
    assert_eq!(first, keys(Outcome { log_tail: vec!["gone".into()], ..outcome(50, Verdict::Kept) }, later()));
    assert_ne!(first, keys(outcome(51, Verdict::Kept), NOW));
    assert_ne!(first, keys(Outcome { at: later(), ..outcome(50, Verdict::Kept) }, NOW));
}

#[test]
fn what_is_not_believed_is_not_written() {
    let (sample, stranger) = (Sample::new(), Sample::of("stranger"));
    let mut fleet = sample.empty_fleet();
    let bytes = sample.report("pi-1", 1, vec![ended(outcome(50, Verdict::Kept))]);
    fleet.take(&sample.topic("pi-1", NodeTopic::Report), &bytes);
    assert_eq!(drafts(&fleet, &report(), later()), []);
    assert_eq!(seen(&fleet, &report(), later()), None);
    fleet.take(&sample.topic("pi-1", NodeTopic::Record), &stranger.record("pi-1", &["all"]));
    assert_eq!(drafts(&fleet, &Change::Record(node("pi-1")), later()), []);

    fleet.take(&sample.topic("pi-1", NodeTopic::Record), &sample.record("pi-1", &["all", "canary"]));
    let whats: Vec<_> = drafts(&fleet, &Change::Record(node("pi-1")), later())
        .into_iter()
        .map(|draft| draft.entry.what)
        .collect();
    assert_eq!(whats, [What::NodeAdded, What::Installed], "the record proves the report that waited for it");
    assert_eq!(seen(&fleet, &report(), later()), Some((node("pi-1"), NOW)));
}

#[test]
fn a_refusal_is_written_once_a_day_with_its_mark() {
    let topic = "deploybus/v1/release/canary/web";
    let refusal = |at| Refusal {
        topic: topic.into(),
        reason: Reason::BadSignature,
        text: "order has 0 of 1 valid signatures".into(),
        order: None,
        attack: true,
        times: 3,
        at,
    };
    let written = |at| of_refusal(&node("pi-1"), &refusal(at), later());
    let entry = written(NOW).entry;
    assert_eq!((entry.what, entry.attack, entry.reason), (What::Refused, true, Some(Reason::BadSignature)));
    assert_eq!((entry.group.unwrap().as_str(), entry.app.unwrap().as_str()), ("canary", "web"));
    assert_eq!(entry.text, format!("{topic}: order has 0 of 1 valid signatures"));
    assert_eq!(written(NOW).once, written(NOW.plus_secs(60)).once);
    assert_ne!(written(NOW).once, written(NOW.plus_secs(REFUSAL_PERIOD_SECS)).once);
}

#[test]
fn a_node_is_added_once_for_each_key_and_retired() {
    let sample = Sample::new();
    let fleet = sample.fleet(&[("pi-1", None)]);
    let change = Change::Record(node("pi-1"));
    let added = drafts(&fleet, &change, later());
    assert_eq!(
        (added.len(), added[0].entry.what, added[0].entry.text.as_str()),
        (1, What::NodeAdded, "in all, canary")
    );
    let record = fleet.nodes()[&node("pi-1")].record().unwrap();
    let retired = Record { status: RecordStatus::Revoked, ..Record::clone(record) };
    let retired = membership(&retired, later());
    assert_eq!((retired.entry.what, retired.entry.text.as_str()), (What::NodeRetired, ""));
    assert_ne!(retired.once, added[0].once);
    let other_key = Record { key: rollout::samples::node_key("other").public(), ..Record::clone(record) };
    assert_ne!(membership(&other_key, later()).once, added[0].once);
}

#[test]
fn being_online_is_being_there_and_being_offline_is_not() {
    let sample = Sample::new();
    let mut fleet = sample.fleet(&[("pi-1", None)]);
    let change = Change::Availability(node("pi-1"));
    assert_eq!(seen(&fleet, &change, later()), Some((node("pi-1"), later())));
    fleet.take(&sample.topic("pi-1", NodeTopic::Availability), b"offline");
    assert_eq!(seen(&fleet, &change, later()), None);
}
