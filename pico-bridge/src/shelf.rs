//! What the Pi keeps of the releases of one app that are on a Pico: how they are run, what is in them, and their contents, so that
//! what a Pico lost can be brought back without the bus.
//!
//! ```text
//! slots/<tree>.slot        how it is run
//! contents/<digest>        its files, named by their content
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use agent::{AppDirs, replace_file};
use machine::{Fault, Slot};
use schemas::{
    codec,
    id::Digest,
    manifest::{MAX_BYTES, Manifest},
    reason::Reason,
};

use crate::fault;

/// Most bytes of the description of a slot: a release has no more.
const MAX_SLOT_BYTES: usize = 64 * 1024;

/// The shelf of one app.
#[derive(Debug, Clone)]
pub(crate) struct Shelf(AppDirs);

/// The name of a release's folder on a Pico: short, for its flash is small and the name is written at each step.
pub(crate) fn name_of(tree: Digest) -> String {
    tree.to_string()[..16].to_owned()
}

impl Shelf {
    pub(crate) fn new(dirs: AppDirs) -> Self {
        Self(dirs)
    }

    /// The release whose folder on the Pico has this name.
    pub(crate) fn find(&self, name: &str) -> Option<Slot> {
        let tree = self.trees().into_iter().find(|tree| name_of(*tree) == name)?;
        let bytes = fs::read(self.slot_file(tree)).ok()?;
        codec::decode::<Slot>(&bytes, MAX_SLOT_BYTES).ok().filter(|slot| slot.tree() == tree)
    }

    /// The contents of `manifest` that need not be fetched.
    pub(crate) fn present(&self, manifest: &Manifest) -> BTreeMap<Digest, u64> {
        let mut objects = manifest.objects();
        objects
            .retain(|digest, size| fs::metadata(self.content(*digest)).is_ok_and(|meta| meta.len() == *size));
        objects
    }

    /// Takes a release in with what was fetched of it.
    ///
    /// # Errors
    /// When the disk refuses.
    pub(crate) fn keep(&self, slot: &Slot, manifest: &Manifest) -> Result<(), Fault> {
        for folder in [self.slots(), self.contents()] {
            fs::create_dir_all(&folder).map_err(|error| fault::disk("make folder", &folder, &error))?;
        }
        for digest in manifest.objects().keys() {
            let (object, content) = (self.0.objects.join(digest.to_string()), self.content(*digest));
            match fs::rename(&object, &content) {
                Err(error) if error.kind() == io::ErrorKind::NotFound && content.exists() => {}
                moved => moved.map_err(|error| fault::disk("take over", &object, &error))?,
            }
        }
        Self::write(&self.manifest_file(slot.tree()), &manifest.encode())?;
        Self::write(&self.slot_file(slot.tree()), &codec::encode(slot))
    }

    /// The content, which is found to be what it is named.
    ///
    /// # Errors
    /// When it is not there, or was damaged: then it is dropped, so that it is fetched again.
    pub(crate) fn read(&self, digest: Digest) -> Result<Vec<u8>, Fault> {
        let path = self.content(digest);
        let bytes = fs::read(&path).map_err(|error| fault::disk("read", &path, &error))?;
        if Digest::of(&bytes) != digest {
            let _ = fs::remove_file(&path);
            let text = format!("{} on the Pi is not what it is named", path.display());
            return Err(fault::permanent(Reason::SlotMismatch, text));
        }
        Ok(bytes)
    }

    /// Removes all but the releases of `keep`, and contents that none of those has.
    pub(crate) fn prune(&self, keep: &[Digest]) {
        for tree in self.trees().into_iter().filter(|tree| !keep.contains(tree)) {
            // What cannot be removed only takes room, until the next time.
            let _ = fs::remove_file(self.slot_file(tree));
            let _ = fs::remove_file(self.manifest_file(tree));
        }
        let needed: BTreeSet<Digest> =
            self.trees().into_iter().flat_map(|tree| self.contents_of(tree)).collect();
        for entry in fs::read_dir(self.contents()).into_iter().flatten().flatten() {
            let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if digest.is_none_or(|digest: Digest| !needed.contains(&digest)) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn contents_of(&self, tree: Digest) -> Vec<Digest> {
        self.manifest(tree).map(|manifest| manifest.objects().into_keys().collect()).unwrap_or_default()
    }

    /// What is in a release.
    pub(crate) fn manifest(&self, tree: Digest) -> Option<Manifest> {
        let size = self.find(&name_of(tree))?.part.size_bytes;
        let bytes = fs::read(self.manifest_file(tree)).ok()?;
        let is_right = bytes.len() <= MAX_BYTES && Digest::of(&bytes) == tree;
        is_right.then(|| Manifest::parse(&bytes, size).ok())?
    }

    /// The releases that are on it.
    pub(crate) fn trees(&self) -> Vec<Digest> {
        let entries = fs::read_dir(self.slots()).into_iter().flatten().flatten();
        let tree = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".slot")?.parse().ok();
        entries.filter_map(tree).collect()
    }

    fn write(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
        if fs::read(path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        replace_file(path, bytes).map_err(|error| fault::disk("write", path, &error))
    }

    fn slots(&self) -> PathBuf {
        self.0.root.join("slots")
    }

    fn contents(&self) -> PathBuf {
        self.0.root.join("contents")
    }

    fn content(&self, digest: Digest) -> PathBuf {
        self.contents().join(digest.to_string())
    }

    fn slot_file(&self, tree: Digest) -> PathBuf {
        self.slots().join(format!("{tree}.slot"))
    }

    fn manifest_file(&self, tree: Digest) -> PathBuf {
        self.slots().join(format!("{tree}.manifest"))
    }
}
