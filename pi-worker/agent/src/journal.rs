//! The journal of one app: what its machine must know after a power cut, in one small file.
//!
//! Also what `pi-worker guard` reads and writes before the app is started, without network and without this runtime.

use std::path::{Path, PathBuf};

use machine::Saved;
use tracing::warn;

pub use crate::durable::{Damage, DurableError as JournalError};
use crate::{chain::chain, durable, installer::AppDirs};

/// The journal of the app, if it has one. One that cannot be read is set aside as `journal.bad`: the machine then
/// starts from the slot that is active.
///
/// # Errors
/// When the disk refuses to read it or to set it aside.
pub fn load(dirs: &AppDirs) -> Result<Option<Saved>, JournalError> {
    let path = path(&dirs.root);
    match durable::read(&path) {
        Err(error @ JournalError::Damaged { .. }) => {
            warn!(error = %chain(&error), "Journal is set aside, the app goes on from its active slot");
            durable::set_aside(&path)?;
            Ok(None)
        }
        read => read,
    }
}

/// Replaces the journal of the app; it is on the disk when this returns.
///
/// # Errors
/// When the disk refuses.
pub fn store(dirs: &AppDirs, saved: &Saved) -> Result<(), JournalError> {
    durable::replace(&path(&dirs.root), saved)
}

/// Where the journal of an app is.
pub(crate) fn path(root: &Path) -> PathBuf {
    root.join("journal.cbor")
}

#[cfg(test)]
mod tests {
    use std::fs;

    use schemas::id::Revision;

    use super::*;

    #[test]
    fn a_journal_is_read_as_it_was_stored() {
        let (_folder, dirs) = dirs();
        assert_eq!(load(&dirs).unwrap(), None);
        store(&dirs, &saved(7)).unwrap();
        store(&dirs, &saved(8)).unwrap();
        assert_eq!(load(&dirs).unwrap(), Some(saved(8)));
    }

    #[test]
    fn a_damaged_journal_is_set_aside() {
        let (_folder, dirs) = dirs();
        store(&dirs, &saved(7)).unwrap();
        let mut bytes = fs::read(path(&dirs.root)).unwrap();
        bytes[3] ^= 1;
        fs::write(path(&dirs.root), &bytes).unwrap();
        assert_eq!(load(&dirs).unwrap(), None);
        assert_eq!(fs::read(dirs.root.join("journal.bad")).unwrap(), bytes);
        assert!(!path(&dirs.root).exists());
    }

    fn dirs() -> (tempfile::TempDir, AppDirs) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("apps/web");
        let dirs = AppDirs { data: root.join("data"), objects: root.join("objects"), root };
        (folder, dirs)
    }

    fn saved(revision: u64) -> Saved {
        Saved { obeyed: Revision(revision), ..Saved::new("web".parse().unwrap()) }
    }
}
