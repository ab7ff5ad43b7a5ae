//! How nodes go back when a rollout is ended so: wave after wave, newest first; and those that do not.

use schemas::{
    id::NodeId,
    report::Verdict,
    rollout::{CourseState, Standing, WaveState},
    status::error_text,
};

use super::{
    Conductor, Now, Seat,
    advance::MAX_NAMES,
    state::{INSTALL_LIMIT_MS, NodeState, Skip, Subject, Weight},
};
use crate::{Fleet, MilestoneKind, Node};

impl Conductor {
    /// Lets the waves go back. A wave has so long as an installation may take.
    pub(super) fn go_back(&mut self, fleet: &Fleet, now: Now) -> bool {
        let CourseState::Reverting { cause, wave } = &self.course.state else { return false };
        let (cause, wave) = (cause.clone(), *wave as usize);
        let is_pending = |seat: &Seat| {
            let node = fleet.nodes().get(&seat.node).filter(|node| node.online() == Some(true));
            let has_it = |node: &Node| self.subject.is_installed(node) || self.subject.is_under_way(node);
            seat.wave == wave
                && node.is_some_and(|node| has_it(node) && self.subject.failure_to_go_back(node).is_none())
        };
        let waited_ms = now.mono_ms.saturating_sub(self.wave_since_ms);
        let limit_ms = INSTALL_LIMIT_MS.max(self.subject.trial_ms);
        if waited_ms < limit_ms && self.seats.iter().any(is_pending) {
            return false;
        }
        self.wave_since_ms = now.mono_ms;
        if let Some(before) = wave.checked_sub(1) {
            let wave = u32::try_from(before).unwrap_or_default();
            self.becomes(CourseState::Reverting { cause, wave });
        } else {
            let text = format!("{}; {}", cause.text, self.what_went_back());
            self.becomes(CourseState::Aborted { cause, reverted: true });
            self.tell(MilestoneKind::Aborted, text);
        }
        true
    }

    /// Whether a wave was told to go back.
    pub(super) fn is_told_to_go_back(&self, wave: usize) -> bool {
        let has_begun = self.course.waves[wave].state != WaveState::Closed;
        has_begun
            && match self.course.state {
                CourseState::Reverting { wave: from, .. } => wave >= from as usize,
                CourseState::Aborted { reverted, .. } => reverted,
                _ => false,
            }
    }

    /// The state of a node that is told to go back, and would be in `state` otherwise.
    pub(super) fn on_the_way_back(&self, node: &NodeId, state: NodeState, fleet: &Fleet) -> NodeState {
        let node = fleet.nodes().get(node).filter(|node| self.subject.is_installed(node));
        match (state, node) {
            (NodeState::Skipped(Skip::OtherOrder), _) => NodeState::Skipped(Skip::WentBack),
            (state, None) => state,
            (_, Some(node)) if node.online() != Some(true) => NodeState::Excused,
            (state, Some(_)) if state.weight() == Weight::Pending => state,
            (_, Some(node)) => NodeState::Stays(self.why_it_stays(node)),
        }
    }

    /// Why a node still has the release; empty while it may be about to go back.
    fn why_it_stays(&self, node: &Node) -> String {
        match self.subject.failure_to_go_back(node) {
            Some(text) => text,
            None if self.course.state.is_over() => "it had the time, and has not gone back".to_owned(),
            None => String::new(),
        }
    }

    /// Who has gone back, and who has not and why, in a sentence.
    fn what_went_back(&self) -> String {
        let back = self.seats.iter().filter(|seat| seat.state == NodeState::Skipped(Skip::WentBack)).count();
        let mut stay = self.seats.iter().filter_map(|seat| match &seat.state {
            NodeState::Excused if seat.standing == Standing::None => None,
            NodeState::Stays(why) if why.is_empty() => Some(seat.node.to_string()),
            NodeState::Stays(why) | NodeState::Deferred(why) => Some(format!("{} ({why})", seat.node)),
            NodeState::Excused => Some(format!("{} (away; it does when it is back)", seat.node)),
            _ => None,
        });
        let named: Vec<String> = stay.by_ref().take(MAX_NAMES).collect();
        let went = if back == 1 { "1 node went back".to_owned() } else { format!("{back} nodes went back") };
        match (named.is_empty(), stay.count()) {
            (true, _) => went,
            (false, 0) => format!("{went}; not {}", named.join(", ")),
            (false, more) => format!("{went}; not {} and {more} more", named.join(", ")),
        }
    }
}

impl Subject {
    /// What a node answered that was to go back and has the release all the same.
    fn failure_to_go_back(&self, node: &Node) -> Option<String> {
        let last =
            node.app(&self.app)?.outcomes.last().filter(|outcome| self.mandate.covers(outcome.revision))?;
        let has_failed = !matches!(last.verdict, Verdict::Kept | Verdict::Superseded);
        (has_failed && self.is_installed(node)).then(|| error_text(last.reason, &last.text))
    }
}
