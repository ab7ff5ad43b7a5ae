//! What travels on the bus and what is stored: ids, topics, documents, manifests and their codec.
//!
//! Pure: no I/O, no clock, no random numbers. Who reads untrusted bytes starts at [`seal::Signed`].

pub mod announcement;
pub mod build;
pub mod chunk;
pub mod codec;
pub mod deploy_log;
pub mod enroll;
pub mod hold;
pub mod id;
pub mod mandate;
pub mod manifest;
pub mod order;
pub mod prune;
pub mod reason;
pub mod record;
pub mod release;
pub mod report;
pub mod rollout;
pub mod root;
pub mod seal;
pub mod status;
pub mod time;
pub mod topic;
