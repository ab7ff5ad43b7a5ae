//! Nodes for the Picos on USB: one node per Pico, installed through the same `machine` and `agent` as a Pi.
