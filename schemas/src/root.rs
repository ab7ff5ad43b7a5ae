//! The root document: which keys may sign what. [`Trust`] is what a verified chain of roots says now.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize};

use crate::{
    codec::{self, CodecError},
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

/// The keys that count now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    fleet: FleetId,
    version: u64,
    digest: Digest,
    expires: UnixTime,
    reset: Vec<Role>,
    root: KeySet,
    release: KeySet,
    ops: KeySet,
}

/// Root documents that follow each other, as the trust topic retains them: whoever trusts one of them, or the one before
/// the first, can follow it to the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootChain {
    /// The version of the first one. Nobody signed this number: it only says where to begin to verify.
    first: u64,
    roots: Vec<Signed<Root>>,
}

impl RootChain {
    /// Most bytes of a chain: what every node and every broker takes in one message.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// The newest of `roots`, which follow each other and of which the first has the version `first`: as many as one
    /// message takes, which are dozens. Nodes that missed more than those need a new root file.
    pub fn new(first: u64, roots: Vec<Signed<Root>>) -> Self {
        let mut chain = Self { first, roots };
        while chain.to_bytes().len() > Self::MAX_BYTES && chain.roots.len() > 1 {
            chain.roots.remove(0);
            chain.first += 1;
        }
        chain
    }

    /// Reads a chain; its documents stay closed until they are verified.
    ///
    /// # Errors
    /// When the bytes are too many or something else.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RootError> {
        codec::decode(bytes, Self::MAX_BYTES).map_err(RootError::Chain)
    }

    /// The chain as it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// The version of the last one, as far as the chain can be believed.
    pub fn last(&self) -> u64 {
        self.first.saturating_add(self.roots.len() as u64).saturating_sub(1)
    }

    /// The last one, not verified: for who asks to be let in and compares what it makes of it with people.
    pub fn newest(&self) -> Option<&Signed<Root>> {
        self.roots.last()
    }

    fn get(&self, version: u64) -> Option<&Signed<Root>> {
        self.roots.get(usize::try_from(version.checked_sub(self.first)?).ok()?)
    }
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

    /// The successor of this root in `chain`, verified (TUF 5.3: one version at a time); `None` when this root is the last.
    ///
    /// # Errors
    /// When the chain is an older one, belongs to another root, leaves out the successor, or that does not verify.
    pub fn follow(&self, chain: &RootChain) -> Result<Option<(Self, Signed<Root>)>, RootError> {
        let (have, last) = (self.version, chain.last());
        if last < have || chain.roots.is_empty() {
            return Err(RootError::Version { have, got: last });
        }
        if chain.get(have).is_some_and(|same| same.digest() != self.digest) {
            return Err(RootError::Fork { version: have });
        }
        if last == have {
            return Ok(None);
        }
        let next = have.checked_add(1).and_then(|version| chain.get(version));
        let next = next.ok_or(RootError::Gap { have, first: chain.first })?;
        Ok(Some((self.next(next)?, next.clone())))
    }

    /// What the root that is trusted says, from the envelope that it came in.
    ///
    /// # Errors
    /// When `signed` is another document.
    pub fn document(&self, signed: &Signed<Root>) -> Result<Root, RootError> {
        let root = signed.open()?;
        if signed.digest() != self.digest {
            return Err(RootError::Fork { version: root.version });
        }
        Ok(root)
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
            reset: root.reset.clone(),
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

    /// The roles whose counters are forgotten with this root.
    pub fn reset(&self) -> &[Role] {
        &self.reset
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
    use crate::seal::SecretKey;

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

    /// Roots 1 to 4 of one key after the other: each is signed by its own key and the one before.
    fn chain() -> RootChain {
        let of = |n: u8| {
            let id = key(n).public().id();
            let next = root(n.into(), vec![key(n).public()], &[id], 1);
            Signed::seal(&next, &[key(n.max(2) - 1), key(n)])
        };
        RootChain::new(1, (1..=4).map(of).collect())
    }

    #[test]
    fn a_chain_is_followed_one_root_at_a_time() {
        let chain = RootChain::from_bytes(&chain().to_bytes()).unwrap();
        let mut trust = Trust::first(&chain.roots[1]).unwrap();
        let mut versions = Vec::new();
        while let Some((next, signed)) = trust.follow(&chain).unwrap() {
            assert_eq!(next.digest(), signed.digest());
            versions.push(next.version());
            trust = next;
        }
        assert_eq!(versions, [3, 4]);
    }

    #[test]
    fn a_chain_that_is_not_ours_is_not_followed() {
        let whole = chain();
        let last = Trust::first(&whole.roots[3]).unwrap();
        let first = Trust::first(&whole.roots[0]).unwrap();
        let refused = |trust: &Trust, chain: &RootChain| trust.follow(chain).unwrap_err().reason();
        let older = RootChain { first: 1, roots: whole.roots[..3].to_vec() };
        assert_eq!(refused(&last, &older), Reason::Replayed);
        let later = RootChain { first: 3, roots: whole.roots[2..].to_vec() };
        assert_eq!(refused(&first, &later), Reason::RootGap);
        let stranger = Signed::seal(&root(1, vec![key(9).public()], &[key(9).public().id()], 1), &[key(9)]);
        assert_eq!(refused(&first, &RootChain { first: 1, roots: vec![stranger.clone()] }), Reason::RootFork);
        let forged = RootChain { first: 1, roots: vec![whole.roots[0].clone(), stranger] };
        assert_eq!(refused(&first, &forged), Reason::BadSignature);
        // Whoever lies about the number gets no further.
        let shifted = RootChain { first: 0, ..whole.clone() };
        assert_eq!(refused(&first, &shifted), Reason::RootFork);
        let none = RootChain { first: 1, roots: Vec::new() };
        assert_eq!(refused(&first, &none), Reason::Replayed);
        assert_eq!(RootChain::from_bytes(b"junk").unwrap_err().reason(), Reason::Malformed);
        assert!(RootChain { first: u64::MAX, ..whole }.last() > 4);
    }

    #[test]
    fn a_chain_that_is_too_long_loses_its_oldest() {
        let one = Signed::seal(&root(1, vec![key(1).public()], &[key(1).public().id()], 1), &[key(1)]);
        let long = RootChain::new(1, vec![one; 300]);
        assert!(long.to_bytes().len() <= RootChain::MAX_BYTES && long.first > 1);
        assert_eq!(long.last(), 300);
    }

    #[test]
    fn nothing_follows_the_last_version() {
        let only = |version| root(version, vec![key(1).public()], &[key(1).public().id()], 1);
        let last = Trust::first(&Signed::seal(&only(u64::MAX), &[key(1)])).unwrap();
        let next = last.next(&Signed::seal(&only(0), &[key(1)]));
        assert!(matches!(next, Err(RootError::Version { have: u64::MAX, got: 0 })));
    }
}
