//! End-to-end scenarios with real processes, the simulator, and benches.
