//! `publisher announce`: from a folder to a proven release on every node of a group.

use anyhow::{Context as _, Result};
use schemas::{
    id::Counter,
    release::Release,
    root::Role,
    seal::{Head, Signed},
    time::UnixTime,
};
use tokio::task::spawn_blocking;

use super::{
    node,
    order::{Ordering, learn},
    pack::{describe, request},
};
use crate::{
    cli::Announce,
    clock,
    exit::Exit,
    home::{Home, history::Kept},
    pack::{Packed, pack},
    problem::Advise as _,
    screen::Screen,
    session::Session,
    show::amount,
    upload,
};

/// Packs, then uploads while the bus is read, orders and follows.
pub(super) async fn run(home: &Home, arguments: Announce, screen: &Screen) -> Result<Exit> {
    let Announce { folder, group, notes, following } = arguments;
    let (request, caches) = (request(folder), home.caches());
    let packing = spawn_blocking(move || pack(&request, Some(&caches), clock::now()));
    let line = screen.live_line();
    line.set_message("packing");
    let packed = packing.await;
    line.finish_and_clear();
    let packed = packed.context("packing was cancelled")??;
    packed.warnings.iter().for_each(|warning| screen.warn(warning));
    screen.say(&describe(&packed));
    Session::with(home, async |session| {
        let uploading = upload::upload(home, &packed, screen);
        let (mut fleet, uploaded) = tokio::try_join!(session.read_fleet(home), uploading)?;
        let objects = amount::count(uploaded.objects, "object");
        screen.say(&format!("uploaded {objects}, {}", amount::bytes(uploaded.bytes)));
        learn(home, &fleet)?;
        node::sync(home, session, &mut fleet).await?;
        let release = release(home, &packed, &notes, screen)?;
        let ordering = Ordering { group: &group, release: &release, following: &following, uploaded };
        ordering.run(home, session, &mut fleet, screen).await
    })
    .await
}

/// The release of what was packed: one that was signed before when nothing differs, so that nodes that run it do not
/// start it again.
fn release(home: &Home, packed: &Packed, notes: &str, screen: &Screen) -> Result<Kept<Release>> {
    let key = home.key(Role::Release)?;
    let _lock = home.lock()?;
    let known = home.releases(&packed.app)?;
    let floor = known.iter().map(|release| release.document.min_counter).max().unwrap_or_default();
    if let Some(same) = known.iter().rev().find(|release| is_same(&release.document, packed, notes))
        && same.document.counter >= floor
    {
        return Ok(same.clone());
    }
    if known
        .iter()
        .any(|old| old.document.version == packed.version && old.document.parts != [packed.part.clone()])
    {
        screen.warn(&format!("version {} was announced before with something else in it", packed.version));
    }
    let newest = known.last().map(|release| release.document.counter).unwrap_or_default();
    let now = home.signing_time()?;
    let release = new_release(home, packed, notes, newest.next(now.0), now);
    let signed = Signed::seal(&release, &[key]);
    let document = signed.verify(&home.trust).advise(
        "what was signed here would not be believed",
        "shorten --notes; else the files in the folder `keys` are not those of root.cbor: bring them back from a backup",
    )?;
    Ok(Kept { signed, document })
}

fn is_same(release: &Release, packed: &Packed, notes: &str) -> bool {
    let (old, new) = (&release.provenance, &packed.provenance);
    release.version == packed.version
        && release.parts == [packed.part.clone()]
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
        parts: vec![packed.part.clone()],
        provenance: packed.provenance.clone(),
        notes: notes.to_owned(),
    }
}
