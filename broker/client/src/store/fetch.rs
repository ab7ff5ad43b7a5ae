//! Fetching: from any byte on, never more than said, and silence is noticed.

use std::{io, time::Duration};

use bytes::Bytes;
use reqwest::{
    Response, StatusCode,
    header::{CONTENT_RANGE, HeaderMap, IF_RANGE, RANGE},
};
use tokio::time::{Instant, timeout};

use super::{Key, Store, StoreError, StoreUrl};

/// The stored bytes of one object or manifest, on their way.
#[derive(Debug)]
pub struct Body {
    response: Response,
    url: StoreUrl,
    key: Key,
    offset: u64,
    total_bytes: u64,
    left_bytes: u64,
    silence: Duration,
    /// Since when it is counted how much comes, and how much that is.
    lately: (Instant, u64),
}

/// What comes at least in the time that a store may be silent: less than the slowest radio brings, and so little that a store
/// which keeps a node waiting with single bytes is found out.
const LEAST_BYTES: u64 = 16 * 1024;

impl Body {
    /// Size of the whole, wherever this body starts.
    pub fn total_bytes(&self) -> u64 {
        self.total_bytes
    }

    /// Where this body starts: at the offset that was asked for, or at 0 when the store starts over, in which case
    /// what was there before is to be dropped.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes; `None` when all have come. May be cancelled at any time.
    ///
    /// # Errors
    /// When the connection is cut, or silent for half a minute.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        let Some(chunk) = next_chunk(&mut self.response, &self.url, self.silence).await? else {
            return self.end();
        };
        match self.left_bytes.checked_sub(chunk.len() as u64) {
            Some(left_bytes) => self.left_bytes = left_bytes,
            None => {
                return Err(StoreError::unusual(&self.url, format!("{} is longer than it said", self.key)));
            }
        }
        self.check_pace(chunk.len() as u64)?;
        Ok(Some(chunk))
    }

    fn check_pace(&mut self, bytes: u64) -> Result<(), StoreError> {
        let (since, before) = self.lately;
        self.lately.1 = before + bytes;
        if since.elapsed() < self.silence {
            return Ok(());
        }
        self.lately = (Instant::now(), 0);
        if before + bytes >= LEAST_BYTES || self.left_bytes == 0 {
            return Ok(());
        }
        Err(StoreError::Crawling {
            url: self.url.clone(),
            bytes: before + bytes,
            secs: since.elapsed().as_secs(),
        })
    }

    fn end(&self) -> Result<Option<Bytes>, StoreError> {
        if self.left_bytes == 0 {
            return Ok(None);
        }
        Err(StoreError::cut(&self.url, io::Error::from(io::ErrorKind::UnexpectedEof)))
    }
}

/// The next bytes of a response, unless it is cut or silent.
pub(super) async fn next_chunk(
    response: &mut Response,
    url: &StoreUrl,
    silence: Duration,
) -> Result<Option<Bytes>, StoreError> {
    match timeout(silence, response.chunk()).await {
        Ok(read) => read.map_err(|error| StoreError::cut(url, error.without_url())),
        Err(_) => Err(StoreError::slow(url, silence)),
    }
}

/// The part of the whole that a response carries.
#[derive(Debug, PartialEq, Eq)]
struct Span {
    offset: u64,
    total_bytes: u64,
}

impl Store {
    /// The stored bytes of `key` from `offset` on, from the first store that has them. `max_bytes` bounds the whole,
    /// not what is left of it. Nothing is retried here: who has a partial file carries on from its end.
    ///
    /// Stores may compress the same content differently. When the digest of something that came in pieces is wrong,
    /// fetch it again from 0 before blaming the store.
    ///
    /// # Errors
    /// When no store has it, answers, or says a size that is permitted.
    pub async fn fetch(&self, key: Key, offset: u64, max_bytes: u64) -> Result<Body, StoreError> {
        let mut failure = StoreError::NoAddress;
        for url in self.urls.iter() {
            match self.fetch_from(url, key, offset, max_bytes).await {
                Ok(body) => return Ok(body),
                Err(error) => failure = failure.or(error),
            }
        }
        Err(failure)
    }

    /// All stored bytes of something small. Retries, and carries on where it was cut off.
    ///
    /// # Errors
    /// As [`Self::fetch`], and when it was cut off too often.
    pub async fn fetch_to_vec(&self, key: Key, max_bytes: u64) -> Result<Vec<u8>, StoreError> {
        // One for each store, for they may differ in how they compress.
        let mut parts = vec![Vec::new(); self.urls.len()];
        let mut retries = self.retries();
        loop {
            let result = self.complete_any(&mut parts, key, max_bytes).await;
            if !retries.another(&result).await {
                return result;
            }
        }
    }

    async fn complete_any(
        &self,
        parts: &mut [Vec<u8>],
        key: Key,
        max_bytes: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let mut failure = StoreError::NoAddress;
        for (url, part) in self.urls.iter().zip(parts) {
            match self.complete(url, part, key, max_bytes).await {
                Ok(()) => return Ok(std::mem::take(part)),
                Err(error) => failure = failure.or(error),
            }
        }
        Err(failure)
    }

    async fn complete(
        &self,
        url: &StoreUrl,
        part: &mut Vec<u8>,
        key: Key,
        max_bytes: u64,
    ) -> Result<(), StoreError> {
        let mut body = self.fetch_from(url, key, part.len() as u64, max_bytes).await?;
        // Where it starts is not beyond what we have: either there, or at 0.
        part.truncate(body.offset() as usize);
        while let Some(chunk) = body.chunk().await? {
            part.extend_from_slice(&chunk);
        }
        Ok(())
    }

    async fn fetch_from(
        &self,
        url: &StoreUrl,
        key: Key,
        offset: u64,
        max_bytes: u64,
    ) -> Result<Body, StoreError> {
        let mut response = self.request(url, key, offset).await?;
        let mut span = self.span(&response, url, key, offset)?;
        if span.is_none() {
            response = self.request(url, key, 0).await?;
            span = self.span(&response, url, key, 0)?;
        }
        let Some(Span { offset, total_bytes }) = span else {
            return Err(StoreError::unusual(url, format!("it has no first byte of {key}")));
        };
        if total_bytes > max_bytes {
            return Err(StoreError::TooLong { url: url.clone(), key, bytes: total_bytes, max_bytes });
        }
        let (url, silence) = (url.clone(), self.patience.silence);
        Ok(Body {
            response,
            url,
            key,
            offset,
            total_bytes,
            left_bytes: total_bytes - offset,
            silence,
            lately: (Instant::now(), 0),
        })
    }

    async fn request(&self, url: &StoreUrl, key: Key, offset: u64) -> Result<Response, StoreError> {
        let mut request = self.client.get(url.join(&key.path()));
        if offset > 0 {
            request = request.header(RANGE, format!("bytes={offset}-"));
            request = request.header(IF_RANGE, format!("\"{}\"", key.digest()));
        }
        self.send(url, request).await
    }

    /// What a response carries; nothing when the store has no such range, so that it is to be asked for the whole.
    fn span(
        &self,
        response: &Response,
        url: &StoreUrl,
        key: Key,
        offset: u64,
    ) -> Result<Option<Span>, StoreError> {
        match response.status() {
            StatusCode::OK => {
                let total_bytes = response.content_length();
                let unusual = || StoreError::unusual(url, format!("it does not say how long {key} is"));
                Ok(Some(Span { offset: 0, total_bytes: total_bytes.ok_or_else(unusual)? }))
            }
            StatusCode::PARTIAL_CONTENT => match content_range(response.headers()) {
                Some(span) if span.offset == offset && offset > 0 => Ok(Some(span)),
                _ => Err(StoreError::unusual(url, format!("it answers with another range of {key}"))),
            },
            StatusCode::RANGE_NOT_SATISFIABLE if offset > 0 => Ok(None),
            StatusCode::NOT_FOUND => Err(StoreError::Absent { url: url.clone(), key }),
            status => Err(StoreError::from_status(url, status, self.who())),
        }
    }
}

/// `bytes FIRST-LAST/TOTAL` with LAST the very last byte (RFC 9110, 14.4).
fn content_range(headers: &HeaderMap) -> Option<Span> {
    let range = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total_bytes) = range.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (offset, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    let total_bytes = total_bytes.parse().ok()?;
    (offset <= last && last.checked_add(1)? == total_bytes).then_some(Span { offset, total_bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_must_reach_to_the_end() {
        assert_eq!(read("bytes 5-9/10"), Some(Span { offset: 5, total_bytes: 10 }));
        for bad in ["bytes 5-8/10", "bytes 10-9/10", "bytes 5-9/*", "bytes */10", "5-9/10", "bytes -9/10", ""]
        {
            assert_eq!(read(bad), None, "{bad}");
        }
        let largest = format!("bytes 0-{0}/{0}", u64::MAX);
        assert_eq!(read(&largest), None);
    }

    fn read(range: &str) -> Option<Span> {
        content_range(&HeaderMap::from_iter([(CONTENT_RANGE, range.parse().unwrap())]))
    }
}
