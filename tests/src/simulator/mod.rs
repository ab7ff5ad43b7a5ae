//! A model of one node and its bus, in virtual time: thousands of random histories of the node state machine, with the
//! power cut between any two effects.
//!
//! Nothing here touches a disk, a socket or a clock. A history follows from its seed alone; one that breaks a rule is
//! told again from the beginning, line by line.

mod apps;
mod bus;
mod catalog;
mod check;
mod disk;
mod effects;
mod history;
mod node;
mod rng;
mod story;
mod world;

pub use catalog::Catalog;
pub use history::{Broken, Summary, run};
