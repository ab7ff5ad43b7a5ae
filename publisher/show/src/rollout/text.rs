//! Rollouts as text.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use schemas::time::UnixTime;

use super::{
    NodeView, RolloutView, WaveView,
    bar::{bar, legend},
};
use crate::{amount, table, until};

/// More nodes that hold themselves back than that are a number.
const MAX_DEFERRED: usize = 10;

/// Everything about a rollout.
pub fn text(view: &RolloutView, now: UnixTime, paints: bool) -> String {
    let mut parts = vec![head(view, now)];
    if !view.waves.is_empty() {
        parts.push(format!("{}\n{}", waves(view, now, paints), legend(paints)));
    }
    let failed: String = view.nodes.iter().filter(|node| node.failed).map(failure).collect();
    if !failed.is_empty() {
        parts.push(failed.trim_end().to_owned());
    }
    let deferred: Vec<&NodeView> = view.nodes.iter().filter(|node| node.state == "deferred").collect();
    if !deferred.is_empty() {
        parts.push(deferrals(&deferred));
    }
    if !view.orders.is_empty() {
        let row = |order: &super::OrderView| {
            vec![
                order.group.to_string(),
                order.revision.to_string(),
                order.state.into(),
                order.audience.clone(),
            ]
        };
        let rows: Vec<_> = view.orders.iter().map(row).collect();
        parts.push(table(&["GROUP", "REVISION", "ORDER", "FOR"], &rows));
    }
    parts.join("\n\n")
}

fn head(view: &RolloutView, now: UnixTime) -> String {
    let mut head = format!("{} {}: {}", view.app, view.version, state(view));
    if let Some(since) = view.since {
        let _ = write!(head, ", for {}", amount::age(now.0.saturating_sub(since.0)));
    }
    let mut line = |name: &str, text: &str| {
        if !text.is_empty() {
            let _ = write!(head, "\n  {name:<11} {text}");
        }
    };
    line("why", &view.text);
    line("what to do", &view.advice);
    line("controller", &view.controller.text(now));
    let begins = view.not_before.filter(|at| *at > now).map(|at| format!("not before {at}; "));
    let started = view.started_at.map(|at| format!("started {at}; ")).or(begins).unwrap_or_default();
    let until = view.expires.map(|at| format!("may be carried out until {at}")).unwrap_or_default();
    line("rollout", &format!("{}, {started}{until}", view.revision));
    head
}

/// The state for people, with what kind of reason it has.
pub fn state(view: &RolloutView) -> String {
    let state = view.state.replace('_', " ");
    view.reason.map_or(state.clone(), |reason| format!("{state} ({reason})"))
}

fn waves(view: &RolloutView, now: UnixTime, paints: bool) -> String {
    let row = |wave: &WaveView| {
        vec![
            wave.number.to_string(),
            wave.group.as_ref().map(ToString::to_string).unwrap_or_default(),
            wave.state.to_owned(),
            times(wave, now),
            // Behind it nothing lines up: colours have no width.
            format!("{} {}", bar(&wave.counts, paints), wave.counts.text()),
        ]
    };
    let rows: Vec<_> = view.waves.iter().map(row).collect();
    table(&["WAVE", "GROUP", "STATE", "SINCE", "NODES"], &rows)
}

/// How long it has been so, and how much of its soak is left.
pub fn times(wave: &WaveView, now: UnixTime) -> String {
    let since = wave.since.map(|since| amount::age(now.0.saturating_sub(since.0))).unwrap_or_default();
    match wave.soak_left_s {
        Some(left) => format!("{since}, {} left", amount::age(left)),
        None => since,
    }
}

/// A wave in one line, for following.
pub fn wave_line(view: &RolloutView, wave: &WaveView, paints: bool) -> String {
    let (number, all) = (wave.number, view.waves.len());
    let left = wave.soak_left_s.map(|left| format!(", {} left", amount::age(left))).unwrap_or_default();
    let bar = bar(&wave.counts, paints);
    format!("wave {number}/{all} {:<7} {bar} {}{left}", wave.state, wave.counts.text())
}

fn failure(node: &NodeView) -> String {
    let known = if node.acknowledged { " (acknowledged)" } else { "" };
    let (name, wave, state) = (&node.node, node.wave, node.state.replace('_', " "));
    let (mut text, why) = (format!("{name} of wave {wave} {state}{known}"), node.why());
    if !why.is_empty() {
        let _ = write!(text, ": {why}");
    }
    text.push('\n');
    if let Some(advice) = node.advice {
        let _ = writeln!(text, "  what to do: {advice}");
    }
    for line in &node.log_tail {
        let _ = writeln!(text, "  | {line}");
    }
    text
}

fn deferrals(nodes: &[&NodeView]) -> String {
    let line = |node: &&NodeView| {
        let until = until((node.hold, node.until), &TimeZone::system());
        format!("{} of wave {} holds itself back{until}: {}", node.node, node.wave, node.text)
    };
    let mut lines: Vec<String> = nodes.iter().take(MAX_DEFERRED).map(line).collect();
    if let Some(more @ 1..) = nodes.len().checked_sub(MAX_DEFERRED) {
        lines.push(format!("and {more} more hold themselves back"));
    }
    lines.join("\n")
}

/// All rollouts, a line each.
pub fn list(views: &[RolloutView], now: UnixTime) -> String {
    let row = |view: &RolloutView| {
        vec![
            view.app.to_string(),
            view.version.clone(),
            state(view),
            format!("{} of {}", view.waves_passed, view.waves_total),
            view.since.map(|since| amount::age(now.0.saturating_sub(since.0))).unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = views.iter().map(row).collect();
    table(&["APP", "VERSION", "STATE", "WAVES PASSED", "SINCE"], &rows)
}

/// What a person should do about a rollout; empty when nothing.
pub fn next(view: &RolloutView) -> String {
    let app = &view.app;
    let is_over = matches!(view.state, "completed" | "aborted" | "superseded");
    let again = format!("publisher rollout start --release {} --app {app}", view.version);
    if let Some(advice) = view.controller.advice(&again).filter(|_| !is_over) {
        return advice;
    }
    match (view.state, view.reason) {
        ("planned", _) => "wait: the controller has not taken note of it yet".to_owned(),
        ("awaiting_approval", _) => format!("`publisher rollout approve {app}`"),
        ("paused", Some("operator")) => format!("`publisher rollout resume {app}`, or abort it"),
        ("paused", Some("failures")) => format!(
            "mend the release and start a rollout of it; or `publisher rollout resume {app} --ack-failures`; or `publisher rollout abort {app} --revert`"
        ),
        ("paused", Some("inconclusive")) => {
            format!("see that the nodes of the wave are on, then `publisher rollout resume {app}`")
        }
        ("paused", Some("not_for_anybody")) => format!(
            "see that the release has a part for these nodes; or let the next wave open: `publisher rollout resume {app} --ack-failures`"
        ),
        ("paused", Some("unknown")) => format!(
            "see what the nodes run with `publisher status`; then `publisher rollout abort {app} --keep` and start it anew, or `publisher rollout resume {app}`"
        ),
        ("paused", Some("deadline")) => {
            format!("start it anew, with a later --expires: `{again}`")
        }
        ("aborted", Some("plan")) => {
            "correct the plan, see it with `publisher rollout simulate`, and start it anew".to_owned()
        }
        _ => String::new(),
    }
}
