//! The file: made, migrated, and moved aside when it is damaged.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};
use schemas::deploy_log::Head;
use tracing::warn;

use super::{beside, insert, io_error};
use crate::{advice, clock};

/// In the folder of the service.
const FILE: &str = "log.sqlite3";
/// What SQLite keeps beside a file.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];
/// Another program may look into the file; its locks are short.
const BUSY_LIMIT: Duration = Duration::from_secs(5);
/// Steps from an empty file to what this version uses, by `user_version`. A step that was released never changes.
const MIGRATIONS: [&str; 3] =
    [include_str!("schema/1.sql"), include_str!("schema/2.sql"), include_str!("schema/3.sql")];

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The disk does not do it.
    #[error("cannot use the deploy log {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// SQLite does not do it.
    #[error("cannot use the deploy log {path}")]
    Database {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: rusqlite::Error,
    },
    /// A newer version has written it.
    #[error("the deploy log {path} has version {found} and this broker knows {known}")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: usize,
        /// The newest that is known.
        known: usize,
    },
    /// The writer does not start.
    #[error("cannot start the thread of the deploy log")]
    Thread(#[source] io::Error),
}

impl LogError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Io { .. } | Self::Database { .. } => advice::DISK,
            Self::TooNew { .. } => "update the broker, or move the file away to begin a new log",
            Self::Thread(_) => advice::SYSTEM,
        }
    }

    /// Whether the file is no database, or not a whole one.
    pub(super) fn is_damage(&self) -> bool {
        matches!(self, Self::Database { source, .. } if is_damage(source))
    }
}

/// Whether it is the file that is to blame.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Where the log lies.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
}

impl Place {
    pub(super) fn new(folder: &Path) -> Self {
        Self { path: folder.join(FILE) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the file to write, in the version of today, and says where its chain ends. A damaged one is moved aside first.
    pub(super) fn open(&self) -> Result<(Connection, Head), LogError> {
        match self.open_as_it_is() {
            Err(error) if error.is_damage() => {
                self.move_aside(&crate::chain(&error))?;
                self.open_as_it_is()
            }
            opened => opened,
        }
    }

    /// Moves the file away, so that the next [`Self::open`] begins a new one.
    pub(super) fn move_aside(&self, why: &str) -> Result<(), LogError> {
        let aside = beside(&self.path, &format!(".damaged-{}", clock::now().0));
        fs::rename(&self.path, &aside).map_err(io_error(&self.path))?;
        for companion in COMPANIONS {
            // They need not be there.
            let _ = fs::rename(beside(&self.path, companion), beside(&aside, companion));
        }
        warn!(error = why, kept_as = %aside.display(), "the deploy log was damaged, a new one begins");
        Ok(())
    }

    /// Reads with a connection of its own, all from one moment.
    pub(super) fn read<T>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, LogError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let result = Connection::open_with_flags(&self.path, flags).and_then(|connection| {
            connection.busy_timeout(BUSY_LIMIT)?;
            let transaction = connection.unchecked_transaction()?;
            read(&transaction)
        });
        result.map_err(|source| self.failed(source))
    }

    fn failed(&self, source: rusqlite::Error) -> LogError {
        LogError::Database { path: self.path.clone(), source }
    }

    fn open_as_it_is(&self) -> Result<(Connection, Head), LogError> {
        // What apps said last is in it.
        let made = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path);
        made.map_err(io_error(&self.path))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection =
            Connection::open_with_flags(&self.path, flags).map_err(|source| self.failed(source))?;
        let version = set_up(&connection).map_err(|source| self.failed(source))?;
        if version > MIGRATIONS.len() {
            return Err(LogError::TooNew {
                path: self.path.clone(),
                found: version,
                known: MIGRATIONS.len(),
            });
        }
        let head = migrate(&mut connection, version).and_then(|()| insert::head(&connection));
        let head = head.map_err(|source| self.failed(source))?;
        Ok((connection, head))
    }
}

/// Sets what each connection that writes has to have, and says which version the file is of.
fn set_up(connection: &Connection) -> rusqlite::Result<usize> {
    connection.busy_timeout(BUSY_LIMIT)?;
    // Before anything is changed: the file may be none of ours.
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // With less, the last entries before a power cut would be lost, and a head that somebody has verified with them.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "journal_size_limit", 16 * 1024 * 1024)?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn migrate(connection: &mut Connection, version: usize) -> rusqlite::Result<()> {
    for (number, step) in (1_i64..).zip(MIGRATIONS).skip(version) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", number)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Whether all pages of the file fit together; reads all of it.
pub(super) fn is_whole(connection: &Connection) -> rusqlite::Result<bool> {
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    Ok(found == "ok")
}

/// Numbers are signed in SQLite; none of ours gets that large unless a clock is broken.
pub(super) fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The way back.
pub(super) fn number(int: i64) -> u64 {
    u64::try_from(int).unwrap_or_default()
}
