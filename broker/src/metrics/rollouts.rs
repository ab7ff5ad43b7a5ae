//! Metrics of rollouts.

use prometheus_client::registry::Registry;
use schemas::{status::Rollout, time::UnixTime};

use super::gauges;

/// States in which a rollout does not go on.
const HALTED: [&str; 2] = ["paused", "reverting"];

/// Adds what is known of `rollouts`.
pub(super) fn register(registry: &mut Registry, rollouts: &[Rollout]) {
    let nodes = gauges(registry, "rollout_nodes", "Nodes of a rollout in a group, by how far they are");
    let info = gauges(registry, "rollout_info", "How a rollout stands; its value is always 1");
    let halted = gauges(registry, "rollout_halted", "Whether the rollout has stopped, or goes back");
    let started = gauges(registry, "rollout_started_timestamp_seconds", "When the rollout began");
    for rollout in rollouts {
        let (app, group) = (("app", rollout.app.to_string()), ("group", rollout.group.to_string()));
        let (version, of_group) = (("version", rollout.version.clone()), vec![app, group]);
        let with =
            |state: &str| [of_group.clone(), vec![version.clone(), ("state", state.to_owned())]].concat();
        let counts = [
            ("ok", rollout.ok),
            ("failed", rollout.failed),
            ("rolled_back", rollout.rolled_back),
            ("updating", rollout.updating),
            ("pending", rollout.pending),
            ("offline", rollout.offline),
        ];
        for (state, count) in counts {
            nodes.get_or_create(&with(state)).set(count as f64);
        }
        info.get_or_create(&with(&rollout.state)).set(1.0);
        let is_halted = HALTED.contains(&rollout.state.as_str());
        halted.get_or_create(&of_group).set(f64::from(u8::from(is_halted)));
        if let Some(at) = rollout.started_at.time().filter(|at| *at > UnixTime(0)) {
            started.get_or_create(&of_group).set(at.0 as f64);
        }
    }
}
