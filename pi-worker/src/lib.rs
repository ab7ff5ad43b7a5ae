//! The node on a Raspberry Pi: trees in slots, processes and units that run them, and the commands of `pi-worker`.

mod commands;
mod container;
mod data;
mod environment;
mod fault;
mod installer;
mod listening;
mod probe;
mod processes;
mod program;
mod slots;
mod supervisor;
mod surroundings;
mod systemd;
mod tail;

pub use commands::main;
