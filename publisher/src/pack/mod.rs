//! Packing: a folder becomes a manifest, a part of a release, and a list of files to upload.

mod cache;
mod container;
mod git;
mod hash;
mod pico;
mod saved;
mod stamp;
mod walk;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use schemas::{
    id::{AppId, Digest},
    manifest::{Entry, Manifest, Node},
    release::{Expect, Part, PartKind, Proof, Provenance},
    time::UnixTime,
};

use self::{
    cache::Cache,
    git::Git,
    hash::Wanted,
    walk::{Found, What},
};
use crate::{
    app_file::{self, AppFile, Pico, Version},
    problem::{Advise as _, problem},
    show::clean,
};

/// Larger files are usually there by mistake, and each change of one is a long upload.
const LARGE_FILE_BYTES: u64 = 100 * 1024 * 1024;
/// The file that says the version when neither the app file nor git does.
const VERSION_FILE: &str = "VERSION";

/// What is to be packed, and what the command line says about it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    /// The folder.
    pub(crate) folder: PathBuf,
    /// Another name than the app file's.
    pub(crate) app: Option<AppId>,
    /// Another version than the app file's or git's.
    pub(crate) version: Option<Version>,
    /// Another commit than git's.
    pub(crate) commit: Option<String>,
    /// Whether nodes build its image without any cache.
    pub(crate) force_build: bool,
}

/// A folder that was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Packed {
    pub(crate) folder: PathBuf,
    pub(crate) app: AppId,
    pub(crate) version: String,
    pub(crate) part: Part,
    pub(crate) provenance: Provenance,
    pub(crate) manifest: Manifest,
    pub(crate) warnings: Vec<String>,
    /// What the Picos of a Pi keep together with it.
    pub(crate) pico: Option<Box<Packed>>,
}

impl Packed {
    /// What is installed, by platform.
    pub(crate) fn parts(&self) -> Vec<Part> {
        self.trees().map(|packed| packed.part.clone()).collect()
    }

    /// It, and what was packed beside it.
    pub(crate) fn trees(&self) -> impl Iterator<Item = &Packed> {
        std::iter::once(self).chain(self.pico.as_deref())
    }

    /// A file for each different content.
    pub(crate) fn sources(&self) -> BTreeMap<Digest, (PathBuf, u64)> {
        let source = |(path, _, size, digest)| (digest, (self.folder.join::<&str>(path), size));
        self.manifest.files().map(source).collect()
    }
}

/// Packs a folder. `caches` is where digests are kept from one packing to the next.
pub(crate) fn pack(request: &Request, caches: Option<&Path>, now: UnixTime) -> Result<Packed> {
    let folder = open_folder(&request.folder)?;
    let mut app = read_app_file(&folder)?;
    let git = Git::ask(&folder);
    let version = version(request, &app, &git, &folder)?;
    let name = request.app.clone().unwrap_or_else(|| app.name.clone());
    let pico = match app.joint.clone() {
        Some(joint) => {
            app.files.ignore.push(format!("/{}/", joint.pico));
            Some(pico::pack_beside(&joint, &app.name, &name, &version, &folder, caches, now)?)
        }
        None => None,
    };
    let found = walk::walk(&folder, &app.files, git.is_repository).advise(
        format!("cannot pack {}", folder.display()),
        "leave it out with `ignore = [\"…\"]` in deploybus.toml, or mend it",
    )?;
    let digests = digests(&folder, &found, caches)?;
    let mut warnings = warnings(&found, &git, &folder);
    let manifest = manifest(found, digests).advise(
        format!("cannot pack {}", folder.display()),
        "rename it, or leave it out with `ignore = [\"…\"]` in deploybus.toml",
    )?;
    let app = match &app.pico {
        Some(Pico::App) => {
            warnings.extend(pico::check(&manifest)?);
            app
        }
        Some(Pico::Firmware { file, one_way }) => {
            let chip = pico::check_firmware(&folder, file, *one_way, &app.platform)?;
            AppFile { platform: chip.platform().to_owned(), ..app }
        }
        None => app,
    };
    let mut part = part(&app, &manifest);
    if let Some(container) = &app.container {
        warnings.extend(container::check(container, &manifest, &folder)?);
    }
    let provenance = provenance(request, git, now);
    check_proof(&app.proof, &provenance, &folder)?;
    read_saved(&mut part, &folder, &provenance)?;
    if let Some(container) = part.container.as_mut().filter(|_| request.force_build) {
        // A number that no build before had.
        container.forced = now.0;
    }
    part.joint = app.joint.map(|joint| joint.first);
    warnings.extend(pico.iter().flat_map(|pico| pico.warnings.clone()));
    Ok(Packed { folder, app: name, version, part, provenance, manifest, warnings, pico: pico.map(Box::new) })
}

/// Adds what is known of a saved image by reading it.
fn read_saved(part: &mut Part, folder: &Path, provenance: &Provenance) -> Result<()> {
    let container = part.container.as_deref_mut();
    let Some(saved) = container.and_then(|container| container.saved.as_mut()) else { return Ok(()) };
    let image = saved::read(folder, &saved.file)?;
    saved::check_commit(&saved.file, &image.commit, &provenance.commit)?;
    saved.layers = image.layers;
    part.platform = saved::platform(&saved.file, image.platform, &part.platform)?;
    Ok(())
}

fn open_folder(path: &Path) -> Result<PathBuf> {
    let what = || format!("cannot pack {}", path.display());
    let folder = fs::canonicalize(path).advise(what(), "give the folder that holds deploybus.toml")?;
    if folder.is_dir() {
        Ok(folder)
    } else {
        Err(problem(
            format!("{} is not a folder", path.display()),
            "give the folder that holds deploybus.toml",
        ))
    }
}

fn read_app_file(folder: &Path) -> Result<AppFile> {
    let path = folder.join(app_file::NAME);
    let text = fs::read_to_string(&path).advise(
        format!("cannot read {}", path.display()),
        format!("it says what is deployed; the least that it needs:\n{}", app_file::EXAMPLE),
    )?;
    app_file::parse(&text).advise(format!("cannot use {}", path.display()), "correct the line that is shown")
}

fn version(request: &Request, app: &AppFile, git: &Git, folder: &Path) -> Result<String> {
    if let Some(version) = request.version.as_ref().or(app.version.as_ref()) {
        return Ok(version.to_string());
    }
    let file = folder.join(VERSION_FILE);
    let (text, source) = match (fs::read_to_string(&file), &git.describe) {
        (Ok(text), _) => (text.trim().to_owned(), file.display().to_string()),
        (Err(_), Some(text)) => (text.clone(), "git describe".to_owned()),
        (Err(_), None) => {
            return Err(problem(
                format!("no version for {}", folder.display()),
                "say `version = \"1.0.0\"` under [app] in deploybus.toml, give --version, or commit the folder to git",
            ));
        }
    };
    let version: Version = text.parse().with_context(|| format!("cannot take the version from {source}"))?;
    Ok(version.to_string())
}

/// Digests of the files among `found`, in their order.
fn digests(folder: &Path, found: &[Found], caches: Option<&Path>) -> Result<Vec<Digest>> {
    let cache_path = caches.map(|caches| Cache::path(caches, folder));
    let cache = cache_path.as_deref().map(Cache::load).unwrap_or_default();
    let files: Vec<_> = found
        .iter()
        .filter_map(|entry| match &entry.what {
            What::File { stamp, .. } => Some((&entry.path, *stamp)),
            What::Symlink { .. } | What::Directory => None,
        })
        .collect();
    let known: Vec<_> = files.iter().map(|(path, stamp)| cache.get(path, stamp)).collect();
    let unknown = files.iter().zip(&known).filter(|(_, digest)| digest.is_none());
    let wanted: Vec<_> =
        unknown.map(|((path, stamp), _)| Wanted { path: folder.join(path), stamp: *stamp }).collect();
    let started_ns = now_ns();
    let what = format!("cannot pack {}", folder.display());
    let mut read = hash::digests(&wanted).advise_by(what, hash::HashError::advice)?.into_iter();
    let digests: Vec<Digest> =
        known.into_iter().filter_map(|digest| digest.or_else(|| read.next())).collect();
    if let Some(path) = cache_path {
        let entries =
            files.iter().zip(&digests).map(|((path, stamp), digest)| ((*path).clone(), *stamp, *digest));
        if let Err(error) = Cache::of(entries, started_ns).store(&path) {
            tracing::debug!(path = %path.display(), %error, "Cannot keep the digests for next time");
        }
    }
    Ok(digests)
}

fn now_ns() -> i64 {
    i64::try_from(crate::clock::now_ms()).unwrap_or(i64::MAX).saturating_mul(1_000_000)
}

fn manifest(found: Vec<Found>, digests: Vec<Digest>) -> Result<Manifest, schemas::manifest::ManifestError> {
    let mut digests = digests.into_iter();
    let entries = found.into_iter().filter_map(|Found { path, what }| {
        let node = match what {
            What::File { executable, stamp } => {
                Node::File { executable, size: stamp.size, digest: digests.next()? }
            }
            What::Symlink { target } => Node::Symlink { target },
            What::Directory => Node::Directory,
        };
        Some(Entry { path, node })
    });
    Manifest::new(entries.collect())
}

fn warnings(found: &[Found], git: &Git, folder: &Path) -> Vec<String> {
    let mut warnings = Vec::new();
    if git.dirty {
        warnings.push(format!("{} differs from its commit: the release is marked dirty", folder.display()));
    }
    for Found { path, what } in found {
        let What::File { stamp, .. } = what else { continue };
        let path = clean(path);
        if looks_secret(&path) {
            warnings.push(format!(
                "{path} looks like a secret: everybody who can reach the store can read what is packed"
            ));
        }
        if stamp.size > LARGE_FILE_BYTES {
            warnings.push(format!(
                "{path} has {} MB, which every node of the group fetches: is it meant to be there?",
                stamp.size / 1_000_000
            ));
        }
    }
    if !found.iter().any(|entry| matches!(entry.what, What::File { .. })) {
        warnings.push(format!("{} has no files that belong to the app", folder.display()));
    }
    warnings
}

fn looks_secret(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_env = name == ".env" || (name.starts_with(".env.") && !name.ends_with(".example"));
    let is_ssh = name.starts_with("id_") && !name.contains('.');
    let suffix = Path::new(name).extension().and_then(|suffix| suffix.to_str()).unwrap_or_default();
    is_env || is_ssh || matches!(suffix, "pem" | "key" | "p12" | "pfx" | "jks")
}

fn provenance(request: &Request, git: Git, now: UnixTime) -> Provenance {
    Provenance {
        dirty: git.dirty && request.commit.is_none(),
        commit: request.commit.clone().unwrap_or(git.commit),
        builder: concat!("publisher ", env!("CARGO_PKG_VERSION")).to_owned(),
        built_at: now,
    }
}

fn check_proof(proof: &Proof, provenance: &Provenance, folder: &Path) -> Result<()> {
    let (Proof::Http { expect, .. } | Proof::Exec { expect, .. }) = proof else { return Ok(()) };
    if *expect == Expect::Commit && provenance.commit.is_empty() {
        return Err(problem(
            format!("the proof expects a commit, and {} has none", folder.display()),
            "commit the folder to git, give --commit, or use `expect = \"version\"` or `\"tree-hash\"` under [proof]",
        ));
    }
    Ok(())
}

fn part(app: &AppFile, manifest: &Manifest) -> Part {
    let bytes = manifest.encode();
    Part {
        platform: app.platform.clone(),
        kind: match app {
            AppFile { pico: Some(Pico::App), .. } => PartKind::MicroPython,
            AppFile { pico: Some(Pico::Firmware { .. }), .. } => PartKind::Uf2,
            AppFile { container: Some(container), .. } if container.saved.is_some() => PartKind::Image,
            AppFile { container: Some(_), .. } => PartKind::Container,
            _ => PartKind::Tree,
        },
        tree_hash: Digest::of(&bytes),
        size_bytes: manifest.size_bytes(),
        manifest_bytes: bytes.len() as u64,
        run: app.run.clone(),
        container: app.container.clone(),
        one_way: matches!(app.pico, Some(Pico::Firmware { one_way: true, .. })),
        env: app.env.clone(),
        pre_check: app.pre_check.clone(),
        checks: app.checks.clone(),
        proof: app.proof.clone(),
        trial: app.trial,
        joint: None,
    }
}

#[cfg(test)]
mod tests;
