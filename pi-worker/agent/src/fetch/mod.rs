//! Everything that a slot needs and the disk does not have, from the store to the landing folder.
//!
//! Bytes are checked as they are written, so that a fetch that ended well leaves only right objects; one that ended
//! badly, was cancelled or lost its power leaves what it has for the next.

mod download;
mod landing;
mod manifests;
mod meter;
mod pace;
#[cfg(test)]
mod tests;
mod unpack;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use bus_client::store::Store;
use futures_util::{StreamExt as _, stream};
use machine::{Fault, Slot, Yield};
use schemas::{id::Digest, manifest::Manifest};

pub(crate) use self::manifests::Manifests;
use self::{download::Downloads, landing::Landing, meter::Meter, pace::Pace, unpack::Expected};
use crate::{
    cancel::{Cancel, Canceller},
    facts,
    installer::AppDirs,
    settings::FetchSettings,
    work::blocking,
};

/// Asks a file system for its free bytes.
type FreeBytes = fn(&Path) -> io::Result<u64>;

/// Brings objects of any app from the store.
#[derive(Clone)]
pub(crate) struct Fetcher {
    store: Store,
    place: Arc<str>,
    parallel: usize,
    pace: Option<Arc<Mutex<Pace>>>,
    free_bytes: FreeBytes,
}

impl Fetcher {
    /// One that fetches from `store`, which is at `place` for people.
    pub(crate) fn new(store: Store, place: &str, settings: FetchSettings) -> Self {
        let pace = settings.bandwidth_bytes_per_s.map(|limit| Arc::new(Mutex::new(Pace::new(limit))));
        let parallel = usize::from(settings.parallel.get());
        Self { store, place: place.into(), parallel, pace, free_bytes: facts::free_bytes }
    }

    /// Brings what the slot needs; `present` says which contents need not be fetched, `tell` hears thousandths.
    ///
    /// # Errors
    /// When the store or the disk refuses, or the work was cancelled.
    pub(crate) async fn fetch(
        &self,
        dirs: &AppDirs,
        slot: &Slot,
        present: impl FnOnce(&Manifest) -> BTreeMap<Digest, u64> + Send + 'static,
        cancel: &Cancel,
        tell: impl Fn(u16) + Send + Sync,
    ) -> Result<Yield, Fault> {
        let meter = Meter::new(tell);
        let (stop, stopped) = Cancel::pair();
        let downloads = Downloads {
            store: &self.store,
            place: &self.place,
            meter: &meter,
            pace: self.pace.as_deref(),
            cancel: stopped,
        };
        let work = self.bring_all(&downloads, &stop, dirs, slot, present);
        tokio::pin!(work);
        let outcome = tokio::select! {
            outcome = &mut work => outcome,
            () = cancel.cancelled() => {
                stop.cancel();
                // Not dropped: what still writes must not meet the next fetch.
                work.await
            }
        };
        outcome.map(|()| meter.cost())
    }

    async fn bring_all<F: Fn(u16) + Send + Sync>(
        &self,
        downloads: &Downloads<'_, F>,
        stop: &Canceller,
        dirs: &AppDirs,
        slot: &Slot,
        present: impl FnOnce(&Manifest) -> BTreeMap<Digest, u64> + Send + 'static,
    ) -> Result<(), Fault> {
        let manifest = bring_manifest(downloads, &dirs.root, slot).await?;
        let (objects, cancel, free_bytes) = (dirs.objects.clone(), downloads.cancel.clone(), self.free_bytes);
        let (landing, missing) = blocking(move || {
            let landing = Landing::open(&objects)?;
            let mut missing = manifest.objects();
            let present = present(&manifest);
            missing.retain(|digest, _| !present.contains_key(digest));
            landing.sift(&mut missing, &cancel)?;
            landing.check_room(&missing, free_bytes)?;
            Ok((landing, missing))
        })
        .await?;
        downloads.meter.expect(missing.values().fold(0, |sum, size| sum.saturating_add(*size)));
        self.bring_objects(downloads, stop, &landing, missing).await?;
        blocking(move || landing.settle()).await
    }

    /// Several at a time; the first that fails ends the others.
    async fn bring_objects<F: Fn(u16) + Send + Sync>(
        &self,
        downloads: &Downloads<'_, F>,
        stop: &Canceller,
        landing: &Landing,
        missing: BTreeMap<Digest, u64>,
    ) -> Result<(), Fault> {
        let bring = |(digest, size_bytes)| downloads.object(Expected { digest, size_bytes }, landing);
        let mut running = stream::iter(missing).map(bring).buffer_unordered(self.parallel);
        let mut outcome = Ok(());
        while let Some(ended) = running.next().await {
            if ended.is_err() && outcome.is_ok() {
                outcome = ended;
                stop.cancel();
            }
        }
        outcome
    }
}

/// The slot's manifest, from the disk or else from the store.
async fn bring_manifest<F: Fn(u16) + Send + Sync>(
    downloads: &Downloads<'_, F>,
    root: &Path,
    slot: &Slot,
) -> Result<Manifest, Fault> {
    let manifests = Manifests::below(root);
    let (place, of) = (manifests.clone(), slot.clone());
    if let Some(manifest) = blocking(move || place.load(&of)).await {
        return Ok(manifest);
    }
    let bytes = downloads.manifest(manifests::expected(slot)?).await?;
    let slot = slot.clone();
    blocking(move || manifests.keep(&slot, &bytes)).await
}
