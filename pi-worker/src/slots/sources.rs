//! Where on the disk a content lies already: the files of all slots, found through their manifests.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use schemas::{id::Digest, manifest::Manifest};

use super::{disk::file_mode, place::Places, trees};

/// A content with its executable bit: what a file can be hard-linked for.
type Kind = (Digest, bool);

/// Files of slots that have a wanted content.
#[derive(Debug, Default)]
pub(super) struct Sources(HashMap<Kind, PathBuf>);

impl Sources {
    /// Files of all slots with a content of `wanted`, but none of `distrusted`.
    ///
    /// Type, mode and size are looked at here; the content is read when the new slot is.
    pub(super) fn find(
        places: &Places,
        wanted: &BTreeMap<Digest, u64>,
        distrusted: &BTreeSet<Digest>,
    ) -> Self {
        let mut sources = HashMap::new();
        for tree in trees(places) {
            let Some(manifest) = super::manifest_of(places, tree) else { continue };
            let root = places.slot(tree);
            for (path, executable, size, digest) in wanted_files(&manifest, wanted, distrusted) {
                let path = root.join(path);
                if !sources.contains_key(&(digest, executable)) && is_as_left(&path, executable, size) {
                    sources.insert((digest, executable), path);
                }
            }
        }
        Self(sources)
    }

    /// A file that may be hard-linked.
    pub(super) fn same(&self, digest: Digest, executable: bool) -> Option<&Path> {
        self.0.get(&(digest, executable)).map(PathBuf::as_path)
    }

    /// The contents that there are.
    pub(super) fn contents(&self) -> BTreeSet<Digest> {
        self.0.keys().map(|(digest, _)| *digest).collect()
    }
}

fn wanted_files<'a>(
    manifest: &'a Manifest,
    wanted: &BTreeMap<Digest, u64>,
    distrusted: &BTreeSet<Digest>,
) -> impl Iterator<Item = (&'a str, bool, u64, Digest)> {
    manifest
        .files()
        .filter(|(_, _, size, digest)| wanted.get(digest) == Some(size) && !distrusted.contains(digest))
}

fn is_as_left(path: &Path, executable: bool, size: u64) -> bool {
    fs::symlink_metadata(path).is_ok_and(|meta| {
        let mode = meta.permissions().mode() & 0o7777;
        meta.is_file() && meta.len() == size && mode == file_mode(executable)
    })
}
