//! The page of the broker, which it serves beside the store.

use reqwest::{StatusCode, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, StoreUrl};

/// An answer is a few hundred bytes.
const MAX_ANSWER_BYTES: u64 = 4 * 1024;

/// What logs a browser in on the page, once and soon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WebToken {
    /// Where it does.
    pub url: String,
    /// Until when, in UTC.
    pub expires_at: String,
}

/// The same as the broker says it.
#[derive(Deserialize)]
struct Answer {
    path: String,
    expires_at: String,
}

impl Store {
    /// A token that logs a browser in as the one who asks, at the first address that answers.
    ///
    /// # Errors
    /// When no broker answers, when it has no page, or when it does not permit us to read the fleet.
    pub async fn web_token(&self) -> Result<WebToken, StoreError> {
        let mut failure = StoreError::NoAddress;
        for url in self.urls.iter() {
            match self.web_token_on(url).await {
                Ok(token) => return Ok(token),
                Err(error) => failure = failure.or(error),
            }
        }
        Err(failure)
    }

    async fn web_token_on(&self, url: &StoreUrl) -> Result<WebToken, StoreError> {
        let request = self.client.post(url.join("api/v1/web-token")).header(CONTENT_TYPE, "application/json");
        let response = self.send(url, self.authorize(request.body("{}"))).await?;
        match response.status() {
            StatusCode::OK => {
                let answer = self.read(url, response, MAX_ANSWER_BYTES).await?;
                let answer: Answer = serde_json::from_slice(&answer).map_err(|error| {
                    StoreError::unusual(url, format!("what it sends is no token: {error}"))
                })?;
                let url = url.join(answer.path.trim_start_matches('/'));
                Ok(WebToken { url, expires_at: answer.expires_at })
            }
            StatusCode::NOT_FOUND => Err(StoreError::unusual(
                url,
                "it has no page: its broker is older than this program, or `page` is switched off in its settings",
            )),
            StatusCode::TOO_MANY_REQUESTS => Err(StoreError::unusual(
                url,
                "so many tokens were made and not used that it gives no more for ten minutes",
            )),
            status => Err(StoreError::from_status(url, status, self.who())),
        }
    }
}
