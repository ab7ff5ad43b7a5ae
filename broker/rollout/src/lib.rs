//! The rollout planner: which nodes get a release next, and when it stops. Pure, as its `clippy.toml` demands.
