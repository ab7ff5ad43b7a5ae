//! Keys as files and on paper: made, given to others, and brought back.

use std::{io::Read as _, path::Path};

use anyhow::Result;
use schemas::{id::PublicKey, root::Role, seal::SecretKey};
use serde_json::json;
use zeroize::Zeroizing;

use crate::{
    cli::NewFile,
    exit::Exit,
    home::{
        Home,
        keys::{self, Passphrase},
    },
    problem::{Advise as _, problem},
    screen::Screen,
};

/// Makes a key for somebody whom the root does not name yet.
pub(super) fn new(file: &NewFile, screen: &Screen) -> Result<Exit> {
    let key = keys::new_key()?;
    write(file, &key)?;
    let (public, out) = (key.public(), &file.out);
    if screen.is_json() {
        screen.json(&json!({ "file": out, "public": public, "key": public.id() }))?;
        return Ok(Exit::Done);
    }
    screen.say(&format!(
        "key {id} is in {out}\n\
         \n\
         next, where the root is changed:\n  \
           publisher keys add release {public}     or root, or ops",
        id = public.id(),
        out = out.display(),
    ));
    Ok(Exit::Done)
}

/// Writes a copy of a key.
pub(super) fn export(home: &Home, role: Role, file: &NewFile, screen: &Screen) -> Result<Exit> {
    let key = home.key(role)?;
    write(file, &key)?;
    tell(
        &format!("the {} key {} is in {}", role.name(), key.public().id(), file.out.display()),
        role,
        &key.public(),
        screen,
    )
}

fn write(NewFile { out, passphrase }: &NewFile, key: &SecretKey) -> Result<()> {
    let passphrase = if *passphrase { Some(Passphrase::choose()?) } else { None };
    let advice = "name a file that is not there yet, in a folder that you may write to";
    keys::store(out, key, passphrase.as_ref()).advise("cannot make a key file", advice)
}

/// Takes a key into the home, from a file or as it was typed from paper.
pub(super) fn import(
    home: &Home,
    role: Role,
    file: &Path,
    passphrase: bool,
    force: bool,
    screen: &Screen,
) -> Result<Exit> {
    let key = if file == Path::new("-") { typed()? } else { keys::load(file, &home.asker)?.key };
    let public = key.public();
    if !home.trust.keys(role).keys().contains(&public) {
        return Err(problem(
            format!("the root names no {} key {}", role.name(), public.id()),
            format!(
                "see the keys with `publisher keys list`, or add it with `publisher keys add {} {public}`",
                role.name()
            ),
        ));
    }
    if let Some(other) = home.holds(role).filter(|other| *other != public && !force) {
        return Err(problem(
            format!("this home has {} key {}", role.name(), other.id()),
            "a home has one key of each role: say --force when there is a backup of that one",
        ));
    }
    let passphrase = if passphrase { Some(Passphrase::choose()?) } else { None };
    keys::replace(&home.key_file(role), &key, passphrase.as_ref())
        .advise("cannot keep the key", crate::home::WRITABLE)?;
    tell(&format!("{} key {} is here now", role.name(), public.id()), role, &public, screen)
}

fn typed() -> Result<SecretKey> {
    let mut text = Zeroizing::new(String::new());
    let advice = "type the numbered lines as they stand on the sheet, and end with Ctrl-D";
    std::io::stdin().read_to_string(&mut text).advise("cannot read the key", advice)?;
    keys::from_text(&text).advise("cannot use what was typed", advice)
}

/// Prints a sheet that brings the key back when everything else is lost.
pub(super) fn paper(home: &Home, role: Role, screen: &Screen) -> Result<Exit> {
    let key = home.key(role)?;
    let lines = keys::paper(&key);
    if screen.is_json() {
        let lines: Vec<&str> = lines.lines().collect();
        screen.json(&json!({ "fleet": home.settings.fleet, "role": role.name(), "key": key.public().id(), "lines": lines }))?;
        return Ok(Exit::Done);
    }
    screen.say(&format!(
        "fleet {fleet}, {role} key {id}\n\
         Whoever has this sheet has the key. To bring it back: publisher keys import {role} -\n\
         \n\
         {lines}",
        fleet = home.settings.fleet,
        role = role.name(),
        id = key.public().id(),
        lines = lines.trim_end(),
    ));
    Ok(Exit::Done)
}

fn tell(text: &str, role: Role, public: &PublicKey, screen: &Screen) -> Result<Exit> {
    if screen.is_json() {
        screen.json(&json!({ "role": role.name(), "key": public.id(), "public": public }))?;
    } else {
        screen.say(text);
    }
    Ok(Exit::Done)
}
