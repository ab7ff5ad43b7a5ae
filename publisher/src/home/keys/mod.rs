//! Key files, passwords, and where their randomness comes from.

mod form;
mod passphrase;

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use schemas::{
    id::{Digest, PublicKey},
    root::Role,
    seal::SecretKey,
};
use zeroize::Zeroizing;

pub(crate) use self::passphrase::{Asker, Passphrase};
use super::files;
use crate::problem::{Advise as _, Problem};

/// Permission of anybody but the owner. It is said, not refused: a stick with FAT has no better ones.
const OTHERS: u32 = 0o077;

/// 32 bytes that nobody can guess.
fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("cannot get random numbers from the system")?;
    Ok(bytes)
}

/// A key that nobody has seen.
pub(crate) fn new_key() -> Result<SecretKey> {
    Ok(SecretKey::from_seed(&random()?))
}

/// A token of 256 bits, as hexadecimal digits.
pub(super) fn new_token() -> Result<String> {
    Ok(hex(&random()?))
}

/// A key, and what its file is protected with.
#[derive(Debug, Clone)]
pub(crate) struct Unlocked {
    pub(crate) key: SecretKey,
    passphrase: Option<Passphrase>,
}

/// Stores a key that was not stored before.
pub(crate) fn store(path: &Path, key: &SecretKey, passphrase: Option<&Passphrase>) -> Result<()> {
    let text = form::write(key, passphrase)?;
    files::create(path, text.as_bytes(), files::PRIVATE)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Stores a key, also in the place of another.
pub(crate) fn replace(path: &Path, key: &SecretKey, passphrase: Option<&Passphrase>) -> Result<()> {
    let text = form::write(key, passphrase)?;
    files::replace(path, text.as_bytes(), files::PRIVATE)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Stores a key that a root is about to name beside the one at `path`, as that one is protected.
pub(super) fn store_next(path: &Path, key: &SecretKey, like: Option<&Unlocked>) -> Result<()> {
    replace(&next_of(path), key, like.and_then(|like| like.passphrase.as_ref()))
}

/// Puts the key that waits beside the one at `path` in its place, when that is the one that the root names.
pub(super) fn settle(path: &Path, is_named: impl Fn(&PublicKey) -> bool) -> Result<()> {
    let is_good = |path: &Path| peek(path).is_some_and(|public| is_named(&public));
    let next = next_of(path);
    if is_good(path) || !is_good(&next) {
        return Ok(());
    }
    let what = || format!("cannot replace {}", path.display());
    fs::rename(next, path).with_context(what)?;
    files::sync_folder(path.parent().unwrap_or(Path::new("."))).with_context(what)
}

/// Reads the key that the root names: the one beside it, where a change was cut short after that.
pub(super) fn load_named(
    path: &Path,
    is_named: impl Fn(&PublicKey) -> bool,
    asker: &Asker,
) -> Result<Unlocked> {
    settle(path, is_named)?;
    load(path, asker)
}

/// The key that a root which is not yet adopted names: in the environment, at `path` or waiting beside it.
pub(super) fn find(
    path: &Path,
    role: Role,
    is_named: impl Fn(&PublicKey) -> bool,
    asker: &Asker,
) -> Result<Option<SecretKey>> {
    if peek_environment(role).is_some_and(|public| is_named(&public)) {
        return Ok(from_environment(role, asker)?.map(|given| given.key));
    }
    for path in [path.to_owned(), next_of(path)] {
        if peek(&path).is_some_and(|public| is_named(&public)) {
            return load(&path, asker).map(|unlocked| Some(unlocked.key));
        }
    }
    Ok(None)
}

/// The public half of the key that [`load_named`] gives, without asking for a passphrase.
pub(super) fn peek_named(path: &Path, is_named: impl Fn(&PublicKey) -> bool) -> Option<PublicKey> {
    [path.to_owned(), next_of(path)].iter().filter_map(|path| peek(path)).find(is_named)
}

fn peek(path: &Path) -> Option<PublicKey> {
    form::public(&Zeroizing::new(fs::read_to_string(path).ok()?))
}

/// Where a key waits that a root is about to name.
fn next_of(path: &Path) -> PathBuf {
    path.with_extension("key.next")
}

/// Reads a key.
pub(crate) fn load(path: &Path, asker: &Asker) -> Result<Unlocked> {
    let advice = "bring it back from a backup; whoever may sign has the folder `keys` of the home that `publisher init` made";
    let what = || format!("cannot use key file {}", path.display());
    if fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & OTHERS != 0) {
        tracing::warn!(
            "Others may read key file {path}: close it with `chmod 600 {path}`",
            path = path.display()
        );
    }
    let text = fs::read_to_string(path).advise_by(what(), |error| match error.kind() {
        io::ErrorKind::PermissionDenied => "run this as the user whose file it is",
        _ => advice,
    });
    let text = Zeroizing::new(text?);
    if form::is_encrypted(&text) {
        let opened = asker.open(path, |passphrase| form::read(&text, Some(passphrase)));
        let again = "type it again; when it is forgotten, bring the key back from its sheet of paper with `publisher keys import`";
        // A passphrase that could not be asked for says itself what to do.
        let (key, passphrase) = opened.map_err(|error| {
            if error.is::<Problem>() { error } else { error.context(Problem::new(what(), again)) }
        })?;
        return Ok(Unlocked { key, passphrase: Some(passphrase) });
    }
    let key = form::read(&text, None).advise(what(), advice)?;
    Ok(Unlocked { key, passphrase: None })
}

/// The key that the environment gives for `role`, on machines that have none of their own: as text, or as a file.
pub(super) fn from_environment(role: Role, asker: &Asker) -> Result<Option<Unlocked>> {
    match given(role) {
        Given::Text(variable, text) => {
            let advice =
                "set it to the text of a key file without a passphrase, as `publisher keys export` writes it";
            let what = format!("cannot use the key that {variable} gives");
            let key = form::read(&text, None).advise(what, advice)?;
            Ok(Some(Unlocked { key, passphrase: None }))
        }
        Given::File(path) => load(&path, asker).map(Some),
        Given::Nothing => Ok(None),
    }
}

/// Its public half, without asking for a passphrase.
pub(super) fn peek_environment(role: Role) -> Option<PublicKey> {
    match given(role) {
        Given::Text(_, text) => form::public(&text),
        Given::File(path) => peek(&path),
        Given::Nothing => None,
    }
}

enum Given {
    Text(String, Zeroizing<String>),
    File(PathBuf),
    Nothing,
}

fn given(role: Role) -> Given {
    let variable = format!("DEPLOYBUS_{}_KEY", role.name().to_uppercase());
    if let Ok(text) = env::var(&variable) {
        return Given::Text(variable, Zeroizing::new(text));
    }
    env::var_os(format!("{variable}_FILE")).map_or(Given::Nothing, |path| Given::File(path.into()))
}

/// The key of any written form that has no passphrase. Nothing of `text` is in an error.
pub(crate) fn from_text(text: &str) -> Result<SecretKey> {
    form::read(text, None)
}

/// The sheet of paper that brings `key` back when it is typed.
pub(crate) fn paper(key: &SecretKey) -> Zeroizing<String> {
    form::paper(key)
}

fn hex(bytes: &[u8; 32]) -> String {
    Digest(*bytes).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_from_a_file_that_only_its_owner_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ops.key");
        let key = new_key().unwrap();
        store(&path, &key, None).unwrap();
        assert_eq!(load(&path, &Asker::default()).unwrap().key.public(), key.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(store(&path, &key, None).is_err());
    }

    #[test]
    fn a_damaged_key_file_is_named_and_its_content_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ops.key");
        fs::write(&path, "5ec2e7").unwrap();
        let error = format!("{:#}", load(&path, &Asker::default()).unwrap_err());
        assert!(
            error.contains("ops.key: it is not 64 hexadecimal digits") && !error.contains("5ec2e7"),
            "{error}"
        );
    }
}
