//! `publisher pack`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use bus_client::store::{Key, Source};
use schemas::id::{AppId, Digest};
use serde::Serialize;

use crate::{
    cli::{Folder, Pack},
    clock,
    exit::Exit,
    home::{caches, files},
    pack::{Packed, Request, pack},
    screen::Screen,
    show::amount,
    stored,
};

#[derive(Serialize)]
struct PackJson<'a> {
    app: &'a AppId,
    version: &'a str,
    platform: &'a str,
    tree_hash: Digest,
    files: usize,
    size_bytes: u64,
    manifest_bytes: u64,
    commit: &'a str,
    dirty: bool,
    warnings: &'a [String],
    /// What the Picos of a Pi keep together with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pico: Option<Box<PackJson<'a>>>,
}

/// Packs a folder, and writes it out when asked to.
pub(super) fn run(dir: &Path, arguments: Pack, screen: &Screen) -> Result<Exit> {
    let packed = pack(&request(arguments.folder), caches(dir).as_deref(), clock::now())?;
    packed.warnings.iter().for_each(|warning| screen.warn(warning));
    if let Some(out) = &arguments.out {
        packed.trees().try_for_each(|tree| write_out(tree, out))?;
    }
    if screen.is_json() {
        screen.json(&json(&packed))?;
        return Ok(Exit::Done);
    }
    screen.say(&format!("{}\ntree_hash {}", describe(&packed), packed.part.tree_hash));
    Ok(Exit::Done)
}

/// What the command line says about a folder.
pub(super) fn request(folder: Folder) -> Request {
    let Folder { path, app, version, commit, force_build } = folder;
    Request { folder: path, app, version, commit, force_build }
}

/// A packed folder in one line.
pub(super) fn describe(packed: &Packed) -> String {
    let Packed { app, version, provenance, part, manifest, .. } = packed;
    let dirty = if provenance.dirty { ", dirty" } else { "" };
    let commit = provenance.commit.chars().take(12).collect::<String>();
    let commit = if commit.is_empty() { String::new() } else { format!("commit {commit}{dirty}, ") };
    let files = amount::count(manifest.files().count(), "file");
    let size = amount::bytes(part.size_bytes);
    let beside = packed.pico.as_deref().map_or(String::new(), |pico| {
        let files = amount::count(pico.manifest.files().count(), "file");
        format!("; for its Picos {files}, {}", amount::bytes(pico.part.size_bytes))
    });
    format!("{app} {version} ({commit}{files}, {size}{beside})")
}

fn json(packed: &Packed) -> PackJson<'_> {
    PackJson {
        app: &packed.app,
        version: &packed.version,
        platform: &packed.part.platform,
        tree_hash: packed.part.tree_hash,
        files: packed.manifest.files().count(),
        size_bytes: packed.part.size_bytes,
        manifest_bytes: packed.part.manifest_bytes,
        commit: &packed.provenance.commit,
        dirty: packed.provenance.dirty,
        warnings: &packed.warnings,
        pico: packed.pico.as_deref().map(|pico| Box::new(json(pico))),
    }
}

/// Writes what a store would hold; objects that are there already stay as they are.
fn write_out(packed: &Packed, out: &Path) -> Result<()> {
    for (digest, (path, size)) in packed.sources() {
        let Some(to) = place(out, Key::Object(digest))? else { continue };
        let stored = stored::stored(&path, digest, size, out)?;
        let what = || format!("cannot write {}", to.display());
        match &stored.source {
            Source::Bytes(bytes) => files::replace(&to, bytes, files::PUBLIC).with_context(what)?,
            Source::File(file) => fs::rename(file, &to).with_context(what)?,
        }
    }
    if let Some(to) = place(out, Key::Manifest(packed.part.tree_hash))? {
        let bytes = stored::compress(&packed.manifest.encode())?;
        files::replace(&to, &bytes, files::PUBLIC)
            .with_context(|| format!("cannot write {}", to.display()))?;
    }
    Ok(())
}

/// Where something belongs, unless it is there.
fn place(out: &Path, key: Key) -> Result<Option<PathBuf>> {
    let path = out.join(key.path());
    if path.exists() {
        return Ok(None);
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    Ok(Some(path))
}
