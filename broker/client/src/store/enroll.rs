//! Asking to be let in: by who has no place on the bus yet.

use reqwest::{StatusCode, header::CONTENT_TYPE};

use super::{Store, StoreError, StoreUrl};

/// Longest answer in words.
const MAX_WHY_BYTES: u64 = 1024;

/// What comes of asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// It is open: what the node has to know.
    Open(Vec<u8>),
    /// People are to decide; what the node has to know to compare words with them.
    Waiting(Vec<u8>),
    /// Too many wait.
    Full,
    /// It stays closed, and why.
    Closed(String),
}

impl Store {
    /// Asks with `request`, once; answers have at most `max_bytes`.
    ///
    /// # Errors
    /// When no store answers.
    pub async fn ask_to_be_let_in(&self, request: &[u8], max_bytes: u64) -> Result<Door, StoreError> {
        let mut failure = StoreError::NoAddress;
        for url in self.urls.iter() {
            match self.ask_at(url, request, max_bytes).await {
                Ok(door) => return Ok(door),
                Err(error) => failure = failure.or(error),
            }
        }
        Err(failure)
    }

    async fn ask_at(&self, url: &StoreUrl, request: &[u8], max_bytes: u64) -> Result<Door, StoreError> {
        let post = self.client.post(url.join("v1/enroll")).header(CONTENT_TYPE, "application/cbor");
        let response = self.send(url, post.body(request.to_vec())).await?;
        match response.status() {
            StatusCode::OK => self.read(url, response, max_bytes).await.map(Door::Open),
            StatusCode::ACCEPTED => self.read(url, response, max_bytes).await.map(Door::Waiting),
            StatusCode::TOO_MANY_REQUESTS => Ok(Door::Full),
            status if status.is_client_error() => {
                let why = self.read(url, response, MAX_WHY_BYTES).await?;
                Ok(Door::Closed(String::from_utf8_lossy(&why).trim().to_owned()))
            }
            status => Err(StoreError::from_status(url, status, self.who())),
        }
    }
}
