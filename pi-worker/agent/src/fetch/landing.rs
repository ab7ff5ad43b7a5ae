//! Where fetched objects land: `objects/tmp/<digest>` once an object's bytes were found right, `objects/<digest>` once
//! all of them are on the disk for good.
//!
//! What an earlier attempt left is taken again after its digest was checked: a power cut may have hollowed it out.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use machine::Fault;
use schemas::{
    id::{Digest, Hasher},
    reason::Reason,
};

use super::unpack::Expected;
use crate::{cancel::Cancel, fault};

/// Blocks, folders and the parts of large objects take room beside the content: one tenth more is asked for.
const ROOM_PERCENT: u64 = 110;

/// The landing folder of one app.
#[derive(Debug, Clone)]
pub(super) struct Landing {
    objects: PathBuf,
    tmp: PathBuf,
}

impl Landing {
    /// Makes the folders as needed.
    pub(super) fn open(objects: &Path) -> Result<Self, Fault> {
        let tmp = objects.join("tmp");
        fs::create_dir_all(&tmp).map_err(|error| fault::disk("make folder", &tmp, &error))?;
        Ok(Self { objects: objects.to_owned(), tmp })
    }

    /// Where an object's bytes are written before they are found right.
    pub(super) fn draft(&self, digest: Digest) -> PathBuf {
        self.tmp.join(format!("{digest}.new"))
    }

    /// Where the stored form of a large object grows.
    pub(super) fn part(&self, digest: Digest) -> PathBuf {
        self.tmp.join(format!("{digest}.part"))
    }

    /// Says that the draft of an object was found right.
    pub(super) fn accept(&self, digest: Digest) -> Result<(), Fault> {
        let path = self.tmp.join(digest.to_string());
        fs::rename(self.draft(digest), &path).map_err(|error| fault::disk("rename to", &path, &error))
    }

    /// Takes from `missing` what earlier attempts have brought already, and removes what was not right or is not wanted.
    pub(super) fn sift(&self, missing: &mut BTreeMap<Digest, u64>, cancel: &Cancel) -> Result<(), Fault> {
        for folder in [&self.objects, &self.tmp] {
            for entry in fs::read_dir(folder).map_err(|error| fault::disk("list", folder, &error))? {
                let path = entry.map_err(|error| fault::disk("list", folder, &error))?.path();
                if cancel.is_cancelled() {
                    return Err(fault::cancelled());
                }
                if path != self.tmp && !is_kept(&path, missing) {
                    fs::remove_file(&path).map_err(|error| fault::disk("remove", &path, &error))?;
                }
            }
        }
        Ok(())
    }

    /// Whether the disk has room for `missing`; `free` asks for its free bytes.
    pub(super) fn check_room(
        &self,
        missing: &BTreeMap<Digest, u64>,
        free: impl Fn(&Path) -> io::Result<u64>,
    ) -> Result<(), Fault> {
        let sum = missing.values().fold(0_u64, |sum, size| sum.saturating_add(*size));
        let needed = sum.saturating_mul(ROOM_PERCENT) / 100;
        let free = free(&self.objects)
            .map_err(|error| fault::disk("ask for free space of", &self.objects, &error))?;
        if needed <= free {
            return Ok(());
        }
        let place = self.objects.display();
        let text = format!("{needed} bytes are needed in {place}, {free} are free");
        Err(fault::permanent(Reason::DiskFull, text))
    }

    /// Makes everything that landed durable, then gives it its final names.
    pub(super) fn settle(&self) -> Result<(), Fault> {
        let folder = File::open(&self.tmp).map_err(|error| fault::disk("open", &self.tmp, &error))?;
        rustix::fs::syncfs(&folder).map_err(|error| fault::disk("sync", &self.tmp, &error.into()))?;
        for entry in fs::read_dir(&self.tmp).map_err(|error| fault::disk("list", &self.tmp, &error))? {
            let entry = entry.map_err(|error| fault::disk("list", &self.tmp, &error))?;
            if entry.file_name().to_str().is_some_and(|name| name.parse::<Digest>().is_ok()) {
                let path = self.objects.join(entry.file_name());
                fs::rename(entry.path(), &path).map_err(|error| fault::disk("rename to", &path, &error))?;
            }
        }
        File::open(&self.objects)
            .and_then(|folder| folder.sync_all())
            .map_err(|error| fault::disk("sync", &self.objects, &error))
    }
}

/// Whether what an earlier attempt left is still of use; what is right is not missing any more.
fn is_kept(path: &Path, missing: &mut BTreeMap<Digest, u64>) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if let Some(Ok(digest)) = name.strip_suffix(".part").map(str::parse::<Digest>) {
        return missing.contains_key(&digest);
    }
    let Ok(digest) = name.parse::<Digest>() else { return false };
    let Some(size_bytes) = missing.get(&digest).copied() else { return false };
    let right = holds(path, Expected { digest, size_bytes });
    if right {
        missing.remove(&digest);
    }
    right
}

/// Whether the file holds what is expected; one that cannot be read does not.
fn holds(path: &Path, expected: Expected) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    if !file.metadata().is_ok_and(|found| found.is_file() && found.len() == expected.size_bytes) {
        return false;
    }
    let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 64 * 1024]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return hasher.finish() == expected.digest,
            Ok(len) => hasher.update(&buffer[..len]),
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_brought_already_is_not_missing_any_more() {
        let (folder, landing) = landing();
        let [a, b, c, d] = ["a", "b", "c", "d"].map(|content| Digest::of(content.as_bytes()));
        fs::write(folder.path().join("objects").join(a.to_string()), "a").unwrap();
        fs::write(folder.path().join("objects/tmp").join(b.to_string()), "b").unwrap();
        fs::write(folder.path().join("objects/tmp").join(c.to_string()), "\0").unwrap();
        fs::write(landing.part(d), "the beginning").unwrap();
        fs::write(landing.part(a), "not missing any more").unwrap();
        fs::write(landing.draft(d), "half").unwrap();
        let mut missing: BTreeMap<_, _> = [a, b, c, d].map(|digest| (digest, 1)).into();
        landing.sift(&mut missing, &Cancel::never()).unwrap();
        assert_eq!(missing.into_keys().collect::<Vec<_>>(), {
            let mut left = [c, d];
            left.sort();
            left
        });
        assert!(landing.part(d).exists() && !landing.draft(d).exists());
        assert!(!folder.path().join("objects/tmp").join(c.to_string()).exists());
    }

    #[test]
    fn accepted_objects_get_their_final_names_together() {
        let (folder, landing) = landing();
        let digest = Digest::of(b"x");
        fs::write(landing.draft(digest), "x").unwrap();
        fs::write(landing.part(digest), "part").unwrap();
        landing.accept(digest).unwrap();
        landing.settle().unwrap();
        assert_eq!(fs::read(folder.path().join("objects").join(digest.to_string())).unwrap(), b"x");
        assert!(landing.part(digest).exists());
    }

    #[test]
    fn too_little_room_is_said_with_figures() {
        let (_folder, landing) = landing();
        let missing = [(Digest::of(b"x"), 1_000)].into();
        assert!(landing.check_room(&missing, |_| Ok(1_100)).is_ok());
        let fault = landing.check_room(&missing, |_| Ok(1_099)).unwrap_err();
        assert_eq!(fault.reason, Reason::DiskFull);
        assert!(fault.text.contains("1100 bytes") && fault.text.contains("1099 are free"), "{}", fault.text);
        assert!(!fault.transient);
    }

    fn landing() -> (tempfile::TempDir, Landing) {
        let folder = tempfile::tempdir().unwrap();
        let landing = Landing::open(&folder.path().join("objects")).unwrap();
        (folder, landing)
    }
}
