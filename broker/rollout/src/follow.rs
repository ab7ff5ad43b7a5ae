//! Following an order through a group to its end. Pure: a [`Fleet`] and the time in, each node's state and an ending out.

use std::collections::BTreeMap;

use schemas::{
    hold::HoldCode,
    id::{AppId, Digest, GroupId, NodeId, Revision},
    order::{Audience, Order},
    reason::Reason,
    report::{AppReport, Outcome, Refusal, Verdict},
    status::Phase,
    time::UnixTime,
    topic::{Kind, Topic},
};

use crate::fleet::{Fleet, Node};

/// A node that is offline may just be connecting again: so long it is waited for.
const OFFLINE_GRACE_MS: u64 = 3_000;
/// What is not believed may be so by a record that is on its way; after so long it is another fleet's, or a forgery, and no verdict comes.
const DISBELIEF_GRACE_MS: u64 = 10_000;

/// An order and how far each node of its group is with it.
#[derive(Debug, Clone)]
pub struct Follow {
    topic: Topic,
    group: GroupId,
    app: AppId,
    revision: Revision,
    audience: Audience,
    order: Digest,
    release: Digest,
    /// What each node had refused on this topic before the order was published.
    refused_before: BTreeMap<NodeId, Vec<Refusal>>,
    nodes: BTreeMap<NodeId, Progress>,
}

/// How far a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// What it does about the order.
    pub state: State,
    /// Whether its session is there.
    pub online: bool,
    /// It has begun, so that going offline is no excuse any more.
    has_begun: bool,
    /// When its verdict was seen here, counted from the publishing.
    pub ended_ms: Option<u64>,
}

/// What a node does about the order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It has said nothing about the order yet.
    Waiting,
    /// It was away when the order came, and takes it when it is back.
    Offline,
    /// It is on the way.
    Working {
        /// The step it is at.
        phase: Phase,
        /// How much of the step is done.
        permille: u16,
        /// What it waits for, in words; empty when for nothing.
        waits_for: String,
        /// What holds it back from beginning.
        hold: Option<HoldCode>,
        /// When it goes on by itself, where that is known.
        until: Option<UnixTime>,
    },
    /// It gave a verdict.
    Ended(Outcome),
    /// It obeys a newer order, so no verdict on this one will come.
    Overtaken,
    /// It did not accept the announcement.
    Refused(Refusal),
    /// What it says does not verify.
    NotBelieved(String),
}

/// What following an order comes to for the whole group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Every node kept it.
    Kept,
    /// At least one node did not keep it.
    NotKept,
    /// At least one node is online and gave no verdict.
    Silent,
    /// The group has no nodes.
    Nobody,
    /// Every node that is online kept it, others are offline.
    Offline,
}

impl State {
    /// Whether nothing more is expected of the node.
    fn is_final(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::Overtaken | Self::Refused(_))
    }

    /// The state in one word, as people and JSON see it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Offline => "offline",
            Self::Working { phase, .. } => phase.name(),
            Self::Ended(outcome) => outcome.verdict.name(),
            Self::Overtaken => Verdict::Superseded.name(),
            Self::Refused(_) => Verdict::Refused.name(),
            Self::NotBelieved(_) => "not_believed",
        }
    }

    /// Whether the node runs the release.
    pub fn is_kept(&self) -> bool {
        matches!(self, Self::Ended(outcome) if outcome.verdict == Verdict::Kept)
    }

    /// Why it did not work, with the sentence for people.
    pub fn failure(&self) -> Option<(Reason, &str)> {
        match self {
            Self::Ended(outcome) => outcome.reason.map(|reason| (reason, outcome.text.as_str())),
            Self::Refused(refusal) => Some((refusal.reason, refusal.text.as_str())),
            Self::Overtaken => Some((Reason::Superseded, "a newer order took its place")),
            _ => None,
        }
    }
}

impl Follow {
    /// Begins to follow an order with this digest that is about to be published in the fleet as it is now.
    pub fn new(order: &Order, digest: Digest, before: &Fleet) -> Self {
        let topic = Kind::Release(order.group.clone(), order.app.clone()).of(&order.head.fleet);
        let refused = |node: &Node| refusals_on(node, &topic).cloned().collect();
        let mut follow = Self {
            group: order.group.clone(),
            app: order.app.clone(),
            revision: order.revision,
            order: digest,
            release: order.release,
            audience: order.audience.clone(),
            refused_before: before.nodes().iter().map(|(name, node)| (name.clone(), refused(node))).collect(),
            nodes: BTreeMap::new(),
            topic,
        };
        follow.update(before, 0);
        follow
    }

    /// Looks at the fleet again and names the nodes whose state is another one.
    pub fn update(&mut self, fleet: &Fleet, now_ms: u64) -> Vec<NodeId> {
        let mut changed = Vec::new();
        for (name, node) in fleet.nodes() {
            if !node.is_in(&self.group) || !self.audience.includes(name) {
                continue;
            }
            let before = self.nodes.get(name);
            let progress = self.progress(name, node, before, now_ms);
            if before != Some(&progress) {
                changed.push(name.clone());
                self.nodes.insert(name.clone(), progress);
            }
        }
        changed
    }

    /// Every node of the group, by name.
    pub fn nodes(&self) -> &BTreeMap<NodeId, Progress> {
        &self.nodes
    }

    /// Whether there is nothing more to wait for.
    pub fn is_over(&self, now_ms: u64) -> bool {
        let is_settled = |node: &Progress| match node.state {
            State::Offline => now_ms >= OFFLINE_GRACE_MS,
            State::NotBelieved(_) => now_ms >= DISBELIEF_GRACE_MS,
            _ => node.state.is_final(),
        };
        self.nodes.values().all(is_settled)
    }

    /// What it comes to. With `ignore_offline`, nodes that are offline do not count when at least one kept it.
    pub fn ending(&self, ignore_offline: bool) -> Ending {
        let any = |is: fn(&State) -> bool| self.nodes.values().any(|node| is(&node.state));
        if self.nodes.is_empty() {
            Ending::Nobody
        } else if any(|state| state.is_final() && !state.is_kept()) {
            Ending::NotKept
        } else if any(|state| !state.is_final() && *state != State::Offline) {
            Ending::Silent
        } else if any(|state| *state == State::Offline) && !(ignore_offline && any(State::is_kept)) {
            Ending::Offline
        } else {
            Ending::Kept
        }
    }

    fn progress(&self, name: &NodeId, node: &Node, before: Option<&Progress>, now_ms: u64) -> Progress {
        let online = node.online().unwrap_or(false);
        let had_begun = before.is_some_and(|before| before.has_begun);
        let said = self.said(name, node);
        let state = match said {
            State::Waiting if !online && !had_begun => State::Offline,
            said => said,
        };
        let ended_ms = state.is_final().then(|| before.and_then(|before| before.ended_ms).unwrap_or(now_ms));
        let has_begun = had_begun || matches!(state, State::Working { .. });
        Progress { state, online, has_begun, ended_ms }
    }

    /// What the node itself says about the order.
    fn said(&self, name: &NodeId, node: &Node) -> State {
        if let Some(reason) = node.disbelief() {
            return State::NotBelieved(reason.to_owned());
        }
        let app = node.app(&self.app);
        if let Some(state) = app.and_then(|app| self.said_of_app(app)) {
            return state;
        }
        let known = self.refused_before.get(name);
        // A node that comes back may tell of refusals that nobody has heard of, and that are about other orders.
        let is_new = |refusal: &&Refusal| {
            refusal.order.is_none_or(|order| order == self.order)
                && !known.is_some_and(|known| known.contains(refusal))
        };
        match refusals_on(node, &self.topic).rfind(is_new) {
            Some(refusal) => State::Refused(refusal.clone()),
            None => State::Waiting,
        }
    }

    /// A number that somebody else has used up says nothing about ours.
    fn is_about(&self, outcome: &Outcome) -> bool {
        outcome.revision == self.revision && outcome.release == self.release
    }

    fn said_of_app(&self, app: &AppReport) -> Option<State> {
        if let Some(outcome) = app.outcomes.iter().rfind(|outcome| self.is_about(outcome)) {
            return Some(State::Ended(outcome.clone()));
        }
        if let Some(target) = app.target.as_ref().filter(|target| target.revision == self.revision) {
            return Some(State::Working {
                phase: app.phase,
                permille: target.progress_permille,
                waits_for: target.waits_for.clone(),
                hold: target.hold,
                until: target.until,
            });
        }
        (app.revision > self.revision).then_some(State::Overtaken)
    }
}

fn refusals_on<'a>(node: &'a Node, topic: &Topic) -> impl DoubleEndedIterator<Item = &'a Refusal> {
    let topic = topic.to_string();
    let refusals = node.report().map(|report| report.refusals.as_slice()).unwrap_or_default();
    refusals.iter().filter(move |refusal| refusal.topic == topic)
}

#[cfg(test)]
mod tests;
