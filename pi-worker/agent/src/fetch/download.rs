//! One object or manifest from the store: again where the wire was cut, never more bytes than it can have.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bus_client::store::{Body, Key, Store};
use bytes::Bytes;
use machine::Fault;
use schemas::reason::Reason;
use tokio::{io::AsyncWriteExt as _, time::Instant};

use super::{
    landing::Landing,
    meter::Meter,
    pace::Pace,
    unpack::{Expected, UnpackError, stored_limit, unpack},
};
use crate::{cancel::Cancel, chain::chain, fault, work::blocking};

/// Up to so many stored bytes stay in memory until they are checked; larger ones grow on the disk and are resumed.
const SMALL_BYTES: u64 = 1024 * 1024;
/// So often a fault that may pass is waited for here; the machine has more patience.
const TRIES: u32 = 3;
/// Before the second try; doubled before each later one.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// What all downloads of a fetch share.
pub(super) struct Downloads<'a, F> {
    pub(super) store: &'a Store,
    /// Where the store is, for people.
    pub(super) place: &'a str,
    pub(super) meter: &'a Meter<F>,
    pub(super) pace: Option<&'a Mutex<Pace>>,
    pub(super) cancel: Cancel,
}

impl<F: Fn(u16)> Downloads<'_, F> {
    /// Brings an object to the landing folder.
    ///
    /// # Errors
    /// When the store does not have it, gives something else, or stays away; when the disk refuses.
    pub(super) async fn object(&self, expected: Expected, landing: &Landing) -> Result<(), Fault> {
        let mut tries = 1;
        loop {
            let part = landing.part(expected.digest);
            let offset = fs::metadata(&part).map_or(0, |found| found.len());
            let fault = match self.try_object(expected, landing, offset).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            let was_resumed = offset > 0 && !part.exists();
            if fault.reason == Reason::DigestMismatch && was_resumed {
                // The part may have been the beginning of something else: stores may compress differently.
                continue;
            }
            self.wait(fault, &mut tries).await?;
        }
    }

    /// Brings a manifest, checked, into memory.
    ///
    /// # Errors
    /// As for an object.
    pub(super) async fn manifest(&self, expected: Expected) -> Result<Vec<u8>, Fault> {
        let mut tries = 1;
        loop {
            match self.try_manifest(expected).await {
                Err(fault) => self.wait(fault, &mut tries).await?,
                manifest => return manifest,
            }
        }
    }

    async fn try_manifest(&self, expected: Expected) -> Result<Vec<u8>, Fault> {
        let key = Key::Manifest(expected.digest);
        let mut body = self.open(key, 0, expected).await?;
        let stored = self.to_memory(&mut body).await?;
        let cancel = self.cancel.clone();
        let plain = blocking(move || {
            let mut plain = Vec::new();
            unpack(&stored[..], &mut plain, expected, &cancel).map(|()| plain)
        });
        plain.await.map_err(|error| self.refuse(key, Path::new("manifest"), error))
    }

    async fn try_object(&self, expected: Expected, landing: &Landing, offset: u64) -> Result<(), Fault> {
        let key = Key::Object(expected.digest);
        let mut body = self.open(key, offset, expected).await?;
        let draft = landing.draft(expected.digest);
        let (path, cancel) = (draft.clone(), self.cancel.clone());
        let unpacked = if body.offset() == 0 && body.total_bytes() <= SMALL_BYTES {
            let stored = self.to_memory(&mut body).await?;
            self.meter.done(expected.size_bytes);
            blocking(move || unpack_to(&stored[..], &path, expected, &cancel)).await
        } else {
            let part = landing.part(expected.digest);
            self.to_part(&mut body, part.clone(), expected).await?;
            blocking(move || unpack_part(&part, &path, expected, &cancel)).await
        };
        unpacked.map_err(|error| self.refuse(key, &draft, error))?;
        landing.accept(expected.digest)
    }

    async fn to_memory(&self, body: &mut Body) -> Result<Vec<u8>, Fault> {
        let mut stored = Vec::with_capacity(usize::try_from(body.total_bytes()).unwrap_or(0));
        while let Some(chunk) = self.chunk(body).await? {
            stored.extend_from_slice(&chunk);
        }
        Ok(stored)
    }

    async fn to_part(&self, body: &mut Body, path: PathBuf, expected: Expected) -> Result<(), Fault> {
        let failed = |error: io::Error| fault::disk("write", &path, &error);
        let mut options = tokio::fs::OpenOptions::new();
        let mut file = options.create(true).append(true).open(&path).await.map_err(failed)?;
        file.set_len(body.offset()).await.map_err(failed)?;
        let total_bytes = body.total_bytes();
        self.meter.done(share(expected.size_bytes, body.offset(), total_bytes));
        let outcome = loop {
            match self.chunk(body).await {
                Ok(Some(chunk)) => {
                    file.write_all(&chunk).await.map_err(failed)?;
                    self.meter.done(share(expected.size_bytes, chunk.len() as u64, total_bytes));
                }
                Ok(None) => break Ok(()),
                Err(fault) => break Err(fault),
            }
        };
        // Also after a cut: what is still being written must not meet the next attempt.
        file.flush().await.map_err(failed)?;
        outcome
    }

    async fn open(&self, key: Key, offset: u64, expected: Expected) -> Result<Body, Fault> {
        self.meter.request();
        tokio::select! {
            () = self.cancel.cancelled() => Err(fault::cancelled()),
            body = self.store.fetch(key, offset, stored_limit(expected.size_bytes)) => {
                body.map_err(|error| fault::store(&error))
            }
        }
    }

    async fn chunk(&self, body: &mut Body) -> Result<Option<Bytes>, Fault> {
        let chunk = tokio::select! {
            () = self.cancel.cancelled() => return Err(fault::cancelled()),
            chunk = body.chunk() => chunk.map_err(|error| fault::store(&error))?,
        };
        if let Some(chunk) = &chunk {
            self.meter.received(chunk.len() as u64);
            self.keep_pace(chunk.len() as u64).await?;
        }
        Ok(chunk)
    }

    async fn keep_pace(&self, bytes: u64) -> Result<(), Fault> {
        let Some(pace) = self.pace else { return Ok(()) };
        let wait = pace.lock().unwrap_or_else(PoisonError::into_inner).take(bytes, Instant::now());
        self.sleep(wait).await
    }

    /// Waits before the next try, or gives the fault back when another try is no use.
    async fn wait(&self, fault: Fault, tries: &mut u32) -> Result<(), Fault> {
        if !fault.transient || *tries >= TRIES {
            return Err(fault);
        }
        let wait = FIRST_WAIT * 2_u32.pow(*tries - 1);
        *tries += 1;
        self.sleep(wait).await
    }

    async fn sleep(&self, time: Duration) -> Result<(), Fault> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(fault::cancelled()),
            () = tokio::time::sleep(time) => Ok(()),
        }
    }

    fn refuse(&self, key: Key, path: &Path, error: UnpackError) -> Fault {
        match error {
            UnpackError::Cancelled => fault::cancelled(),
            UnpackError::Read(error) => fault::disk("read what was stored for", path, &error),
            UnpackError::Write(error) => fault::disk("write", path, &error),
            error => {
                let text = format!("{key} from {} is wrong: {}", self.place, chain(&error));
                fault::permanent(Reason::DigestMismatch, text)
            }
        }
    }
}

fn unpack_part(part: &Path, draft: &Path, expected: Expected, cancel: &Cancel) -> Result<(), UnpackError> {
    let stored = File::open(part).map_err(UnpackError::Read)?;
    let outcome = unpack_to(stored, draft, expected, cancel);
    if !matches!(outcome, Err(UnpackError::Cancelled)) {
        // Used up, or worthless. One that cannot be removed now is removed before the next fetch.
        fs::remove_file(part).ok();
    }
    outcome
}

fn unpack_to(
    stored: impl Read,
    draft: &Path,
    expected: Expected,
    cancel: &Cancel,
) -> Result<(), UnpackError> {
    unpack(stored, File::create(draft).map_err(UnpackError::Write)?, expected, cancel)
}

/// What share of `size_bytes` so many of `total_bytes` are.
fn share(size_bytes: u64, bytes: u64, total_bytes: u64) -> u64 {
    let share = u128::from(size_bytes) * u128::from(bytes) / u128::from(total_bytes.max(1));
    u64::try_from(share).unwrap_or(u64::MAX)
}
