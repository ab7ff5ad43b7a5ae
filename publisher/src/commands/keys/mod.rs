//! `publisher keys`: which keys there are. How they change is in [`change`], where they are kept in [`copies`].

mod again;
mod change;
mod copies;

use std::path::{Path, PathBuf};

use anyhow::Result;
use schemas::{
    id::{KeyId, PublicKey},
    root::Role,
    seal::SecretKey,
};
use serde::Serialize;

use super::block_on;
use crate::{
    cli::{KeyRole, KeysCommand},
    exit::Exit,
    home::{Home, keys},
    screen::Screen,
    show::table,
};

/// Carries out one of the commands about keys.
pub(super) fn run(dir: &Path, command: &KeysCommand, screen: &Screen) -> Result<Exit> {
    match command {
        KeysCommand::List => list(&Home::open(dir)?, screen),
        KeysCommand::New(file) => copies::new(file, screen),
        KeysCommand::Export { role, file } => copies::export(&Home::open(dir)?, (*role).into(), file, screen),
        KeysCommand::Import { role, file, passphrase, force } => {
            copies::import(&Home::open(dir)?, (*role).into(), file, *passphrase, *force, screen)
        }
        KeysCommand::Paper { role } => copies::paper(&Home::open(dir)?, (*role).into(), screen),
        KeysCommand::Change(change) => block_on(change::run(dir, change, screen)),
        KeysCommand::Adopt { file, keys } => block_on(change::adopt(dir, file, &keys.files, screen)),
    }
}

/// Keys of files that the command line names.
pub(super) fn load_all(home: &Home, files: &[PathBuf]) -> Result<Vec<SecretKey>> {
    files.iter().map(|path| keys::load(path, &home.asker).map(|unlocked| unlocked.key)).collect()
}

impl From<KeyRole> for Role {
    fn from(role: KeyRole) -> Self {
        match role {
            KeyRole::Root => Self::Root,
            KeyRole::Release => Self::Release,
            KeyRole::Ops => Self::Ops,
        }
    }
}

#[derive(Serialize)]
struct Listed {
    role: &'static str,
    key: KeyId,
    threshold: usize,
    of: usize,
    is_here: bool,
}

#[derive(Serialize)]
struct Ring {
    root_version: u64,
    root_fingerprint: String,
    expires: String,
    keys: Vec<Listed>,
}

fn list(home: &Home, screen: &Screen) -> Result<Exit> {
    let ring = Ring {
        root_version: home.trust.version(),
        root_fingerprint: home.trust.digest().to_string(),
        expires: home.trust.expires().to_string(),
        keys: Role::ALL.into_iter().flat_map(|role| listed(home, role)).collect(),
    };
    if screen.is_json() {
        screen.json(&ring)?;
        return Ok(Exit::Done);
    }
    let row = |key: &Listed| {
        let place = if key.is_here { "here".to_owned() } else { "elsewhere".to_owned() };
        vec![key.role.to_owned(), key.key.to_string(), format!("{} of {}", key.threshold, key.of), place]
    };
    let rows: Vec<_> = ring.keys.iter().map(row).collect();
    screen.say(&table(&["ROLE", "KEY", "NEEDED", "KEPT"], &rows));
    screen.say(&format!(
        "root {}, fingerprint {}, counts until {}",
        ring.root_version, ring.root_fingerprint, ring.expires
    ));
    Ok(Exit::Done)
}

fn listed(home: &Home, role: Role) -> Vec<Listed> {
    let (named, here) = (home.trust.keys(role), home.holds(role));
    let list = |key: &PublicKey| Listed {
        role: role.name(),
        key: key.id(),
        threshold: named.threshold(),
        of: named.keys().len(),
        is_here: here == Some(*key),
    };
    named.keys().iter().map(list).collect()
}
