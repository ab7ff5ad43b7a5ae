//! What is written into the deploy log: what nodes report, and what happens to rollouts.

use std::collections::BTreeSet;

use rollout::{Change, Fleet, Milestone, MilestoneKind, course::Now};
use schemas::{
    deploy_log::{Entry, What},
    id::{Digest, NodeId},
    time::UnixTime,
};

use crate::log::{self, Draft, Log};

/// So many changes are handed over at a time: a whole fleet at once would be much to keep in memory.
const TOGETHER: usize = 1_000;

/// The way to the log, and what was not handed over yet.
#[derive(Debug)]
pub(super) struct Diary {
    log: Log,
    changes: BTreeSet<Change>,
    drafts_behind: Vec<Draft>,
}

impl Diary {
    pub(super) fn new(log: Log) -> Self {
        Self { log, changes: BTreeSet::new(), drafts_behind: Vec::new() }
    }

    /// The fleet has taken `change`. It is handed over with the others of the same step, for each time wakes the writer.
    pub(super) fn observe(&mut self, change: &Change) {
        if matches!(change, Change::Record(_) | Change::Report(_) | Change::Availability(_)) {
            self.changes.insert(change.clone());
        }
    }

    /// Something was heard of a node just now.
    pub(super) fn saw(&self, node: &NodeId, now: UnixTime) {
        self.log.seen(node, now);
    }

    /// Something happened to a rollout.
    pub(super) fn tell(&mut self, milestone: &Milestone, now: Now) {
        let Some(what) = what(milestone.kind) else { return };
        let Milestone { app, version, groups, first, seq, kind, text } = milestone;
        let entry = Entry {
            at: now.wall,
            what,
            app: Some(app.clone()),
            // Of several groups, none is the one.
            group: groups.first().filter(|_| groups.len() == 1).cloned(),
            version: version.clone(),
            revision: *first,
            ended_at: Some(now.wall),
            text: text.clone(),
            ..Entry::default()
        };
        // A controller that died before it published this decides it once more.
        let parts = [app.as_str(), &first.to_string(), &seq.to_string(), kind.name(), text];
        let text = parts.join("\0");
        self.drafts_behind.push(Draft { entry, once: Some(Digest::of(text.as_bytes())) });
        self.catch_up(None, now.wall);
    }

    /// Hands over what was observed, and again what the log had no room for.
    pub(super) fn catch_up(&mut self, fleet: Option<&Fleet>, now: UnixTime) {
        if self.log.append(self.drafts_behind.clone()).is_ok() {
            self.drafts_behind.clear();
        }
        if let Some(fleet) = fleet {
            let changes = Vec::from_iter(std::mem::take(&mut self.changes));
            for changes in changes.chunks(TOGETHER) {
                if log::observe(&self.log, fleet, changes, now).is_err() {
                    self.changes.extend(changes.iter().cloned());
                }
            }
        }
    }
}

fn what(kind: MilestoneKind) -> Option<What> {
    match kind {
        MilestoneKind::Started => Some(What::RolloutStarted),
        MilestoneKind::Stopped => Some(What::RolloutStopped),
        MilestoneKind::Resumed => Some(What::RolloutResumed),
        MilestoneKind::Completed => Some(What::RolloutCompleted),
        MilestoneKind::Aborted => Some(What::RolloutAborted),
        MilestoneKind::Superseded => Some(What::RolloutSuperseded),
        MilestoneKind::WaveOpened | MilestoneKind::WavePassed => None,
    }
}
