//! Reading a slot back from the disk: every path, type, mode, size and content against its manifest.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{self, Read as _},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use machine::Fault;
use rustix::fs::{Advice, Mode, OFlags};
use schemas::{
    id::{Digest, Hasher},
    manifest::{Manifest, Node},
};

use super::{
    Checkpoint,
    disk::{FOLDER_MODE, file_mode},
};
use crate::fault::OnPath as _;

/// Threads that hash: an SD card and the processor of a Pi are both busy with two.
const THREADS: usize = 2;
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 128 * 1024;

/// Something in a slot that is not as the manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Drift {
    /// Where, relative to the slot.
    pub(crate) path: String,
    /// What the manifest says.
    pub(crate) expected: String,
    /// What the disk says.
    pub(crate) found: String,
    /// The content that is expected there, when it is the content that is wrong.
    pub(super) content: Option<Digest>,
}

impl std::fmt::Display for Drift {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: expected {}, found {}", self.path, self.expected, self.found)
    }
}

/// Everything in the slot at `root` that differs from `manifest`, sorted by path.
pub(super) fn read_back(
    root: &Path,
    manifest: &Manifest,
    checkpoint: Checkpoint<'_>,
) -> Result<Vec<Drift>, Fault> {
    let mut found = BTreeMap::new();
    list(root, "", &mut found).on_path("list", root)?;
    let mut drifts = Vec::new();
    let (root_seen, root_expected) = (found.remove(""), Seen::expected(&Node::Directory));
    if let Some(seen) = root_seen.filter(|seen| *seen != root_expected) {
        drifts.push(Drift::new(".", root_expected.to_string(), seen.to_string(), None));
    }
    let mut to_hash = Vec::new();
    for entry in manifest.entries() {
        let (seen, expected) = (found.remove(entry.path.as_str()), Seen::expected(&entry.node));
        if seen.as_ref() != Some(&expected) {
            let seen = seen.map_or_else(|| "nothing".to_owned(), |seen| seen.to_string());
            drifts.push(Drift::new(&entry.path, expected.to_string(), seen, None));
        } else if let Node::File { digest, .. } = entry.node {
            to_hash.push((entry.path.as_str(), digest));
        }
    }
    drifts.extend(found.iter().map(|(path, seen)| Drift::new(path, "nothing", seen.to_string(), None)));
    drifts.extend(hash_all(root, &to_hash, checkpoint)?);
    drifts.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(drifts)
}

impl Drift {
    /// All of a slot of which nobody knows what should be in it.
    pub(super) fn unknown() -> Self {
        Self::new(".", "a manifest beside the slot", "none that fits", None)
    }

    fn new(
        path: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
        content: Option<Digest>,
    ) -> Self {
        Self { path: path.into(), expected: expected.into(), found: found.into(), content }
    }
}

/// What is at a path, without its content.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    File { mode: u32, size: u64 },
    Folder { mode: u32 },
    Link { target: Vec<u8> },
    Other,
}

impl Seen {
    fn expected(node: &Node) -> Self {
        match node {
            Node::File { executable, size, .. } => Self::File { mode: file_mode(*executable), size: *size },
            Node::Directory => Self::Folder { mode: FOLDER_MODE },
            Node::Symlink { target } => Self::Link { target: target.as_bytes().to_vec() },
        }
    }

    fn at(path: &Path, meta: &Metadata) -> io::Result<Self> {
        let mode = meta.permissions().mode() & 0o7777;
        Ok(if meta.is_file() {
            Self::File { mode, size: meta.len() }
        } else if meta.is_dir() {
            Self::Folder { mode }
        } else if meta.is_symlink() {
            Self::Link { target: fs::read_link(path)?.as_os_str().as_bytes().to_vec() }
        } else {
            Self::Other
        })
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { mode, size } => write!(f, "file of {size} bytes, mode {mode:04o}"),
            Self::Folder { mode } => write!(f, "folder, mode {mode:04o}"),
            Self::Link { target } => write!(f, "link to {:?}", String::from_utf8_lossy(target)),
            Self::Other => f.write_str("neither file, folder nor link"),
        }
    }
}

fn list(folder: &Path, name: &str, found: &mut BTreeMap<String, Seen>) -> io::Result<()> {
    found.insert(name.to_owned(), Seen::at(folder, &fs::symlink_metadata(folder)?)?);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let own = file_name.to_string_lossy();
        let path = if name.is_empty() { own.into_owned() } else { format!("{name}/{own}") };
        let meta = entry.metadata()?;
        if meta.is_dir() {
            list(&entry.path(), &path, found)?;
        } else {
            found.insert(path, Seen::at(&entry.path(), &meta)?);
        }
    }
    Ok(())
}

fn hash_all(root: &Path, files: &[(&str, Digest)], checkpoint: Checkpoint<'_>) -> Result<Vec<Drift>, Fault> {
    let next = AtomicUsize::new(0);
    let work = || {
        let (mut drifts, mut buffer) = (Vec::new(), vec![0; BUFFER_BYTES]);
        while let Some((path, expected)) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
            checkpoint()?;
            let found = match hash_from_disk(&root.join(path), &mut buffer) {
                Ok(digest) if digest == *expected => continue,
                Ok(digest) => format!("content {digest}"),
                Err(err) => err.to_string(),
            };
            drifts.push(Drift::new(*path, format!("content {expected}"), found, Some(*expected)));
        }
        Ok(drifts)
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS.min(files.len())).map(|_| scope.spawn(work)).collect();
        let mut drifts = Vec::new();
        for thread in threads {
            drifts.extend(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?);
        }
        Ok(drifts)
    })
}

/// The digest of what the disk holds; what the page cache holds is dropped first, for it would hide a bad write.
fn hash_from_disk(path: &Path, buffer: &mut [u8]) -> io::Result<Digest> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    rustix::fs::fadvise(&file, 0, None, Advice::DontNeed)?;
    let mut hasher = Hasher::default();
    loop {
        match file.read(buffer)? {
            0 => return Ok(hasher.finish()),
            len => hasher.update(&buffer[..len]),
        }
    }
}
