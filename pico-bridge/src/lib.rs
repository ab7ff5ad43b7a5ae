//! Nodes for the Picos on USB: one node per Pico, installed through the same `machine` and `agent` as a Pi.
//!
//! `raw_paste` and [`picoboot`] are bytes in and bytes out; `port` and `repl` bring them to a serial port, [`flash`] to a boot ROM. A `device` is
//! one Pico, an `installer` installs on it through the guard that runs there, and the `bridge` runs a node for each that is there. `firmware` is what
//! an installer does for a chip below its apps, `bootsel` the way to one that waits for that.

mod bootsel;
mod bridge;
mod commands;
mod device;
mod fault;
mod firmware;
pub mod flash;
mod guard;
mod installer;
mod listening;
mod nodes;
pub mod picoboot;
mod port;
mod ports;
mod probe;
mod provision;
mod quarantine;
mod raw_paste;
mod repl;
mod shelf;
mod simulate;
mod upload;
mod watch;

pub use commands::main;
