//! Where everything of an app lies on the disk.

use std::path::{Path, PathBuf};

use agent::AppDirs;
use schemas::id::{AppId, Digest};

/// Names in `slots/` that begin so are leftovers of something that did not end.
pub(super) const UNFINISHED: char = '.';

/// The paths of one app.
///
/// ```text
/// slots/<tree>/            a whole slot, read-only
/// slots/<tree>.manifest    what must be in it
/// slots/<tree>.slot        how it is run
/// slots/.new-<tree>/       a slot that is being built
/// slots/.old-<tree>/       a slot that is being removed
/// current -> slots/<tree>
/// work/<tree>/             writable, for hooks and caches
/// work/pycache/            what Python compiled
/// log/<app>.log            what the app says
/// log/<app>.build.log      what the last build of its image said
/// run/app.pid              which process the app is
/// environment              for an app that is a systemd unit
/// ```
#[derive(Debug, Clone)]
pub(crate) struct Places(AppDirs);

impl Places {
    pub(crate) fn new(dirs: AppDirs) -> Self {
        Self(dirs)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0.root
    }

    pub(crate) fn data(&self) -> &Path {
        &self.0.data
    }

    pub(crate) fn slots(&self) -> PathBuf {
        self.0.root.join("slots")
    }

    pub(crate) fn slot(&self, tree: Digest) -> PathBuf {
        self.slots().join(tree.to_string())
    }

    pub(crate) fn current(&self) -> PathBuf {
        self.0.root.join("current")
    }

    pub(crate) fn work(&self, tree: Digest) -> PathBuf {
        self.0.root.join("work").join(tree.to_string())
    }

    /// Where Python keeps what it compiled. One for all slots: it holds the standard library too, once and not for each
    /// release (2.4 MB and a slow first start, measured with a small web server).
    pub(crate) fn pycache(&self) -> PathBuf {
        self.0.root.join("work/pycache")
    }

    /// Where Python keeps what it compiled of the slot: below the prefix by absolute path (`sys.pycache_prefix`).
    pub(super) fn pycache_of(&self, tree: Digest) -> PathBuf {
        let slot = self.slot(tree);
        self.pycache().join(slot.strip_prefix("/").unwrap_or(&slot))
    }

    pub(crate) fn log(&self, app: &AppId) -> PathBuf {
        self.0.root.join("log").join(format!("{app}.log"))
    }

    /// What the last build of an image said.
    pub(crate) fn build_log(&self, app: &AppId) -> PathBuf {
        self.0.root.join("log").join(format!("{app}.build.log"))
    }

    pub(crate) fn run_file(&self) -> PathBuf {
        self.0.root.join("run/app.pid")
    }

    pub(crate) fn environment(&self) -> PathBuf {
        self.0.root.join("environment")
    }

    pub(super) fn object(&self, digest: Digest) -> PathBuf {
        self.0.objects.join(digest.to_string())
    }

    pub(super) fn manifest(&self, tree: Digest) -> PathBuf {
        self.slots().join(format!("{tree}.manifest"))
    }

    pub(super) fn slot_file(&self, tree: Digest) -> PathBuf {
        self.slots().join(format!("{tree}.slot"))
    }

    pub(super) fn fresh(&self, tree: Digest) -> PathBuf {
        self.slots().join(format!("{UNFINISHED}new-{tree}"))
    }

    pub(super) fn fresh_manifest(&self, tree: Digest) -> PathBuf {
        self.slots().join(format!("{UNFINISHED}new-{tree}.manifest"))
    }

    pub(super) fn fresh_slot_file(&self, tree: Digest) -> PathBuf {
        self.slots().join(format!("{UNFINISHED}new-{tree}.slot"))
    }

    pub(super) fn old(&self, tree: Digest) -> PathBuf {
        self.slots().join(format!("{UNFINISHED}old-{tree}"))
    }

    pub(super) fn next_current(&self) -> PathBuf {
        self.0.root.join(".current-new")
    }
}
