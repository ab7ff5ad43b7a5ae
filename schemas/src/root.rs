//! The root document: which keys may sign what. [`Trust`] is what a verified chain of roots says now.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    id::{Digest, FleetId, KeyId, PublicKey},
    reason::Reason,
    seal::{Document, Head, KeySet, MAX_SIGNATURES, SealError, Signed, verifying_key},
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
            Self::Role { .. } | Self::SameId { .. } => Reason::Malformed,
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
        if self.version.checked_add(1) != Some(root.version) {
            return Err(RootError::Version { have: self.version, got: root.version });
        }
        let trust = Self::of(&root, signed.digest())?;
        signed.check_signatures(&trust.root)?;
        Ok(trust)
    }

    fn of(root: &Root, digest: Digest) -> Result<Self, RootError> {
        for key in &root.keys {
            verifying_key(key)?;
        }
        let same_id = |id| RootError::SameId { version: root.version, id };
        let keys = by_id(root.keys.iter().map(|key| (key.id(), *key))).map_err(same_id)?;
        let of_role = |role| role_keys(root, role, &keys);
        Ok(Self {
            fleet: root.head.fleet.clone(),
            version: root.version,
            digest,
            expires: root.expires,
            root: of_role(Role::Root)?,
            release: of_role(Role::Release)?,
            ops: of_role(Role::Ops)?,
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

/// An id is short enough for one person to make two keys that share it: both would then have what is given to one.
fn by_id(keys: impl IntoIterator<Item = (KeyId, PublicKey)>) -> Result<BTreeMap<KeyId, PublicKey>, KeyId> {
    let mut found = BTreeMap::new();
    for (id, key) in keys {
        if found.insert(id, key).is_some_and(|other| other != key) {
            return Err(id);
        }
    }
    Ok(found)
}

fn role_keys(root: &Root, role: Role, keys: &BTreeMap<KeyId, PublicKey>) -> Result<KeySet, RootError> {
    let unusable = || RootError::Role { version: root.version, role: role.name() };
    let named = root.roles.get(&role).ok_or_else(unusable)?;
    let ids: BTreeSet<_> = named.keys.iter().collect();
    let of_role: Option<Vec<_>> = ids.into_iter().map(|id| keys.get(id).copied()).collect();
    let of_role = of_role.ok_or_else(unusable)?;
    let threshold = usize::try_from(named.threshold).map_err(|_| unusable())?;
    if threshold == 0 || threshold > MAX_SIGNATURES || of_role.len() < threshold {
        return Err(unusable());
    }
    Ok(KeySet::new(of_role, threshold))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec, seal::SecretKey};

    /// A root in which `listed` and nobody else has every role.
    fn root(version: u64, listed: Vec<PublicKey>, named: &[KeyId], threshold: u32) -> Root {
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

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    #[test]
    fn a_key_that_is_listed_twice_fills_no_threshold() {
        let one = key(1).public();
        let twice = root(1, vec![one, one], &[one.id(), one.id()], 2);
        assert!(matches!(Trust::of(&twice, Digest::of(b"")), Err(RootError::Role { .. })));
        assert!(Trust::of(&root(1, vec![one, one], &[one.id()], 1), Digest::of(b"")).is_ok());
    }

    #[test]
    fn two_keys_never_share_an_id() {
        let (one, two) = (key(1).public(), key(2).public());
        assert_eq!(by_id([(one.id(), one), (one.id(), two)]), Err(one.id()));
        assert_eq!(by_id([(one.id(), one), (one.id(), one), (two.id(), two)]).unwrap().len(), 2);
    }

    #[test]
    fn a_role_names_only_keys_that_are_listed() {
        let (one, two) = (key(1).public(), key(2).public());
        let unlisted = root(1, vec![one], &[one.id(), two.id()], 1);
        assert!(matches!(Trust::of(&unlisted, Digest::of(b"")), Err(RootError::Role { .. })));
    }

    #[test]
    fn no_threshold_is_above_the_signatures_that_are_looked_at() {
        let keys: Vec<_> = (1..=17).map(|n| key(n).public()).collect();
        let of = |threshold| {
            let ids: Vec<_> = keys.iter().map(PublicKey::id).collect();
            Trust::of(&root(1, keys.clone(), &ids, threshold), Digest::of(b""))
        };
        assert!(of(16).is_ok());
        assert!(matches!(of(17), Err(RootError::Role { .. })));
    }

    #[test]
    fn a_root_with_a_weak_key_is_refused_before_anybody_needs_the_key() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let no_point = [2; 32];
        for weak in [identity, no_point].map(PublicKey) {
            let with_weak = root(1, vec![key(1).public(), weak], &[key(1).public().id()], 1);
            let error = Trust::first(&Signed::seal(&with_weak, &[key(1)])).unwrap_err();
            assert_eq!(error.reason(), Reason::WeakKey, "{weak}");
        }
    }

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

    #[test]
    fn nothing_follows_the_last_version() {
        let only = |version| root(version, vec![key(1).public()], &[key(1).public().id()], 1);
        let last = Trust::first(&Signed::seal(&only(u64::MAX), &[key(1)])).unwrap();
        let next = last.next(&Signed::seal(&only(0), &[key(1)]));
        assert!(matches!(next, Err(RootError::Version { have: u64::MAX, got: 0 })));
    }
}
