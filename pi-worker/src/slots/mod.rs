//! Slots: whole, read-only trees side by side, one of which `current` points to.
//!
//! Whatever is cut short leaves only names that begin with a dot, which the next start sweeps away; `current` always
//! leads to a whole slot.

mod build;
mod disk;
mod place;
mod read_back;
mod sources;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::symlink,
    path::Path,
    sync::{Mutex, PoisonError},
};

use machine::{Fault, Slot};
use schemas::{
    codec,
    id::Digest,
    manifest::{self, Manifest},
    reason::Reason,
};

pub(crate) use disk::replace;
pub(crate) use place::Places;
pub(crate) use read_back::Drift;

use crate::fault::{OnPath as _, fault};
use build::Build;
use place::UNFINISHED;
use sources::Sources;

/// Asked between any two steps of long work, which ends with the fault that it gives.
pub(crate) type Checkpoint<'a> = &'a (dyn Fn() -> Result<(), Fault> + Sync);

/// Most bytes of a `.slot` file: a release has 64 KiB, and it is one part of one.
const MAX_SLOT_BYTES: usize = 128 * 1024;

/// The slots of one app.
#[derive(Debug)]
pub(crate) struct Slots {
    places: Places,
    /// Contents of which a file was found damaged. As hard links share their damage, no file on the disk is taken for
    /// one of these any more; it is fetched.
    distrusted: Mutex<BTreeSet<Digest>>,
}

impl Slots {
    pub(crate) fn new(places: Places) -> Self {
        Self { places, distrusted: Mutex::default() }
    }

    pub(crate) fn places(&self) -> &Places {
        &self.places
    }

    /// Removes what was cut short.
    pub(crate) fn sweep(&self) -> Result<(), Fault> {
        let slots = self.places.slots();
        fs::create_dir_all(&slots).on_path("create", &slots)?;
        for entry in fs::read_dir(&slots).on_path("list", &slots)? {
            let entry = entry.on_path("list", &slots)?;
            if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
                disk::remove_tree(&entry.path())?;
            }
        }
        disk::remove_tree(&self.places.next_current())
    }

    /// The tree to which `current` points.
    pub(crate) fn current(&self) -> Option<Digest> {
        let target = fs::read_link(self.places.current()).ok()?;
        let tree = target.file_name()?.to_str()?.parse().ok()?;
        self.stands(tree).then_some(tree)
    }

    /// The slot to which `current` points, as it was switched to.
    pub(crate) fn active(&self) -> Option<Slot> {
        slot_of(&self.places, self.current()?)
    }

    /// What must be in a tree that stands.
    pub(crate) fn manifest(&self, tree: Digest) -> Option<Manifest> {
        manifest_of(&self.places, tree)
    }

    /// Whether any slot is a container.
    pub(crate) fn has_container(&self) -> bool {
        let is_container =
            |tree| slot_of(&self.places, tree).is_some_and(|slot| slot.part.container().is_some());
        trees(&self.places).into_iter().any(is_container)
    }

    /// Contents of `manifest` that some slot has.
    pub(crate) fn present(&self, manifest: &Manifest) -> BTreeMap<Digest, u64> {
        let mut objects = manifest.objects();
        let present = self.sources(&objects).contents();
        objects.retain(|digest, _| present.contains(digest));
        objects
    }

    /// Builds the slot out of objects and other slots and reads it back; one that stands is only read back, and is
    /// replaced as a whole when it is not what it should be.
    pub(crate) fn stage(
        &self,
        slot: &Slot,
        manifest: &Manifest,
        checkpoint: Checkpoint<'_>,
    ) -> Result<(), Fault> {
        let tree = slot.tree();
        if self.stands(tree) {
            let drifts = read_back::read_back(&self.places.slot(tree), manifest, checkpoint)?;
            if drifts.is_empty() {
                return self.describe(slot, manifest);
            }
            tracing::warn!(%tree, drift = %drifts[0], "a slot is not what it was and is built again");
            self.distrust(&drifts);
        }
        let built = self.build(slot, manifest, checkpoint);
        if built.is_err() {
            // The fault that ended the build is what counts; the next start sweeps what could not be removed now.
            for unfinished in
                [self.places.fresh(tree), self.places.fresh_manifest(tree), self.places.fresh_slot_file(tree)]
            {
                let _ = disk::remove_tree(&unfinished);
            }
        }
        built
    }

    /// Points `current` to the slot, durably.
    pub(crate) fn switch(&self, slot: Option<&Slot>) -> Result<(), Fault> {
        let (root, current) = (self.places.root(), self.places.current());
        match slot {
            None => remove_if_there(&current)?,
            Some(slot) => {
                let tree = slot.tree();
                if !self.stands(tree) {
                    let text = format!("slot {} is not there", self.places.slot(tree).display());
                    return Err(fault(Reason::SlotMismatch, text));
                }
                self.describe_anew(slot)?;
                let next = self.places.next_current();
                remove_if_there(&next)?;
                symlink(Path::new("slots").join(tree.to_string()), &next).on_path("create", &next)?;
                fs::rename(&next, &current).on_path("replace", &current)?;
            }
        }
        disk::sync_folder(root)
    }

    /// Removes every slot but those of `keep` and the one that `current` points to.
    pub(crate) fn prune(&self, keep: &[Digest]) -> Result<(), Fault> {
        let current = self.current();
        let slots = self.places.slots();
        for tree in trees(&self.places) {
            if keep.contains(&tree) || current == Some(tree) {
                continue;
            }
            self.retire(&self.places.slot(tree), tree)?;
            remove_if_there(&self.places.slot_file(tree))?;
            remove_if_there(&self.places.manifest(tree))?;
            disk::remove_tree(&self.places.work(tree))?;
            disk::remove_tree(&self.places.pycache_of(tree))?;
        }
        disk::sync_folder(&slots)?;
        self.sweep()
    }

    /// What differs in each slot from its manifest; a slot whose manifest is lost counts as drift as a whole.
    pub(crate) fn verify(&self) -> Result<BTreeMap<Digest, Vec<Drift>>, Fault> {
        let check = |tree| match manifest_of(&self.places, tree) {
            Some(manifest) => read_back::read_back(&self.places.slot(tree), &manifest, &|| Ok(())),
            None => Ok(vec![Drift::unknown()]),
        };
        trees(&self.places).into_iter().map(|tree| Ok((tree, check(tree)?))).collect()
    }

    fn build(&self, slot: &Slot, manifest: &Manifest, checkpoint: Checkpoint<'_>) -> Result<(), Fault> {
        let tree = slot.tree();
        let fresh = self.places.fresh(tree);
        let sources = self.sources(&manifest.objects());
        Build::run(&self.places, &sources, fresh.clone(), manifest, checkpoint)
            .map_err(|fault| self.told_as_mismatch(fault))?;
        disk::write_new(&self.places.fresh_manifest(tree), &manifest.encode())?;
        disk::write_new(&self.places.fresh_slot_file(tree), &codec::encode(slot))?;
        checkpoint()?;
        disk::sync_all_under(&self.places.slots())?;
        checkpoint()?;
        let drifts = read_back::read_back(&fresh, manifest, checkpoint)?;
        if !drifts.is_empty() {
            return Err(self.mismatch(tree, &drifts));
        }
        self.land(tree, checkpoint)?;
        self.drop_objects(manifest);
        Ok(())
    }

    /// Gives a slot that was built and read back its name. Its manifest comes first, so that no slot is without one.
    fn land(&self, tree: Digest, checkpoint: Checkpoint<'_>) -> Result<(), Fault> {
        let (fresh, slot) = (self.places.fresh(tree), self.places.slot(tree));
        for (from, to) in [
            (self.places.fresh_manifest(tree), self.places.manifest(tree)),
            (self.places.fresh_slot_file(tree), self.places.slot_file(tree)),
        ] {
            checkpoint()?;
            fs::rename(&from, &to).on_path("create", &to)?;
        }
        checkpoint()?;
        if self.stands(tree) {
            exchange(&fresh, &slot)?;
            self.retire(&fresh, tree)?;
        } else {
            fs::rename(&fresh, &slot).on_path("create", &slot)?;
        }
        checkpoint()?;
        disk::sync_folder(&self.places.slots())
    }

    /// Takes a slot its name, so that nobody takes it for a whole one while it is being removed. It is removed by the
    /// next sweep: a process may still run in one that was replaced.
    fn retire(&self, from: &Path, tree: Digest) -> Result<(), Fault> {
        let old = self.places.old(tree);
        disk::remove_tree(&old)?;
        fs::rename(from, &old).on_path("rename", from)
    }

    fn sources(&self, wanted: &BTreeMap<Digest, u64>) -> Sources {
        let distrusted = self.distrusted.lock().unwrap_or_else(PoisonError::into_inner);
        Sources::find(&self.places, wanted, &distrusted)
    }

    fn distrust(&self, drifts: &[Drift]) {
        let contents = drifts.iter().filter_map(|drift| drift.content);
        self.distrusted.lock().unwrap_or_else(PoisonError::into_inner).extend(contents);
    }

    /// A content that is missing because no file is believed to have it is a damaged disk, not an incomplete fetch.
    fn told_as_mismatch(&self, fault: Fault) -> Fault {
        let any = !self.distrusted.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        match fault.reason {
            Reason::ObjectMissing if any => Fault { reason: Reason::SlotMismatch, ..fault },
            _ => fault,
        }
    }

    /// The slot that was just built is wrong: neither the objects nor the files that it came from are used again.
    fn mismatch(&self, tree: Digest, drifts: &[Drift]) -> Fault {
        self.distrust(drifts);
        for digest in drifts.iter().filter_map(|drift| drift.content) {
            let _ = fs::remove_file(self.places.object(digest));
        }
        let more = match drifts.len() {
            1 => String::new(),
            n => format!(", and {} more", n - 1),
        };
        fault(Reason::SlotMismatch, format!("slot {} differs at {}{more}", tree.short(), drifts[0]))
    }

    /// The objects are files of the slot now, under another name.
    fn drop_objects(&self, manifest: &Manifest) {
        for digest in manifest.objects().keys() {
            let _ = fs::remove_file(self.places.object(*digest));
        }
    }

    fn stands(&self, tree: Digest) -> bool {
        self.places.slot(tree).is_dir()
    }

    fn describe(&self, slot: &Slot, manifest: &Manifest) -> Result<(), Fault> {
        let tree = slot.tree();
        if manifest_of(&self.places, tree).as_ref() != Some(manifest) {
            disk::replace(&self.places.manifest(tree), &manifest.encode())?;
            self.describe_anew(slot)?;
        }
        Ok(())
    }

    fn describe_anew(&self, slot: &Slot) -> Result<(), Fault> {
        let path = self.places.slot_file(slot.tree());
        let bytes = codec::encode(slot);
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        disk::replace(&path, &bytes)
    }
}

/// The trees that stand whole.
fn trees(places: &Places) -> Vec<Digest> {
    let Ok(entries) = fs::read_dir(places.slots()) else { return Vec::new() };
    let mut trees: Vec<Digest> = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    trees.sort_unstable();
    trees
}

fn slot_of(places: &Places, tree: Digest) -> Option<Slot> {
    let bytes = fs::read(places.slot_file(tree)).ok()?;
    codec::decode::<Slot>(&bytes, MAX_SLOT_BYTES).ok().filter(|slot| slot.tree() == tree)
}

fn manifest_of(places: &Places, tree: Digest) -> Option<Manifest> {
    let bytes = fs::read(places.manifest(tree)).ok()?;
    let size_bytes = slot_of(places, tree)?.part.size_bytes;
    let is_right = bytes.len() <= manifest::MAX_BYTES && Digest::of(&bytes) == tree;
    is_right.then(|| Manifest::parse(&bytes, size_bytes).ok())?
}

/// Swaps two folders, so that `current` leads to a whole slot at any moment.
fn exchange(fresh: &Path, slot: &Path) -> Result<(), Fault> {
    let here = rustix::fs::CWD;
    rustix::fs::renameat_with(here, fresh, here, slot, rustix::fs::RenameFlags::EXCHANGE)
        .on_path("exchange", slot)
}

fn remove_if_there(path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => Err(err).on_path("remove", path),
        _ => Ok(()),
    }
}

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
