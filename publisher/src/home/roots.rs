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

use std::fs;

use anyhow::{Context as _, Result};
use schemas::{
    order::Order,
    record::Record,
    release::Release,
    root::{Role, RoleKeys, Root, RootChain, Trust},
    seal::{Head, RoleDocument, SecretKey, Signed},
    time::UnixTime,
};

use super::{Home, files, history, init::ROOT_LIFETIME_SECS, keys};
use crate::problem::Advise as _;

/// A key that is to take the place of another; until it has, nothing is changed.
pub(crate) struct Rotation {
    /// The new one, to sign what the old one signed.
    pub(crate) key: SecretKey,
    /// What will count.
    pub(crate) trust: Trust,
    role: Role,
    root: Signed<Root>,
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

    /// Prepares a new key for `role`, and the root document that names it instead of the one that is here.
    ///
    /// What the old key signed and this home keeps is signed by the new one as well. When the old one is `lost`, which others
    /// may have, only the records of nodes are, which lie here; and nodes forget the numbers that it may have used up.
    pub(crate) fn prepare_rotation(&self, role: Role, lost: bool, now: UnixTime) -> Result<Rotation> {
        let _lock = self.lock()?;
        let key = keys::new_key()?;
        let mut signers = vec![self.key(Role::Root)?];
        if role == Role::Root {
            signers.push(key.clone());
        }
        let present = self.trust.document(&self.root()?)?;
        let old = self.key(role).ok();
        let root = Signed::seal(&successor(&present, role, old.as_ref(), &key, lost, now), &signers);
        let trust = self.trust.next(&root).advise(
            "what was signed here would not be believed",
            "a root whose threshold is above 1 needs more keys than this home has",
        )?;
        self.sign_again(role, &key, lost)?;
        Ok(Rotation { key, trust, role, root })
    }

    /// Makes the change.
    pub(crate) fn rotate(&self, rotation: &Rotation) -> Result<()> {
        let _lock = self.lock()?;
        let path = self.path(format!("keys/{}.key", rotation.role.name()));
        keys::store_next(&path, &rotation.key)?;
        self.keep_root(&rotation.root, rotation.trust.version())?;
        keys::adopt_next(&path)
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

    fn sign_again(&self, role: Role, key: &SecretKey, lost: bool) -> Result<()> {
        let all = |folder: &str| history::files_below(&self.path(folder));
        match role {
            Role::Root => {}
            Role::Release if lost => {}
            Role::Release => {
                for path in all("releases")? {
                    self.sign_file::<Release>(&path, key)?;
                }
            }
            Role::Ops => {
                let records = all("nodes")?.into_iter().filter(|path| path.ends_with("record.cbor"));
                for path in records {
                    self.sign_file::<Record>(&path, key)?;
                }
                for path in all("orders")?.into_iter().filter(|_| !lost) {
                    self.sign_file::<Order>(&path, key)?;
                }
            }
        }
        Ok(())
    }

    /// Adds a signature to a document that is believed now, and takes away those of keys that count no more.
    fn sign_file<T: RoleDocument>(&self, path: &std::path::Path, key: &SecretKey) -> Result<()> {
        let what = || format!("cannot sign {} again", path.display());
        let mut signed: Signed<T> =
            Signed::from_bytes(&fs::read(path).with_context(what)?).with_context(what)?;
        if let Err(error) = signed.verify(&self.trust) {
            tracing::warn!("Left out {}: {error}", path.display());
            return Ok(());
        }
        let present = self.trust.keys(T::ROLE).keys();
        signed.retain_signatures(|id| present.iter().any(|key| key.id() == id));
        signed.sign(std::slice::from_ref(key));
        files::replace(path, &signed.to_bytes(), files::PUBLIC).with_context(what)
    }
}

/// The root after `present`, in which `key` does what `old` did for `role`.
fn successor(
    present: &Root,
    role: Role,
    old: Option<&SecretKey>,
    key: &SecretKey,
    lost: bool,
    now: UnixTime,
) -> Root {
    let mut roles = present.roles.clone();
    let of_role = roles.entry(role).or_insert(RoleKeys { keys: Vec::new(), threshold: 1 });
    match old.map(|old| old.public().id()) {
        Some(old) => of_role.keys.retain(|id| *id != old),
        // Of one key it is known which one it was.
        None if of_role.keys.len() == 1 => of_role.keys.clear(),
        None => {}
    }
    of_role.keys.push(key.public().id());
    let is_named = |id| roles.values().any(|role| role.keys.contains(&id));
    let mut keys = present.keys.clone();
    keys.push(key.public());
    keys.retain(|key| is_named(key.id()));
    Root {
        head: Head::new(present.head.fleet.clone(), now),
        version: present.version + 1,
        keys,
        roles,
        reset: if lost && role != Role::Root { vec![role] } else { Vec::new() },
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

    fn rotate(home: &Home, role: Role, lost: bool) -> Rotation {
        let rotation = home.prepare_rotation(role, lost, NOW).unwrap();
        home.rotate(&rotation).unwrap();
        rotation
    }

    #[test]
    fn who_trusts_any_root_can_follow_to_the_present_one() {
        let sample = Sample::new();
        let (first, mut home) = (sample.home.trust.clone(), reopened(&sample.home));
        for role in [Role::Release, Role::Root, Role::Ops, Role::Root] {
            let old = home.key(role).unwrap().public();
            let rotated = rotate(&home, role, false);
            home = reopened(&home);
            assert_eq!(home.trust, rotated.trust);
            assert_eq!(home.trust.keys(role).keys(), [rotated.key.public()]);
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
        keys::store_next(&path, &unused).unwrap();
        assert_eq!(home.key(Role::Ops).unwrap().public(), old.public());
        let rotated = rotate(home, Role::Ops, false);
        // The root was written, and the key is not yet in its place.
        keys::store_next(&path, &rotated.key).unwrap();
        fs::write(&path, fs::read_to_string(home.path("keys/root.key")).unwrap()).unwrap();
        let home = reopened(home);
        assert_eq!(home.key(Role::Ops).unwrap().public(), rotated.key.public());
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
