//! Uploading: what the store lacks of a packed folder, several objects at a time, the manifest last.

use std::{
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
    problem::Advise as _,
    screen::Screen,
    stored::{self, Stored},
};

/// Enough to hide the time that the store's disk takes for each of many small files.
const PARALLEL: usize = 8;

/// What was uploaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Uploaded {
    pub(crate) objects: usize,
    pub(crate) bytes: u64,
}

/// A client of the fleet's store.
pub(crate) fn open(home: &Home) -> Result<Store> {
    let store = Store::open(vec![home.settings.store.clone()], Some(home.settings.credentials()));
    store.advise("cannot use the store", advice(home))
}

fn advice(home: &Home) -> String {
    format!("its address is `store` in {}; the broker serves it", home.path("fleet.toml").display())
}

/// Uploads what the store lacks. Nothing is announced before this is done.
pub(crate) async fn upload(home: &Home, packed: &Packed, screen: &Screen) -> Result<Uploaded> {
    let store = open(home)?;
    let what = || format!("cannot upload {}", packed.folder.display());
    let sources = packed.sources();
    let objects: Vec<Digest> = sources.keys().copied().collect();
    let manifest = packed.part.tree_hash;
    let missing = store.missing(&objects, &[manifest]).await.advise(what(), advice(home))?;
    let jobs: Vec<_> =
        missing.objects.iter().filter_map(|digest| Some((*digest, sources.get(digest)?))).collect();

    let bar = screen.bytes_bar(jobs.iter().map(|(_, (_, size))| size).sum());
    let scratch = home.path("cache");
    let uploads = jobs.iter().map(|(digest, (path, size))| {
        let job = Job { store: &store, digest: *digest, path, size: *size, scratch: &scratch, bar: &bar };
        async move { job.run().await }
    });
    let result: Result<Vec<u64>> = stream::iter(uploads).buffer_unordered(PARALLEL).try_collect().await;
    bar.finish_and_clear();
    let mut bytes: u64 = result.advise(what(), advice(home))?.iter().sum();
    if !missing.manifests.is_empty() {
        let packed_manifest = stored::compress(&packed.manifest.encode())?;
        bytes += packed_manifest.len() as u64;
        let source = Source::Bytes(packed_manifest.into());
        store.upload(Key::Manifest(manifest), &source, &|_| {}).await.advise(what(), advice(home))?;
    }
    Ok(Uploaded { objects: jobs.len(), bytes })
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
