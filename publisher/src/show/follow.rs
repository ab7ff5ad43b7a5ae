//! How following an order reads: a line for each node, a summary, and the same as JSON.

use std::fmt::Write as _;

use rollout::{Follow, Progress, State};
use schemas::{
    id::{AppId, Counter, Digest, GroupId, NodeId, Revision},
    report::{Outcome, Verdict},
};
use serde::Serialize;

use super::{amount, clean, doing};
use crate::exit::Exit;

/// A node's state in one line.
pub(crate) fn line(name: &NodeId, width: usize, progress: &Progress) -> String {
    format!("{:<width$}  {}", name.as_str(), state(progress))
}

/// The longest of the names, so that lines line up.
pub(crate) fn width(follow: &Follow) -> usize {
    follow.nodes().keys().map(|name| name.as_str().len()).max().unwrap_or_default()
}

fn state(progress: &Progress) -> String {
    let lost = if progress.online { "" } else { " (offline now)" };
    match &progress.state {
        State::Waiting => format!("waiting{lost}"),
        State::Offline => "offline: takes it when it is back".to_owned(),
        State::Working { phase, permille, waits_for, hold, until } => {
            format!("{}{lost}", doing(*phase, *permille / 10, waits_for, (*hold, *until)))
        }
        State::Ended(outcome) => ended(outcome, progress.ended_ms),
        State::Overtaken => "superseded: it obeys a newer order".to_owned(),
        State::Refused(refusal) => format!("refused: {}", refusal.reason),
        State::NotBelieved(reason) => format!("not believed: {}", clean(reason)),
    }
}

fn ended(outcome: &Outcome, ended_ms: Option<u64>) -> String {
    let after = amount::duration(ended_ms.unwrap_or(outcome.took_ms));
    let name = outcome.verdict.name().replace('_', " ");
    match (outcome.verdict, outcome.reason) {
        (Verdict::Kept, _) if outcome.requests == 0 && outcome.fetched_bytes == 0 => {
            format!("{name} after {after}, nothing fetched")
        }
        (Verdict::Kept, _) => {
            let (bytes, requests) = (amount::bytes(outcome.fetched_bytes), outcome.requests as usize);
            format!("{name} after {after}, fetched {bytes} in {}", amount::count(requests, "request"))
        }
        (_, Some(reason)) => format!("{name} after {after}: {reason}"),
        (_, None) => format!("{name} after {after}"),
    }
}

/// What it came to: why nodes did not keep it, then one sentence.
pub(crate) fn summary(follow: &Follow, app: &AppId, version: &str, exit: Exit) -> String {
    let failures = follow.nodes().iter().filter_map(|(name, progress)| failure(name, &progress.state));
    let mut text: String = failures.collect();
    if !text.is_empty() {
        text.push('\n');
    }
    let count = |is: fn(&State) -> bool| follow.nodes().values().filter(|node| is(&node.state)).count();
    let (all, kept) = (follow.nodes().len(), count(State::is_kept));
    let offline = count(|state| *state == State::Offline);
    let version = clean(version);
    let _ = write!(text, "{app} {version}: {kept} of {} kept it", amount::count(all, "node"));
    if offline > 0 {
        let _ = write!(text, ", {offline} offline");
    }
    let ended_early = match exit {
        Exit::Silent => "timed out",
        Exit::Interrupted => "interrupted",
        _ => return text,
    };
    let _ = write!(text, "; {ended_early}, the rest goes on by itself: see `publisher status`");
    text
}

fn failure(name: &NodeId, state: &State) -> Option<String> {
    let (reason, sentence) = state.failure()?;
    let mut text = format!("\n{name}: {reason}\n");
    if !sentence.is_empty() {
        let _ = writeln!(text, "  {}", clean(sentence));
    }
    let _ = writeln!(text, "  what to do: {}", reason.advice());
    if let State::Ended(outcome) = state {
        for line in &outcome.log_tail {
            let _ = writeln!(text, "  | {}", clean(line));
        }
    }
    Some(text)
}

/// What `--json` prints at the end.
#[derive(Debug, Serialize)]
pub(crate) struct Outcomes {
    pub(crate) app: AppId,
    pub(crate) group: GroupId,
    pub(crate) version: String,
    pub(crate) counter: Counter,
    pub(crate) revision: Revision,
    pub(crate) release: Digest,
    pub(crate) tree_hash: Option<Digest>,
    pub(crate) uploaded_objects: usize,
    pub(crate) uploaded_bytes: u64,
    pub(crate) exit_code: u8,
    pub(crate) exit_meaning: &'static str,
    pub(crate) nodes: Vec<NodeOutcome>,
}

/// One node in [`Outcomes`].
#[derive(Debug, Serialize)]
pub(crate) struct NodeOutcome {
    node: NodeId,
    state: &'static str,
    online: bool,
    announced_to_verdict_ms: Option<u64>,
    took_ms: Option<u64>,
    fetched_bytes: Option<u64>,
    requests: Option<u32>,
    reason: Option<&'static str>,
    text: String,
    advice: Option<&'static str>,
    log_tail: Vec<String>,
}

/// Every node of the group, for `--json`.
pub(crate) fn outcomes(follow: &Follow) -> Vec<NodeOutcome> {
    let node = |(name, progress): (&NodeId, &Progress)| {
        let outcome = match &progress.state {
            State::Ended(outcome) => Some(outcome),
            _ => None,
        };
        let failure = progress.state.failure();
        NodeOutcome {
            node: name.clone(),
            state: progress.state.name(),
            online: progress.online,
            announced_to_verdict_ms: progress.ended_ms,
            took_ms: outcome.map(|outcome| outcome.took_ms),
            fetched_bytes: outcome.map(|outcome| outcome.fetched_bytes),
            requests: outcome.map(|outcome| outcome.requests),
            reason: failure.map(|(reason, _)| reason.code()),
            text: failure.map(|(_, text)| text.to_owned()).unwrap_or_default(),
            advice: failure.map(|(reason, _)| reason.advice()),
            log_tail: outcome.map(|outcome| outcome.log_tail.clone()).unwrap_or_default(),
        }
    };
    follow.nodes().iter().map(node).collect()
}

#[cfg(test)]
mod tests {
    use schemas::{reason::Reason, status::Phase, topic::NodeTopic};

    use super::*;
    use crate::samples::{Sample, ended, idle, outcome, working};

    fn story() -> Follow {
        let sample = Sample::new();
        let failed = Outcome {
            reason: Some(Reason::Unhealthy),
            text: "http://127.0.0.1:8000/health answered 500".into(),
            log_tail: vec!["starting".into(), "Traceback \x1b[31mred".into()],
            ..outcome(50, Verdict::RolledBack)
        };
        let mut fleet = sample.fleet(&[
            ("pi-kitchen", Some(ended(outcome(50, Verdict::Kept)))),
            ("pi-barn", Some(ended(failed))),
            ("pi-hall", Some(working(50, Phase::Fetching, 412))),
            ("pi-roof", Some(idle(7))),
            ("pi-shed", None),
        ]);
        fleet.take(&sample.topic("pi-shed", NodeTopic::Availability), b"offline");
        Follow::new(&sample.order(50, Digest::of(b"release")), Digest::of(b"order"), &fleet)
    }

    #[test]
    fn every_state_has_its_line() {
        let follow = story();
        let width = width(&follow);
        let lines: Vec<_> =
            follow.nodes().iter().map(|(name, progress)| line(name, width, progress)).collect();
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[test]
    fn the_summary_says_why_and_what_to_do() {
        let (follow, app) = (story(), "web".parse().unwrap());
        insta::assert_snapshot!(summary(&follow, &app, "1.1.0", Exit::NotKept));
        assert!(summary(&follow, &app, "1.1.0", Exit::Silent).contains("timed out"));
    }

    #[test]
    fn the_json_of_nodes_has_every_key_for_every_node() {
        let outcomes = outcomes(&story());
        insta::assert_json_snapshot!(outcomes[..2]);
        let keys = |node: &NodeOutcome| serde_json::to_value(node).unwrap().as_object().unwrap().len();
        assert!(outcomes.iter().all(|node| keys(node) == 11));
    }
}
