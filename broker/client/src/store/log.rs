//! Reading the deploy log, which the broker serves beside the store.

use reqwest::StatusCode;
use schemas::deploy_log::{Page, Query, State};
use serde::{Serialize, de::DeserializeOwned};

use super::{Store, StoreError, StoreUrl};

/// A page of entries that all have a report's longest log tail.
const MAX_PAGE_BYTES: u64 = 32 * 1024 * 1024;
/// Longest answer in words.
const MAX_WHY_BYTES: u64 = 4 * 1024;

impl Store {
    /// The entries of the deploy log that are wanted, a page of them.
    ///
    /// # Errors
    /// When no store answers, also not after some retries, or when it does not permit us to read.
    pub async fn log(&self, query: &Query) -> Result<Page, StoreError> {
        self.read_log("v1/log", query).await
    }

    /// Where the deploy log begins and ends.
    ///
    /// # Errors
    /// As for [`Self::log`].
    pub async fn log_state(&self) -> Result<State, StoreError> {
        self.read_log("v1/log/head", &()).await
    }

    async fn read_log<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, StoreError> {
        let mut retries = self.retries();
        loop {
            let mut result = Err(StoreError::NoAddress);
            for url in self.urls.iter() {
                result = match (self.read_log_on(url, path, query).await, result) {
                    (Err(later), Err(earlier)) => Err(StoreError::or(earlier, later)),
                    (answer, _) => answer,
                };
                if result.is_ok() {
                    break;
                }
            }
            if !retries.another(&result).await {
                return result;
            }
        }
    }

    async fn read_log_on<T: DeserializeOwned>(
        &self,
        url: &StoreUrl,
        path: &str,
        query: &impl Serialize,
    ) -> Result<T, StoreError> {
        let request = self.client.get(url.join(path)).query(query);
        let response = self.send(url, self.authorize(request)).await?;
        match response.status() {
            StatusCode::OK => {
                let answer = self.read(url, response, MAX_PAGE_BYTES).await?;
                serde_json::from_slice(&answer).map_err(|error| {
                    StoreError::unusual(url, format!("what it sends is no deploy log: {error}"))
                })
            }
            StatusCode::NOT_FOUND => Err(StoreError::unusual(
                url,
                "it has no deploy log, so its broker is older than this program",
            )),
            StatusCode::BAD_REQUEST => {
                let why = self.read(url, response, MAX_WHY_BYTES).await?;
                Err(StoreError::unusual(url, String::from_utf8_lossy(&why).trim().to_owned()))
            }
            status => Err(StoreError::from_status(url, status, self.who())),
        }
    }
}
