//! The report: a node's signed state, the only one that is believed. The JSON topics of [`crate::status`] mirror it.

use serde::{Deserialize, Serialize};

use crate::{
    build::Built,
    hold::HoldCode,
    id::{AppId, Counter, Digest, GroupId, NodeId, Revision, Seq},
    reason::Reason,
    seal::{Document, Head},
    status::Phase,
    time::UnixTime,
};

/// What a node says about itself and its apps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// What every document has in common.
    pub head: Head,
    /// The node.
    pub node: NodeId,
    /// How often the worker was started; with `seq` it orders the reports of a node.
    pub boot: u64,
    /// Rises with every report of a boot.
    pub seq: Seq,
    /// Version of the root that the node trusts.
    pub root_version: u64,
    /// The node's clock was never set, so `issued_at` is only a lower bound.
    pub clock_unset: bool,
    /// Every app that the node has or was told to have.
    pub apps: Vec<AppReport>,
    /// The last documents that were refused, oldest first.
    #[serde(default)]
    pub refusals: Vec<Refusal>,
}

/// Most outcomes that a report carries per app.
pub const MAX_OUTCOMES: usize = 4;
/// Most refusals that a report carries.
pub const MAX_REFUSALS: usize = 8;
/// Most lines of a log tail.
pub const MAX_LOG_LINES: usize = 50;
/// Most bytes of a log tail, so that a report with several apps fits its limit.
pub const MAX_LOG_BYTES: usize = 4 * 1024;

/// One app on a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReport {
    /// The app.
    pub app: AppId,
    /// What the node does about it.
    pub phase: Phase,
    /// The highest order revision that was accepted.
    pub revision: Revision,
    /// What is committed and runs.
    pub installed: Option<Installed>,
    /// What it would go back to.
    pub previous: Option<Installed>,
    /// What it is on the way to.
    pub target: Option<Target>,
    /// What the checks say of what runs, once they said something.
    pub healthy: Option<bool>,
    /// How the last orders ended, oldest first; only the newest has a log tail.
    pub outcomes: Vec<Outcome>,
}

/// A release on a node's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// Digest of the release document.
    pub release: Digest,
    /// Its version.
    pub version: String,
    /// Its counter.
    pub counter: Counter,
    /// Its commit, or empty.
    pub commit: String,
    /// The tree as it was measured on the disk.
    pub tree_hash: Digest,
    /// The group through which it came.
    pub group: GroupId,
    /// When it was committed.
    pub since: UnixTime,
}

/// What a node is on the way to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// The order's revision.
    pub revision: Revision,
    /// The release's version.
    pub version: String,
    /// How far it is, in thousandths.
    pub progress_permille: u16,
    /// Which attempt it is, from 1.
    pub attempt: u32,
    /// Why it does not go on now, or empty.
    pub waits_for: String,
    /// What holds it back from beginning, if something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HoldCode>,
    /// When it goes on by itself, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixTime>,
}

/// How an order ended on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The release proved itself and stays.
    Kept,
    /// The release did not prove itself; the one before runs again.
    RolledBack,
    /// Nothing was switched, or not even going back worked.
    Failed,
    /// The order was not begun.
    Refused,
    /// A newer order took its place, or it was withdrawn.
    Superseded,
}

impl Verdict {
    /// Every verdict.
    pub const ALL: [Self; 5] = [Self::Kept, Self::RolledBack, Self::Failed, Self::Refused, Self::Superseded];

    /// The verdict as topics, logs and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
        }
    }

    /// Whether the order was begun and came to its own end, so that orders that continue it need nothing more.
    pub fn was_begun(self) -> bool {
        matches!(self, Self::Kept | Self::RolledBack | Self::Failed)
    }
}

/// How an order ended, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// The order's revision.
    pub revision: Revision,
    /// Digest of the release document.
    pub release: Digest,
    /// Its version.
    pub version: String,
    /// How it ended.
    pub verdict: Verdict,
    /// Why, unless it was kept.
    pub reason: Option<Reason>,
    /// The same for people: what happened, where, what was expected and what was found.
    pub text: String,
    /// Last lines of the hook or the app.
    #[serde(default)]
    pub log_tail: Vec<String>,
    /// From the order to the verdict, without the time that the node was down.
    pub took_ms: u64,
    /// Bytes that were fetched.
    pub fetched_bytes: u64,
    /// Requests that it took.
    pub requests: u32,
    /// How its image was built, if it is a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<Box<Built>>,
    /// When it ended.
    pub at: UnixTime,
}

/// A document that was refused before it reached an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Where it came from.
    pub topic: String,
    /// Why.
    pub reason: Reason,
    /// The same for people.
    pub text: String,
    /// The digest of the order that was refused last, where there was an order in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Digest>,
    /// An honest bus never shows this.
    pub attack: bool,
    /// How often it came in a row.
    pub times: u32,
    /// When it came last.
    pub at: UnixTime,
}

impl Document for Report {
    const TYPE: &'static str = "report";
    const MAX_BYTES: usize = 48 * 1024;

    fn head(&self) -> &Head {
        &self.head
    }
}
