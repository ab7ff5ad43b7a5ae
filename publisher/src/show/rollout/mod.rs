//! How rollouts read. Pure: the fleet and the time in, a [`RolloutView`] out, which is JSON by [`json`] and text by [`text`].
//!
//! As everywhere in JSON, `reason` is a code, `text` the same for people, and `advice` what they can do.

mod bar;
mod carrier;
mod controllers;
mod json;
mod text;

use std::time::Duration;

use rollout::{
    Belief, Fleet, Wanted,
    course::{Conductor, NodeState, Now, Skip, Weight},
    plan::Stage,
};
use schemas::{
    hold::HoldCode,
    id::{AppId, GroupId, NodeId, Revision, Seq},
    order::{Audience, Order},
    reason::Reason,
    rollout::{Course, CourseState, PauseReason, WaveState},
    time::UnixTime,
};
use serde::{Serialize, Serializer};

pub(crate) use self::{
    bar::Counts,
    carrier::{CarrierView, carrier},
    controllers::{controllers, controllers_json, controllers_text},
    json::{json, list_json},
    text::{list, next, text, wave_line},
};
use super::{clean, status::state_name};

/// How a rollout stands.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct RolloutView {
    pub(crate) app: AppId,
    pub(crate) version: String,
    /// Its name.
    pub(crate) revision: Revision,
    pub(crate) wish: &'static str,
    /// The number of that wish, and of the last one that the controller has taken note of.
    pub(crate) wish_seq: Seq,
    pub(crate) heeded_seq: Option<Seq>,
    pub(crate) state: &'static str,
    pub(crate) reason: Option<&'static str>,
    pub(crate) text: String,
    pub(crate) advice: String,
    #[serde(serialize_with = "as_text")]
    pub(crate) since: Option<UnixTime>,
    #[serde(serialize_with = "as_text")]
    pub(crate) started_at: Option<UnixTime>,
    #[serde(serialize_with = "as_text")]
    pub(crate) not_before: Option<UnixTime>,
    #[serde(serialize_with = "as_text")]
    pub(crate) expires: Option<UnixTime>,
    pub(crate) controller: CarrierView,
    pub(crate) waves_total: usize,
    pub(crate) waves_passed: usize,
    pub(crate) waves: Vec<WaveView>,
    pub(crate) nodes: Vec<NodeView>,
    pub(crate) orders: Vec<OrderView>,
}

/// A wave.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct WaveView {
    pub(crate) number: usize,
    pub(crate) group: Option<GroupId>,
    pub(crate) state: &'static str,
    #[serde(serialize_with = "as_text")]
    pub(crate) since: Option<UnixTime>,
    pub(crate) soak_left_s: Option<u64>,
    pub(crate) counts: Counts,
}

/// A node of a rollout.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct NodeView {
    pub(crate) node: NodeId,
    pub(crate) wave: usize,
    pub(crate) state: &'static str,
    /// What holds it back, and until when where that is known.
    pub(crate) hold: Option<HoldCode>,
    #[serde(serialize_with = "as_text")]
    pub(crate) until: Option<UnixTime>,
    pub(crate) failed: bool,
    pub(crate) acknowledged: bool,
    pub(crate) reason: Option<&'static str>,
    pub(crate) text: String,
    pub(crate) advice: Option<&'static str>,
    /// Its last words, where it failed.
    pub(crate) log_tail: Vec<String>,
}

/// An order of a rollout.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct OrderView {
    pub(crate) group: GroupId,
    pub(crate) revision: Revision,
    pub(crate) state: &'static str,
    pub(crate) audience: String,
}

impl NodeView {
    /// Why it is as it is, for people; empty where the state says it all.
    pub(crate) fn why(&self) -> String {
        let parts = self.reason.into_iter().chain([self.text.as_str()]);
        parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
    }
}

#[expect(clippy::ref_option, reason = "serde gives it so")]
fn as_text<S: Serializer>(time: &Option<UnixTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => serializer.collect_str(time),
        None => serializer.serialize_none(),
    }
}

/// The rollout as its course says, with its nodes as they are; nothing when no controller took note of it.
pub(crate) fn conductor(fleet: &Fleet, wanted: &Wanted, now: UnixTime) -> Option<Conductor> {
    let course = fleet.rollouts().course(&wanted.plans.mandate.app)?;
    let now = Now::new(Duration::ZERO, now);
    Some(Conductor::view(&wanted.planned, wanted.plans.clone(), course, fleet, now))
}

/// The nodes that are no proof that all is well, and of which nobody has said so far that it is known.
pub(crate) fn failed(conductor: &Conductor, wanted: &Wanted) -> Vec<NodeId> {
    let acknowledged = &wanted.plans.rollout.acknowledged;
    // Whom it is not for is no failure, and no proof either.
    let is_failure = |state: &NodeState| {
        state.weight() == Weight::Failure
            || matches!(state, NodeState::Skipped(skip) if *skip != Skip::Already)
    };
    let nodes = conductor.seats().filter(|(_, _, state)| is_failure(state));
    let failed = nodes.map(|(node, ..)| node).filter(|node| !acknowledged.contains(node));
    failed.cloned().collect()
}

/// Every rollout that is believed, by app.
pub(crate) fn views(fleet: &Fleet, now: UnixTime) -> Vec<RolloutView> {
    let wanted = fleet.rollouts().plans().values().filter_map(Belief::believed);
    wanted.map(|wanted| view(fleet, wanted, now)).collect()
}

/// How a rollout stands.
pub(crate) fn view(fleet: &Fleet, wanted: &Wanted, now: UnixTime) -> RolloutView {
    let (rollout, mandate) = (&wanted.plans.rollout, &wanted.plans.mandate);
    let course = fleet.rollouts().course(&mandate.app);
    let conductor = conductor(fleet, wanted, now);
    let state = course.map(|course| &course.state);
    let carrier = carrier(fleet, wanted, now);
    let set = |time: UnixTime| (time.0 > 0).then_some(time);
    let mut view = RolloutView {
        app: mandate.app.clone(),
        version: clean(&wanted.plans.release.version),
        revision: mandate.first,
        wish: rollout.wish.name(),
        wish_seq: rollout.seq,
        heeded_seq: course.map(|course| course.heeded),
        state: state.map_or("planned", CourseState::name),
        reason: state.and_then(CourseState::cause).map(|cause| cause.why.name()),
        text: state.and_then(CourseState::cause).map(|cause| clean(&cause.text)).unwrap_or_default(),
        advice: String::new(),
        since: course.map(|course| since(course)),
        started_at: course.and_then(|course| set(course.started_at)),
        not_before: set(rollout.not_before),
        expires: Some(mandate.expires),
        waves_total: course.map_or(0, |course| course.waves.len()),
        waves_passed: course
            .map_or(0, |course| course.waves.iter().filter(|wave| wave.state == WaveState::Passed).count()),
        waves: conductor.as_ref().map(|conductor| waves(conductor, carrier.works, now)).unwrap_or_default(),
        controller: carrier,
        nodes: conductor.as_ref().map(|conductor| nodes(conductor, wanted, fleet)).unwrap_or_default(),
        orders: course.map(|course| orders(course, wanted)).unwrap_or_default(),
    };
    view.advice = next(&view);
    view
}

/// Since when it stands as it does.
fn since(course: &Course) -> UnixTime {
    let opened = course.waves.iter().filter(|wave| wave.state != WaveState::Closed).map(|wave| wave.since);
    match course.state.cause() {
        Some(cause) => cause.at,
        None => opened.max().unwrap_or(course.head.issued_at),
    }
}

fn waves(conductor: &Conductor, works: bool, now: UnixTime) -> Vec<WaveView> {
    let mut counts = vec![Counts::default(); conductor.waves().len()];
    for (_, wave, state) in conductor.seats() {
        counts[wave].add(state);
    }
    let view = |(at, counts): (usize, Counts)| {
        let wave = &conductor.waves()[at];
        let stage: Option<&Stage> = conductor.plan().stages.get(wave.stage as usize);
        // A rollout that stands still waits for people, and while nobody works, nobody watches.
        let soaks = *conductor.state() == CourseState::Running;
        let until = if works { now } else { conductor.written_at() };
        let since = until.0.saturating_sub(conductor.written_at().0);
        let left = conductor.soak_left(at).filter(|_| soaks);
        let soak_left = left.map(|left| left.as_secs().saturating_sub(since));
        WaveView {
            number: at + 1,
            group: stage.map(|stage| stage.group.clone()),
            state: wave.state.name(),
            since: (wave.state != WaveState::Closed).then_some(wave.since),
            soak_left_s: soak_left,
            counts,
        }
    };
    counts.into_iter().enumerate().map(view).collect()
}

fn nodes(conductor: &Conductor, wanted: &Wanted, fleet: &Fleet) -> Vec<NodeView> {
    let app = &wanted.plans.mandate.app;
    let target = |node: &NodeId| fleet.nodes().get(node)?.app(app)?.target.as_ref();
    let acknowledged = &wanted.plans.rollout.acknowledged;
    let log_tail = |node: &NodeId| {
        let outcomes = &fleet.nodes().get(node)?.app(app)?.outcomes;
        let outcome = outcomes.iter().rfind(|outcome| outcome.release == wanted.plans.mandate.release)?;
        Some(outcome.log_tail.iter().map(|line| clean(line)).collect())
    };
    let view = |(node, wave, state): (&NodeId, usize, &NodeState)| NodeView {
        node: node.clone(),
        wave: wave + 1,
        state: state.name(),
        hold: target(node).and_then(|target| target.hold),
        until: target(node).and_then(|target| target.until),
        failed: state.weight() == Weight::Failure,
        acknowledged: acknowledged.contains(node),
        reason: reason(state).map(Reason::code),
        text: clean(&sentence(state)),
        advice: advice(state),
        log_tail: reason(state).and_then(|_| log_tail(node)).unwrap_or_default(),
    };
    conductor.seats().map(view).collect()
}

/// The code of what went wrong on a node.
pub(crate) fn reason(state: &NodeState) -> Option<Reason> {
    match state {
        NodeState::RolledBack(failure) | NodeState::Failed(failure) => failure.reason,
        _ => None,
    }
}

/// Why it is so, without the code.
fn sentence(state: &NodeState) -> String {
    match state {
        NodeState::RolledBack(failure) | NodeState::Failed(failure) => failure.text.clone(),
        _ => state.text(),
    }
}

/// What a person should do about a node.
pub(crate) fn advice(state: &NodeState) -> Option<&'static str> {
    match state {
        NodeState::Lost(_) => Some("see that the node has power and network, and look at its worker's log"),
        NodeState::Stays(why) if !why.is_empty() => {
            Some("announce to its group what it is to run, or look at its worker's log")
        }
        NodeState::Unwell => {
            Some("look at what its health check answers; `publisher status` shows when it is well")
        }
        _ => reason(state).map(Reason::advice),
    }
}

fn orders(course: &Course, wanted: &Wanted) -> Vec<OrderView> {
    let mandate = &wanted.plans.mandate;
    let orders = course.orders.iter().filter_map(|order| mandate.verify(order, &mandate.head.fleet).ok());
    let view = |order: &Order| OrderView {
        group: order.group.clone(),
        revision: order.revision,
        state: state_name(order.state),
        audience: audience(&order.audience),
    };
    orders.map(|order| view(&order)).collect()
}

/// Whom an order is for, in words.
pub(crate) fn audience(audience: &Audience) -> String {
    match audience {
        Audience::All => "everybody".to_owned(),
        Audience::Nodes(nodes) => super::amount::count(nodes.len(), "node"),
        Audience::Share { permille, .. } => format!("{}.{} % of the group", permille / 10, permille % 10),
    }
}

/// Whether a rollout that stopped did so by itself, rather than by somebody's wish.
pub(crate) fn stopped_by_itself(state: &CourseState) -> bool {
    state.cause().is_some_and(|cause| cause.why != PauseReason::Operator)
}

#[cfg(test)]
mod tests;
