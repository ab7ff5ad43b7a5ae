//! The settings of a command and the node's data folder, which belongs to one worker at a time.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use agent::{Settings, SettingsError};
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// So long the data folder is waited for before somebody else is said to have it.
const PATIENCE: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// Why the data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DataError {
    /// There are no settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// It cannot be made or locked.
    #[error("cannot {doing} data folder {path}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Somebody else has it.
    #[error("pi-worker{} runs on data folder {path} already", pid.trim_end())]
    Taken {
        /// The folder.
        path: PathBuf,
        /// Its process id with a space before it, as far as it is known.
        pid: String,
    },
}

impl DataError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Settings(error) => error.advice(),
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "let the user that the worker runs as write there, with `chown -R`, or correct `data` in the settings"
            }
            Self::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                "free space on its disk"
            }
            Self::Io { .. } => {
                "see that it is a folder on a disk that can be written to, or correct `data` in the settings"
            }
            Self::Taken { .. } => "stop that one, or give this one another `data` in its settings",
        }
    }
}

/// The settings in the file.
pub(crate) fn load(config: &Path) -> Result<Settings, SettingsError> {
    // Errors say where it is, wherever this was started.
    let config = std::path::absolute(config).unwrap_or_else(|_| config.to_owned());
    let mut settings = Settings::load(&config)?;
    // One name for the folder, for it is in the environment of apps, by which they are found again.
    if let Ok(real) = settings.data.canonicalize() {
        settings.data = real;
    }
    Ok(settings)
}

/// The settings in the file, with the data folder taken.
pub(crate) fn open(config: &Path) -> Result<(Settings, Lock), DataError> {
    let data = load(config)?.data;
    fs::create_dir_all(&data).map_err(|source| DataError::Io { doing: "create", path: data, source })?;
    let settings = load(config)?;
    let lock = Lock::take(&settings.data)?;
    Ok((settings, lock))
}

/// The data folder, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing the file is what unlocks")] File);

impl Lock {
    /// Takes the folder.
    fn take(data: &Path) -> Result<Self, DataError> {
        let failed = |source| DataError::Io { doing: "lock", path: data.to_owned(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(data.join("lock"))
            .map_err(failed)?;
        match lock_patiently(&file, || thread::sleep(ASK_EVERY)) {
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Only makes the message clearer.
                let _ = file.read_to_string(&mut pid);
                return Err(DataError::Taken { path: data.to_owned(), pid: format!(" {pid}") });
            }
            locked => locked.map_err(|error| failed(error.into()))?,
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Self(file))
    }

    /// Whether somebody has the folder.
    pub(crate) fn is_taken(data: &Path) -> bool {
        let Ok(file) = File::open(data.join("lock")) else { return false };
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }
}

/// Waits for those who hold it for a moment: a worker that was killed while it started a program lives on in that
/// program's first instants, and `pi-worker status` looks whether the lock is free by taking it.
fn lock_patiently(file: &File, mut pause: impl FnMut()) -> Result<(), Errno> {
    let until = Instant::now() + PATIENCE;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < until => pause(),
            locked => return locked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_worker_and_the_second_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Lock::is_taken(folder.path()));
        let lock = Lock::take(folder.path()).unwrap();
        assert!(Lock::is_taken(folder.path()));
        let text = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(
            text.starts_with(&format!("pi-worker {} runs on data folder /", std::process::id())),
            "{text}"
        );
        drop(lock);
        // What another test forks holds it as well, until it has begun its program.
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_is_held_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut holder = Some(Lock::take(folder.path()).unwrap());
        let file = File::open(folder.path().join("lock")).unwrap();
        lock_patiently(&file, || drop(holder.take())).unwrap();
        assert!(holder.is_none(), "it was held when it was asked for first");
    }
}
