//! Rollouts as JSON: one envelope for every command about them.

use rollout::Fleet;
use schemas::time::UnixTime;
use serde_json::{Value, json};

use super::{RolloutView, controller};

/// What only a single rollout is asked for.
const DETAILS: [&str; 3] = ["waves", "nodes", "orders"];

/// Everything about `rollouts`.
pub(crate) fn json(fleet: &Fleet, rollouts: &[RolloutView], now: UnixTime) -> Value {
    json!({ "at": now.to_string(), "controller": controller(fleet, now), "rollouts": rollouts })
}

/// The same without waves, nodes and orders.
pub(crate) fn list_json(fleet: &Fleet, rollouts: &[RolloutView], now: UnixTime) -> Value {
    let mut value = json(fleet, rollouts, now);
    let rollouts = value["rollouts"].as_array_mut().into_iter().flatten();
    for rollout in rollouts.filter_map(Value::as_object_mut) {
        rollout.retain(|key, _| !DETAILS.contains(&key.as_str()));
    }
    value
}
