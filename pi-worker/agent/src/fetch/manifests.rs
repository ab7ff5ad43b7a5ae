//! The manifests of an app that are on the disk: `manifests/<tree hash>`, plain.

use std::{
    fs,
    path::{Path, PathBuf},
};

use machine::{Fault, Slot};
use schemas::{
    id::Digest,
    manifest::{self, Manifest},
    reason::Reason,
};

use super::unpack::Expected;
use crate::{
    chain::chain,
    durable::read_at_most,
    fault,
    whole::{replace_file, sweep_drafts},
};

/// The manifests of one app.
#[derive(Debug, Clone)]
pub(crate) struct Manifests(PathBuf);

impl Manifests {
    /// The manifests below the root folder of an app.
    pub(crate) fn below(root: &Path) -> Self {
        Self(root.join("manifests"))
    }

    /// The slot's manifest, if it is on the disk and what it should be; reads the disk.
    pub(crate) fn load(&self, slot: &Slot) -> Option<Manifest> {
        let bytes = read_at_most(&self.path(slot.tree()), manifest::MAX_BYTES).ok()?;
        if Digest::of(&bytes) == slot.tree() { parse(slot, &bytes).ok() } else { None }
    }

    /// Keeps the slot's manifest, whose bytes have its digest.
    pub(super) fn keep(&self, slot: &Slot, bytes: &[u8]) -> Result<Manifest, Fault> {
        let manifest = parse(slot, bytes)?;
        let path = self.path(slot.tree());
        fs::create_dir_all(&self.0).map_err(|error| fault::disk("make folder", &self.0, &error))?;
        replace_file(&path, bytes).map_err(|error| fault::disk("write", &path, &error))?;
        Ok(manifest)
    }

    /// Removes what was cut short while it was written.
    pub(crate) fn sweep(&self) {
        sweep_drafts(&self.0);
    }

    /// Removes all but the manifests of these trees; what cannot be removed is only in the way.
    pub(crate) fn prune(&self, keep: &[Digest]) {
        let is_kept = |name: &str| name.parse().is_ok_and(|tree: Digest| keep.contains(&tree));
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if !entry.file_name().to_str().is_some_and(is_kept) {
                fs::remove_file(entry.path()).ok();
            }
        }
    }

    fn path(&self, tree: Digest) -> PathBuf {
        self.0.join(tree.to_string())
    }
}

/// What the slot's manifest must be.
pub(super) fn expected(slot: &Slot) -> Result<Expected, Fault> {
    let size_bytes = slot.part.manifest_bytes;
    if size_bytes > manifest::MAX_BYTES as u64 {
        let text = format!("manifest of {size_bytes} bytes is larger than {} bytes", manifest::MAX_BYTES);
        return Err(fault::permanent(Reason::BadManifest, text));
    }
    Ok(Expected { digest: slot.tree(), size_bytes })
}

fn parse(slot: &Slot, bytes: &[u8]) -> Result<Manifest, Fault> {
    Manifest::parse(bytes, slot.part.size_bytes).map_err(|error| {
        fault::permanent(Reason::BadManifest, format!("manifest {}: {}", slot.tree(), chain(&error)))
    })
}
