//! What is to be done about rollouts, and what happened to them.

use std::collections::BTreeSet;

use schemas::{
    id::{AppId, GroupId, KeyId, Revision, Seq},
    rollout::CourseState,
    topic::Topic,
};

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// This is to be published, retained where its topic is.
    Publish(Topic, Vec<u8>),
    /// This is to be told: log, page, webhooks.
    Tell(Milestone),
    /// This is for the log of the machine alone.
    Note(Note),
}

/// Something of a rollout that people want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Milestone {
    /// The app.
    pub app: AppId,
    /// The version of the release.
    pub version: String,
    /// The groups of the plan.
    pub groups: BTreeSet<GroupId>,
    /// The name of the rollout.
    pub first: Revision,
    /// The number of the course that says it, too: who decides it once more uses the same.
    pub seq: Seq,
    /// What happened.
    pub kind: MilestoneKind,
    /// The same for people.
    pub text: String,
}

/// What happened to a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MilestoneKind {
    /// It has begun.
    Started,
    /// A wave has opened.
    WaveOpened,
    /// A wave has passed.
    WavePassed,
    /// It does not go on.
    Stopped,
    /// It goes on again.
    Resumed,
    /// Every wave has passed.
    Completed,
    /// It was ended.
    Aborted,
    /// Another order took its place.
    Superseded,
}

impl MilestoneKind {
    /// What happened, as topics and logs spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "rollout_started",
            Self::WaveOpened => "wave_opened",
            Self::WavePassed => "wave_passed",
            Self::Stopped => "rollout_stopped",
            Self::Resumed => "rollout_resumed",
            Self::Completed => "rollout_completed",
            Self::Aborted => "rollout_aborted",
            Self::Superseded => "rollout_superseded",
        }
    }
}

/// What whoever runs a controller may want to find in its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// The fleet has other keys: the version of its root document.
    Keys(u64),
    /// What people want of the rollout of an app is not believed, and why.
    NotBelieved(AppId, String),
    /// None of the controllers is there that the rollout of an app was given to.
    Forsaken(AppId),
    /// Another process has this controller's key.
    Twin(KeyId),
    /// A rollout is carried out here from now on, or shown as it ended.
    TakenUp {
        /// The app.
        app: AppId,
        /// The version of the release.
        version: String,
        /// How it stands.
        state: CourseState,
    },
}
