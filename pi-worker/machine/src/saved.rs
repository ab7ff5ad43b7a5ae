//! What a machine keeps on the disk: its journal, one small file per app, replaced as a whole.

use std::collections::BTreeMap;

use schemas::{
    build::Built,
    id::{AppId, Counter, Digest, GroupId, Revision},
    reason::Reason,
    release::Part,
    report::{Installed, Outcome},
    time::UnixTime,
};
use serde::{Deserialize, Serialize};

/// The journal of one app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    /// Version of this form.
    pub spec: u32,
    /// The app.
    pub app: AppId,
    /// The highest order seen on each group's topic: a lower one there is a replay.
    pub seen: BTreeMap<GroupId, Seen>,
    /// The highest revision that applied to this node; nothing lower is begun any more.
    pub obeyed: Revision,
    /// Releases below this counter are refused.
    pub floor: Counter,
    /// What is committed.
    pub current: Option<Slot>,
    /// What was committed before, and still stands on the disk.
    pub previous: Option<Slot>,
    /// What is under way.
    pub step: Step,
    /// How the last orders ended, oldest first.
    pub outcomes: Vec<Outcome>,
    /// How often this was stored since the last verdict: ends any endless repetition.
    pub stores: u32,
    /// The boot in which the guard has counted a try already.
    pub guarded: Option<String>,
    /// The last root with which the numbers of orders began anew.
    #[serde(default)]
    pub orders_reset: u64,
    /// The last root with which the floor was forgotten.
    #[serde(default)]
    pub floor_reset: u64,
    /// The release that somebody said yes to, until it was tried.
    #[serde(default)]
    pub consented: Option<Digest>,
    /// Somebody wants no other release until there is such a yes.
    #[serde(default)]
    pub held: bool,
}

/// The highest order seen on a group's topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Its revision.
    pub revision: Revision,
    /// Its digest: another order of the same revision is a conflict.
    pub order: Digest,
    /// The first order of its series.
    #[serde(default)]
    pub first: Revision,
    /// The release that the series is about; unknown when an older worker took note of it.
    #[serde(default)]
    pub release: Option<Digest>,
}

/// What is under way across a power cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Nothing: the `current` slot runs.
    Idle,
    /// The slot takes over from `current`, or is on trial. Which of the two, the symlink says.
    Trying {
        /// The new slot.
        slot: Box<Slot>,
        /// Starts that it may still take; stored before the app is started.
        tries_left: u32,
        /// Whether the bus was there before the switch: then it must be there again before the commit.
        connected: bool,
        /// What it cost so far.
        spent: Spent,
    },
    /// The slot failed; `current` is brought back.
    RollingBack {
        /// The slot that failed.
        slot: Box<Slot>,
        /// Why.
        reason: Reason,
        /// The same for people.
        text: String,
        /// Last lines of the hook or the app.
        log_tail: Vec<String>,
        /// What it cost so far.
        spent: Spent,
    },
}

/// What an order cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Time, without the time that the node was down.
    pub took_ms: u64,
    /// Bytes that were fetched.
    pub fetched_bytes: u64,
    /// Requests that it took.
    pub requests: u32,
    /// How its image was built, if it is a container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<Box<Built>>,
}

/// A release on the disk, with everything that is needed to run it and to bring it back without the bus.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Digest of the release document.
    pub release: Digest,
    /// Its version.
    pub version: String,
    /// Its counter.
    pub counter: Counter,
    /// The floor that it sets when it is kept.
    pub min_counter: Counter,
    /// Its commit, or empty.
    pub commit: String,
    /// The first 255 characters of its notes.
    pub notes: String,
    /// The order that brought it.
    pub revision: Revision,
    /// The group through which it came.
    pub group: GroupId,
    /// What is installed and how it is run.
    pub part: Part,
    /// When it was committed; 0 before.
    pub since: UnixTime,
}

/// More stores than any order needs; from then on the machine goes round in circles.
pub(crate) const MAX_STORES: u32 = 32;

impl Saved {
    /// The form that this version writes.
    pub const SPEC: u32 = 1;

    /// The journal of an app of which the node knows nothing.
    pub fn new(app: AppId) -> Self {
        Self {
            spec: Self::SPEC,
            app,
            seen: BTreeMap::new(),
            obeyed: Revision::default(),
            floor: Counter::default(),
            current: None,
            previous: None,
            step: Step::Idle,
            outcomes: Vec::new(),
            stores: 0,
            guarded: None,
            orders_reset: 0,
            floor_reset: 0,
            consented: None,
            held: false,
        }
    }

    /// Whether an order goes round in circles without a verdict.
    pub(crate) fn is_endless(&self) -> bool {
        self.stores >= MAX_STORES
    }

    /// The trees that are needed to go on from here.
    pub(crate) fn trees(&self) -> impl Iterator<Item = Digest> {
        let under_way = match &self.step {
            Step::Idle => None,
            Step::Trying { slot, .. } | Step::RollingBack { slot, .. } => Some(&**slot),
        };
        self.current.iter().chain(&self.previous).chain(under_way).map(Slot::tree)
    }
}

impl Slot {
    /// The tree that it holds: its name on the disk.
    pub fn tree(&self) -> Digest {
        self.part.tree_hash
    }

    /// This slot as reports say it, once it was measured.
    pub fn installed(&self) -> Installed {
        Installed {
            release: self.release,
            version: self.version.clone(),
            counter: self.counter,
            commit: self.commit.clone(),
            tree_hash: self.tree(),
            group: self.group.clone(),
            since: self.since,
        }
    }
}
