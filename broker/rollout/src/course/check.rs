//! Looks for nonsense in a rollout: what may never be, whatever nodes and people do. For tests of this crate and of those that
//! simulate fleets.

use std::collections::BTreeSet;

use schemas::{
    id::NodeId,
    order::{Audience, OrderState},
    rollout::{CourseState, WaveState},
};

use super::Conductor;

/// What is wrong with `conductor`, after a step.
///
/// # Errors
/// Names the first rule that is broken.
pub fn check(conductor: &Conductor) -> Result<(), String> {
    waves(conductor)?;
    orders(conductor)?;
    parallel(conductor)
}

fn waves(conductor: &Conductor) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    if let Some((node, ..)) = conductor.seats().find(|(node, ..)| !seen.insert(*node)) {
        return Err(format!("{node} is in two waves"));
    }
    let taken: BTreeSet<usize> = conductor.seats().map(|(_, wave, _)| wave).collect();
    for (at, wave) in conductor.waves().iter().enumerate() {
        if !taken.contains(&at) {
            return Err(format!("wave {at} is empty"));
        }
        let next = conductor.waves().get(at + 1);
        if wave.state != WaveState::Passed && next.is_some_and(|next| next.state != WaveState::Closed) {
            return Err(format!(
                "wave {} is {:?} and wave {at} {:?}",
                at + 1,
                next.map(|n| n.state),
                wave.state
            ));
        }
    }
    let is_passed = |wave: &schemas::rollout::CourseWave| wave.state == WaveState::Passed;
    let is_completed = *conductor.state() == CourseState::Completed;
    if is_completed && (conductor.waves().is_empty() || !conductor.waves().iter().all(is_passed)) {
        return Err("completed with a wave that has not passed, or with none".to_owned());
    }
    Ok(())
}

fn orders(conductor: &Conductor) -> Result<(), String> {
    let mut revisions = BTreeSet::new();
    let may_begin = matches!(
        conductor.state(),
        CourseState::Running
            | CourseState::Completed
            | CourseState::AwaitingApproval
            | CourseState::Superseded
    );
    for given in conductor.orders.values() {
        let order = &given.order;
        if !conductor.mandate.covers(order.revision) || !revisions.insert(order.revision) {
            return Err(format!("order {} is beyond the mandate, or there twice", order.revision));
        }
        if order.revision > conductor.course.revision {
            return Err(format!(
                "order {} is above the course's {}",
                order.revision, conductor.course.revision
            ));
        }
        if order.state == OrderState::Active && !may_begin {
            return Err(format!(
                "order {} is active while it is {}",
                order.revision,
                conductor.state().name()
            ));
        }
        if let Audience::Nodes(nodes) = &order.audience
            && let Some(node) = nodes.iter().find(|node| is_closed(conductor, node))
        {
            return Err(format!("order {} names {node}, whose wave is closed", order.revision));
        }
    }
    Ok(())
}

fn is_closed(conductor: &Conductor, node: &NodeId) -> bool {
    let wave = conductor.seat(node).map(|(wave, _)| wave);
    wave.is_none_or(|wave| conductor.waves()[wave].state == WaveState::Closed)
}

fn parallel(conductor: &Conductor) -> Result<(), String> {
    let Some(limit) = conductor.plan().max_parallel else { return Ok(()) };
    // All go back at once; and when all waves have passed, who was away catches up when it likes.
    let is_limited = !matches!(
        conductor.state(),
        CourseState::Reverting { .. } | CourseState::Aborted { .. } | CourseState::Completed
    );
    if !is_limited {
        return Ok(());
    }
    let in_flight = conductor.seats.iter().filter(|seat| seat.offered && seat.state.is_in_flight()).count();
    if in_flight > limit.get() as usize {
        return Err(format!("{in_flight} nodes are on the way, {limit} are allowed"));
    }
    Ok(())
}
