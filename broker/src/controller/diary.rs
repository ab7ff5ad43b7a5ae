//! What is written into the deploy log: what nodes report, and what happens to rollouts.

use std::collections::BTreeSet;

use rollout::{
    Change, Fleet,
    course::{Conductor, Milestone, MilestoneKind, Now},
};
use schemas::{
    deploy_log::{Entry, What},
    id::{Digest, NodeId},
    time::UnixTime,
};

use crate::log::{self, Draft, Log};

/// The way to the log, and what it had no room for.
#[derive(Debug)]
pub(super) struct Diary {
    log: Log,
    nodes_behind: BTreeSet<NodeId>,
    drafts_behind: Vec<Draft>,
}

impl Diary {
    pub(super) fn new(log: Log) -> Self {
        Self { log, nodes_behind: BTreeSet::new(), drafts_behind: Vec::new() }
    }

    /// `fleet` has taken `change`.
    pub(super) fn observe(&mut self, fleet: &Fleet, change: &Change, now: UnixTime) {
        if log::observe(&self.log, fleet, change, now).is_err()
            && let Change::Record(node) | Change::Report(node) = change
        {
            self.nodes_behind.insert(node.clone());
        }
    }

    /// Something was heard of a node just now.
    pub(super) fn saw(&self, node: &NodeId, now: UnixTime) {
        self.log.seen(node, now);
    }

    /// Something happened to a rollout.
    pub(super) fn tell(&mut self, conductor: &Conductor, milestone: &Milestone, now: Now) {
        let Some(what) = what(milestone.kind) else { return };
        let groups = conductor.plan().groups();
        let entry = Entry {
            at: now.wall,
            what,
            app: Some(conductor.app().clone()),
            // Of several groups, none is the one.
            group: groups.first().filter(|_| groups.len() == 1).cloned(),
            version: conductor.version().to_owned(),
            revision: conductor.first(),
            ended_at: Some(now.wall),
            text: milestone.text.clone(),
            ..Entry::default()
        };
        // A controller that died before it published this decides it once more.
        let parts = [conductor.app().as_str(), &conductor.first().to_string(), &conductor.seq().to_string()];
        let text = [&parts[..], &[milestone.kind.name(), &milestone.text]].concat().join("\0");
        self.drafts_behind.push(Draft { entry, once: Some(Digest::of(text.as_bytes())) });
        self.catch_up(None, now.wall);
    }

    /// Hands over again what the log had no room for.
    pub(super) fn catch_up(&mut self, fleet: Option<&Fleet>, now: UnixTime) {
        if self.log.append(self.drafts_behind.clone()).is_ok() {
            self.drafts_behind.clear();
        }
        if let Some(fleet) = fleet {
            for node in std::mem::take(&mut self.nodes_behind) {
                // What follows from a record follows from the report behind it as well.
                self.observe(fleet, &Change::Record(node), now);
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
