//! What a rollout is decided on. Pure, as its `clippy.toml` demands: messages and the time in, decisions out.
//!
//! [`Fleet`] is what of the bus is believed; [`Follow`] says how far each node of a group is with an order, and what that
//! comes to. Publisher and controller judge by the same formula, because it is here. [`plan`] says which nodes get a release
//! in which wave; [`course`] carries a plan out; a [`Desk`] is all that a controller does with them.

pub mod course;
mod deed;
mod desk;
mod fleet;
mod follow;
mod lease;
pub mod plan;
mod rollouts;
#[cfg(any(test, feature = "samples"))]
pub mod samples;

pub use deed::{Deed, Milestone, MilestoneKind, Note};
pub use desk::{Desk, Event, NotPaused, Pace};
pub use fleet::{Belief, Change, Fleet, Node, Ordered};
pub use follow::{Ending, Follow, Progress, State};
pub use rollouts::{Held, Rollouts, Wanted};
