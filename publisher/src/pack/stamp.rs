//! What a file system says about a file: the sign by which a change is noticed without reading the file.

use std::{fs::Metadata, os::unix::fs::MetadataExt as _};

use serde::{Deserialize, Serialize};

const NS_PER_SEC: i64 = 1_000_000_000;
/// Linux stamps files by its tick, at most 10 ms long; five of them, so that nobody has to trust the tick.
const FINE_GRAIN_NS: i64 = 50_000_000;
/// FAT stamps by two seconds.
const COARSE_GRAIN_NS: i64 = 2 * NS_PER_SEC;

/// Size, times and inode of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub(super) size: u64,
    mtime_ns: i64,
    ctime_ns: i64,
    inode: u64,
}

impl Stamp {
    pub(super) fn of(meta: &Metadata) -> Self {
        let ns = |secs: i64, nsecs: i64| secs.saturating_mul(NS_PER_SEC).saturating_add(nsecs);
        Self {
            size: meta.len(),
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        }
    }

    /// Whether a change after `now_ns` would show: a file that is written twice within one tick of the file system's
    /// clock looks the same both times.
    pub(super) fn is_settled(&self, now_ns: i64) -> bool {
        let is_coarse = self.mtime_ns % NS_PER_SEC == 0 && self.ctime_ns % NS_PER_SEC == 0;
        let grain_ns = if is_coarse { COARSE_GRAIN_NS } else { FINE_GRAIN_NS };
        self.ctime_ns.max(self.mtime_ns).saturating_add(grain_ns) < now_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_just_written_is_not_settled() {
        let stamp = |ns| Stamp { size: 1, mtime_ns: 5, ctime_ns: ns, inode: 1 };
        assert!(!stamp(1_000_000_001).is_settled(1_020_000_000));
        assert!(stamp(1_000_000_001).is_settled(1_100_000_000));
        let coarse = Stamp { size: 1, mtime_ns: 0, ctime_ns: 4 * NS_PER_SEC, inode: 1 };
        assert!(!coarse.is_settled(5 * NS_PER_SEC));
        assert!(coarse.is_settled(7 * NS_PER_SEC));
    }
}
