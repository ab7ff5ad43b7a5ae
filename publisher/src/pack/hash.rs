//! Digests of many files at once. A file that changes while it is read is noticed, never packed half old, half new.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use schemas::id::{Digest, Hasher};

use super::stamp::Stamp;

/// Large enough that system calls do not count, small enough for every core's cache.
const BUFFER_BYTES: usize = 128 * 1024;

/// Why a file has no digest.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HashError {
    /// Something writes to the folder.
    #[error("{} changed while it was packed", .0.display())]
    Changed(PathBuf),
    /// The file system said no.
    #[error("cannot read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
}

impl HashError {
    /// What to do about it.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::Changed(_) => {
                "pack again when nothing writes to the folder; what changes all the time belongs into `ignore`"
            }
            Self::Read(..) => {
                "make it readable for you, or leave it out with `ignore = [\"…\"]` in deploybus.toml"
            }
        }
    }
}

/// A file whose digest is wanted, as it was when it was listed.
pub(super) struct Wanted {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
}

/// The digests of all files, in their order; on all cores.
pub(super) fn digests(wanted: &[Wanted]) -> Result<Vec<Digest>, HashError> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(wanted.len()).max(1);
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<(usize, Digest)>, HashError> {
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut done = Vec::new();
        while let Some((index, file)) = take(&next, wanted) {
            done.push((index, digest(file, &mut buffer)?));
        }
        Ok(done)
    };
    let mut digests = vec![Digest([0; 32]); wanted.len()];
    let parts: Vec<_> = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("hashing has nothing that panics")).collect()
    });
    for part in parts {
        for (index, digest) in part? {
            digests[index] = digest;
        }
    }
    Ok(digests)
}

fn take<'a>(next: &AtomicUsize, wanted: &'a [Wanted]) -> Option<(usize, &'a Wanted)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    wanted.get(index).map(|file| (index, file))
}

fn digest(file: &Wanted, buffer: &mut [u8]) -> Result<Digest, HashError> {
    let failed = |error| HashError::Read(file.path.clone(), error);
    let mut open = File::open(&file.path).map_err(failed)?;
    let mut hasher = Hasher::default();
    let mut size = 0_u64;
    loop {
        match open.read(buffer) {
            Ok(0) => break,
            Ok(len) => {
                hasher.update(&buffer[..len]);
                size += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
    let after = Stamp::of(&open.metadata().map_err(failed)?);
    if after != file.stamp || size != file.stamp.size || !is_still_at(&file.path, after) {
        return Err(HashError::Changed(file.path.clone()));
    }
    Ok(hasher.finish())
}

/// Whether the path still leads to the file that was read, not to one that replaced it.
fn is_still_at(path: &Path, stamp: Stamp) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| Stamp::of(&meta) == stamp)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn wanted(path: &Path) -> Wanted {
        Wanted { path: path.to_owned(), stamp: Stamp::of(&fs::metadata(path).unwrap()) }
    }

    #[test]
    fn the_advice_fits_what_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "a").unwrap();
        let file = wanted(&path);
        fs::write(&path, "other").unwrap();
        let advice = |file: &Wanted| digests(std::slice::from_ref(file)).unwrap_err().advice();
        assert!(advice(&file).starts_with("pack again"));
        fs::remove_file(&path).unwrap();
        assert!(advice(&file).starts_with("make it readable"));
    }

    #[test]
    fn many_files_keep_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<_> = (0..40).map(|n| dir.path().join(n.to_string())).collect();
        for path in &paths {
            fs::write(path, path.to_str().unwrap()).unwrap();
        }
        let files: Vec<_> = paths.iter().map(|path| wanted(path)).collect();
        let expected: Vec<_> =
            paths.iter().map(|path| Digest::of(path.to_str().unwrap().as_bytes())).collect();
        assert_eq!(digests(&files).unwrap(), expected);
        assert_eq!(digests(&[]).unwrap(), []);
    }

    #[test]
    fn a_file_that_changed_since_it_was_listed_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        fs::write(&path, "one").unwrap();
        let file = wanted(&path);
        fs::write(&path, "longer").unwrap();
        assert!(matches!(digests(&[file]), Err(HashError::Changed(_))));
        let file = wanted(&path);
        fs::remove_file(&path).unwrap();
        assert!(matches!(digests(&[file]), Err(HashError::Read(..))));
    }
}
