//! Uploading: what the store has of an earlier try is not sent again.

use std::{
    io::{self, SeekFrom},
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, stream};
use reqwest::{
    Body, RequestBuilder, Response, StatusCode,
    header::{CONTENT_LENGTH, HeaderMap},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    select,
    time::{Instant, sleep},
};

use super::{Key, Store, StoreError, StoreUrl};

/// Where the partial upload ends that the store keeps, or at which the body is to be appended to it.
const UPLOAD_OFFSET: &str = "upload-offset";
/// Size of the whole.
const UPLOAD_LENGTH: &str = "upload-length";
/// From this size on it pays to ask first what the store has already.
const LARGE_BYTES: u64 = 1024 * 1024;
/// What is read and handed to the connection at once.
const CHUNK_BYTES: usize = 64 * 1024;
/// How often progress is told, and looked for.
const TICK: Duration = Duration::from_millis(100);
/// When all is sent, the store hashes it and makes it durable: 500 MB at 10 MB/s to an SD card, in limits of silence.
const CHECK_SILENCES: u32 = 10;
/// Appends in one try; more are needed only when somebody else uploads the same.
const MAX_APPENDS: u32 = 4;

/// Where the stored form of what is uploaded comes from; it is read again for each try.
#[derive(Debug, Clone)]
pub enum Source {
    /// At hand.
    Bytes(Bytes),
    /// In a file that does not change meanwhile.
    File(PathBuf),
}

/// What an upload came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Uploaded {
    /// The store has it now.
    Stored,
    /// The store had it already.
    AlreadyThere,
}

/// What the store answers to an append.
enum Answer {
    Done(Uploaded),
    /// The partial upload ends somewhere else.
    EndsAt(u64),
    /// The whole has another digest; the partial upload is gone.
    Mismatch,
}

/// One thing on its way to the store.
struct Upload<'a> {
    key: Key,
    source: &'a Source,
    total_bytes: u64,
    progress: &'a (dyn Fn(u64) + Send + Sync),
}

impl Store {
    /// Puts the stored form of `key` into the first store that takes it. Retries, and carries on where it was cut off.
    /// `progress` is told now and then how many bytes were handed over, which may fall when something got lost.
    ///
    /// # Errors
    /// When no store takes it, also not after some retries, or `source` cannot be read.
    pub async fn upload(
        &self,
        key: Key,
        source: &Source,
        progress: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<Uploaded, StoreError> {
        let upload = Upload { key, source, total_bytes: source.len().await?, progress };
        let mut asks_first = upload.total_bytes >= LARGE_BYTES;
        let mut retries = self.retries();
        loop {
            let result = self.upload_to_any(&upload, asks_first).await;
            if !retries.another(&result).await {
                return result;
            }
            asks_first = true;
        }
    }

    async fn upload_to_any(&self, upload: &Upload<'_>, asks_first: bool) -> Result<Uploaded, StoreError> {
        let mut failure = StoreError::NoAddress;
        for url in self.urls.iter() {
            match self.upload_to(url, upload, asks_first).await {
                Err(error @ StoreError::File { .. }) => return Err(error),
                Err(error) => failure = failure.or(error),
                done => return done,
            }
        }
        Err(failure)
    }

    async fn upload_to(
        &self,
        url: &StoreUrl,
        upload: &Upload<'_>,
        asks_first: bool,
    ) -> Result<Uploaded, StoreError> {
        let mut offset = 0;
        if asks_first {
            match self.end_of_partial(url, upload.key).await? {
                Some(end) => offset = end,
                None => return Ok(Uploaded::AlreadyThere),
            }
        }
        for _ in 0..MAX_APPENDS {
            match self.append(url, upload, offset).await? {
                Answer::Done(uploaded) => return Ok(uploaded),
                Answer::EndsAt(end) => offset = end,
                // Somebody else may have left a beginning that was compressed differently.
                Answer::Mismatch if offset > 0 => offset = 0,
                Answer::Mismatch => return Err(StoreError::Mismatch { url: url.clone(), key: upload.key }),
            }
        }
        Err(StoreError::Contended { url: url.clone(), key: upload.key })
    }

    /// Where the partial upload of `key` ends; nothing when the store has the whole.
    async fn end_of_partial(&self, url: &StoreUrl, key: Key) -> Result<Option<u64>, StoreError> {
        let response = self.send(url, self.client.head(url.join(&key.path()))).await?;
        match response.status() {
            StatusCode::OK => Ok(None),
            StatusCode::NOT_FOUND => Ok(Some(upload_offset(response.headers()).unwrap_or(0))),
            status => Err(StoreError::from_status(url, status, self.who())),
        }
    }

    /// Sends everything from `offset` on. When the partial upload is longer than our whole it is declared complete,
    /// upon which the store finds it wrong and drops it.
    async fn append(&self, url: &StoreUrl, upload: &Upload<'_>, offset: u64) -> Result<Answer, StoreError> {
        let Upload { key, source, total_bytes, .. } = *upload;
        let rest_bytes = total_bytes.saturating_sub(offset);
        let sent = Arc::new(AtomicU64::new(offset));
        let body = source.body(offset.min(total_bytes), rest_bytes, Arc::clone(&sent)).await?;
        let request = self.client.put(url.join(&key.path())).body(body);
        let request = request
            .header(CONTENT_LENGTH, rest_bytes)
            .header(UPLOAD_OFFSET, offset)
            .header(UPLOAD_LENGTH, total_bytes.max(offset));
        let response = self.send_watched(url, self.authorize(request), upload, &sent).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Answer::Done(Uploaded::Stored)),
            StatusCode::OK => Ok(Answer::Done(Uploaded::AlreadyThere)),
            StatusCode::UNPROCESSABLE_ENTITY => Ok(Answer::Mismatch),
            StatusCode::PAYLOAD_TOO_LARGE => Err(StoreError::TooLarge { url: url.clone(), key }),
            StatusCode::CONFLICT => {
                let unusual = || StoreError::unusual(url, format!("it does not say where {key} ends"));
                upload_offset(response.headers()).map(Answer::EndsAt).ok_or_else(unusual)
            }
            status => Err(StoreError::from_status(url, status, self.who())),
        }
    }

    /// Sends a long body, tells its progress, and gives up when there is none.
    async fn send_watched(
        &self,
        url: &StoreUrl,
        request: RequestBuilder,
        upload: &Upload<'_>,
        sent: &AtomicU64,
    ) -> Result<Response, StoreError> {
        let mut response = pin!(request.send());
        let (mut known_bytes, mut since) = (0, Instant::now());
        loop {
            select! {
                response = &mut response => {
                    (upload.progress)(sent.load(Ordering::Relaxed));
                    return response.map_err(|error| StoreError::from_send(url, error));
                }
                () = sleep(TICK) => {}
            }
            let sent_bytes = sent.load(Ordering::Relaxed);
            let is_all = sent_bytes >= upload.total_bytes;
            let limit = self.patience.silence * if is_all { CHECK_SILENCES } else { 1 };
            if sent_bytes != known_bytes {
                (known_bytes, since) = (sent_bytes, Instant::now());
                (upload.progress)(sent_bytes);
            } else if since.elapsed() >= limit {
                return Err(StoreError::slow(url, limit));
            }
        }
    }
}

impl Source {
    async fn len(&self) -> Result<u64, StoreError> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(path) => match tokio::fs::metadata(path).await {
                Ok(metadata) => Ok(metadata.len()),
                Err(source) => Err(StoreError::File { path: path.clone(), source }),
            },
        }
    }

    /// The next `count` bytes from `offset` on, which are counted in `sent` as they go.
    async fn body(&self, offset: u64, count: u64, sent: Arc<AtomicU64>) -> Result<Body, StoreError> {
        match self {
            Self::Bytes(bytes) => Ok(Body::wrap_stream(pieces(bytes.slice(offset as usize..), sent))),
            Self::File(path) => match open_at(path, offset).await {
                Ok(file) => Ok(Body::wrap_stream(blocks(file, count, sent))),
                Err(source) => Err(StoreError::File { path: path.clone(), source }),
            },
        }
    }
}

async fn open_at(path: &PathBuf, offset: u64) -> io::Result<File> {
    let mut file = File::open(path).await?;
    file.seek(SeekFrom::Start(offset)).await?;
    Ok(file)
}

fn pieces(bytes: Bytes, sent: Arc<AtomicU64>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::iter((0..bytes.len()).step_by(CHUNK_BYTES).map(move |start| {
        let piece = bytes.slice(start..bytes.len().min(start + CHUNK_BYTES));
        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
        Ok(piece)
    }))
}

fn blocks(file: File, count: u64, sent: Arc<AtomicU64>) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold((file.take(count), sent), |(mut file, sent)| async move {
        let mut block = Vec::with_capacity(CHUNK_BYTES);
        let read = (&mut file).take(CHUNK_BYTES as u64).read_to_end(&mut block).await?;
        sent.fetch_add(read as u64, Ordering::Relaxed);
        Ok((read > 0).then(|| (Bytes::from(block), (file, sent))))
    })
}

fn upload_offset(headers: &HeaderMap) -> Option<u64> {
    headers.get(UPLOAD_OFFSET)?.to_str().ok()?.parse().ok()
}
