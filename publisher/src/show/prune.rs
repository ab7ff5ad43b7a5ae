//! What nodes have removed of their engines' disks. Pure.

use std::collections::BTreeMap;

use schemas::{id::NodeId, prune::Pruned};
use serde_json::{Value, json};

use super::{amount, clean};
use crate::exit::Exit;

/// More names than these are only counted for people.
const SHOWN: usize = 20;

/// What a node has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// This.
    Given(Pruned),
    /// Nothing, until now.
    Silent,
    /// It was not asked, for it is away.
    Offline,
}

/// For people.
pub(crate) fn text(answers: &BTreeMap<NodeId, Answer>) -> String {
    let lines: Vec<_> = answers.iter().map(|(node, answer)| of_node(node, answer)).collect();
    lines.join("\n")
}

fn of_node(node: &NodeId, answer: &Answer) -> String {
    let pruned = match answer {
        Answer::Given(pruned) => pruned,
        Answer::Silent => {
            return format!(
                "{node} does not answer: `requests` of its settings may not have `prune`, and an older worker does not know it"
            );
        }
        Answer::Offline => return format!("{node} is offline and was not asked"),
    };
    let freed = amount::bytes(pruned.freed_bytes);
    let mut text = match (pruned.count, pruned.dry_run) {
        (0, _) if pruned.error.is_empty() => format!("{node} has nothing that no release needs"),
        (0, _) => format!("{node} has removed nothing"),
        (_, true) => format!("{node} would free {freed}:"),
        (_, false) => format!("{node} has freed {freed}:"),
    };
    let mut below: Vec<_> = pruned.removed.iter().take(SHOWN).map(|name| clean(name)).collect();
    let more = pruned.count.saturating_sub(below.len() as u64);
    if more > 0 {
        below.push(format!("and {more} more"));
    }
    if !pruned.error.is_empty() {
        below.push(format!("but {}", clean(&pruned.error)));
    }
    text.extend(below.iter().map(|line| format!("\n  {line}")));
    text
}

/// For programs: every key for every node.
pub(crate) fn json(answers: &BTreeMap<NodeId, Answer>) -> Value {
    let of = |(node, answer): (&NodeId, &Answer)| {
        let (state, pruned) = match answer {
            Answer::Given(pruned) if pruned.error.is_empty() => ("done", Some(pruned)),
            Answer::Given(pruned) => ("failed", Some(pruned)),
            Answer::Silent => ("silent", None),
            Answer::Offline => ("offline", None),
        };
        json!({
            "node": node,
            "state": state,
            "dry_run": pruned.is_some_and(|pruned| pruned.dry_run),
            "removed": pruned.map(|pruned| pruned.removed.clone()).unwrap_or_default(),
            "count": pruned.map_or(0, |pruned| pruned.count),
            "freed_bytes": pruned.map_or(0, |pruned| pruned.freed_bytes),
            "error": pruned.map(|pruned| pruned.error.clone()).unwrap_or_default(),
        })
    };
    answers.iter().map(of).collect()
}

/// The worst of all answers.
pub(crate) fn exit(answers: &BTreeMap<NodeId, Answer>) -> Exit {
    let is_any = |is: fn(&Answer) -> bool| answers.values().any(is);
    if is_any(|answer| matches!(answer, Answer::Given(pruned) if !pruned.error.is_empty())) {
        Exit::Failed
    } else if is_any(|answer| *answer == Answer::Silent) {
        Exit::Silent
    } else if is_any(|answer| *answer == Answer::Offline) {
        Exit::Offline
    } else {
        Exit::Done
    }
}

#[cfg(test)]
mod tests {
    use schemas::status::Timestamp;

    use super::*;

    #[test]
    fn each_answer_has_its_words_and_the_worst_its_exit_code() {
        let pruned = |count: u64, dry_run, error: &str| Pruned {
            node: "pi-1".parse().unwrap(),
            answers: String::new(),
            dry_run,
            removed: (0..count.min(22)).map(|n| format!("image deploybus/web:{n}")).collect(),
            count,
            freed_bytes: count * 1_000_000,
            error: error.to_owned(),
            at: Timestamp::never(),
        };
        let answers = |all: &[(&str, Answer)]| -> BTreeMap<NodeId, Answer> {
            all.iter().map(|(name, answer)| (name.parse().unwrap(), answer.clone())).collect()
        };
        let all = answers(&[
            ("pi-1", Answer::Given(pruned(1, false, ""))),
            ("pi-2", Answer::Given(pruned(0, false, ""))),
            ("pi-3", Answer::Given(pruned(30, true, "engine-down: it \u{1b}went away"))),
            ("pi-4", Answer::Given(pruned(0, false, "this node runs no containers"))),
            ("pi-5", Answer::Silent),
            ("pi-6", Answer::Offline),
        ]);
        insta::assert_snapshot!(text(&all));
        assert_eq!(exit(&all), Exit::Failed);
        assert_eq!(
            json(&all)[4],
            json!({ "node": "pi-5", "state": "silent", "dry_run": false, "removed": [], "count": 0, "freed_bytes": 0, "error": "" })
        );
        let done = ("pi-1", Answer::Given(pruned(1, false, "")));
        assert_eq!(exit(&answers(std::slice::from_ref(&done))), Exit::Done);
        assert_eq!(exit(&answers(&[done.clone(), ("pi-5", Answer::Silent)])), Exit::Silent);
        assert_eq!(exit(&answers(&[done, ("pi-6", Answer::Offline)])), Exit::Offline);
    }
}
