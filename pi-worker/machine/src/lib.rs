//! What a node does about an announcement: one [`Machine`] per app and node.
//!
//! Pure: the machine takes inputs and the time, and gives effects; it touches neither disk, network nor clock. That is
//! what lets the simulator run thousands of histories with the power cut between any two effects.

mod asks;
mod effect;
mod groups;
mod guard;
mod handover;
mod holds;
mod input;
mod journal;
mod keeper;
mod keys;
mod machine;
mod offers;
mod outbox;
mod outcome;
mod prepare;
mod retry;
mod rollback;
mod saved;
mod series;
mod startup;
mod state;
mod trial;
mod view;

#[cfg(test)]
mod testing;

pub use effect::{Effect, Refused};
pub use guard::{Guarded, guard};
pub use input::{Bus, Fault, Health, Hold, Input, Keys, Now, Yield};
pub use machine::{Machine, Setup};
pub use saved::{Saved, Seen, Slot, Spent, Step};
pub use view::Latest;
