//! `publisher release`: making one without ordering it, so that it can be signed elsewhere.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use rollout::Fleet;
use schemas::{
    id::Counter,
    release::Release,
    root::Role,
    seal::{Head, Signed},
    time::UnixTime,
};
use serde_json::json;
use tokio::task::spawn_blocking;

use super::{
    node,
    ordering::learn,
    pack::{describe, request},
};
use crate::{
    cli::{Folder, ReleaseBuild},
    clock,
    exit::Exit,
    home::{Home, files, history::Kept},
    pack::{Packed, pack},
    problem::Advise as _,
    screen::Screen,
    session::Session,
    upload::{self, Uploaded},
};

/// Packs, uploads, and writes the release into a file.
pub(super) async fn build(home: &Home, arguments: ReleaseBuild, screen: &Screen) -> Result<Exit> {
    let ReleaseBuild { folder, notes, out } = arguments;
    let packed = pack_folder(home, folder, screen).await?;
    let uploaded = upload::upload(home, &packed, screen).await?;
    screen.say(&uploaded.to_string());
    let signed = sign(home, &packed, &notes, screen)?;
    let out = out.unwrap_or_else(|| {
        PathBuf::from(format!("{}-{}.release", packed.app, files::name_of(&packed.version)))
    });
    let advice = "name another file with --out";
    files::replace(&out, &signed.to_bytes(), files::PUBLIC)
        .advise(format!("cannot write {}", out.display()), advice)?;
    let named = home.trust.keys(Role::Release);
    let (signatures, threshold) = (signed.signers(named).len(), named.threshold());
    if screen.is_json() {
        let (app, version, release) = (&packed.app, &packed.version, signed.digest());
        screen.json(&json!({
            "file": out, "app": app, "version": version, "release": release, "tree_hash": packed.part.tree_hash,
            "signatures": signatures, "threshold": threshold,
        }))?;
        return Ok(Exit::Done);
    }
    let next = if signatures < threshold { "sign" } else { "order" };
    screen.say(&format!(
        "{out} has {signatures} of {threshold} signatures; next: publisher {next} {out}{group}",
        out = out.display(),
        group = if next == "order" { " --group canary" } else { "" },
    ));
    Ok(Exit::Done)
}

/// Uploads what was packed while the bus is read, and signs the release: how announcements and rollouts begin.
pub(super) async fn bring(
    home: &Home,
    session: &mut Session,
    packed: &Packed,
    notes: &str,
    screen: &Screen,
) -> Result<(Fleet, Uploaded, Kept<Release>)> {
    const UNBELIEVED: &str = "shorten --notes; else the files in the folder `keys` are not those of root.cbor: bring them back from a backup";
    let uploading = upload::upload(home, packed, screen);
    let (mut fleet, uploaded) = tokio::try_join!(session.read_fleet(home), uploading)?;
    screen.say(&uploaded.to_string());
    learn(home, &fleet)?;
    node::sync(home, session, &mut fleet).await?;
    let signed = sign(home, packed, notes, screen)?;
    let document =
        signed.verify(&home.trust).advise("what was signed here would not be believed", UNBELIEVED)?;
    Ok((fleet, uploaded, Kept { signed, document }))
}

/// Packs with a line that says so.
pub(super) async fn pack_folder(home: &Home, folder: Folder, screen: &Screen) -> Result<Packed> {
    let (request, caches) = (request(folder), home.caches());
    let packing = spawn_blocking(move || pack(&request, Some(&caches), clock::now()));
    let line = screen.live_line();
    line.set_message("packing");
    let packed = packing.await;
    line.finish_and_clear();
    let packed = packed.context("packing was cancelled")??;
    packed.warnings.iter().for_each(|warning| screen.warn(warning));
    screen.say(&describe(&packed));
    Ok(packed)
}

/// The release of what was packed, signed by the key that is here, if one is: one that was signed before when nothing
/// differs, so that nodes that run it do not start it again.
pub(super) fn sign(home: &Home, packed: &Packed, notes: &str, screen: &Screen) -> Result<Signed<Release>> {
    let keys = match home.holds(Role::Release) {
        Some(_) => vec![home.key(Role::Release)?],
        None => Vec::new(),
    };
    let _lock = home.lock()?;
    let known = home.releases(&packed.app)?;
    let floor = known.iter().map(|release| release.document.min_counter).max().unwrap_or_default();
    if let Some(same) = known.iter().rev().find(|release| is_same(&release.document, packed, notes))
        && same.document.counter >= floor
    {
        return Ok(same.signed.clone());
    }
    if known.iter().any(|old| old.document.version == packed.version && old.document.parts != packed.parts())
    {
        screen.warn(&format!("version {} was announced before with something else in it", packed.version));
    }
    let newest = known.last().map(|release| release.document.counter).unwrap_or_default();
    let now = home.signing_time()?;
    let release = new_release(home, packed, notes, newest.next(now.0), now);
    Ok(Signed::seal(&release, &keys))
}

fn is_same(release: &Release, packed: &Packed, notes: &str) -> bool {
    let (old, new) = (&release.provenance, &packed.provenance);
    release.version == packed.version
        && release.parts == packed.parts()
        && release.notes == notes
        && (&old.commit, old.dirty) == (&new.commit, new.dirty)
}

fn new_release(home: &Home, packed: &Packed, notes: &str, counter: Counter, now: UnixTime) -> Release {
    Release {
        head: Head::new(home.settings.fleet.clone(), now),
        app: packed.app.clone(),
        version: packed.version.clone(),
        counter,
        min_counter: Counter(0),
        parts: packed.parts(),
        provenance: packed.provenance.clone(),
        notes: notes.to_owned(),
    }
}
