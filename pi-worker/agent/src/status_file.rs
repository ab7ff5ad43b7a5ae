//! What a node said last, as a file for people who are on the node itself: also there when the worker is down.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use schemas::{
    id::{AppId, GroupId},
    report::Report,
    status::{Health, Info, Status, Timestamp, Update, Version},
};
use serde::{Deserialize, Serialize};

use crate::durable::read_at_most;

/// Most bytes of the file: many times those of a report.
const MAX_BYTES: usize = 1024 * 1024;

/// What a node said last.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The worker's process.
    pub pid: u32,
    /// When this was written.
    pub at: Timestamp,
    /// `connected`, or why the bus is away.
    pub bus: String,
    /// As on the bus.
    pub info: Info,
    /// As on the bus.
    pub health: Health,
    /// As on the bus.
    pub apps: BTreeMap<AppId, AppStatus>,
    /// The report, without its signature.
    pub report: Report,
}

/// What a node said last about one of its apps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppStatus {
    /// As on the bus.
    pub version: Version,
    /// As on the bus.
    pub update: Update,
    /// As on the bus.
    pub status: Status,
}

/// Why there is no status.
#[derive(Debug, thiserror::Error)]
pub enum StatusFileError {
    /// The file cannot be read or written.
    #[error("cannot {action} status file {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error("status file {path} has another form")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

impl StatusFileError {
    /// What a person should do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "the worker writes it when it starts: see that `pi-worker run` runs, with the same settings"
            }
            Self::Io { .. } => "ask as the user that the worker runs as, or as root",
            Self::Malformed { .. } => "ask with the version of `pi-worker` that runs",
        }
    }
}

/// Reads what the node said last.
///
/// # Errors
/// When there is no such file, or it is something else.
pub fn read(path: &Path) -> Result<NodeStatus, StatusFileError> {
    let failed = |source| StatusFileError::Io { action: "read", path: path.to_owned(), source };
    let bytes = read_at_most(path, MAX_BYTES).map_err(failed)?;
    serde_json::from_slice(&bytes)
        .map_err(|source| StatusFileError::Malformed { path: path.to_owned(), source })
}

/// The groups that the node was in when it said something last; none, where it never said anything.
///
/// # Errors
/// When there is a file that cannot be read.
pub(crate) fn groups(path: &Path) -> Result<Vec<GroupId>, StatusFileError> {
    #[derive(Deserialize)]
    struct Said {
        info: InfoSaid,
    }
    #[derive(Deserialize)]
    struct InfoSaid {
        groups: Vec<GroupId>,
    }
    let failed = |source| StatusFileError::Io { action: "read", path: path.to_owned(), source };
    match read_at_most(path, MAX_BYTES) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(|Said { info }| info.groups)
            .map_err(|source| StatusFileError::Malformed { path: path.to_owned(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error)),
    }
}

/// Puts `status` in place of what the file held. Not synced, unlike all other files: it is written often, is worth
/// nothing after a power cut, and SD cards wear out.
pub(crate) fn replace(path: &Path, status: &NodeStatus) -> Result<(), StatusFileError> {
    let text = serde_json::to_vec_pretty(status)
        .map_err(|source| StatusFileError::Malformed { path: path.to_owned(), source })?;
    let draft = path.with_extension("json.new");
    fs::write(&draft, text).and_then(|()| fs::rename(&draft, path)).map_err(|source| StatusFileError::Io {
        action: "replace",
        path: path.to_owned(),
        source,
    })
}
