//! The JSON topics for people and tools: exact key sets, flat objects, units in the names, no nulls.
//!
//! They mirror the signed [`crate::report`] and carry no proof of their own. Home Assistant drops a whole message for
//! one unknown key, a null or a bad URL in [`Update`], and warns at every message about a key that is missing now and
//! then; so a key is either always there or, for a sensor that a node does not have, never.

use serde::{Deserialize, Serialize};

use crate::{
    id::{AppId, GroupId, NodeId},
    reason::Reason,
    report::Verdict,
    time::UnixTime,
};

/// What a node does about an app: a closed list, for Home Assistant ignores values that it was not told of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Nothing to do.
    #[default]
    Idle,
    /// An order waits for its time.
    Deferred,
    /// Objects are on their way.
    Fetching,
    /// The slot is being built and read back.
    Staging,
    /// The pre-check runs in the new slot.
    Staged,
    /// The old release is stopped and the new one started.
    Switching,
    /// The new release must prove itself.
    Trial,
    /// The one before is being brought back.
    RollingBack,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 8] = [
        Self::Idle,
        Self::Deferred,
        Self::Fetching,
        Self::Staging,
        Self::Staged,
        Self::Switching,
        Self::Trial,
        Self::RollingBack,
    ];

    /// The phase as topics, logs and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Deferred => "deferred",
            Self::Fetching => "fetching",
            Self::Staging => "staging",
            Self::Staged => "staged",
            Self::Switching => "switching",
            Self::Trial => "trial",
            Self::RollingBack => "rolling_back",
        }
    }
}

/// Plain text of the availability topics.
pub mod availability {
    /// The session is there.
    pub const ONLINE: &str = "online";
    /// The session is gone.
    pub const OFFLINE: &str = "offline";
}

/// A time as JSON topics spell it: RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(String);

impl Timestamp {
    /// What stands where there is no such time.
    pub fn never() -> Self {
        UnixTime(0).into()
    }

    /// The time, unless the text says none.
    pub fn time(&self) -> Option<UnixTime> {
        self.0.parse().ok()
    }
}

impl From<UnixTime> for Timestamp {
    fn from(time: UnixTime) -> Self {
        Self(time.to_string())
    }
}

/// `bus/info`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BusInfo {
    /// Of the bus service.
    pub version: String,
    /// When it started.
    pub started_at: Timestamp,
    /// Nodes that belong to the fleet.
    pub nodes: u64,
    /// When this was said.
    pub at: Timestamp,
}

/// `node/<n>/info`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// The node.
    pub node: NodeId,
    /// `pi`, `pico` or `pico_w`.
    pub kind: String,
    /// Hardware model, or `unknown`.
    pub model: String,
    /// Hardware serial number, or `unknown`.
    pub serial: String,
    /// The node through which it is reached, or empty.
    pub via: String,
    /// Its groups, sorted.
    pub groups: Vec<GroupId>,
    /// Program and version.
    pub agent: String,
    /// When this was said.
    pub at: Timestamp,
}

/// `node/<n>/health`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The node.
    pub node: NodeId,
    /// Whether all its apps are healthy.
    pub ok: bool,
    /// Why not, or empty.
    pub reason: String,
    /// When the worker started.
    pub started_at: Timestamp,
    /// Since the node booted.
    pub uptime_s: u64,
    /// Free on the file system of the worker's data.
    pub disk_free_bytes: u64,
    /// Of the processor, where it has a sensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<f64>,
    /// That images of ours take of the engine that runs containers, where the node has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_used_bytes: Option<u64>,
    /// Free where that engine keeps its images, where that can be seen from here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_free_bytes: Option<u64>,
    /// Available memory.
    pub memory_free_bytes: u64,
    /// When this was said.
    pub at: Timestamp,
}

/// `node/<n>/app/<app>/version`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Version {
    /// The node.
    pub node: NodeId,
    /// The app.
    pub app: AppId,
    /// The committed version, or empty.
    pub installed: String,
    /// The version it would go back to, or empty.
    pub previous: String,
    /// The group through which it came, or empty.
    pub group: String,
    /// The tree as measured, or empty.
    pub tree_hash: String,
    /// The commit, or empty.
    pub commit: String,
    /// When it was committed, or 1970.
    pub since: Timestamp,
    /// When this was said.
    pub at: Timestamp,
}

/// `node/<n>/app/<app>/update`: exactly the keys of Home Assistant's update entity.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// What is committed.
    pub installed_version: String,
    /// What it should be.
    pub latest_version: String,
    /// The app.
    pub title: String,
    /// The release's notes, at most 255 characters.
    pub release_summary: String,
    /// Where to read more; a bad URL would drop the message, so it is left out when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub release_url: Option<String>,
    /// A picture; left out when there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_picture: Option<String>,
    /// Whether the node is on the way.
    pub in_progress: bool,
    /// How far; null when it is not on the way. The one null that Home Assistant asks for.
    pub update_percentage: Option<u8>,
}

/// `node/<n>/app/<app>/status`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The node.
    pub node: NodeId,
    /// The app.
    pub app: AppId,
    /// What the node does.
    pub phase: Phase,
    /// How far it is, 0 to 1.
    pub progress_ratio: f64,
    /// The version it is on the way to, or empty.
    pub target: String,
    /// Code of what holds it back from beginning, or empty.
    #[serde(default)]
    pub hold: String,
    /// When it goes on by itself, or 1970.
    #[serde(default = "Timestamp::never")]
    pub until: Timestamp,
    /// Which attempt it is; 0 when idle.
    pub attempt: u32,
    /// How a container was built; empty for other kinds.
    pub strategy: String,
    /// Verdict of the last order, or empty.
    pub last_result: String,
    /// Code and sentence of the last failure, or empty.
    pub last_error: String,
    /// When this was said.
    pub at: Timestamp,
}

/// `rollout/<group>/<app>`: a stage of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// The group.
    pub group: GroupId,
    /// The app.
    pub app: AppId,
    /// The version that is rolled out.
    pub version: String,
    /// How the rollout stands.
    pub state: String,
    /// Why it does not go on, or empty.
    pub reason: String,
    /// Nodes of the stage, but for those that the release is not for.
    pub total: u64,
    /// Well with the release.
    pub ok: u64,
    /// Not well with it, but for those that went back.
    pub failed: u64,
    /// Went back, by themselves or because somebody wanted it.
    pub rolled_back: u64,
    /// On the way.
    pub updating: u64,
    /// Have not got the order, or hold themselves back.
    pub pending: u64,
    /// Away.
    pub offline: u64,
    /// When it began, or 1970.
    pub started_at: Timestamp,
    /// When this was said.
    pub at: Timestamp,
}

/// `bus/event`, not retained: what happened to a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BusEvent {
    /// What happened: `rollout_started`, `rollout_stopped` …
    pub event_type: String,
    /// The app.
    pub app: AppId,
    /// The version that is rolled out.
    pub version: String,
    /// The same for people.
    pub text: String,
    /// When.
    pub at: Timestamp,
}

/// `node/<n>/event`, not retained.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub event_type: EventType,
    /// The node.
    pub node: NodeId,
    /// The app; empty when it is about the node itself.
    pub app: String,
    /// The version that ran before, or empty.
    pub version: String,
    /// The version that it was about; empty for a document that was refused before anybody believed what it says.
    pub to: String,
    /// Reason code, or empty.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}

/// What happened on a node: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventType {
    /// An order was accepted and is being carried out.
    Started,
    /// See [`Verdict::Kept`].
    Kept,
    /// See [`Verdict::RolledBack`].
    RolledBack,
    /// See [`Verdict::Failed`].
    Failed,
    /// See [`Verdict::Refused`].
    Refused,
    /// See [`Verdict::Superseded`].
    Superseded,
}

impl EventType {
    /// Everything that can happen.
    pub const ALL: [Self; 6] =
        [Self::Started, Self::Kept, Self::RolledBack, Self::Failed, Self::Refused, Self::Superseded];

    /// As topics spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Kept => "kept",
            Self::RolledBack => "rolled_back",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Superseded => "superseded",
        }
    }
}

impl From<Verdict> for EventType {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Kept => Self::Kept,
            Verdict::RolledBack => Self::RolledBack,
            Verdict::Failed => Self::Failed,
            Verdict::Refused => Self::Refused,
            Verdict::Superseded => Self::Superseded,
        }
    }
}

/// `node/<n>/log`, not retained: what an app, or the build of its image, says. An app's lines only while somebody asks for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLines {
    /// The node.
    pub node: NodeId,
    /// The app.
    pub app: AppId,
    /// Who says it.
    pub source: LogSource,
    /// The lines, oldest first, without control characters.
    pub lines: Vec<String>,
    /// Lines before these that were left out, for there were too many.
    pub dropped: u64,
    /// The id of the ask whose answer this is, or empty.
    pub answers: String,
    /// When this was said.
    pub at: Timestamp,
}

/// Who says lines of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogSource {
    /// The app.
    App,
    /// The build of its image.
    Build,
}

/// The text of `last_error` and of `reason` keys: the code, then the sentence.
pub fn error_text(reason: Option<Reason>, text: &str) -> String {
    match reason {
        Some(reason) if text.is_empty() => reason.code().to_owned(),
        Some(reason) => format!("{reason}: {text}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_is_written() {
        for phase in Phase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
        }
        for event in EventType::ALL {
            assert_eq!(serde_json::to_value(event).unwrap(), event.name());
        }
    }
}
