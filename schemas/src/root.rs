//! The root document: which keys may sign what. [`Trust`] is what a verified chain of roots says now.

mod chain;
mod trust;

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

pub use self::{chain::RootChain, trust::Trust};
use crate::{
    codec::CodecError,
    id::{KeyId, PublicKey},
    reason::Reason,
    seal::{Document, Head, SealError},
    time::UnixTime,
};

/// What a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The next root document.
    Root,
    /// Releases: which code there is.
    Release,
    /// Orders, commands and node records: who gets it.
    Ops,
}

impl Role {
    /// All roles.
    pub const ALL: [Self; 3] = [Self::Root, Self::Release, Self::Ops];

    /// The name, as files and commands spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Ops => "ops",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }
}

/// Without the roles of newer versions: a node that refused their root could follow the chain no further.
fn known_roles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Role, RoleKeys>, D::Error> {
    let named = BTreeMap::<String, RoleKeys>::deserialize(deserializer)?;
    Ok(named.into_iter().filter_map(|(name, keys)| Some((Role::named(&name)?, keys))).collect())
}

fn known_resets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Role>, D::Error> {
    let named = Vec::<String>::deserialize(deserializer)?;
    Ok(named.iter().filter_map(|name| Role::named(name)).collect())
}

/// The keys of a role, and how many of them must sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleKeys {
    /// Keys of the root's list.
    pub keys: Vec<KeyId>,
    /// How many of them must sign.
    pub threshold: u32,
}

/// Which keys may sign what, from this version on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// What every document has in common.
    pub head: Head,
    /// Exactly one more than the root before it.
    pub version: u64,
    /// All keys that the roles name.
    pub keys: Vec<PublicKey>,
    /// Who signs what.
    #[serde(deserialize_with = "known_roles")]
    pub roles: BTreeMap<Role, RoleKeys>,
    /// Roles whose counters nodes forget: the way back after a stolen key signed the highest numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "known_resets")]
    pub reset: Vec<Role>,
    /// From then on no new install is accepted under this root.
    pub expires: UnixTime,
}

impl Document for Root {
    const TYPE: &'static str = "root";
    const MAX_BYTES: usize = 16 * 1024;

    fn head(&self) -> &Head {
        &self.head
    }
}

/// Why a root document is not taken over.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Signatures or shape are wrong.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A role is missing, has too few keys for its threshold, or names a key that is not listed.
    #[error("root {version} has no usable keys for role {role}")]
    Role {
        /// The root's version.
        version: u64,
        /// The role.
        role: &'static str,
    },
    /// Two different keys have one id, so that nobody can say which of them a role names.
    #[error("root {version} lists two keys as {id}")]
    SameId {
        /// The root's version.
        version: u64,
        /// The id.
        id: KeyId,
    },
    /// A chain that is unreadable, too long or empty.
    #[error("chain of root documents is unreadable")]
    Chain(#[source] CodecError),
    /// A chain that begins after the successor of the present root.
    #[error("chain of root documents begins at {first}, root {have} is trusted")]
    Gap {
        /// The version that is trusted now.
        have: u64,
        /// The first version of the chain.
        first: u64,
    },
    /// Another root of the version that is trusted already.
    #[error("another root {version} than the trusted one")]
    Fork {
        /// The version.
        version: u64,
    },
    /// Not the successor of the present root.
    #[error("root {got} does not follow root {have}")]
    Version {
        /// The version that is trusted now.
        have: u64,
        /// The version that was offered.
        got: u64,
    },
}

impl RootError {
    /// The code that reports carry.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Seal(error) => error.reason(),
            Self::Chain(CodecError::TooLarge { .. }) => Reason::TooLarge,
            Self::Role { .. } | Self::SameId { .. } | Self::Chain(_) => Reason::Malformed,
            Self::Gap { .. } => Reason::RootGap,
            Self::Fork { .. } => Reason::RootFork,
            Self::Version { .. } => Reason::Replayed,
        }
    }
}

/// Roots for the tests of this module and those below.
#[cfg(test)]
mod samples {
    use super::*;
    use crate::seal::SecretKey;

    /// A root in which `listed` and nobody else has every role.
    pub(super) fn root(version: u64, listed: Vec<PublicKey>, named: &[KeyId], threshold: u32) -> Root {
        let role = |role| (role, RoleKeys { keys: named.to_vec(), threshold });
        Root {
            head: Head::new("deploybus".parse().unwrap(), UnixTime(1)),
            version,
            keys: listed,
            roles: Role::ALL.into_iter().map(role).collect(),
            reset: Vec::new(),
            expires: UnixTime(2),
        }
    }

    pub(super) fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }
}

#[cfg(test)]
mod tests {
    use super::{samples::*, *};
    use crate::codec;

    #[test]
    fn roles_of_a_newer_version_are_passed_over() {
        #[derive(Serialize)]
        struct RootOfTomorrow {
            head: Head,
            version: u64,
            keys: Vec<PublicKey>,
            roles: BTreeMap<&'static str, RoleKeys>,
            reset: Vec<&'static str>,
            expires: UnixTime,
        }
        let known = root(1, vec![key(1).public()], &[key(1).public().id()], 1);
        let mut roles: BTreeMap<_, _> =
            known.roles.iter().map(|(role, keys)| (role.name(), keys.clone())).collect();
        roles.insert("gardener", RoleKeys { keys: Vec::new(), threshold: 9 });
        let Root { head, version, keys, expires, .. } = known.clone();
        let tomorrow = RootOfTomorrow { head, version, keys, roles, reset: vec!["gardener", "ops"], expires };
        let read: Root = codec::decode(&codec::encode(&tomorrow), Root::MAX_BYTES).unwrap();
        assert_eq!(read, Root { reset: vec![Role::Ops], ..known });
    }
}
