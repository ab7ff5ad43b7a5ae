//! The root document: which keys may sign what. [`Trust`] is what a verified chain of roots says now.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    id::{Digest, FleetId, KeyId, PublicKey},
    reason::Reason,
    seal::{Document, Head, KeySet, SealError, Signed},
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
    pub roles: BTreeMap<Role, RoleKeys>,
    /// Roles whose counters nodes forget: the way back after a stolen key signed the highest numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
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
            Self::Role { .. } => Reason::Malformed,
            Self::Version { .. } => Reason::Replayed,
        }
    }
}

/// The keys that count now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    fleet: FleetId,
    version: u64,
    digest: Digest,
    expires: UnixTime,
    root: KeySet,
    release: KeySet,
    ops: KeySet,
}

impl Trust {
    /// Trust in a root that came by a trusted way (a file on the card, a compared fingerprint); it must have signed itself.
    ///
    /// # Errors
    /// When the document is unusable.
    pub fn first(signed: &Signed<Root>) -> Result<Self, RootError> {
        let trust = Self::of(&signed.open()?, signed.digest())?;
        signed.check_signatures(&trust.root)?;
        Ok(trust)
    }

    /// Trust in the successor of this root: both the old and the new root role must have signed it (TUF 5.3.4).
    ///
    /// # Errors
    /// When it is not version N+1 of this fleet, or signatures are missing.
    pub fn next(&self, signed: &Signed<Root>) -> Result<Self, RootError> {
        let root = signed.verify_keys(&self.root, &self.fleet)?;
        if root.version != self.version + 1 {
            return Err(RootError::Version { have: self.version, got: root.version });
        }
        let trust = Self::of(&root, signed.digest())?;
        signed.check_signatures(&trust.root)?;
        Ok(trust)
    }

    fn of(root: &Root, digest: Digest) -> Result<Self, RootError> {
        Ok(Self {
            fleet: root.head.fleet.clone(),
            version: root.version,
            digest,
            expires: root.expires,
            root: role_keys(root, Role::Root)?,
            release: role_keys(root, Role::Release)?,
            ops: role_keys(root, Role::Ops)?,
        })
    }

    /// Whose documents these keys sign.
    pub fn fleet(&self) -> &FleetId {
        &self.fleet
    }

    /// The root's version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The root's digest: the fingerprint that people compare.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// From then on no new install is accepted.
    pub fn expires(&self) -> UnixTime {
        self.expires
    }

    /// The keys of `role`.
    pub fn keys(&self, role: Role) -> &KeySet {
        match role {
            Role::Root => &self.root,
            Role::Release => &self.release,
            Role::Ops => &self.ops,
        }
    }
}

fn role_keys(root: &Root, role: Role) -> Result<KeySet, RootError> {
    let unusable = || RootError::Role { version: root.version, role: role.name() };
    let named = root.roles.get(&role).ok_or_else(unusable)?;
    let keys: Vec<_> = root.keys.iter().copied().filter(|key| named.keys.contains(&key.id())).collect();
    let threshold = usize::try_from(named.threshold).map_err(|_| unusable())?;
    if threshold == 0 || keys.len() < threshold {
        return Err(unusable());
    }
    Ok(KeySet::new(keys, threshold))
}
