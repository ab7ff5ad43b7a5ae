//! Uploading: what the store lacks of a packed folder, several objects at a time, the manifest last.

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result};
use bus_client::store::{Key, Source, Store, StoreError};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use indicatif::ProgressBar;
use schemas::id::Digest;

use crate::{
    home::Home,
    pack::Packed,
    problem::Problem,
    screen::Screen,
    show::amount,
    stored::{self, Stored},
};

/// Enough to hide the time that the store's disk takes for each of many small files.
const PARALLEL: usize = 8;
/// What a store answers when its disk is full (RFC 4918, 11.5).
const INSUFFICIENT_STORAGE: u16 = 507;

/// What was uploaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Uploaded {
    pub(crate) objects: usize,
    pub(crate) bytes: u64,
}

impl fmt::Display for Uploaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "uploaded {}, {}", amount::count(self.objects, "object"), amount::bytes(self.bytes))
    }
}

/// Uploads what the store lacks. Nothing is announced before this is done.
pub(crate) async fn upload(home: &Home, packed: &Packed, screen: &Screen) -> Result<Uploaded> {
    let mut all = Uploaded::default();
    for tree in packed.trees() {
        let uploaded = upload_missing(home, tree, screen).await.map_err(|error| {
            let advice = advice(home, error.downcast_ref());
            error.context(Problem::new(format!("cannot upload {}", tree.folder.display()), advice))
        })?;
        all.objects += uploaded.objects;
        all.bytes += uploaded.bytes;
    }
    Ok(all)
}

fn advice(home: &Home, error: Option<&StoreError>) -> String {
    match error {
        Some(StoreError::Denied { .. }) => home.let_in(),
        Some(StoreError::Busy { status: INSUFFICIENT_STORAGE, .. }) => {
            "free space on the disk of the broker's machine".to_owned()
        }
        Some(
            StoreError::Unreachable { .. }
            | StoreError::Cut { .. }
            | StoreError::Slow { .. }
            | StoreError::Busy { .. },
        ) => format!(
            "see that the broker runs; the address of its store is `store` in {}",
            home.path("fleet.toml").display()
        ),
        Some(error) => error.advice().to_owned(),
        None => "announce again when nothing writes to the folder".to_owned(),
    }
}

async fn upload_missing(home: &Home, packed: &Packed, screen: &Screen) -> Result<Uploaded> {
    let (credentials, tls) = (home.settings.credentials(), home.tls()?);
    let store = Store::open(vec![home.settings.store.clone()], Some(credentials), tls.as_ref())?;
    let sources = packed.sources();
    let objects: Vec<Digest> = sources.keys().copied().collect();
    let manifest = packed.part.tree_hash;
    let missing = store.missing(&objects, &[manifest]).await?;
    let jobs: Vec<_> =
        missing.objects.iter().filter_map(|digest| Some((*digest, sources.get(digest)?))).collect();
    let bar = screen.bytes_bar(jobs.iter().map(|(_, (_, size))| size).sum());
    let scratch = home.caches();
    stored::sweep(&scratch);
    let uploads = jobs.iter().map(|(digest, (path, size))| {
        let job = Job { store: &store, digest: *digest, path, size: *size, scratch: &scratch, bar: &bar };
        async move { job.run().await }
    });
    let result: Result<Vec<u64>> = stream::iter(uploads).buffer_unordered(PARALLEL).try_collect().await;
    bar.finish_and_clear();
    let mut bytes: u64 = result?.iter().sum();
    if !missing.manifests.is_empty() {
        bytes += upload_manifest(&store, packed).await?;
    }
    Ok(Uploaded { objects: jobs.len(), bytes })
}

/// The manifest goes last: a store that has it has everything that it names.
async fn upload_manifest(store: &Store, packed: &Packed) -> Result<u64> {
    let compressed = stored::compress(&packed.manifest.encode())?;
    let bytes = compressed.len() as u64;
    let source = Source::Bytes(compressed.into());
    store.upload(Key::Manifest(packed.part.tree_hash), &source, &|_| {}).await?;
    Ok(bytes)
}

/// The upload of one object.
struct Job<'a> {
    store: &'a Store,
    digest: Digest,
    path: &'a PathBuf,
    size: u64,
    scratch: &'a Path,
    bar: &'a ProgressBar,
}

impl Job<'_> {
    async fn run(&self) -> Result<u64> {
        let (path, digest, size) = (self.path.clone(), self.digest, self.size);
        let scratch = self.scratch.to_owned();
        let compressed = tokio::task::spawn_blocking(move || stored::stored(&path, digest, size, &scratch));
        let stored = compressed.await.context("compressing was cancelled")??;
        self.send(&stored).await.with_context(|| self.path.display().to_string())?;
        Ok(stored.bytes)
    }

    /// The bar counts plain bytes, the store counts stored ones.
    async fn send(&self, stored: &Stored) -> Result<(), StoreError> {
        let shown = AtomicU64::new(0);
        let show = |sent: u64| {
            let plain = u128::from(self.size) * u128::from(sent) / u128::from(stored.bytes.max(1));
            let plain = u64::try_from(plain).unwrap_or(self.size).min(self.size);
            let before = shown.fetch_max(plain, Ordering::Relaxed);
            self.bar.inc(plain.saturating_sub(before));
        };
        self.store.upload(Key::Object(self.digest), &stored.source, &show).await?;
        show(stored.bytes);
        Ok(())
    }
}
