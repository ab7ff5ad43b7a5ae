//! A rollout as it travels: what people want of the controller, and what has become of it.

use serde::{Deserialize, Serialize};

use crate::{
    codec::{self, CodecError},
    id::{AppId, Digest, NodeId, PublicKey, Revision, Seq},
    mandate::Mandate,
    order::{Audience, Order},
    reason::Reason,
    release::Release,
    root::{Role, Trust},
    seal::{Document, Head, Own, RoleDocument, SealError, Signed, Verified},
    time::UnixTime,
};

/// What people want of a rollout. Each wish is the whole document anew, with a higher number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// What every document has in common.
    pub head: Head,
    /// The app.
    pub app: AppId,
    /// The first revision of its mandate: the name of the rollout.
    pub first: Revision,
    /// Rises with every wish about this rollout.
    pub seq: Seq,
    /// The plan as TOML, as a person wrote it.
    pub plan: String,
    /// What is wanted.
    pub wish: Wish,
    /// So many stages may open that wait for an approval.
    pub approved: u32,
    /// Nodes whose failure is known and stops nothing any more.
    #[serde(default)]
    pub acknowledged: Vec<NodeId>,
    /// It begins then at the earliest.
    #[serde(default)]
    pub not_before: UnixTime,
}

/// What is wanted of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    /// Carry it out.
    Run,
    /// Begin nothing new.
    Pause,
    /// End it.
    Abort {
        /// Nodes that have the release go back to what they ran before.
        revert: bool,
    },
}

impl Document for Rollout {
    const TYPE: &'static str = "rollout";
    const MAX_BYTES: usize = 128 * 1024;

    fn head(&self) -> &Head {
        &self.head
    }
}

impl RoleDocument for Rollout {
    const ROLE: Role = Role::Ops;
}

/// A rollout with what the controller needs to carry it out, as it is retained on the app's plan topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    /// What people want.
    pub rollout: Signed<Rollout>,
    /// What the controller may order.
    pub mandate: Signed<Mandate>,
    /// The release that it is about.
    pub release: Signed<Release>,
}

/// The documents of a [`Planned`], verified and belonging together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plans {
    /// What people want.
    pub rollout: Verified<Rollout>,
    /// What the controller may order.
    pub mandate: Verified<Mandate>,
    /// The release that it is about.
    pub release: Verified<Release>,
}

/// Why a rollout is not believed.
#[derive(Debug, thiserror::Error)]
pub enum PlannedError {
    /// One of its documents is not believed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// No rollout at all.
    #[error("rollout is unreadable")]
    Malformed(#[source] CodecError),
    /// Documents of several rollouts, or on another app's topic.
    #[error("documents of the rollout do not belong together")]
    Mixed,
}

impl Planned {
    /// Most bytes of the three documents.
    pub const MAX_BYTES: usize = 256 * 1024;

    /// Reads a rollout; its documents stay closed until they are verified.
    ///
    /// # Errors
    /// When the bytes are too many or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PlannedError> {
        codec::decode(bytes, Self::MAX_BYTES).map_err(PlannedError::Malformed)
    }

    /// The rollout as it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Verifies the documents, and that they belong together and to `app`.
    ///
    /// # Errors
    /// When anything of that does not hold.
    pub fn verify(&self, trust: &Trust, app: &AppId) -> Result<Plans, PlannedError> {
        let rollout = self.rollout.verify(trust)?;
        let mandate = self.mandate.verify(trust)?;
        let release = self.release.verify(trust)?;
        let belong = rollout.first == mandate.first
            && mandate.release == release.digest()
            && [&rollout.app, &mandate.app, &release.app].into_iter().all(|of| of == app);
        if belong { Ok(Plans { rollout, mandate, release }) } else { Err(PlannedError::Mixed) }
    }
}

/// What has become of a rollout. The controller signs it, and it is all that a controller remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Course {
    /// What every document has in common.
    pub head: Head,
    /// The app.
    pub app: AppId,
    /// The name of the rollout.
    pub first: Revision,
    /// Rises with each change.
    pub seq: Seq,
    /// The term of the controller that wrote it.
    pub term: u64,
    /// The number of the last wish that was taken note of.
    pub heeded: Seq,
    /// The digest of that wish's document: two people may have used one number.
    pub heeded_rollout: Digest,
    /// How it stands.
    pub state: CourseState,
    /// The highest revision that was used.
    pub revision: Revision,
    /// Who gets the release when.
    pub waves: Vec<CourseWave>,
    /// The orders as they are to be on the topics of their groups.
    pub orders: Vec<Signed<Order>>,
    /// When it began to carry out the first wave.
    pub started_at: UnixTime,
}

/// How a rollout stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CourseState {
    /// The next stage waits for an approval.
    AwaitingApproval,
    /// Its time has not come.
    Scheduled,
    /// It is carried out.
    Running,
    /// Nothing new begins.
    Paused(Pause),
    /// Nodes go back to what they ran before, newest first.
    Reverting {
        /// Why.
        cause: Pause,
        /// The wave that goes back, from 0.
        wave: u32,
    },
    /// Every wave has passed.
    Completed,
    /// It was ended.
    Aborted {
        /// Why.
        cause: Pause,
        /// Whether nodes went back.
        reverted: bool,
    },
    /// Another order or rollout took its place.
    Superseded,
}

/// Why a rollout does not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// The kind of reason.
    pub why: PauseReason,
    /// The same for people.
    pub text: String,
    /// When.
    pub at: UnixTime,
}

/// Why a rollout does not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PauseReason {
    /// A person wants it so.
    Operator,
    /// Too many nodes failed.
    Failures,
    /// Nobody was there, so too little is known to go on.
    Inconclusive,
    /// The release is not for anybody of a wave, which therefore proves nothing.
    NotForAnybody,
    /// Nobody knows any more what had become of it.
    Unknown,
    /// The mandate of the controller is over.
    Deadline,
    /// The plan cannot be carried out.
    Plan,
}

/// Nodes that get a release together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CourseWave {
    /// The stage, from 0.
    pub stage: u32,
    /// How it stands.
    pub state: WaveState,
    /// Since when it stands so.
    pub since: UnixTime,
    /// So long of that a controller has watched it, as far as was written down: only that counts, for clocks may jump.
    #[serde(default)]
    pub watched_secs: u64,
    /// Its nodes, and what is remembered of each.
    pub seats: Vec<(NodeId, Standing)>,
    /// Whom an order is for that is for this wave and those of its stage before, where they are too many to be named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<Audience>,
}

/// How a wave stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaveState {
    /// Nobody in it has the order.
    #[default]
    Closed,
    /// Its nodes may begin.
    Open,
    /// All that could have the release, and must stay well for a while.
    Soaking,
    /// It went well.
    Passed,
    /// It did not.
    Failed,
}

/// What is remembered of a node, for reports do not say it for ever. One letter each: there may be ten thousand of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Standing {
    /// Nothing: it has not begun, as far as is known.
    #[default]
    #[serde(rename = "n")]
    None,
    /// It has begun, so silence is no excuse any more.
    #[serde(rename = "b")]
    Begun,
    /// It keeps the release.
    #[serde(rename = "k")]
    Kept,
    /// It went back by itself.
    #[serde(rename = "r")]
    RolledBack,
    /// It did not get as far as the switch, or refused.
    #[serde(rename = "f")]
    Failed,
    /// It kept the release and is not well.
    #[serde(rename = "u")]
    Unwell,
    /// It fell silent after it had begun, or never answered.
    #[serde(rename = "l")]
    Lost,
}

impl Document for Course {
    const TYPE: &'static str = "course";
    /// What every client of the bus takes in one message.
    const MAX_BYTES: usize = 240 * 1024;

    fn head(&self) -> &Head {
        &self.head
    }
}

/// A controller about itself: that it is there, and which rollouts it carries out. It counts for a while only, and is said again
/// and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Controller {
    /// What every document has in common.
    pub head: Head,
    /// Its key, which signs this.
    pub key: PublicKey,
    /// Program and version.
    pub program: String,
    /// It is there until then, and nobody else carries its rollouts out before that.
    pub until: UnixTime,
    /// The rollouts that it carries out.
    pub leases: Vec<Lease>,
}

/// The right of a controller to carry a rollout out. Of several that the mandate names, the one with the highest term has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// The app.
    pub app: AppId,
    /// The name of the rollout.
    pub first: Revision,
    /// The term, above all that were before. No two controllers use the same: divided by the most that a mandate names, it leaves
    /// the controller's place among them.
    pub term: u64,
}

impl Document for Controller {
    const TYPE: &'static str = "controller";
    /// Room for the leases of several hundred apps.
    const MAX_BYTES: usize = 64 * 1024;

    fn head(&self) -> &Head {
        &self.head
    }
}

impl Own for Controller {
    fn key(&self) -> &PublicKey {
        &self.key
    }
}

impl Plans {
    /// Whether these may take the place of `known` ones: they are later, and do not alter the plan of a rollout that goes on.
    pub fn may_replace(&self, known: &Self) -> bool {
        let (new, known) = (&self.rollout, &known.rollout);
        (new.first, new.seq) >= (known.first, known.seq)
            && (new.first != known.first || new.plan == known.plan)
    }
}

impl CourseState {
    /// Whether nothing more will happen.
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Completed | Self::Aborted { .. } | Self::Superseded)
    }

    /// The state as topics, logs and the command line spell it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::AwaitingApproval => "awaiting_approval",
            Self::Scheduled => "scheduled",
            Self::Running => "running",
            Self::Paused(_) => "paused",
            Self::Reverting { .. } => "reverting",
            Self::Completed => "completed",
            Self::Aborted { .. } => "aborted",
            Self::Superseded => "superseded",
        }
    }

    /// Why it does not go on, or went no further.
    pub fn cause(&self) -> Option<&Pause> {
        match self {
            Self::Paused(cause) | Self::Reverting { cause, .. } | Self::Aborted { cause, .. } => Some(cause),
            _ => None,
        }
    }
}

impl Wish {
    /// The wish as the command line spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Pause => "pause",
            Self::Abort { revert: false } => "abort_keep",
            Self::Abort { revert: true } => "abort_revert",
        }
    }
}

impl PauseReason {
    /// The reason as topics, logs and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Failures => "failures",
            Self::Inconclusive => "inconclusive",
            Self::NotForAnybody => "not_for_anybody",
            Self::Unknown => "unknown",
            Self::Deadline => "deadline",
            Self::Plan => "plan",
        }
    }
}

impl Standing {
    /// Whether the node did not end up well with the release.
    pub fn is_failure(self) -> bool {
        matches!(self, Self::RolledBack | Self::Failed | Self::Unwell | Self::Lost)
    }
}

impl WaveState {
    /// The state as topics, logs and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Soaking => "soaking",
            Self::Passed => "passed",
            Self::Failed => "failed",
        }
    }
}

impl From<&PlannedError> for Reason {
    fn from(error: &PlannedError) -> Self {
        match error {
            PlannedError::Seal(error) => error.reason(),
            PlannedError::Malformed(CodecError::TooLarge { .. }) => Self::TooLarge,
            PlannedError::Malformed(_) => Self::Malformed,
            PlannedError::Mixed => Self::WrongRelease,
        }
    }
}
