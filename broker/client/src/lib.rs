//! The typed client of the bus.
//!
//! It knows topics and bytes, not documents: what the bytes mean and whether to believe them is for
//! its callers. [`bus`] is the only place of the project that runs an MQTT client.

mod backoff;
pub mod bus;
mod credentials;

pub use credentials::{Credentials, Password};
