//! The folder in which the service keeps everything: one process at a time.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// It cannot be made or written to.
    #[error("cannot use data folder {path}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has it.
    #[error("data folder {path} is in use by another broker (process {owner})")]
    Taken {
        /// The folder.
        path: PathBuf,
        /// Its process id, as far as it is known.
        owner: String,
    },
}

impl FolderError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Io { .. } => {
                "see that it is a folder that this user may write to, or name another one with --data or `data`"
            }
            Self::Taken { .. } => "stop that one, or give this one a folder of its own with --data",
        }
    }
}

/// Holds the folder until it is dropped, or the process ends in any way.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    /// Closing the file is not enough: a process that another thread is just starting has it open too.
    fn drop(&mut self) {
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

/// Makes the folder at `path` if it is not there, and locks it.
pub(crate) fn lock(path: &Path) -> Result<Lock, FolderError> {
    let failed = |source| FolderError::Io { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(failed)?;
    let name = path.join("lock");
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&name).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let owner = fs::read_to_string(&name).unwrap_or_default().trim().to_owned();
            return Err(FolderError::Taken { path: path.to_owned(), owner });
        }
        Err(err) => return Err(failed(err.into())),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
    Ok(Lock(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_owner_at_a_time() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("new");
        let first = lock(&path).unwrap();
        let err = lock(&path).unwrap_err();
        assert!(err.to_string().ends_with(&format!("(process {})", std::process::id())), "{err}");
        let _child_that_starts = first.0.try_clone().unwrap();
        drop(first);
        assert!(lock(&path).is_ok());
    }
}
