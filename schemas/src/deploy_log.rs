//! The deploy log: what happened to which node, app and rollout, as a chain of which no link can be changed, taken out or
//! put in without every later digest being another one.
//!
//! [`Entry`] is what the digests are made from, [`Row`] the same as JSON. Who keeps the last digest that was seen, as
//! `publisher log verify` does, finds out when the log behind it was written anew.

mod chain;
mod query;
mod row;
mod what;

use serde::{Deserialize, Serialize};

pub use self::{
    chain::{Broken, Chained, FORMAT, Fault, Head, digest, verify},
    query::{MAX_PAGE, Page, Query, State, Whats},
    row::{InvalidRow, Row},
    what::{UnknownWhat, What},
};
use crate::{
    id::{AppId, Counter, Digest, GroupId, NodeId, Revision},
    reason::Reason,
    time::UnixTime,
};

/// One thing that happened.
///
/// A text, a number or a list that says nothing is empty or 0, in the digest as in JSON. A field that comes later is left
/// out of the encoding while it is empty (`skip_serializing_if`), so that the digests of older entries stay what they were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place in the log, from 1.
    pub seq: u64,
    /// When the broker wrote it.
    pub at: UnixTime,
    /// What happened.
    pub what: What,
    /// To which node.
    pub node: Option<NodeId>,
    /// To which app.
    pub app: Option<AppId>,
    /// In which group.
    pub group: Option<GroupId>,
    /// The release's version.
    pub version: String,
    /// The release's counter.
    pub counter: Counter,
    /// The commit that it was made from.
    pub commit: String,
    /// How it was installed, where there are several ways.
    pub strategy: String,
    /// The order's revision.
    pub revision: Revision,
    /// Digest of the release document.
    pub release: Option<Digest>,
    /// When it began.
    pub started_at: Option<UnixTime>,
    /// When it ended, by the clock of who did it.
    pub ended_at: Option<UnixTime>,
    /// How long it took, without the time that the node was down.
    pub took_ms: u64,
    /// Bytes that were fetched for it.
    pub fetched_bytes: u64,
    /// Requests that this took.
    pub requests: u32,
    /// Why it did not go well.
    pub reason: Option<Reason>,
    /// An honest bus never shows this.
    pub attack: bool,
    /// The reason for people.
    pub text: String,
    /// Last lines of the hook or the app.
    pub log_tail: Vec<String>,
}
