//! A rollout: how it stands, its waves, its nodes, and what a person can do about it.

use askama::Template;
use schemas::time::UnixTime;
use show::rollout::{self as rollouts, NodeView, RolloutView};

use super::{Advice, Frame, Wave, age, overview::is_over};

/// More nodes than that are counted in the bars: who failed comes first.
const MAX_NODES: usize = 500;

#[derive(Debug, Template)]
#[template(path = "rollout.html")]
pub(in crate::page) struct RolloutPage {
    frame: Frame,
    app: String,
    version: String,
    state: String,
    since: String,
    is_stopped: bool,
    why: String,
    advice: Option<Advice>,
    facts: Vec<(&'static str, String)>,
    waves: Vec<Wave>,
    failed: Vec<Seat>,
    nodes: Vec<Seat>,
    more: usize,
    orders: Vec<[String; 4]>,
    /// It may be paused here.
    may_pause: bool,
    /// What is done with keys, on the machine that has them.
    commands: Vec<(&'static str, String)>,
}

#[derive(Debug)]
struct Seat {
    node: String,
    wave: usize,
    state: String,
    failed: bool,
    why: String,
    advice: Option<Advice>,
    log_tail: Vec<String>,
}

impl RolloutPage {
    pub(in crate::page) fn new(frame: Frame, view: &RolloutView, may_pause: bool, now: UnixTime) -> Self {
        let order = |order: &rollouts::OrderView| {
            [
                order.group.to_string(),
                order.revision.to_string(),
                order.state.to_owned(),
                order.audience.clone(),
            ]
        };
        Self {
            frame,
            app: view.app.to_string(),
            version: view.version.clone(),
            state: rollouts::state(view),
            since: view.since.map(|since| format!("for {}", age(since, now))).unwrap_or_default(),
            is_stopped: matches!(view.state, "paused" | "awaiting_approval"),
            why: view.text.clone(),
            advice: Advice::new(&view.advice),
            facts: facts(view, now),
            waves: view.waves.iter().map(|wave| Wave::new(wave, now)).collect(),
            failed: view.nodes.iter().filter(|node| node.failed).take(MAX_NODES).map(seat).collect(),
            nodes: view.nodes.iter().take(MAX_NODES).map(seat).collect(),
            more: view.nodes.len().saturating_sub(MAX_NODES),
            orders: view.orders.iter().map(order).collect(),
            may_pause: may_pause && may_be_paused(view),
            commands: commands(view),
        }
    }
}

/// Whether there is something to pause.
pub(in crate::page) fn may_be_paused(view: &RolloutView) -> bool {
    matches!(view.state, "running" | "scheduled" | "awaiting_approval") && view.controller.works
}

fn facts(view: &RolloutView, now: UnixTime) -> Vec<(&'static str, String)> {
    let mut facts = vec![("controller", view.controller.text(now)), ("rollout", view.revision.to_string())];
    let times = [
        ("not before", view.not_before.filter(|at| *at > now)),
        ("started", view.started_at),
        ("may be carried out until", view.expires),
    ];
    facts.extend(times.into_iter().filter_map(|(name, at)| Some((name, at?.to_string()))));
    facts
}

/// Each does what the page may not: it takes the ops key.
fn commands(view: &RolloutView) -> Vec<(&'static str, String)> {
    let app = &view.app;
    let of = |what: &str| format!("publisher rollout {what} {app}");
    let mut commands = match view.state {
        _ if is_over(view) => return Vec::new(),
        "paused" => vec![("let it go on", of("resume"))],
        "awaiting_approval" => {
            vec![("let the next stage open", of("approve")), ("begin nothing new", of("pause"))]
        }
        "reverting" => Vec::new(),
        _ => vec![("begin nothing new", of("pause"))],
    };
    commands.push(("end it; who has the release keeps it", format!("{} --keep", of("abort"))));
    commands.push(("end it; who has the release goes back", format!("{} --revert", of("abort"))));
    commands
}

fn seat(node: &NodeView) -> Seat {
    let known = if node.acknowledged { " (acknowledged)" } else { "" };
    Seat {
        node: node.node.to_string(),
        wave: node.wave,
        state: format!("{}{known}", node.state.replace('_', " ")),
        failed: node.failed,
        why: node.why(),
        advice: node.advice.and_then(Advice::new),
        log_tail: node.log_tail.clone(),
    }
}
