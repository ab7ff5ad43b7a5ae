//! The users file on the disk, read again when it has changed.

use std::{
    collections::BTreeSet,
    fs::{self, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use schemas::id::FleetId;
use tracing::{info, warn};

use super::users::{InvalidUsers, Users};
use crate::advice;

/// Why the users are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UsersError {
    /// The file cannot be read.
    #[error("cannot read users file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is wrong.
    #[error("cannot use users file {path}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: InvalidUsers,
    },
    /// Nobody is in the file: an editor or a copy has only begun to write it.
    #[error("users file {0} names nobody")]
    Nobody(PathBuf),
    /// The system gives no random numbers or no thread.
    #[error("cannot prepare to check passwords")]
    Start(#[source] io::Error),
}

impl UsersError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Read { .. } => {
                "`publisher init` writes it, as `broker/users` in its folder: copy it here; this user must be able to read it"
            }
            Self::Invalid { .. } => "correct the line, or write the file again with `publisher user add`",
            Self::Nobody(_) => {
                "copy `broker/users` of the publisher's folder here, or add a line with `publisher user add`"
            }
            Self::Start(_) => advice::SYSTEM,
        }
    }
}

/// A file of users.
#[derive(Debug)]
pub(super) struct UsersFile {
    path: PathBuf,
    fleet: FleetId,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    stamp: Option<Stamp>,
    users: Arc<Users>,
    /// Who is gone or has another line, and nobody was told yet.
    changed: BTreeSet<Arc<str>>,
}

/// What changes when a file does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    inode: u64,
}

impl UsersFile {
    /// Reads the file.
    pub(super) fn open(path: PathBuf, fleet: FleetId) -> Result<Self, UsersError> {
        let (stamp, users) = read(&path, &fleet)?;
        let known = Known { stamp: Some(stamp), users: Arc::new(users), changed: BTreeSet::new() };
        Ok(Self { path, fleet, known: Mutex::new(known) })
    }

    /// The users as the file has them now.
    pub(super) fn current(&self) -> Arc<Users> {
        Arc::clone(&self.look().users)
    }

    /// Who is gone or has another line since it was asked last.
    pub(super) fn take_changed(&self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.look().changed)
    }

    /// Reads the file again if it has changed. One that became unreadable changes nothing: a half-copied file must not
    /// lock everybody out.
    fn look(&self) -> MutexGuard<'_, Known> {
        let mut known = self.lock();
        let stamp = fs::metadata(&self.path).ok().map(|metadata| Stamp::of(&metadata));
        if stamp == known.stamp {
            return known;
        }
        known.stamp = stamp;
        match read(&self.path, &self.fleet) {
            Ok((_, users)) => {
                info!(path = %self.path.display(), users = users.len(), "users file read again");
                let changed: Vec<_> = known.users.changed(&users).collect();
                known.changed.extend(changed);
                known.users = Arc::new(users);
            }
            Err(err) => {
                if matches!(err, UsersError::Read { .. }) {
                    // The file may be fine, and out of reach only now: try again the next time.
                    known.stamp = None;
                }
                warn!(error = %crate::chain(&err), "the users stay as they were");
            }
        }
        known
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self { modified: metadata.modified().ok(), size: metadata.len(), inode: metadata.ino() }
    }
}

/// The stamp is taken before the content: a change in between is found the next time.
fn read(path: &Path, fleet: &FleetId) -> Result<(Stamp, Users), UsersError> {
    let failed = |source| UsersError::Read { path: path.to_owned(), source };
    let stamp = Stamp::of(&fs::metadata(path).map_err(failed)?);
    let text = fs::read_to_string(path).map_err(failed)?;
    let users =
        Users::parse(&text, fleet).map_err(|source| UsersError::Invalid { path: path.to_owned(), source })?;
    if users.len() == 0 {
        return Err(UsersError::Nobody(path.to_owned()));
    }
    Ok((stamp, users))
}
