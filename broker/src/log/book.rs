//! What a change of the fleet means for the log. Pure: the fleet after the change in, drafts out.
//!
//! Only reports that are believed count. Each draft has a key that follows from what happened alone, so that the same
//! report, heard again after a restart, gives the same drafts.

use rollout::{Change, Fleet, Node};
use schemas::{
    deploy_log::{Entry, What},
    id::{AppId, Counter, Digest, GroupId, NodeId},
    record::{Record, RecordStatus},
    report::{AppReport, Outcome, Refusal},
    time::UnixTime,
    topic::{Kind, Topic},
};

use super::Draft;

/// The same refusal of a node is written once in this time, however often it comes: who floods a node with rubbish is
/// not to flood the log too.
const REFUSAL_PERIOD_SECS: u64 = 24 * 60 * 60;

/// An honest node has a few outcomes per app in its report; a stolen one is not to fill the disk with as many as fit.
const MAX_OUTCOMES_PER_REPORT: usize = 32;

/// What is to be written about `change`, which `fleet` has taken.
pub(super) fn drafts(fleet: &Fleet, change: &Change, now: UnixTime) -> Vec<Draft> {
    let (name, is_record) = match change {
        Change::Record(name) => (name, true),
        Change::Report(name) => (name, false),
        _ => return Vec::new(),
    };
    let Some(node) = fleet.nodes().get(name) else { return Vec::new() };
    // A record may be what a report waited for.
    let record = node.record().filter(|_| is_record).map(|record| membership(record, now));
    record.into_iter().chain(of_report(fleet, name, node, now)).collect()
}

/// When a change proves that a node was there.
pub(super) fn seen(fleet: &Fleet, change: &Change, now: UnixTime) -> Option<(NodeId, UnixTime)> {
    match change {
        Change::Report(name) => {
            let report = fleet.nodes().get(name)?.report()?;
            // It may be retained since long; and a clock that runs ahead is not to put a node into the future.
            Some((name.clone(), report.head.issued_at.min(now)))
        }
        Change::Availability(name) => {
            let is_online = fleet.nodes().get(name)?.online() == Some(true);
            is_online.then(|| (name.clone(), now))
        }
        _ => None,
    }
}

fn membership(record: &Record, now: UnixTime) -> Draft {
    let groups: Vec<_> = record.groups.iter().map(GroupId::as_str).collect();
    let (what, text, once) = match record.status {
        // Its groups and labels change, the key does not unless it is added anew.
        RecordStatus::Active => {
            (What::NodeAdded, format!("in {}", groups.join(", ")), record.key.id().to_string())
        }
        RecordStatus::Revoked => (What::NodeRetired, String::new(), record.seq.to_string()),
    };
    let entry = Entry {
        at: now,
        what,
        node: Some(record.node.clone()),
        ended_at: Some(record.head.issued_at),
        text: if groups.is_empty() { String::new() } else { text },
        ..Entry::default()
    };
    draft(entry, &[what.name(), record.node.as_str(), &once])
}

fn of_report(fleet: &Fleet, name: &NodeId, node: &Node, now: UnixTime) -> Vec<Draft> {
    let Some(report) = node.report() else { return Vec::new() };
    let outcomes = report
        .apps
        .iter()
        .flat_map(|app| app.outcomes.iter().map(move |outcome| of_outcome(fleet, name, app, outcome, now)))
        .take(MAX_OUTCOMES_PER_REPORT);
    let refusals = report.refusals.iter().map(|refusal| of_refusal(name, refusal, now));
    let mut drafts: Vec<_> = outcomes.chain(refusals).collect();
    // As it went on the node; what ended at the same second stays as it was told.
    drafts.sort_by_key(|draft| draft.entry.ended_at);
    drafts
}

fn of_outcome(fleet: &Fleet, name: &NodeId, app: &AppReport, outcome: &Outcome, now: UnixTime) -> Draft {
    let origin = Origin::of(fleet, app, outcome);
    let entry = Entry {
        at: now,
        what: outcome.verdict.into(),
        node: Some(name.clone()),
        app: Some(app.app.clone()),
        group: origin.group,
        version: outcome.version.clone(),
        counter: origin.counter,
        commit: origin.commit,
        revision: outcome.revision,
        release: Some(outcome.release),
        started_at: Some(outcome.at.minus_secs(outcome.took_ms / 1_000)),
        ended_at: Some(outcome.at),
        took_ms: outcome.took_ms,
        fetched_bytes: outcome.fetched_bytes,
        requests: outcome.requests,
        strategy: outcome.built.as_ref().map(|built| built.strategy.name().to_owned()).unwrap_or_default(),
        reason: outcome.reason,
        attack: outcome.reason.is_some_and(schemas::reason::Reason::is_attack),
        text: outcome.text.clone(),
        log_tail: outcome.log_tail.clone(),
        ..Entry::default()
    };
    let (revision, release) = (outcome.revision.to_string(), outcome.release.to_string());
    let parts = [name.as_str(), app.app.as_str(), &revision, &release, &outcome.at.0.to_string()];
    draft(entry, &[&["outcome"], &parts[..]].concat())
}

/// What an outcome does not say itself.
#[derive(Debug, Default)]
struct Origin {
    group: Option<GroupId>,
    counter: Counter,
    commit: String,
}

impl Origin {
    /// From the present orders, else from what the node has on its disk.
    fn of(fleet: &Fleet, app: &AppReport, outcome: &Outcome) -> Self {
        let is_it = |ordered: &&rollout::Ordered| {
            let order = &ordered.announced.order;
            order.app == app.app && order.revision == outcome.revision && order.release == outcome.release
        };
        if let Some(ordered) = fleet.believed_orders().find(is_it) {
            let (order, release) = (&ordered.announced.order, &ordered.announced.release);
            return Self {
                group: Some(order.group.clone()),
                counter: release.counter,
                commit: release.provenance.commit.clone(),
            };
        }
        let slots = app.installed.iter().chain(&app.previous);
        let slot = { slots }.find(|slot| slot.release == outcome.release);
        slot.map_or_else(Self::default, |slot| Self {
            group: Some(slot.group.clone()),
            counter: slot.counter,
            commit: slot.commit.clone(),
        })
    }
}

fn of_refusal(name: &NodeId, refusal: &Refusal, now: UnixTime) -> Draft {
    let (group, app) = ordered_by(&refusal.topic).unzip();
    let entry = Entry {
        at: now,
        what: What::Refused,
        node: Some(name.clone()),
        app,
        group,
        ended_at: Some(refusal.at),
        reason: Some(refusal.reason),
        attack: refusal.attack,
        text: format!("{}: {}", refusal.topic, refusal.text),
        ..Entry::default()
    };
    let period = (refusal.at.0 / REFUSAL_PERIOD_SECS).to_string();
    draft(entry, &["refusal", name.as_str(), &refusal.topic, refusal.reason.code(), &period])
}

/// Group and app of a topic on which orders come.
fn ordered_by(topic: &str) -> Option<(GroupId, AppId)> {
    match topic.parse::<Topic>().ok()?.kind {
        Kind::Release(group, app) => Some((group, app)),
        _ => None,
    }
}

fn draft(entry: Entry, once: &[&str]) -> Draft {
    // None of the parts has a NUL: ids, codes and numbers, and a topic as the last but two.
    Draft { entry, once: Some(Digest::of(once.join("\0").as_bytes())) }
}

#[cfg(test)]
mod tests;
