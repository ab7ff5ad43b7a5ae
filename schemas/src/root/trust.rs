//! The keys that count now, as a root and those that follow it say.

use std::collections::{BTreeMap, BTreeSet};

use super::{Role, Root, RootError};
use crate::{
    id::{Digest, FleetId, KeyId, PublicKey},
    seal::{KeySet, MAX_SIGNATURES, Signed, verifying_key},
    time::UnixTime,
};

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
    use super::{
        super::samples::{key, root},
        *,
    };
    use crate::reason::Reason;

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
    fn nothing_follows_the_last_version() {
        let only = |version| root(version, vec![key(1).public()], &[key(1).public().id()], 1);
        let last = Trust::first(&Signed::seal(&only(u64::MAX), &[key(1)])).unwrap();
        let next = last.next(&Signed::seal(&only(0), &[key(1)]));
        assert!(matches!(next, Err(RootError::Version { have: u64::MAX, got: 0 })));
    }
}
