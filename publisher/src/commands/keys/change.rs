//! Changing keys: which ones the root names, and how many of them have to sign.

use std::{
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Result;
use rollout::Fleet;
use schemas::{
    id::{KeyId, PublicKey},
    root::{Role, Root, RootError},
    seal::{SealError, SecretKey, Signed},
    topic::Kind,
};
use serde::Serialize;

use super::{
    super::{node, ordering::learn},
    again::{Again, Retained},
    load_all,
};
use crate::{
    cli::KeysChange,
    clock,
    exit::Exit,
    home::{
        Home, files, keys,
        keys::Passphrase,
        roots::{Change, Wish},
    },
    problem::{Advise as _, problem},
    screen::Screen,
    session::Session,
    show::amount,
};

/// Makes the next root, and changes to it at once when it has all its signatures.
pub(super) async fn run(dir: &Path, change: &KeysChange, screen: &Screen) -> Result<Exit> {
    let (_lock, home) = open(dir)?;
    let draft = draft_file(&home);
    if draft.exists() {
        // A key that waits for it must not be overwritten.
        return Err(problem(
            "another change of keys waits for signatures",
            format!(
                "end it with `publisher keys adopt {file}`, or delete {file} to give it up",
                file = draft.display()
            ),
        ));
    }
    let mut keys = load_all(&home, change.key_files())?;
    let wish = wish(&home, change, &mut keys)?;
    let is_root = |key: &SecretKey| {
        let (key, named) = (key.public(), home.trust.keys(Role::Root).keys());
        named.contains(&key) || wish.role == Role::Root && wish.keys.contains(&key)
    };
    let signers: Vec<_> = keys.iter().filter(|key| is_root(key)).cloned().collect();
    let root = home.next_root(&wish, &signers, clock::plausible(clock::now())?)?;
    carry_out(&home, dir, root, &keys, screen).await
}

/// Changes to a root that others have signed.
pub(super) async fn adopt(dir: &Path, file: &Path, key_files: &[PathBuf], screen: &Screen) -> Result<Exit> {
    let (_lock, home) = open(dir)?;
    let keys = load_all(&home, key_files)?;
    let root = read_root(file)?;
    // Here it only says what is missing: what others have signed in another copy is not overwritten.
    let advice = "let others `publisher sign` it; it has to follow the root of `publisher keys list`";
    home.trust.next(&root).advise(format!("cannot change to {} yet", file.display()), advice)?;
    carry_out(&home, dir, root, &keys, screen).await
}

/// The home, which no other command changes the keys of meanwhile.
fn open(dir: &Path) -> Result<(fs::File, Home)> {
    Home::open(dir)?;
    let lock = Home::lock_keys(dir)?;
    // As the one who had the lock before has left it.
    Ok((lock, Home::open(dir)?))
}

/// Where a root waits for signatures.
fn draft_file(home: &Home) -> PathBuf {
    home.path(format!("root-{}.cbor", home.trust.version() + 1))
}

fn read_root(file: &Path) -> Result<Signed<Root>> {
    let what = format!("cannot use {}", file.display());
    let bytes = fs::read(file).advise(&what, "name the file that another of these commands has written")?;
    Signed::from_bytes(&bytes).advise(what, "fetch it again: it is no root document")
}

/// What the next root is to say. Keys that are made here are added to `keys`.
fn wish(home: &Home, change: &KeysChange, keys: &mut Vec<SecretKey>) -> Result<Wish> {
    let role = Role::from(change.role());
    let named = home.trust.keys(role);
    let mut wish = Wish { role, keys: named.keys().to_vec(), threshold: named.threshold(), lost: false };
    match change {
        KeysChange::Rotate { lost, .. } => {
            let old = old_key(home, role)?;
            let new = home.make_next_key(role)?;
            wish.keys.retain(|key| *key != old);
            wish.keys.push(new.public());
            keys.push(new);
            wish.lost = *lost;
        }
        KeysChange::Split { of, threshold, out, passphrase, .. } => {
            can_ever_sign(role, *threshold, usize::from(*of))?;
            let new = split(home, role, *of, out, *passphrase)?;
            wish.keys = new.iter().map(SecretKey::public).collect();
            wish.threshold = *threshold;
            keys.extend(new);
        }
        KeysChange::Threshold { count, .. } => wish.threshold = *count,
        KeysChange::Add { public, .. } => wish.keys.push(*public),
        KeysChange::Remove { key, lost, .. } => {
            let before = wish.keys.len();
            wish.keys.retain(|named| named.id() != *key);
            if wish.keys.len() == before {
                let advice = "see the keys with `publisher keys list`";
                return Err(problem(format!("the root names no {} key {key}", role.name()), advice));
            }
            wish.lost = *lost;
        }
    }
    can_ever_sign(role, wish.threshold, wish.keys.len())?;
    Ok(wish)
}

fn can_ever_sign(role: Role, threshold: usize, keys: usize) -> Result<()> {
    if (1..=keys).contains(&threshold) {
        return Ok(());
    }
    Err(problem(
        format!("{threshold} of {keys} {} keys can never sign", role.name()),
        "name a threshold from 1 to the number of keys, or add keys first",
    ))
}

/// The key that is to be replaced: the one that is here, or the only one that there is.
fn old_key(home: &Home, role: Role) -> Result<PublicKey> {
    match (home.holds(role), home.trust.keys(role).keys()) {
        (Some(here), _) => Ok(here),
        (None, [only]) => Ok(*only),
        (None, _) => Err(problem(
            format!("none of the {} keys is here", role.name()),
            format!("say which one is to go with `publisher keys remove {} KEY`", role.name()),
        )),
    }
}

/// Makes `of` keys: the first waits in this home, the others lie in `out` for those who get them.
fn split(home: &Home, role: Role, of: u8, out: &Path, passphrase: bool) -> Result<Vec<SecretKey>> {
    let what = || format!("cannot write to {}", out.display());
    let advice = "name a folder that only you can read, such as one on a stick";
    fs::DirBuilder::new().recursive(true).mode(0o700).create(out).advise(what(), advice)?;
    let passphrase = if passphrase { Some(Passphrase::choose()?) } else { None };
    let mut made = vec![home.make_next_key(role)?];
    for number in 2..=of {
        let key = keys::new_key()?;
        let path = out.join(format!("{}-{number}.key", role.name()));
        keys::store(&path, &key, passphrase.as_ref())
            .advise(what(), "name another folder: keys are never overwritten")?;
        made.push(key);
    }
    files::sync_folder(out).advise(what(), advice)?;
    Ok(made)
}

#[derive(Serialize)]
struct Waiting {
    root_version: u64,
    signatures: usize,
    threshold: usize,
    file: PathBuf,
}

fn wait_for_signatures(
    home: &Home,
    root: &Signed<Root>,
    (signatures, threshold): (usize, usize),
    screen: &Screen,
) -> Result<Exit> {
    let root_version = home.trust.version() + 1;
    let file = draft_file(home);
    let what = || format!("cannot write {}", file.display());
    files::replace(&file, &root.to_bytes(), files::PUBLIC).advise(what(), crate::home::WRITABLE)?;
    if screen.is_json() {
        screen.json(&Waiting { root_version, signatures, threshold, file })?;
        return Ok(Exit::Done);
    }
    screen.say(&format!(
        "root {root_version} has {signatures} of {threshold} signatures of root keys: nothing is changed yet\n\
         \n\
         next:\n  \
           where another root key is: publisher sign root-{root_version}.cbor --key FILE\n  \
           with it, here again: publisher keys adopt {file}",
        file = file.display(),
    ));
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Changed {
    roles: Vec<ChangedRole>,
    root_version: u64,
    root_fingerprint: String,
    signed_again: Vec<String>,
    taken_off: Vec<String>,
}

#[derive(Serialize)]
struct ChangedRole {
    role: &'static str,
    keys: Vec<KeyId>,
    threshold: usize,
}

impl Changed {
    fn to(change: &Change) -> Self {
        let of_role = |role: Role| {
            let named = change.trust.keys(role);
            let keys = named.keys().iter().map(PublicKey::id).collect();
            ChangedRole { role: role.name(), keys, threshold: named.threshold() }
        };
        Self {
            roles: change.roles().map(of_role).collect(),
            root_version: change.trust.version(),
            root_fingerprint: change.trust.digest().to_string(),
            signed_again: Vec::new(),
            taken_off: Vec::new(),
        }
    }
}

/// Changes keys with the bus at hand. First everything that is retained there is signed so that it is believed before and
/// after, then the change is made, and then nodes hear of it.
async fn carry_out(
    before: &Home,
    dir: &Path,
    root: Signed<Root>,
    keys: &[SecretKey],
    screen: &Screen,
) -> Result<Exit> {
    if let Err(RootError::Seal(SealError::Signatures { valid, threshold, .. })) = before.trust.next(&root) {
        return wait_for_signatures(before, &root, (valid, threshold), screen);
    }
    let changed = Session::with(before, async |session| {
        let mut fleet = session.read_fleet(before).await?;
        learn(before, &fleet)?;
        learn_records(before, &fleet, &root)?;
        let advice =
            "see it with `publisher decode FILE`; it has to follow the root of `publisher keys list`";
        let change = before.prepare(root, keys).advise("cannot change to this root", advice)?;
        let mut changed = Changed::to(&change);
        let again = Again { change: &change, old: &before.trust };
        let retained = again.all(&fleet);
        for Retained { topic, name, payload } in retained {
            let told = if payload.is_some() { &mut changed.signed_again } else { &mut changed.taken_off };
            told.push(name);
            session.publish(topic, payload.unwrap_or_default()).await?;
        }
        if change.roles().any(|role| role == Role::Ops) {
            // Records were signed again in their folders.
            node::sync(before, session, &mut Fleet::new(before.trust.clone())).await?;
        }
        before.adopt(&change)?;
        let home = Home::open(dir)?;
        let (topic, chain) = (Kind::Trust.of(&home.settings.fleet), home.chain()?.to_bytes());
        session.publish(topic.clone(), chain.clone()).await?;
        session.read_back(&mut fleet, &topic, &chain).await?;
        if change.trust.reset().contains(&Role::Ops) {
            // What a stolen key had put in the place of records does not count any more.
            node::sync(&home, session, &mut Fleet::new(home.trust.clone())).await?;
        }
        Ok(changed)
    })
    .await?;
    // It has done its work.
    let _ = fs::remove_file(draft_file(before));
    show(&changed, screen)?;
    Ok(Exit::Done)
}

/// Keeps the records of nodes that were added elsewhere, so that they are signed again, too. Not when a key was lost: the thief may
/// have signed them.
fn learn_records(home: &Home, fleet: &Fleet, root: &Signed<Root>) -> Result<()> {
    let is_lost = home.trust.next(root).is_ok_and(|trust| trust.reset().contains(&Role::Ops));
    for node in fleet.nodes().values().filter(|_| !is_lost) {
        let Some(record) = node.record() else { continue };
        home.learn_record(&record.node, &Signed::from_bytes(node.record_bytes())?, record)?;
    }
    Ok(())
}

fn show(changed: &Changed, screen: &Screen) -> Result<()> {
    if screen.is_json() {
        return screen.json(changed);
    }
    let Changed { roles, root_version, signed_again, taken_off, .. } = changed;
    for ChangedRole { role, keys, threshold } in roles {
        let ids: Vec<_> = keys.iter().map(ToString::to_string).collect();
        let ids = ids.join(", ");
        let needed = if keys.len() == 1 { String::new() } else { format!("{threshold} of ") };
        screen.say(&format!("root {root_version}: {role} is {needed}{ids} from now on"));
    }
    screen.say("make a new backup of the home: `keys`, `root.cbor`, `roots` and `nodes`");
    if roles.iter().any(|changed| changed.role == Role::Root.name()) {
        screen.say("a new root key of this home is in keys/root.key: move it off this machine if the old one was elsewhere");
    }
    if !signed_again.is_empty() {
        let count = amount::count(signed_again.len(), "retained message");
        screen.say(&format!("signed {count} again: {}", signed_again.join(", ")));
    }
    if !taken_off.is_empty() {
        screen.say(&format!("taken off the bus, announce again what is to run: {}", taken_off.join(", ")));
    }
    Ok(())
}
