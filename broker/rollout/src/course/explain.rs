//! Why a node is as it is: the chain of rules, in the order in which they are asked.

use schemas::{
    id::NodeId,
    rollout::{CourseState, WaveState},
};

use super::{Bucket, Conductor, NodeState};

/// One rule, and what it says about the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What is asked.
    pub rule: &'static str,
    /// What is so.
    pub text: String,
    /// Whether this is what holds the node back.
    pub holds: bool,
}

/// Why `node` has, or has not, the release of this rollout.
pub fn explain(conductor: &Conductor, node: &NodeId) -> Vec<Line> {
    let line = |rule, text: String, holds| Line { rule, text, holds };
    let state = conductor.state();
    let mut lines = vec![line(
        "rollout",
        match state.cause() {
            Some(cause) => {
                format!("{} of {} is {}: {}", conductor.version(), conductor.app(), state.name(), cause.text)
            }
            None => format!("{} of {} is {}", conductor.version(), conductor.app(), state.name()),
        },
        !matches!(state, CourseState::Running | CourseState::Completed),
    )];
    let Some((wave, doing)) = conductor.seat(node) else {
        let text = if *state == CourseState::Completed {
            "it came after the waves were laid out; it takes the release by itself".to_owned()
        } else {
            "it is in none: it was not in the groups of the plan when the waves were laid out".to_owned()
        };
        lines.push(line("wave", text, *state != CourseState::Completed));
        return lines;
    };
    let of = &conductor.waves()[wave];
    let is_closed = of.state == WaveState::Closed;
    let text = format!("{} of {}, which is {}", wave + 1, conductor.waves().len(), of.state.name());
    lines.push(line("wave", text, is_closed));
    if is_closed {
        if let Some(open) = conductor.waves().iter().position(|wave| wave.state != WaveState::Passed) {
            lines.push(line("before it", waits_for(conductor, open), true));
        }
        return lines;
    }
    let text = doing.text();
    let text = if text.is_empty() { doing.name().to_owned() } else { format!("{}: {text}", doing.name()) };
    lines.push(line("node", text, !matches!(doing, NodeState::Good)));
    if *doing == NodeState::Waiting && *state == CourseState::Running {
        lines.push(line("parallel", "as many nodes are installing as the plan allows".to_owned(), true));
    }
    lines
}

/// What an open wave waits for.
fn waits_for(conductor: &Conductor, wave: usize) -> String {
    let state = conductor.waves()[wave].state;
    let nodes: Vec<Bucket> =
        conductor.seats().filter(|(_, of, _)| *of == wave).map(|(_, _, state)| state.bucket()).collect();
    let count = |bucket| nodes.iter().filter(|of| **of == bucket).count();
    format!(
        "wave {} is {}: {} well, {} failed, {} on the way, {} waiting, {} away, of {}",
        wave + 1,
        state.name(),
        count(Bucket::Good),
        count(Bucket::Failed),
        count(Bucket::OnTheWay),
        count(Bucket::Waiting),
        count(Bucket::Away),
        nodes.len()
    )
}
