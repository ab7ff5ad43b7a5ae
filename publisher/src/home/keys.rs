//! Key files, passwords, and where their randomness comes from.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use schemas::{
    id::{Digest, PublicKey},
    seal::SecretKey,
};

use super::files;
use crate::problem::Advise as _;

/// Permission of anybody but the owner. It is said, not refused: a stick with FAT has no better ones.
const OTHERS: u32 = 0o077;

/// 32 bytes that nobody can guess.
fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("cannot get random numbers from the system")?;
    Ok(bytes)
}

/// A key that nobody has seen.
pub(super) fn new_key() -> Result<SecretKey> {
    Ok(SecretKey::from_seed(&random()?))
}

/// A token of 256 bits, as hexadecimal digits.
pub(super) fn new_token() -> Result<String> {
    Ok(hex(&random()?))
}

/// Stores a key that was not stored before.
pub(super) fn store(path: &Path, key: &SecretKey) -> Result<()> {
    let text = hex(&key.seed()) + "\n";
    files::create(path, text.as_bytes(), files::PRIVATE)
        .with_context(|| format!("cannot write {}", path.display()))
}

/// Stores a key that a root is about to name, beside the present one.
pub(super) fn store_next(path: &Path, key: &SecretKey) -> Result<()> {
    let (next, text) = (next_of(path), hex(&key.seed()) + "\n");
    files::replace(&next, text.as_bytes(), files::PRIVATE)
        .with_context(|| format!("cannot write {}", next.display()))
}

/// Puts it in the place of the present one.
pub(super) fn adopt_next(path: &Path) -> Result<()> {
    let what = || format!("cannot replace {}", path.display());
    fs::rename(next_of(path), path).with_context(what)?;
    files::sync_folder(path.parent().unwrap_or(Path::new("."))).with_context(what)
}

/// Reads the key that the root names: the one beside it, where a change was cut short after that.
pub(super) fn load_named(path: &Path, is_named: impl Fn(&PublicKey) -> bool) -> Result<SecretKey> {
    let present = load(path);
    if present.as_ref().is_ok_and(|key| is_named(&key.public())) {
        return present;
    }
    let next = next_of(path);
    if next.exists()
        && let Ok(key) = load(&next)
        && is_named(&key.public())
    {
        adopt_next(path)?;
        return Ok(key);
    }
    present
}

fn next_of(path: &Path) -> PathBuf {
    path.with_extension("key.next")
}

/// Reads a key.
pub(super) fn load(path: &Path) -> Result<SecretKey> {
    let advice = "bring it back from a backup; whoever may sign has the folder `keys` of the home that `publisher init` made";
    let what = || format!("cannot use key file {}", path.display());
    if fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & OTHERS != 0) {
        tracing::warn!(
            "Others may read key file {path}: close it with `chmod 600 {path}`",
            path = path.display()
        );
    }
    let text = fs::read_to_string(path).advise(what(), advice)?;
    // A seed and a digest are both 32 bytes and have the same hexadecimal form. The text is in no error: it is the key.
    let seed = text.trim_end().parse::<Digest>().ok();
    let seed =
        seed.ok_or_else(|| anyhow::anyhow!("it is not 64 hexadecimal digits")).advise(what(), advice)?;
    Ok(SecretKey::from_seed(&seed.0))
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
        store(&path, &key).unwrap();
        assert_eq!(load(&path).unwrap().public(), key.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(store(&path, &key).is_err());
    }

    #[test]
    fn a_damaged_key_file_is_named_and_its_content_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ops.key");
        fs::write(&path, "5ec2e7").unwrap();
        let error = format!("{:#}", load(&path).unwrap_err());
        assert!(
            error.contains("ops.key: it is not 64 hexadecimal digits") && !error.contains("5ec2e7"),
            "{error}"
        );
    }
}
