//! Digests of the last packing of a folder, so that packing it again reads only what changed.
//!
//! The cache only saves time: without it, or with a damaged one, everything is read again.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use schemas::{codec, id::Digest};
use serde::{Deserialize, Serialize};

use super::stamp::Stamp;
use crate::home::files;

/// Rises when the meaning of an entry changes; caches of other versions are forgotten.
const VERSION: u32 = 1;
/// The largest manifest has 200,000 entries; an entry takes up to 1 KiB of path and 100 bytes.
const MAX_BYTES: usize = 256 * 1024 * 1024;

/// The digests of one folder.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cache {
    version: u32,
    files: BTreeMap<String, (Stamp, Digest)>,
}

impl Cache {
    /// The cache of `folder`, or an empty one.
    pub(super) fn load(path: &Path) -> Self {
        let read = fs::read(path).ok().and_then(|bytes| codec::decode::<Self>(&bytes, MAX_BYTES).ok());
        read.filter(|cache| cache.version == VERSION).unwrap_or_default()
    }

    /// Where the cache of `folder` is kept.
    pub(super) fn path(caches: &Path, folder: &Path) -> PathBuf {
        caches.join(format!("{}.cbor", Digest::of(folder.as_os_str().as_encoded_bytes())))
    }

    /// The digest of a file that has not changed since.
    pub(super) fn get(&self, path: &str, stamp: &Stamp) -> Option<Digest> {
        self.files.get(path).filter(|(cached, _)| cached == stamp).map(|(_, digest)| *digest)
    }

    /// The cache for next time: only of files whose next change is sure to show.
    pub(super) fn of(files: impl IntoIterator<Item = (String, Stamp, Digest)>, now_ns: i64) -> Self {
        let settled = files.into_iter().filter(|(_, stamp, _)| stamp.is_settled(now_ns));
        Self {
            version: VERSION,
            files: settled.map(|(path, stamp, digest)| (path, (stamp, digest))).collect(),
        }
    }

    /// Stores the cache for next time.
    pub(super) fn store(&self, path: &Path) -> io::Result<()> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        files::replace(path, &codec::encode(self), files::PRIVATE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_and_a_damaged_one_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "abc").unwrap();
        let stamp = Stamp::of(&fs::metadata(&file).unwrap());
        let cache = Cache::of([("a".to_owned(), stamp, Digest::of(b"abc"))], i64::MAX);
        let path = dir.path().join("caches/x.cbor");
        cache.store(&path).unwrap();
        assert_eq!(Cache::load(&path), cache);
        assert_eq!(cache.get("a", &stamp), Some(Digest::of(b"abc")));
        assert_eq!(cache.get("b", &stamp), None);
        fs::write(&path, b"rubbish").unwrap();
        assert_eq!(Cache::load(&path), Cache::default());
        assert_eq!(Cache::of([("a".to_owned(), stamp, Digest::of(b"abc"))], 0).files.len(), 0);
    }
}
