//! The manifest: every path of a tree with the digest of its content. Its own digest is the `tree_hash`.
//!
//! Deterministic CBOR (RFC 8949 §4.2): the same folder gives the same bytes on every machine. There are no times,
//! owners or attributes. A manifest that exists as a [`Manifest`] obeys every rule of [`ManifestError`].
//!
//! ```text
//! manifest = { 1: 1, 2: [*entry] }                ; sorted by the bytes of the path
//! entry    = [0, path, 0o644 / 0o755, size, sha256] / [1, path, target] / [2, path]
//! ```

mod wire;

use std::collections::{BTreeMap, HashMap, HashSet};

use self::wire::{Wire, WireRef};
use crate::{
    codec::{self, CodecError},
    id::Digest,
};

/// Most entries: five times the largest tree measured (Home Assistant, 36,490 files).
pub const MAX_ENTRIES: usize = 200_000;
/// Longest path and longest link target.
pub const MAX_PATH_BYTES: usize = 1_024;
/// Most bytes of a manifest: [`MAX_ENTRIES`] of 160 bytes.
pub const MAX_BYTES: usize = 32 * 1024 * 1024;

/// One path of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative, with `/` between its segments.
    pub path: String,
    /// What is there.
    pub node: Node,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file.
    File {
        /// Whether it may be executed.
        executable: bool,
        /// Bytes of its content.
        size: u64,
        /// Digest of its content.
        digest: Digest,
    },
    /// A symbolic link that stays inside the tree.
    Symlink {
        /// Where it leads, relative to its own folder.
        target: String,
    },
    /// A folder; every folder is listed, for some are empty.
    Directory,
}

/// Why a list of entries is no manifest.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// Not CBOR, or of another shape.
    #[error("manifest is unreadable")]
    Malformed(#[source] CodecError),
    /// Readable, but not in the one form that it must have.
    #[error("manifest is not in its deterministic form")]
    NotDeterministic,
    /// More than [`MAX_ENTRIES`].
    #[error("{0} entries are more than {MAX_ENTRIES}")]
    TooManyEntries(usize),
    /// A path is absolute, empty, too long, or has a `.`, `..`, empty segment or NUL.
    #[error("path {0:?} is not a plain relative path")]
    Path(String),
    /// Two paths are equal, or would be on a file system that ignores case.
    #[error("paths {0:?} and {1:?} collide")]
    Collision(String, String),
    /// The folder of a path is not listed as a folder.
    #[error("path {0:?} has no folder above it")]
    NoParent(String),
    /// A link leaves the tree.
    #[error("link {0:?} to {1:?} leaves the tree")]
    LinkOutside(String, String),
    /// The sizes do not add up to what was announced.
    #[error("files have {got} bytes, announced were {announced}")]
    Size {
        /// The sum of the entries.
        got: u64,
        /// What the release says.
        announced: u64,
    },
}

/// The list of a tree's entries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    entries: Vec<Entry>,
}

impl Manifest {
    /// Sorts and checks `entries`.
    ///
    /// # Errors
    /// When they break a rule.
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        entries.sort_unstable_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        check(&entries)?;
        Ok(Self { entries })
    }

    /// Reads a manifest whose bytes were found to have the announced digest.
    ///
    /// # Errors
    /// When it breaks a rule, or its files have not `announced_bytes` in sum.
    pub fn parse(bytes: &[u8], announced_bytes: u64) -> Result<Self, ManifestError> {
        let wire: Wire = codec::decode(bytes, MAX_BYTES).map_err(ManifestError::Malformed)?;
        let manifest = Self::new(wire.0)?;
        if manifest.encode() != bytes {
            return Err(ManifestError::NotDeterministic);
        }
        let got = manifest.size_bytes();
        if got != announced_bytes {
            return Err(ManifestError::Size { got, announced: announced_bytes });
        }
        Ok(manifest)
    }

    /// The manifest's bytes.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&WireRef(&self.entries))
    }

    /// SHA-256 of the manifest's bytes: the name of the tree.
    pub fn tree_hash(&self) -> Digest {
        Digest::of(&self.encode())
    }

    /// All entries, sorted by path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The files among the entries: path, whether executable, size, digest.
    pub fn files(&self) -> impl Iterator<Item = (&str, bool, u64, Digest)> {
        self.entries.iter().filter_map(|entry| match entry.node {
            Node::File { executable, size, digest } => Some((entry.path.as_str(), executable, size, digest)),
            _ => None,
        })
    }

    /// Every different content with its size.
    pub fn objects(&self) -> BTreeMap<Digest, u64> {
        self.files().map(|(_, _, size, digest)| (digest, size)).collect()
    }

    /// Sum of the sizes of all files.
    pub fn size_bytes(&self) -> u64 {
        self.files().fold(0, |sum, (_, _, size, _)| sum.saturating_add(size))
    }
}

fn check(entries: &[Entry]) -> Result<(), ManifestError> {
    if entries.len() > MAX_ENTRIES {
        return Err(ManifestError::TooManyEntries(entries.len()));
    }
    let mut folders = HashSet::new();
    let mut folded = HashMap::with_capacity(entries.len());
    for entry in entries {
        let path = entry.path.as_str();
        if !is_plain(path) {
            return Err(ManifestError::Path(path.chars().take(200).collect()));
        }
        if let Some(other) = folded.insert(fold(path), path) {
            return Err(ManifestError::Collision(other.to_owned(), path.to_owned()));
        }
        if path.rsplit_once('/').is_some_and(|(parent, _)| !folders.contains(parent)) {
            return Err(ManifestError::NoParent(path.to_owned()));
        }
        match &entry.node {
            Node::Directory => {
                folders.insert(path);
            }
            Node::Symlink { target } if !stays_inside(path, target) => {
                return Err(ManifestError::LinkOutside(path.to_owned(), target.chars().take(200).collect()));
            }
            Node::Symlink { .. } | Node::File { .. } => {}
        }
    }
    Ok(())
}

/// One spelling of all that differ in case alone. Letter by letter, for [`str::to_lowercase`] heeds a letter's place in
/// its word; `ẞ` becomes `ß`, then among the capitals `ß` meets `ss` and `ſ` meets `s`.
fn fold(path: &str) -> String {
    if path.is_ascii() {
        return path.to_ascii_lowercase(); // 70 times faster, and nearly every path is
    }
    path.chars()
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

fn is_plain(path: &str) -> bool {
    path.len() <= MAX_PATH_BYTES
        && !path.contains('\0')
        && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
}

/// Whether a link at `path` leads to a place in the tree. Folders above an entry are never links, so leading `..` are
/// exact; a `..` behind a name is refused, for that name may itself be a link.
fn stays_inside(path: &str, target: &str) -> bool {
    let depth = path.matches('/').count();
    let ups = target.split('/').take_while(|segment| *segment == "..").count();
    let names: Vec<_> = target.split('/').skip(ups).collect();
    let names_are_plain = if names.is_empty() { ups > 0 } else { is_plain(&names.join("/")) };
    ups <= depth && names_are_plain && target.len() <= MAX_PATH_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> Entry {
        Entry {
            path: path.into(),
            node: Node::File { executable: false, size: 3, digest: Digest::of(b"abc") },
        }
    }

    fn dir(path: &str) -> Entry {
        Entry { path: path.into(), node: Node::Directory }
    }

    fn link(path: &str, target: &str) -> Entry {
        Entry { path: path.into(), node: Node::Symlink { target: target.into() } }
    }

    #[test]
    fn order_of_discovery_does_not_matter() {
        let one = Manifest::new(vec![file("b"), dir("a"), file("a/x"), file("a-b")]).unwrap();
        let two = Manifest::new(vec![file("a/x"), file("a-b"), dir("a"), file("b")]).unwrap();
        assert_eq!(one.tree_hash(), two.tree_hash());
        assert_eq!(Manifest::parse(&one.encode(), 9).unwrap(), one);
        assert!(matches!(
            Manifest::parse(&one.encode(), 8),
            Err(ManifestError::Size { got: 9, announced: 8 })
        ));
    }

    #[test]
    fn refuses_paths_that_leave_the_tree_or_collide() {
        let long = "x".repeat(MAX_PATH_BYTES + 1);
        for path in ["", "/etc/passwd", "..", "a/../b", "./a", "a//b", "a/", "a\0b", &long] {
            assert!(
                matches!(Manifest::new(vec![dir("a"), file(path)]), Err(ManifestError::Path(_))),
                "{path:?}"
            );
        }
        assert!(matches!(Manifest::new(vec![file("a"), file("a")]), Err(ManifestError::Collision(..))));
        assert!(matches!(Manifest::new(vec![file("a"), file("A")]), Err(ManifestError::Collision(..))));
        assert!(matches!(Manifest::new(vec![file("a"), file("a/b")]), Err(ManifestError::NoParent(_))));
        assert!(matches!(Manifest::new(vec![link("a", "b"), file("a/b")]), Err(ManifestError::NoParent(_))));
    }

    #[test]
    fn letters_of_every_script_collide_when_only_their_case_differs() {
        for (one, two) in [
            ("Ä", "ä"),
            ("ſ", "s"),
            ("ΑΣ", "ασ"),
            ("ς", "Σ"),
            ("ß", "ẞ"),
            ("straße", "STRASSE"),
            ("\u{212a}", "k"),
        ] {
            let both = Manifest::new(vec![file(one), file(two)]);
            assert!(matches!(both, Err(ManifestError::Collision(..))), "{one} {two}");
        }
        assert!(Manifest::new(vec![file("a"), file("ä"), file("s"), file("ss")]).is_ok());
    }

    #[test]
    fn links_stay_inside_the_tree() {
        let tree = |target: &str| Manifest::new(vec![dir("d"), dir("d/e"), link("d/e/l", target)]);
        for good in ["x", "../x", "../../x", "../..", ".."] {
            assert!(tree(good).is_ok(), "{good}");
        }
        for bad in ["", "/x", "../../../x", "x/..", "../x/../../..", "x//y", "./x", "x\0"] {
            assert!(matches!(tree(bad), Err(ManifestError::LinkOutside(..))), "{bad}");
        }
    }

    #[test]
    fn refuses_bytes_that_are_not_deterministic() {
        let bytes = Manifest::new(vec![file("a"), file("b")]).unwrap().encode();
        let mut longer_integer = bytes.clone();
        longer_integer.splice(2..3, [0x18, 0x01]); // the version as a two-byte integer
        assert!(matches!(Manifest::parse(&longer_integer, 6), Err(ManifestError::NotDeterministic)));
        let swapped = codec::encode(&WireRef(&[file("b"), file("a")]));
        assert!(matches!(Manifest::parse(&swapped, 6), Err(ManifestError::NotDeterministic)));
    }

    proptest::proptest! {
        #[test]
        fn hostile_bytes_never_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = Manifest::parse(&bytes, 0);
        }
    }
}
