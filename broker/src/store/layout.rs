//! Where things lie in the store's folder. A path is only ever made from a parsed digest.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use schemas::id::Digest;

/// What a request names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// One file's content, by its digest.
    Object(Digest),
    /// A tree's manifest, by the tree's hash.
    Manifest(Digest),
}

/// The store's folder.
#[derive(Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

impl Name {
    /// The object `digest` in the shelf `shelf`, if both are what they should be.
    pub(super) fn object(shelf: &str, digest: &str) -> Option<Self> {
        let digest: Digest = digest.parse().ok()?;
        (digest.to_string()[..2] == *shelf).then_some(Self::Object(digest))
    }

    /// The manifest `tree_hash`, if that is a digest.
    pub(super) fn manifest(tree_hash: &str) -> Option<Self> {
        tree_hash.parse().ok().map(Self::Manifest)
    }

    /// The SHA-256 of the plain content.
    pub(super) fn digest(&self) -> Digest {
        match self {
            Self::Object(digest) | Self::Manifest(digest) => *digest,
        }
    }
}

impl Layout {
    /// Makes the folders below `root`.
    pub(super) fn create(root: &Path) -> io::Result<Self> {
        for folder in ["v1/objects", "v1/manifests", "partial"] {
            fs::create_dir_all(root.join(folder))?;
        }
        Ok(Self { root: root.to_owned() })
    }

    /// The file of `name`: complete and right, or not there.
    pub(super) fn file(&self, name: Name) -> PathBuf {
        match name {
            Name::Object(digest) => {
                let digest = digest.to_string();
                self.root.join("v1/objects").join(&digest[..2]).join(digest)
            }
            Name::Manifest(digest) => self.root.join("v1/manifests").join(digest.to_string()),
        }
    }

    /// The file for what has arrived of `name`; outside of what is served.
    pub(super) fn partial(&self, name: Name) -> PathBuf {
        let kind = match name {
            Name::Object(_) => "object",
            Name::Manifest(_) => "manifest",
        };
        self.root.join("partial").join(format!("{kind}-{}", name.digest()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_digests_in_their_own_shelf_become_paths() {
        let digest = Digest::of(b"x").to_string();
        assert!(Name::object(&digest[..2], &digest).is_some());
        for (shelf, name) in [("00", &digest[..]), ("..", "../../etc/passwd"), (&digest[..2], &digest[..63])]
        {
            assert_eq!(Name::object(shelf, name), None, "{shelf}/{name}");
        }
        assert_eq!(Name::manifest("../users"), None);
        assert_eq!(Name::manifest(&digest.to_uppercase()), None);
    }
}
