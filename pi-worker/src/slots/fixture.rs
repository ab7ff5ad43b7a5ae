//! An app on a node in a folder that vanishes, for tests.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use agent::AppDirs;
use machine::Slot;
use schemas::{
    id::{Counter, Digest, Revision},
    manifest::{Entry, Manifest, Node},
    release::{Part, PartKind, Proof, Run, Trial},
    time::UnixTime,
};
use tempfile::TempDir;

use super::{Places, Slots};

/// Path, content and executable bit of a file.
pub(crate) type TestFile<'a> = (&'a str, &'a str, bool);

/// An app on a node.
pub(crate) struct Fixture {
    pub(crate) dirs: AppDirs,
    pub(crate) slots: Slots,
    _folder: Option<TempDir>,
}

/// A release of the app, with all its contents.
pub(crate) struct TestRelease {
    pub(crate) slot: Slot,
    pub(crate) manifest: Manifest,
    contents: Vec<String>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let app = Self::at(folder.path());
        Self { _folder: Some(folder), ..app }
    }

    pub(crate) fn at(folder: &Path) -> Self {
        let root = folder.join("apps/web");
        let dirs = AppDirs { data: root.join("data"), objects: root.join("objects"), root };
        fs::create_dir_all(&dirs.objects).unwrap();
        let slots = Slots::new(Places::new(dirs.clone()));
        slots.sweep().unwrap();
        Self { dirs, slots, _folder: None }
    }

    pub(crate) fn places(&self) -> &Places {
        self.slots.places()
    }

    /// Brings a content to where fetched objects land.
    pub(crate) fn put_object(&self, content: &str) {
        fs::write(self.places().object(Digest::of(content.as_bytes())), content).unwrap();
    }

    /// Brings every content that no slot and no object has.
    pub(crate) fn fetch(&self, release: &TestRelease) {
        let present = self.slots.present(&release.manifest);
        for content in &release.contents {
            let digest = Digest::of(content.as_bytes());
            if !present.contains_key(&digest) && !self.places().object(digest).exists() {
                self.put_object(content);
            }
        }
    }

    pub(crate) fn install(&self, version: &str, files: &[TestFile<'_>]) -> TestRelease {
        let release = release(version, files);
        self.fetch(&release);
        self.slots.stage(&release.slot, &release.manifest, &|| Ok(())).unwrap();
        release
    }
}

/// A release with these files, an empty folder `empty` and a link `link` to the first file.
pub(crate) fn release(version: &str, files: &[TestFile<'_>]) -> TestRelease {
    let mut nodes = BTreeMap::from([("empty", Node::Directory)]);
    for (path, content, executable) in files {
        for (end, _) in path.match_indices('/') {
            nodes.insert(&path[..end], Node::Directory);
        }
        let (size, digest) = (content.len() as u64, Digest::of(content.as_bytes()));
        nodes.insert(path, Node::File { executable: *executable, size, digest });
    }
    let first = files.first().map_or("empty", |file| file.0);
    nodes.insert("link", Node::Symlink { target: first.to_owned() });
    let entries = nodes.into_iter().map(|(path, node)| Entry { path: path.to_owned(), node });
    let manifest = Manifest::new(entries.collect()).unwrap();
    let contents = files.iter().map(|file| file.1.to_owned()).collect();
    TestRelease { slot: slot(version, &manifest), manifest, contents }
}

fn slot(version: &str, manifest: &Manifest) -> Slot {
    Slot {
        release: Digest::of(version.as_bytes()),
        version: version.to_owned(),
        counter: Counter(1),
        min_counter: Counter(0),
        commit: format!("commit-of-{version}"),
        notes: String::new(),
        revision: Revision(1),
        group: "all".parse().unwrap(),
        part: Part {
            platform: "any".to_owned(),
            kind: PartKind::Tree,
            tree_hash: manifest.tree_hash(),
            size_bytes: manifest.size_bytes(),
            manifest_bytes: manifest.encode().len() as u64,
            run: Run::None,
            container: None,
            one_way: false,
            env: BTreeMap::new(),
            pre_check: None,
            checks: Vec::new(),
            proof: Proof::None,
            trial: Trial::default(),
            joint: None,
        },
        since: UnixTime(0),
    }
}

/// Sets the mode of a path.
pub(crate) fn set(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Changes the bytes of a read-only file in place, as a dying disk does.
pub(crate) fn damage(path: &Path, content: &str) {
    let mode = path.metadata().unwrap().permissions().mode();
    set(path, 0o644);
    fs::write(path, content).unwrap();
    set(path, mode);
}
