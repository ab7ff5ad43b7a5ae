//! How an order ended, made small enough for a report.

use schemas::{
    id::{Digest, Revision},
    reason::Reason,
    report::{MAX_LOG_BYTES, MAX_LOG_LINES, MAX_OUTCOMES, Outcome, Verdict},
    time::UnixTime,
};

use crate::{
    input::Fault,
    saved::{MAX_STORES, Saved, Slot, Spent},
    series,
};

/// Most bytes of a sentence in a report: several of them must fit beside their log tails.
const MAX_TEXT_BYTES: usize = 512;

/// Why an order did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) reason: Reason,
    pub(crate) text: String,
    pub(crate) log_tail: Vec<String>,
}

/// What an outcome is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) revision: Revision,
    pub(crate) release: Digest,
    pub(crate) version: String,
}

impl Failure {
    pub(crate) fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), log_tail: Vec::new() }
    }

    /// The order goes round in circles.
    pub(crate) fn endless() -> Self {
        let text = format!("journal was stored {MAX_STORES} times without a verdict");
        Self::new(Reason::Endless, text)
    }

    /// Node or worker went down during the trial once more than the slot may take.
    pub(crate) fn tries_used_up(slot: &Slot) -> Self {
        let times = slot.part.trial.tries.saturating_add(1);
        Self::new(Reason::TriesUsedUp, format!("node or worker went down {times} times during the trial"))
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self { reason: fault.reason, text: fault.text, log_tail: fault.log_tail }
    }
}

impl From<&Slot> for Subject {
    fn from(slot: &Slot) -> Self {
        Self { revision: slot.revision, release: slot.release, version: slot.version.clone() }
    }
}

impl Subject {
    /// How the order ended well.
    pub(crate) fn kept(self, text: &str, spent: Spent, at: UnixTime) -> Outcome {
        self.outcome(Verdict::Kept, None, text, Vec::new(), spent, at)
    }

    /// How the order ended otherwise.
    pub(crate) fn ended(self, verdict: Verdict, failure: Failure, spent: Spent, at: UnixTime) -> Outcome {
        let Failure { reason, text, log_tail } = failure;
        self.outcome(verdict, Some(reason), &text, bounded(log_tail), spent, at)
    }

    fn outcome(
        self,
        verdict: Verdict,
        reason: Option<Reason>,
        text: &str,
        log_tail: Vec<String>,
        spent: Spent,
        at: UnixTime,
    ) -> Outcome {
        Outcome {
            revision: self.revision,
            release: self.release,
            version: self.version,
            verdict,
            reason,
            text: prefix(text, MAX_TEXT_BYTES).to_owned(),
            log_tail,
            took_ms: spent.took_ms,
            fetched_bytes: spent.fetched_bytes,
            requests: spent.requests,
            built: spent.built,
            at,
        }
    }
}

/// Adds an outcome. Only the newest keeps its log tail. One without which an order would be begun again is never
/// dropped.
pub(crate) fn push(saved: &mut Saved, outcome: Outcome) {
    for older in &mut saved.outcomes {
        older.log_tail.clear();
    }
    if outcome.verdict.was_begun() && saved.consented == Some(outcome.release) {
        saved.consented = None;
    }
    saved.stores = 0;
    // What is tried once more because somebody asks for it ends once more, unless another order takes its place.
    let same = |before: &Outcome| before.revision == outcome.revision;
    if !outcome.verdict.was_begun()
        && saved.outcomes.iter().any(|before| same(before) && before.verdict.was_begun())
    {
        return;
    }
    saved.outcomes.retain(|before| !same(before));
    saved.outcomes.push(outcome);
    let needed = series::needed(saved);
    while saved.outcomes.len() > MAX_OUTCOMES {
        let before = &saved.outcomes[..saved.outcomes.len() - 1];
        let Some(dropped) = before.iter().position(|o| !needed.contains(&o.revision)) else { break };
        saved.outcomes.remove(dropped);
    }
}

/// The last lines that fit a report.
pub(crate) fn bounded(log_tail: Vec<String>) -> Vec<String> {
    let mut room = MAX_LOG_BYTES;
    let mut lines = Vec::new();
    for line in log_tail.into_iter().rev().take(MAX_LOG_LINES) {
        let line = prefix(&line, room).to_owned();
        room -= line.len();
        lines.push(line);
        if room == 0 {
            break;
        }
    }
    lines.reverse();
    lines
}

/// The longest beginning of `text` of at most `bytes` that ends between two characters.
fn prefix(text: &str, bytes: usize) -> &str {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_tail_is_bounded_in_lines_and_bytes_and_keeps_the_last_lines() {
        let many: Vec<String> = (0..90).map(|n| format!("line {n}")).collect();
        let tail = bounded(many);
        assert_eq!((tail.len(), tail.last().unwrap().as_str()), (MAX_LOG_LINES, "line 89"));
        let long = bounded(vec!["ä".repeat(MAX_LOG_BYTES); 3]);
        assert_eq!(long.iter().map(String::len).sum::<usize>(), MAX_LOG_BYTES);
    }

    #[test]
    fn only_the_newest_outcome_keeps_its_log_tail() {
        let mut saved = saved();
        push(&mut saved, outcome(1));
        push(&mut saved, outcome(2));
        let lines: Vec<usize> = saved.outcomes.iter().map(|o| o.log_tail.len()).collect();
        assert_eq!(lines, [0, 1]);
    }

    #[test]
    fn the_outcome_of_the_obeyed_order_outlives_later_ones() {
        let mut saved = saved();
        saved.obeyed = Revision(1);
        for revision in 1..9 {
            push(&mut saved, outcome(revision));
        }
        let revisions: Vec<u64> = saved.outcomes.iter().map(|o| o.revision.0).collect();
        assert_eq!(revisions, [1, 6, 7, 8]);
    }

    fn saved() -> Saved {
        Saved::new("web".parse().unwrap())
    }

    fn outcome(revision: u64) -> Outcome {
        let subject =
            Subject { revision: Revision(revision), release: Digest([0; 32]), version: String::new() };
        let failure =
            Failure { log_tail: vec!["x".into()], ..Failure::new(Reason::Unhealthy, "x".repeat(999)) };
        let outcome = subject.ended(Verdict::Failed, failure, Spent::default(), UnixTime(0));
        assert_eq!(outcome.text.len(), MAX_TEXT_BYTES);
        outcome
    }
}
