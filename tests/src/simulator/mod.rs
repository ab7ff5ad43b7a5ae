//! A model of one node and its bus, in virtual time: thousands of random histories of the node state machine, with the
//! power cut between any two effects.
//!
//! Nothing here touches a disk, a socket or a clock. A history follows from its seed alone; one that breaks a rule is
//! told again from the beginning, line by line.

pub(crate) mod apps;
mod bus;
mod catalog;
mod check;
pub(crate) mod disk;
mod effects;
pub(crate) mod fleet;
mod history;
mod node;
pub(crate) mod rng;
mod story;
mod world;

pub use catalog::Catalog;
pub use history::{Broken, Summary, run};
