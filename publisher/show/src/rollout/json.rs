//! Rollouts as JSON: one envelope for every command about them.

use schemas::time::UnixTime;
use serde_json::{Value, json};

use super::RolloutView;

/// What only a single rollout is asked for.
const DETAILS: [&str; 3] = ["waves", "nodes", "orders"];

/// Everything about `rollouts`.
pub fn json(rollouts: &[RolloutView], now: UnixTime) -> Value {
    json!({ "at": now.to_string(), "rollouts": rollouts })
}

/// The same without waves, nodes and orders.
pub fn list_json(rollouts: &[RolloutView], now: UnixTime) -> Value {
    let mut value = json(rollouts, now);
    let rollouts = value["rollouts"].as_array_mut().into_iter().flatten();
    for rollout in rollouts.filter_map(Value::as_object_mut) {
        rollout.retain(|key, _| !DETAILS.contains(&key.as_str()));
    }
    value
}
