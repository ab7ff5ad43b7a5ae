//! How what happens to a fleet reads, line by line, whoever plays it: the simulator and real processes use the same words.

use std::fmt;

use schemas::{
    id::{AppId, GroupId, NodeId},
    order::{Audience, Order, OrderState},
    status::EventType,
};

/// Names of nodes in an order.
const MAX_NAMES: usize = 12;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// After so long.
    pub(crate) at_ms: u64,
    pub(crate) voice: Voice,
    pub(crate) text: String,
}

/// Whose line it is. What one of them says comes in one order whoever plays, what different ones say does not.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Voice {
    /// Who plays the story, about what a line of it does.
    Player,
    /// The controller, about the rollout of this version of an app.
    Rollout(AppId, String),
    /// What is ordered for a group.
    Order(GroupId),
    /// A node, about its apps.
    Node(NodeId),
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.at_ms / 1_000;
        let (hours, minutes, secs) = (secs / 3_600, secs / 60 % 60, secs % 60);
        let at = if hours > 0 {
            format!("+{hours}:{minutes:02}:{secs:02}")
        } else {
            format!("+{minutes:02}:{secs:02}")
        };
        write!(f, "{at:>9} {}", self.text)
    }
}

/// What happened to a rollout; `wave_opened` as `wave opened`. Numbers of orders are left out: they follow from the clock.
pub(crate) fn of_rollout(kind: &str, text: &str) -> String {
    let kind = kind.strip_prefix("rollout_").unwrap_or(kind).replace('_', " ");
    let text = match text.strip_prefix("order ") {
        Some(text) => format!("an order{}", text.trim_start_matches(|letter: char| letter.is_ascii_digit())),
        None => text.to_owned(),
    };
    format!("{kind}: {text}")
}

/// What happened on a node, to the release `to`.
pub(crate) fn of_node(node: &NodeId, app: &str, to: &str, event: EventType, reason: &str) -> String {
    let name = serde_json::to_value(event).ok();
    let word = name.as_ref().and_then(|name| name.as_str()).unwrap_or_default().replace('_', " ");
    let why = if reason.is_empty() { String::new() } else { format!(", {reason}") };
    format!("{node} {app} {to}: {word}{why}")
}

/// Whether it says that a node begins.
pub(crate) fn is_begin(text: &str) -> bool {
    text.ends_with(": started")
}

/// What is ordered for a group.
pub(crate) fn of_order(order: &Order, version: &str) -> String {
    format!("order for {}: {}", order.group, says(order, version))
}

/// An order in a few words.
pub(crate) fn says(order: &Order, version: &str) -> String {
    let whom = match &order.audience {
        Audience::All => "everybody".to_owned(),
        Audience::Nodes(nodes) if nodes.is_empty() => "nobody".to_owned(),
        Audience::Nodes(nodes) if nodes.len() <= MAX_NAMES => {
            nodes.iter().map(NodeId::as_str).collect::<Vec<_>>().join(", ")
        }
        Audience::Nodes(nodes) => format!("{} nodes", nodes.len()),
        Audience::Share { permille, .. } => format!("{permille} of a thousand"),
    };
    match order.state {
        OrderState::Active => format!("run {version}: {whom}"),
        OrderState::Paused => format!("begin {version} no more: {whom}"),
        OrderState::Withdrawn { revert: true } => format!("go back from {version}: {whom}"),
        OrderState::Withdrawn { revert: false } => format!("forget {version}: {whom}"),
    }
}
