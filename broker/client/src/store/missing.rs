//! What a store lacks of what is about to be uploaded.

use std::collections::BTreeSet;

use reqwest::{Response, StatusCode, header::CONTENT_TYPE};
use schemas::id::Digest;
use serde::{Deserialize, Serialize};

use super::{Key, Store, StoreError, StoreUrl, fetch::next_chunk};

/// Names that the store takes in one question.
const MAX_NAMES: usize = 200_000;
/// A name in JSON, with quotes, comma and some white space.
const NAME_BYTES: u64 = 72;
/// The rest of the JSON.
const FRAME_BYTES: u64 = 1024;

/// Names of objects and manifests: those that are asked about, or those that the store lacks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// Digests of contents.
    pub objects: Vec<Digest>,
    /// Hashes of trees.
    pub manifests: Vec<Digest>,
}

impl Store {
    /// Those of `objects` and `manifests` that the store lacks, in no particular order.
    ///
    /// # Errors
    /// When no store answers, also not after some retries, or when it does not permit us to ask.
    pub async fn missing(&self, objects: &[Digest], manifests: &[Digest]) -> Result<Missing, StoreError> {
        let objects = objects.iter().copied().map(Key::Object);
        let keys: Vec<Key> = objects.chain(manifests.iter().copied().map(Key::Manifest)).collect();
        let mut missing = Missing::default();
        for asked in keys.chunks(MAX_NAMES) {
            let lacking = self.missing_of(asked).await?;
            missing.objects.extend(lacking.objects);
            missing.manifests.extend(lacking.manifests);
        }
        Ok(missing)
    }

    async fn missing_of(&self, asked: &[Key]) -> Result<Missing, StoreError> {
        let mut retries = self.retries();
        loop {
            let result = self.missing_on_any(asked).await;
            if !retries.another(&result).await {
                return result;
            }
        }
    }

    async fn missing_on_any(&self, asked: &[Key]) -> Result<Missing, StoreError> {
        let mut failure = StoreError::NoAddress;
        for url in self.urls.iter() {
            match self.missing_on(url, asked).await {
                Ok(missing) => return Ok(missing),
                Err(error) => failure = failure.or(error),
            }
        }
        Err(failure)
    }

    async fn missing_on(&self, url: &StoreUrl, asked: &[Key]) -> Result<Missing, StoreError> {
        let question = serde_json::to_vec(&Missing::from(asked))
            .map_err(|error| StoreError::Client { source: error.into() })?;
        let request = self.client.post(url.join("v1/missing")).header(CONTENT_TYPE, "application/json");
        let response = self.send(url, self.authorize(request.body(question))).await?;
        if response.status() != StatusCode::OK {
            return Err(StoreError::from_status(url, response.status(), self.who()));
        }
        let max_bytes = asked.len() as u64 * NAME_BYTES + FRAME_BYTES;
        let answer = self.read(url, response, max_bytes).await?;
        let missing: Missing = serde_json::from_slice(&answer).map_err(|error| {
            StoreError::unusual(url, format!("its list of what is missing is none: {error}"))
        })?;
        Ok(missing.only(asked))
    }

    pub(super) async fn read(
        &self,
        url: &StoreUrl,
        mut response: Response,
        max_bytes: u64,
    ) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = next_chunk(&mut response, url, self.patience.silence).await? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() as u64 > max_bytes {
                return Err(StoreError::unusual(url, "its answer is longer than it can be"));
            }
        }
        Ok(bytes)
    }
}

impl From<&[Key]> for Missing {
    fn from(keys: &[Key]) -> Self {
        let mut names = Self::default();
        for key in keys {
            match key {
                Key::Object(digest) => names.objects.push(*digest),
                Key::Manifest(digest) => names.manifests.push(*digest),
            }
        }
        names
    }
}

impl Missing {
    /// Without doubles and what nobody asked for, so that callers find each name among theirs.
    fn only(self, asked: &[Key]) -> Self {
        let asked: BTreeSet<Key> = asked.iter().copied().collect();
        let objects = self.objects.into_iter().map(Key::Object);
        let named: BTreeSet<Key> = objects.chain(self.manifests.into_iter().map(Key::Manifest)).collect();
        let both: Vec<Key> = named.intersection(&asked).copied().collect();
        Self::from(both.as_slice())
    }
}
