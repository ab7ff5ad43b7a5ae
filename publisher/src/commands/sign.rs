//! `publisher sign`: one more signature under a document that others made. Needs no bus, and no home when keys are named.

use std::{fs, path::Path};

use anyhow::Result;
use schemas::{
    announcement::Announcement,
    order::Order,
    record::Record,
    release::Release,
    root::{Role, Root},
    seal::{Document, RoleDocument, SecretKey, Signed},
};
use serde_json::json;

use super::{decode::judge, keys::load_all};
use crate::{
    cli::Sign,
    decode::{DecodeError, decode},
    exit::Exit,
    home::{
        Home, files,
        keys::{self, Asker},
    },
    problem::{Advise as _, problem},
    screen::Screen,
};

/// A document that more than one key may sign.
enum Signable {
    Root(Signed<Root>),
    Release(Signed<Release>),
    Order(Signed<Order>),
    Record(Signed<Record>),
    /// Its order is what is signed.
    Announcement(Announcement),
}

/// Shows the document, asks, and signs it in its file.
pub(super) fn run(dir: &Path, arguments: &Sign, screen: &Screen) -> Result<Exit> {
    let file = &arguments.file;
    let what = || format!("cannot sign {}", file.display());
    let bytes = fs::read(file).advise(what(), "name a file that another command of publisher has written")?;
    let mut signable = Signable::read(&bytes).ok_or_else(|| unsignable(&what(), &bytes))?;
    let home = if Home::is_at(dir) { Some(Home::open(dir)?) } else { None };
    let keys = choose_keys(home.as_ref(), &signable, arguments)?;
    let shown = decode(&bytes, None, judge(home.as_ref()).as_ref()).advise(what(), "fetch it again")?;
    screen.note(&shown.text()?);
    if !arguments.yes && !screen.confirm("sign this?", "say --yes when it was read")? {
        screen.say("nothing was signed");
        return Ok(Exit::Failed);
    }
    signable.sign(&keys);
    files::replace(file, &signable.to_bytes(), files::PUBLIC)
        .advise(what(), "make the file and its folder writable")?;
    let ids: Vec<_> = keys.iter().map(|key| key.public().id().to_string()).collect();
    let counted = home.as_ref().map(|home| signable.count(home));
    if screen.is_json() {
        let (signatures, threshold) = counted.unzip();
        screen
            .json(&json!({ "file": file, "keys": ids, "signatures": signatures, "threshold": threshold }))?;
        return Ok(Exit::Done);
    }
    let counted = counted.map(|(signatures, threshold)| format!(": {signatures} of {threshold} signatures"));
    screen.say(&format!("signed {} by {}{}", file.display(), ids.join(", "), counted.unwrap_or_default()));
    Ok(Exit::Done)
}

fn unsignable(what: &str, bytes: &[u8]) -> anyhow::Error {
    match decode(bytes, None, None) {
        Err(error @ DecodeError::TooNew(_)) => problem(format!("{what}: {error}"), error.advice()),
        _ => problem(
            format!("{what}: it is no root, release, order or record"),
            "see what it is with `publisher decode`",
        ),
    }
}

impl Signable {
    fn read(bytes: &[u8]) -> Option<Self> {
        fn is_one<T: Document>(bytes: &[u8]) -> Option<Signed<T>> {
            Signed::from_bytes(bytes).ok().filter(|signed: &Signed<T>| signed.peek().is_ok())
        }
        if let Ok(announcement) = Announcement::from_bytes(bytes) {
            return Some(Self::Announcement(announcement));
        }
        // In the order in which `decode` recognises them.
        is_one(bytes)
            .map(Self::Root)
            .or_else(|| is_one(bytes).map(Self::Release))
            .or_else(|| is_one(bytes).map(Self::Order))
            .or_else(|| is_one(bytes).map(Self::Record))
    }

    fn role(&self) -> Role {
        match self {
            Self::Root(_) => Role::Root,
            Self::Release(_) => Release::ROLE,
            Self::Order(_) | Self::Announcement(_) => Order::ROLE,
            Self::Record(_) => Record::ROLE,
        }
    }

    fn sign(&mut self, keys: &[SecretKey]) {
        match self {
            Self::Root(signed) => signed.sign(keys),
            Self::Release(signed) => signed.sign(keys),
            Self::Order(signed) => signed.sign(keys),
            Self::Record(signed) => signed.sign(keys),
            Self::Announcement(announcement) => announcement.order.sign(keys),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Root(signed) => signed.to_bytes(),
            Self::Release(signed) => signed.to_bytes(),
            Self::Order(signed) => signed.to_bytes(),
            Self::Record(signed) => signed.to_bytes(),
            Self::Announcement(announcement) => announcement.to_bytes(),
        }
    }

    /// How many keys that the present root names have signed, of how many.
    fn count(&self, home: &Home) -> (usize, usize) {
        let named = home.trust.keys(self.role());
        let signers = match self {
            Self::Root(signed) => signed.signers(named),
            Self::Release(signed) => signed.signers(named),
            Self::Order(signed) => signed.signers(named),
            Self::Record(signed) => signed.signers(named),
            Self::Announcement(announcement) => announcement.order.signers(named),
        };
        (signers.len(), named.threshold())
    }
}

/// The keys that are named, else the one of the home.
fn choose_keys(home: Option<&Home>, signable: &Signable, arguments: &Sign) -> Result<Vec<SecretKey>> {
    let (role, files) = (signable.role(), &arguments.keys.files);
    let Some(home) = home else {
        if files.is_empty() {
            return Err(problem("there is no fleet here, so no key", "name a key file with --key FILE"));
        }
        let asker = Asker::default();
        return files.iter().map(|path| keys::load(path, &asker).map(|unlocked| unlocked.key)).collect();
    };
    if files.is_empty() {
        return Ok(vec![home.key(role)?]);
    }
    let keys = load_all(home, files)?;
    let named = home.trust.keys(role).keys();
    // A root that follows may name keys that the present one does not.
    let stranger = keys.iter().find(|key| role != Role::Root && !named.contains(&key.public()));
    match stranger {
        Some(key) => Err(problem(
            format!("the root names no {} key {}", role.name(), key.public().id()),
            "see the keys with `publisher keys list`",
        )),
        None => Ok(keys),
    }
}
