//! Uploads: what arrives is kept, so that an interrupted one goes on where it ended; what is complete is checked
//! against its name before anybody can see it.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, BufReader, Read},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::body::{Body, Bytes};
use futures_util::StreamExt;
use schemas::id::{Digest, Hasher};
use tokio::io::AsyncWriteExt;

use super::layout::{Layout, Name};

/// A client that sends nothing for this long is cut off; it can resume.
const IDLE_LIMIT: Duration = Duration::from_mins(1);
/// zstd's window, as its logarithm: 8 MiB is what a small Pi can unpack.
pub(super) const WINDOW_LOG_MAX: u32 = 23;

/// How large uploads may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct UploadLimits {
    /// As they are stored.
    pub(super) stored_bytes: u64,
    /// Unpacked: a few kilobytes of zstd can stand for terabytes.
    pub(super) plain_bytes: u64,
}

/// What a client says about its upload.
#[derive(Debug, Clone, Copy)]
pub(super) struct Announced {
    /// Where the body starts.
    pub(super) offset: u64,
    /// How large the whole is.
    pub(super) total: u64,
}

/// How an upload ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Uploaded {
    /// It is complete, checked and on the disk.
    Complete,
    /// The body ended before the whole was there; it can go on from here.
    Partial(u64),
}

/// Why an upload is not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum UploadError {
    /// Larger than allowed.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    /// More arrived than was announced.
    #[error("more bytes than were announced")]
    TooMuch,
    /// The body does not start where the earlier part ends.
    #[error("the upload goes on at byte {0}")]
    WrongOffset(u64),
    /// Somebody else is uploading the same.
    #[error("the same is being uploaded now, byte {0} is reached")]
    Busy(u64),
    /// Not what its name says.
    #[error("content is {found}, not what its name says")]
    WrongDigest {
        /// What it is.
        found: Digest,
    },
    /// Not zstd.
    #[error("content is not valid zstd")]
    NotZstd(#[source] io::Error),
    /// The client went away or stood still.
    #[error("upload interrupted")]
    Interrupted,
    /// The disk refuses.
    #[error("cannot store upload")]
    Io(#[from] io::Error),
}

/// Takes uploads, each name once at a time.
#[derive(Debug)]
pub(super) struct Uploads {
    limits: UploadLimits,
    busy: Arc<Mutex<HashSet<Name>>>,
}

struct Turn {
    name: Name,
    busy: Arc<Mutex<HashSet<Name>>>,
}

impl Uploads {
    /// Nothing is being uploaded.
    pub(super) fn new(limits: UploadLimits) -> Self {
        Self { limits, busy: Arc::default() }
    }

    /// Takes the body of one request.
    pub(super) async fn receive(
        &self,
        layout: &Layout,
        name: Name,
        announced: Announced,
        body: Body,
    ) -> Result<Uploaded, UploadError> {
        if announced.total > self.limits.stored_bytes {
            return Err(UploadError::TooLarge(self.limits.stored_bytes));
        }
        let partial = layout.partial(name);
        let Some(turn) = self.turn(name) else {
            return Err(UploadError::Busy(partial_bytes(&partial).unwrap_or(0)));
        };
        let there = partial_bytes(&partial).unwrap_or(0);
        if there != announced.offset {
            return Err(UploadError::WrongOffset(there));
        }
        let end = append(&partial, announced, body).await?;
        if end < announced.total {
            return Ok(Uploaded::Partial(end));
        }
        let (file, plain_bytes) = (layout.file(name), self.limits.plain_bytes);
        let complete = move || {
            // Held until the end: a request that is given up must not let another one in between.
            let _turn = turn;
            complete(&partial, &file, name.digest(), plain_bytes)
        };
        tokio::task::spawn_blocking(complete).await.map_err(io::Error::other)??;
        Ok(Uploaded::Complete)
    }

    fn turn(&self, name: Name) -> Option<Turn> {
        let is_free = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
        is_free.then(|| Turn { name, busy: Arc::clone(&self.busy) })
    }
}

/// How much of an upload is there; `None` when nothing is.
pub(super) fn partial_bytes(partial: &Path) -> Option<u64> {
    fs::metadata(partial).ok().map(|metadata| metadata.len())
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.name);
    }
}

/// Appends the body to the partial file; returns how much there is now. Whatever arrived stays, also on an error.
async fn append(partial: &Path, announced: Announced, body: Body) -> Result<u64, UploadError> {
    let mut file = tokio::fs::OpenOptions::new().create(true).append(true).open(partial).await?;
    let mut end = announced.offset;
    let mut stream = body.into_data_stream();
    let result = loop {
        let chunk: Bytes = match tokio::time::timeout(IDLE_LIMIT, stream.next()).await {
            Ok(Some(Ok(chunk))) => chunk,
            Ok(None) => break Ok(end),
            Ok(Some(Err(_))) | Err(_) => break Err(UploadError::Interrupted),
        };
        if chunk.len() as u64 > announced.total - end {
            break Err(UploadError::TooMuch);
        }
        if let Err(err) = file.write_all(&chunk).await {
            break Err(err.into());
        }
        end += chunk.len() as u64;
    };
    file.flush().await?;
    result
}

/// Checks the upload and puts it in its place, or removes it.
fn complete(partial: &Path, file: &Path, digest: Digest, plain_bytes: u64) -> Result<(), UploadError> {
    let upload = File::open(partial)?;
    match plain_digest(&upload, plain_bytes) {
        Ok(found) if found == digest => {}
        Ok(found) => {
            fs::remove_file(partial)?;
            return Err(UploadError::WrongDigest { found });
        }
        Err(err) => {
            fs::remove_file(partial)?;
            return Err(err);
        }
    }
    upload.sync_all()?;
    let shelf = file.parent().unwrap_or(file);
    if !shelf.exists() {
        fs::create_dir_all(shelf)?;
        sync_folder(shelf.parent().unwrap_or(shelf))?;
    }
    fs::rename(partial, file)?;
    sync_folder(shelf)?;
    Ok(())
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn plain_digest(upload: &File, limit: u64) -> Result<Digest, UploadError> {
    let mut decoder = zstd::Decoder::new(BufReader::new(upload)).map_err(UploadError::NotZstd)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(UploadError::NotZstd)?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 128 * 1024];
    let mut plain = 0_u64;
    loop {
        let count = decoder.read(&mut buffer).map_err(UploadError::NotZstd)?;
        if count == 0 {
            return Ok(hasher.finish());
        }
        plain += count as u64;
        if plain > limit {
            return Err(UploadError::TooLarge(limit));
        }
        hasher.update(&buffer[..count]);
    }
}
