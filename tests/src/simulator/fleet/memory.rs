//! What a controller knows that goes on where another one died: all that the one before it had published.

use rollout::{Fleet, Node, course::Conductor};
use schemas::{
    id::NodeId,
    order::Order,
    rollout::{Course, CourseWave, Standing, WaveState},
    seal::Verified,
};

use super::world::Step;

/// Nothing that the bus had in `course` is forgotten once its new controller has looked at everything.
pub(super) fn check(course: &Course, conductor: &Conductor, fleet: &Fleet) -> Step {
    let after = conductor.course();
    if after.seq < course.seq || after.heeded < course.heeded || after.waves.len() != course.waves.len() {
        return Err(format!("it begins anew with the rollout of {}", course.app));
    }
    let orders = orders(course, fleet);
    for (wave, after) in course.waves.iter().zip(&after.waves) {
        check_standings(wave, after)?;
        let group = conductor.plan().stages.get(wave.stage as usize).map(|stage| &stage.group);
        let was_offered = |node: &NodeId| {
            let order = orders.iter().find(|order| Some(&order.group) == group);
            wave.state != WaveState::Closed && order.is_some_and(|order| order.audience.includes(node))
        };
        for (node, _) in &wave.seats {
            // Who is away and had not begun may lose its place to another.
            let is_away = fleet.nodes().get(node).and_then(Node::online) != Some(true);
            if was_offered(node) && !conductor.is_offered(node) && !is_away {
                return Err(format!("it has forgotten that {node} was offered the release"));
            }
        }
    }
    Ok(())
}

fn check_standings(before: &CourseWave, after: &CourseWave) -> Step {
    if before.state != WaveState::Closed && after.state == WaveState::Closed {
        return Err("it has forgotten that a wave was opened".to_owned());
    }
    for ((node, before), (same, after)) in before.seats.iter().zip(&after.seats) {
        if node != same {
            return Err(format!("{same} has the seat of {node}"));
        }
        let is_forgotten = match before {
            Standing::None => false,
            // Only how it ended is news of a node that was given up.
            Standing::Lost => matches!(after, Standing::None | Standing::Begun),
            _ => *after == Standing::None,
        };
        if is_forgotten {
            return Err(format!("it has forgotten that {node} was {before:?}: it is {after:?}"));
        }
    }
    Ok(())
}

fn orders(course: &Course, fleet: &Fleet) -> Vec<Verified<Order>> {
    let Some(wanted) = fleet.rollouts().plan(&course.app) else { return Vec::new() };
    let verify = |order| wanted.plans.mandate.verify(order, fleet.trust().fleet()).ok();
    course.orders.iter().filter_map(verify).collect()
}
