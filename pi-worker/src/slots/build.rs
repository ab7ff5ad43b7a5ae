//! Building a slot beside the others out of what lies on the disk and what was fetched.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink},
    path::{Path, PathBuf},
};

use machine::Fault;
use schemas::{
    id::Digest,
    manifest::{Manifest, Node},
    reason::Reason,
};

use super::{
    Checkpoint,
    disk::{FOLDER_MODE, finish_file, remove_tree, set_mode},
    place::Places,
    sources::Sources,
};
use crate::fault::{OnPath as _, fault};

/// While a slot is being built, its folders take entries.
const OPEN_FOLDER_MODE: u32 = 0o755;

/// A slot that is being built.
///
/// No entry can be written outside of `root` or through a link: every folder is made here, in a folder that did not
/// exist before, a manifest has no entry below a link, and links are made last.
pub(super) struct Build<'a> {
    places: &'a Places,
    sources: &'a Sources,
    root: PathBuf,
    placed: HashMap<(Digest, bool), PathBuf>,
}

impl<'a> Build<'a> {
    /// Builds the tree at `root`, where nothing may be left of an earlier try. Nothing is brought to the disk yet.
    pub(super) fn run(
        places: &'a Places,
        sources: &'a Sources,
        root: PathBuf,
        manifest: &Manifest,
        checkpoint: Checkpoint<'_>,
    ) -> Result<(), Fault> {
        remove_tree(&root)?;
        make_folder(&root)?;
        let mut build = Self { places, sources, root, placed: HashMap::new() };
        for entry in manifest.entries() {
            checkpoint()?;
            let path = build.root.join(&entry.path);
            match &entry.node {
                Node::Directory => make_folder(&path)?,
                Node::File { executable, digest, .. } => build.place(path, *digest, *executable)?,
                Node::Symlink { .. } => {}
            }
        }
        build.link_and_close(manifest)
    }

    fn place(&mut self, path: PathBuf, digest: Digest, executable: bool) -> Result<(), Fault> {
        let wanted = (digest, executable);
        let same = self.placed.get(&wanted).map(PathBuf::as_path);
        if let Some(same) = same.or_else(|| self.sources.same(digest, executable)) {
            if link(same, &path)? {
                self.placed.entry(wanted).or_insert(path);
                return Ok(());
            }
            copy(same, &path, digest, executable)?;
            self.placed.insert(wanted, path);
            return Ok(());
        }
        self.place_first(&path, digest, executable)?;
        self.placed.insert(wanted, path);
        Ok(())
    }

    /// The first file of this content and mode: the object itself becomes the file, unless a file of the other mode
    /// is it already.
    fn place_first(&self, path: &Path, digest: Digest, executable: bool) -> Result<(), Fault> {
        let object = self.places.object(digest);
        let other_mode = self.placed.get(&(digest, !executable)).map(PathBuf::as_path);
        if let Some(other) = other_mode.or_else(|| self.sources.same(digest, !executable)) {
            return copy(other, path, digest, executable);
        }
        if !object.exists() {
            return Err(fault(
                Reason::ObjectMissing,
                format!(
                    "neither {} nor another slot has the content of {}",
                    object.display(),
                    path.display()
                ),
            ));
        }
        if link(&object, path)? {
            let file = File::open(path).on_path("open", path)?;
            return finish_file(&file, path, executable, digest);
        }
        copy(&object, path, digest, executable)
    }

    fn link_and_close(&self, manifest: &Manifest) -> Result<(), Fault> {
        for entry in manifest.entries() {
            if let Node::Symlink { target } = &entry.node {
                let path = self.root.join(&entry.path);
                symlink(target, &path).on_path("create", &path)?;
            }
        }
        for entry in manifest.entries().iter().filter(|entry| entry.node == Node::Directory) {
            set_mode(&self.root.join(&entry.path), FOLDER_MODE)?;
        }
        set_mode(&self.root, FOLDER_MODE)
    }
}

fn make_folder(path: &Path) -> Result<(), Fault> {
    DirBuilder::new().mode(OPEN_FOLDER_MODE).create(path).on_path("create", path)
}

/// Whether a hard link was possible: it is not across file systems, nor beyond so many links to one file.
fn link(from: &Path, to: &Path) -> Result<bool, Fault> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(true),
        Err(err) if matches!(err.kind(), io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks) => {
            Ok(false)
        }
        Err(err) => Err(err).on_path("create", to),
    }
}

fn copy(from: &Path, to: &Path, digest: Digest, executable: bool) -> Result<(), Fault> {
    let mut source = File::open(from).on_path("open", from)?;
    let mut target =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).on_path("create", to)?;
    io::copy(&mut source, &mut target).on_path("write", to)?;
    finish_file(&target, to, executable, digest)
}
