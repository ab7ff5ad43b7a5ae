//! The typed client of the bus and of the object store.
//!
//! It knows topics, digests and bytes, not documents: what the bytes mean and whether to believe them is for
//! its callers. [`bus`] is the only place of the project that runs an MQTT client, [`store`] the only one that
//! speaks HTTP to the store. [`problem`] is how all programs that use it show an error.

mod backoff;
pub mod bus;
mod cause;
mod credentials;
pub mod problem;
pub mod store;
mod tls;

pub use credentials::{Credentials, Password, keep_out_of_core_dumps};
pub use tls::{InvalidCa, Tls};
