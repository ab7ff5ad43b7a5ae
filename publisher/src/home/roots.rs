//! The root document and those before it: which keys may sign what, and how that changes.
//!
//! ```text
//! root.cbor            the present one
//! roots/<n>.cbor       all of them, since others have to follow from one to the next
//! keys/<role>.key      the present key; `.next` beside it is one that a root is about to name
//! ```
//!
//! A change is made when `root.cbor` is replaced: what is written before it changes nothing, and what is to be done after it is
//! done whenever it is found undone.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::{Context as _, Result};
use schemas::{
    id::PublicKey,
    mandate::Mandate,
    order::Order,
    record::Record,
    release::Release,
    root::{Role, RoleKeys, Root, RootChain, Trust},
    seal::{Head, RoleDocument, SecretKey, Signed},
    time::UnixTime,
};

use super::{Home, files, history, init::ROOT_LIFETIME_SECS, keys, nodes::KnownNode};
use crate::problem::problem;

/// What the next root is to say about a role.
pub(crate) struct Wish {
    pub(crate) role: Role,
    pub(crate) keys: Vec<PublicKey>,
    pub(crate) threshold: usize,
    /// Others may have a key that is not named any more: nodes forget the numbers that it may have used up.
    pub(crate) lost: bool,
}

/// A root that is to follow the present one; until it is adopted, nothing is changed.
pub(crate) struct Change {
    /// What will count.
    pub(crate) trust: Trust,
    root: Signed<Root>,
    /// Those roles whose keys change, with keys that are here to sign again what is believed now.
    keys: BTreeMap<Role, Vec<SecretKey>>,
}

impl Change {
    /// The keys that are here to sign again what those of `role` signed; `None` when what they signed is not to be believed
    /// any more, or nothing of it changes.
    pub(crate) fn signs_again(&self, role: Role) -> Option<&[SecretKey]> {
        let keys = self.keys.get(&role)?;
        (!self.trust.reset().contains(&role)).then_some(keys)
    }

    /// The roles whose keys change.
    pub(crate) fn roles(&self) -> impl Iterator<Item = Role> {
        self.keys.keys().copied()
    }
}

impl Home {
    /// All root documents that lead to the present one, as the bus retains them.
    pub(crate) fn chain(&self) -> Result<RootChain> {
        let (newest, mut roots) = (self.trust.version(), vec![self.root()?]);
        let mut first = newest;
        while let Some(before) = self.root_before(first) {
            roots.insert(0, before);
            first -= 1;
        }
        Ok(RootChain::new(first, roots))
    }

    /// Follows root documents that were made elsewhere; says whether there were any.
    pub(crate) fn follow(&self, chain: &RootChain) -> Result<bool> {
        let _lock = self.lock()?;
        let mut trust = self.trust.clone();
        while let Some((next, signed)) = trust.follow(chain)? {
            self.keep_root(&signed, next.version())?;
            trust = next;
        }
        Ok(trust != self.trust)
    }

    /// Makes a key that is to take the place of the one of `role` that is here, and keeps it beside that one.
    pub(crate) fn make_next_key(&self, role: Role) -> Result<SecretKey> {
        let _lock = self.lock()?;
        // After a cut, the key that the root names may still wait there.
        keys::settle(&self.key_file(role), self.is_named(role))?;
        let key = keys::new_key()?;
        let present = if self.key_file(role).exists() { Some(self.unlocked(role)?) } else { None };
        keys::store_next(&self.key_file(role), &key, present.as_ref())?;
        Ok(key)
    }

    /// The root that follows, signed by the root key that is here, if one is, and by `signers`. It may lack signatures.
    pub(crate) fn next_root(
        &self,
        wish: &Wish,
        signers: &[SecretKey],
        now: UnixTime,
    ) -> Result<Signed<Root>> {
        let mut root = Signed::seal(&successor(&self.trust.document(&self.root()?)?, wish, now), signers);
        if self.holds(Role::Root).is_some() {
            root.sign(&[self.key(Role::Root)?]);
        }
        Ok(root)
    }

    /// Prepares the change to `root`, which needs all its signatures by now. The records of nodes, which lie here, are signed
    /// again, and so is what this home keeps of releases and orders, unless the keys were lost. `keys` are those that do not
    /// lie here.
    pub(crate) fn prepare(&self, root: Signed<Root>, keys: &[SecretKey]) -> Result<Change> {
        let _lock = self.lock()?;
        let trust = self.trust.next(&root)?;
        let changed = Role::ALL.into_iter().filter(|role| self.trust.keys(*role) != trust.keys(*role));
        let keys = changed.map(|role| Ok((role, self.keys_named_by(&trust, role, keys)?)));
        let change = Change { keys: keys.collect::<Result<_>>()?, trust, root };
        self.sign_again(&change)?;
        self.check_records(&change)?;
        Ok(change)
    }

    /// A node whose record the next root would not prove would be locked out, and could not be told so.
    fn check_records(&self, change: &Change) -> Result<()> {
        let is_lost = |known: &KnownNode| known.signed_by_too_few(&change.trust);
        let lost: Vec<String> = self.nodes()?.iter().filter_map(is_lost).collect();
        if lost.is_empty() {
            return Ok(());
        }
        Err(problem(
            format!(
                "nodes would be locked out, since their records had too few signatures: {}",
                lost.join(", ")
            ),
            "nothing is changed: give the other ops keys with --key FILE",
        ))
    }

    fn keys_named_by(&self, trust: &Trust, role: Role, others: &[SecretKey]) -> Result<Vec<SecretKey>> {
        let is_named = |key: &PublicKey| trust.keys(role).keys().contains(key);
        let mut keys: Vec<_> = others.iter().filter(|key| is_named(&key.public())).cloned().collect();
        if let Some(own) = keys::find(&self.key_file(role), role, is_named, &self.asker)? {
            keys.push(own);
        }
        Ok(keys)
    }

    /// Makes the change.
    pub(crate) fn adopt(&self, change: &Change) -> Result<()> {
        let _lock = self.lock()?;
        if self.root()?.digest() != self.trust.digest() {
            return Err(problem(
                "the keys were changed by another command meanwhile",
                "see them with `publisher keys list`, and change them again if that is still needed",
            ));
        }
        self.keep_root(&change.root, change.trust.version())?;
        for role in change.roles() {
            // Puts the key that waits in the place of the one before.
            let named = change.trust.keys(role).keys();
            keys::settle(&self.key_file(role), |key| named.contains(key))?;
        }
        Ok(())
    }

    fn root(&self) -> Result<Signed<Root>> {
        let path = self.path("root.cbor");
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Signed::from_bytes(&bytes)?)
    }

    fn root_before(&self, version: u64) -> Option<Signed<Root>> {
        let bytes = fs::read(self.path(format!("roots/{}.cbor", version.checked_sub(1)?))).ok()?;
        Signed::from_bytes(&bytes).ok()
    }

    /// Makes a root that was verified the present one.
    fn keep_root(&self, signed: &Signed<Root>, version: u64) -> Result<()> {
        let folder = self.path("roots");
        let what = || format!("cannot write to {}", folder.display());
        fs::create_dir_all(&folder).with_context(what)?;
        let before = folder.join(format!("{}.cbor", version - 1));
        if !before.exists() {
            let present = fs::read(self.path("root.cbor")).with_context(what)?;
            files::replace(&before, &present, files::PUBLIC).with_context(what)?;
        }
        for path in [folder.join(format!("{version}.cbor")), self.path("root.cbor")] {
            files::replace(&path, &signed.to_bytes(), files::PUBLIC).with_context(what)?;
        }
        Ok(())
    }

    fn sign_again(&self, change: &Change) -> Result<()> {
        let all = |folder: &str| history::files_below(&self.path(folder));
        if let Some(keys) = change.signs_again(Role::Release) {
            all("releases")?.iter().try_for_each(|path| self.sign_file::<Release>(path, keys))?;
        }
        if let Some(keys) = change.signs_again(Role::Ops) {
            all("orders")?.iter().try_for_each(|path| self.sign_file::<Order>(path, keys))?;
            let mandates = all(history::MANDATES)?;
            mandates.iter().try_for_each(|path| self.sign_file::<Mandate>(path, keys))?;
        }
        if let Some(keys) = change.keys.get(&Role::Ops) {
            let records = all("nodes")?.into_iter().filter(|path| path.ends_with("record.cbor"));
            records.into_iter().try_for_each(|path| self.sign_file::<Record>(&path, keys))?;
        }
        Ok(())
    }

    /// Adds signatures to a document that is believed now, and takes away those of keys that count no more.
    fn sign_file<T: RoleDocument>(&self, path: &Path, keys: &[SecretKey]) -> Result<()> {
        let what = || format!("cannot sign {} again", path.display());
        let mut signed: Signed<T> =
            Signed::from_bytes(&fs::read(path).with_context(what)?).with_context(what)?;
        if let Err(error) = signed.verify(&self.trust) {
            tracing::warn!("Left out {}: {error}", path.display());
            return Ok(());
        }
        let present = self.trust.keys(T::ROLE).keys();
        signed.retain_signatures(|id| present.iter().any(|key| key.id() == id));
        signed.sign(keys);
        files::replace(path, &signed.to_bytes(), files::PUBLIC).with_context(what)
    }
}

/// The root after `present` that fulfils `wish`.
fn successor(present: &Root, wish: &Wish, now: UnixTime) -> Root {
    let mut roles = present.roles.clone();
    let ids = wish.keys.iter().map(PublicKey::id).collect();
    let threshold = u32::try_from(wish.threshold).unwrap_or(u32::MAX);
    roles.insert(wish.role, RoleKeys { keys: ids, threshold });
    let is_named = |id| roles.values().any(|role| role.keys.contains(&id));
    let known = present.keys.iter().chain(&wish.keys).copied().collect::<BTreeSet<_>>();
    Root {
        head: Head::new(present.head.fleet.clone(), now),
        version: present.version + 1,
        keys: known.into_iter().filter(|key| is_named(key.id())).collect(),
        roles,
        // Root has no numbers to forget but its own, which goes on.
        reset: if wish.lost && wish.role != Role::Root { vec![wish.role] } else { Vec::new() },
        expires: now.plus_secs(ROOT_LIFETIME_SECS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{NOW, Sample};

    fn reopened(home: &Home) -> Home {
        Home::open(&home.path("")).unwrap()
    }

    /// Changes the only key of a role.
    fn rotate(home: &Home, role: Role, lost: bool) -> (Trust, SecretKey) {
        let key = home.make_next_key(role).unwrap();
        let wish = Wish { role, keys: vec![key.public()], threshold: 1, lost };
        let root = home.next_root(&wish, std::slice::from_ref(&key), NOW).unwrap();
        let change = home.prepare(root, &[]).unwrap();
        home.adopt(&change).unwrap();
        (change.trust, key)
    }

    #[test]
    fn who_trusts_any_root_can_follow_to_the_present_one() {
        let sample = Sample::new();
        let (first, mut home) = (sample.home.trust.clone(), reopened(&sample.home));
        for role in [Role::Release, Role::Root, Role::Ops, Role::Root] {
            let old = home.key(role).unwrap().public();
            let (trust, key) = rotate(&home, role, false);
            home = reopened(&home);
            assert_eq!(home.trust, trust);
            assert_eq!(home.trust.keys(role).keys(), [key.public()]);
            assert_ne!(home.key(role).unwrap().public(), old);
        }
        let chain = home.chain().unwrap();
        let mut trust = first;
        while let Some((next, _)) = trust.follow(&chain).unwrap() {
            trust = next;
        }
        assert_eq!((trust.version(), &trust), (5, &home.trust));
    }

    #[test]
    fn what_the_old_key_signed_is_believed_after_it_unless_it_was_lost() {
        let sample = Sample::new();
        let (group, app) = ("canary".parse().unwrap(), "web".parse().unwrap());
        let announcement = sample.announcement(4, 8, "1.0.0");
        let announced = announcement.verify(&sample.home.trust, &group, &app).unwrap();
        sample.home.remember(&announcement, &announced.order, &announced.release).unwrap();
        rotate(&sample.home, Role::Release, false);
        let home = reopened(&sample.home);
        assert_eq!(home.releases(&app).unwrap().len(), 1);
        rotate(&home, Role::Ops, true);
        let home = reopened(&home);
        assert_eq!((home.trust.reset(), home.orders(&app, &group).unwrap().len()), (&[Role::Ops][..], 0));
        assert_eq!(home.releases(&app).unwrap().len(), 1);
    }

    #[test]
    fn a_change_that_was_cut_short_is_as_if_it_was_not_or_goes_on() {
        let sample = Sample::new();
        let home = &sample.home;
        let path = home.path("keys/ops.key");
        let (old, unused) = (home.key(Role::Ops).unwrap(), keys::new_key().unwrap());
        // The key was written, and no root names it.
        keys::store_next(&path, &unused, None).unwrap();
        assert_eq!(home.key(Role::Ops).unwrap().public(), old.public());
        let (_, key) = rotate(home, Role::Ops, false);
        // The root was written, and the key is not yet in its place.
        keys::store_next(&path, &key, None).unwrap();
        fs::write(&path, fs::read_to_string(home.path("keys/root.key")).unwrap()).unwrap();
        let home = reopened(home);
        assert_eq!(home.key(Role::Ops).unwrap().public(), key.public());
        assert!(!home.path("keys/ops.key.next").exists());
    }

    #[test]
    fn a_chain_from_elsewhere_is_followed_and_a_forged_one_is_not() {
        let (sample, stranger) = (Sample::new(), Sample::new());
        let copy = tempfile::tempdir().unwrap();
        for name in ["root.cbor", "fleet.toml"] {
            fs::copy(sample.home.path(name), copy.path().join(name)).unwrap();
        }
        rotate(&sample.home, Role::Release, false);
        rotate(&stranger.home, Role::Release, false);
        let chain = reopened(&sample.home).chain().unwrap();
        let other = Home::open(copy.path()).unwrap();
        assert!(other.follow(&reopened(&stranger.home).chain().unwrap()).is_err());
        assert!(other.follow(&chain).unwrap());
        let other = Home::open(copy.path()).unwrap();
        assert_eq!((other.trust.version(), other.follow(&chain).unwrap()), (2, false));
        assert_eq!(other.chain().unwrap(), chain);
    }
}
