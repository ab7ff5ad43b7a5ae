//! What is in a store, and under which name.

use std::fmt;

use schemas::id::Digest;

/// One thing in the store, named by the digest of its plain content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The content of a file.
    Object(Digest),
    /// The list of a tree's files; its digest is the tree's hash.
    Manifest(Digest),
}

impl Key {
    /// The digest of its plain content.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Object(digest) | Self::Manifest(digest) => *digest,
        }
    }

    /// Where it is below the address of a store.
    pub fn path(&self) -> String {
        match self {
            Self::Object(digest) => {
                let name = digest.to_string();
                format!("v1/objects/{}/{name}", &name[..2])
            }
            Self::Manifest(digest) => format!("v1/manifests/{digest}"),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Object(digest) => write!(f, "object {digest}"),
            Self::Manifest(digest) => write!(f, "manifest {digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_spread_over_folders_and_manifests_are_not() {
        let digest = Digest::of(b"abc");
        assert!(Key::Object(digest).path().starts_with("v1/objects/ba/ba7816bf"));
        assert!(Key::Manifest(digest).path().starts_with("v1/manifests/ba7816bf"));
    }
}
