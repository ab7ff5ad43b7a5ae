//! How rollouts read. Pure: the fleet and the time in, a [`RolloutView`] out, which is JSON by [`json`] and text by [`text`].
//!
//! As everywhere in JSON, `reason` is a code, `text` the same for people, and `advice` what they can do.

mod bar;
mod carrier;
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

pub use self::{
    bar::Counts,
    carrier::{CarrierView, ControllerView, carrier, view as controller_view},
    json::{json, list_json},
    text::{list, next, state, text, times, wave_line},
};
use super::{clean, status::state_name};

/// How a rollout stands.
#[derive(Debug, Clone, Serialize)]
pub struct RolloutView {
    /// The app.
    pub app: AppId,
    /// The version that is rolled out.
    pub version: String,
    /// Its name.
    pub revision: Revision,
    /// What people want of it.
    pub wish: &'static str,
    /// The number of that wish, and of the last one that the controller has taken note of.
    pub wish_seq: Seq,
    /// See [`Self::wish_seq`].
    pub heeded_seq: Option<Seq>,
    /// How it stands.
    pub state: &'static str,
    /// The kind of reason, where it does not go on.
    pub reason: Option<&'static str>,
    /// The same for people.
    pub text: String,
    /// What they can do about it; empty when nothing.
    pub advice: String,
    /// Since when it stands so.
    #[serde(serialize_with = "as_text")]
    pub since: Option<UnixTime>,
    /// When its first wave opened.
    #[serde(serialize_with = "as_text")]
    pub started_at: Option<UnixTime>,
    /// It begins then at the earliest.
    #[serde(serialize_with = "as_text")]
    pub not_before: Option<UnixTime>,
    /// Until when it may be carried out.
    #[serde(serialize_with = "as_text")]
    pub expires: Option<UnixTime>,
    /// Who carries it out.
    pub controller: CarrierView,
    /// How many waves there are.
    pub waves_total: usize,
    /// How many of them have passed.
    pub waves_passed: usize,
    /// Each of them.
    pub waves: Vec<WaveView>,
    /// Every node with its wave.
    pub nodes: Vec<NodeView>,
    /// What is ordered for it.
    pub orders: Vec<OrderView>,
}

/// A wave.
#[derive(Debug, Clone, Serialize)]
pub struct WaveView {
    /// Its number, from 1.
    pub number: usize,
    /// The group of its stage.
    pub group: Option<GroupId>,
    /// How it stands.
    pub state: &'static str,
    /// Since when.
    #[serde(serialize_with = "as_text")]
    pub since: Option<UnixTime>,
    /// So much of its soak is left, while it soaks.
    pub soak_left_s: Option<u64>,
    /// How many of its nodes are how far.
    pub counts: Counts,
}

/// A node of a rollout.
#[derive(Debug, Clone, Serialize)]
pub struct NodeView {
    /// The node.
    pub node: NodeId,
    /// The number of its wave.
    pub wave: usize,
    /// What it does.
    pub state: &'static str,
    /// What holds it back, and until when where that is known.
    pub hold: Option<HoldCode>,
    #[serde(serialize_with = "as_text")]
    /// See [`Self::hold`].
    pub until: Option<UnixTime>,
    /// It counts as a failure.
    pub failed: bool,
    /// Somebody knows of it, so that it stops nothing any more.
    pub acknowledged: bool,
    /// The code of what went wrong.
    pub reason: Option<&'static str>,
    /// The same for people.
    pub text: String,
    /// What they can do about it.
    pub advice: Option<&'static str>,
    /// Its last words, where it failed.
    pub log_tail: Vec<String>,
}

/// An order of a rollout.
#[derive(Debug, Clone, Serialize)]
pub struct OrderView {
    /// The group.
    pub group: GroupId,
    /// Its number.
    pub revision: Revision,
    /// How it stands.
    pub state: &'static str,
    /// Whom it is for, in words.
    pub audience: String,
}

impl NodeView {
    /// Why it is as it is, for people; empty where the state says it all.
    pub fn why(&self) -> String {
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
pub fn conductor(fleet: &Fleet, wanted: &Wanted, now: UnixTime) -> Option<Conductor> {
    let course = fleet.rollouts().course(&wanted.plans.mandate.app)?;
    let now = Now::new(Duration::ZERO, now);
    Some(Conductor::view(&wanted.planned, wanted.plans.clone(), course, fleet, now))
}

/// The nodes that are no proof that all is well, and of which nobody has said so far that it is known.
pub fn failed(conductor: &Conductor, wanted: &Wanted) -> Vec<NodeId> {
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
pub fn views(fleet: &Fleet, now: UnixTime) -> Vec<RolloutView> {
    let wanted = fleet.rollouts().plans().values().filter_map(Belief::believed);
    wanted.map(|wanted| view(fleet, wanted, now)).collect()
}

/// How a rollout stands.
pub fn view(fleet: &Fleet, wanted: &Wanted, now: UnixTime) -> RolloutView {
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
pub fn reason(state: &NodeState) -> Option<Reason> {
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
pub fn advice(state: &NodeState) -> Option<&'static str> {
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
pub fn audience(audience: &Audience) -> String {
    match audience {
        Audience::All => "everybody".to_owned(),
        Audience::Nodes(nodes) => super::amount::count(nodes.len(), "node"),
        Audience::Share { permille, .. } => format!("{}.{} % of the group", permille / 10, permille % 10),
    }
}

/// Whether a rollout that stopped did so by itself, rather than by somebody's wish.
pub fn stopped_by_itself(state: &CourseState) -> bool {
    state.cause().is_some_and(|cause| cause.why != PauseReason::Operator)
}

#[cfg(test)]
mod tests;
