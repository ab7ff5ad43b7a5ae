//! What a node answers when it is asked to prune.

use serde::{Deserialize, Serialize};

use crate::{id::NodeId, status::Timestamp};

/// More names than these are not told, but counted.
pub const MAX_NAMES: usize = 100;

/// `node/<n>/answer`, not retained: what was removed of the engine's disk, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pruned {
    /// The node.
    pub node: NodeId,
    /// The id of the ask whose answer this is, or empty.
    pub answers: String,
    /// Nothing was removed: this is what would be.
    pub dry_run: bool,
    /// Names of images and containers, at most [`MAX_NAMES`].
    pub removed: Vec<String>,
    /// How many there are.
    pub count: u64,
    /// Bytes of layers that nothing of ours needs any more.
    pub freed_bytes: u64,
    /// What went wrong, for people, or empty.
    pub error: String,
    /// When this was said.
    pub at: Timestamp,
}
