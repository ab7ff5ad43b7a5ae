//! The runtime that drives the machines of a node with real I/O.
//!
//! [`run`] is one loop: whatever happens on the bus, in an installer or in time becomes one event, which a synchronous
//! handler gives to the machine that it concerns. What a machine then wants done is carried out in a task of its own.

mod cancel;
mod chain;
mod clock;
mod durable;
pub mod enroll;
mod facts;
mod fault;
mod fetch;
mod hold;
mod identity;
mod inbound;
mod installer;
mod joint;
pub mod journal;
mod keeper;
mod memory;
mod mirror;
pub mod program;
mod refusals;
mod report;
mod roots;
mod runtime;
mod settings;
pub mod status_file;
#[cfg(test)]
mod testing;
mod whole;
mod work;

pub use cancel::{Cancel, Canceller};
pub use durable::DurableError;
pub use facts::boot_id;
pub use hold::{HoldSettings, WindowError, Windows};
pub use identity::IdentityError;
pub use installer::{About, AppDirs, EngineDisk, Installer, Notice, Notices, Said, Tidied, Tidying};
pub use joint::Joint;
pub use runtime::{Pulse, RunError, run};
pub use settings::{ContainerSettings, FetchSettings, Settings, SettingsError};
pub use whole::{replace_file, sweep_drafts};
