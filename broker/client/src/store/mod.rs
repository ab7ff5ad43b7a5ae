//! The object store over HTTP: what is published is put there, what a node lacks is fetched from there.
//!
//! Objects and manifests are named by the digest of their plain content and stored compressed. This client moves the
//! stored bytes, bounds how many it takes and carries on where it was cut off; to decompress them and to check the
//! digest is for its callers, who trust no store.

mod address;
mod enroll;
mod error;
mod fetch;
mod key;
mod log;
mod missing;
mod page;
#[cfg(test)]
mod tests;
mod upload;

use std::{sync::Arc, time::Duration};

use reqwest::{Client, RequestBuilder, Response};
use rustls::ClientConfig;
use tokio::time::{sleep, timeout};

pub use self::{
    address::{InvalidStoreUrl, StoreUrl},
    enroll::Door,
    error::StoreError,
    fetch::Body,
    key::Key,
    missing::Missing,
    page::WebToken,
    upload::{Source, Uploaded},
};
use crate::{
    Credentials, Tls,
    backoff::{Backoff, random},
};

/// TCP and TLS; a store that takes longer is as good as down.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A store that says nothing for so long is given up, however much is still to come.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// How often what failed for a passing reason is tried again.
const RETRIES: u32 = 3;
/// The first retry comes within this time; three of them bridge a restart of the store.
const FIRST_RETRY: Duration = Duration::from_millis(700);
/// The longest time between two tries.
const LONGEST_RETRY: Duration = Duration::from_secs(10);

/// A client of the store. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Store {
    client: Client,
    urls: Arc<[StoreUrl]>,
    credentials: Option<Arc<Credentials>>,
    patience: Patience,
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
struct Patience {
    silence: Duration,
    first_retry: Duration,
}

impl Store {
    /// A client of the stores at `urls`, which hold the same and are tried in turn. Reading needs no credentials;
    /// `tls` says whose certificates are believed, those that browsers believe when it is none. Makes ring the crypto provider of this process, unless it has one.
    ///
    /// # Errors
    /// When there is no address, or TLS cannot be set up.
    pub fn open(
        urls: Vec<StoreUrl>,
        credentials: Option<Credentials>,
        tls: Option<&Tls>,
    ) -> Result<Self, StoreError> {
        if urls.is_empty() {
            return Err(StoreError::NoAddress);
        }
        // Fails when there is a provider already, which then is the one to use.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = Client::builder().connect_timeout(CONNECT_LIMIT).tcp_nodelay(true).http1_only();
        let client = match tls {
            Some(tls) => client.use_preconfigured_tls(ClientConfig::clone(&tls.config())),
            None => client,
        };
        Ok(Self {
            client: client.build().map_err(|error| StoreError::Client { source: error.into() })?,
            urls: urls.into(),
            credentials: credentials.map(Arc::new),
            patience: Patience { silence: SILENCE_LIMIT, first_retry: FIRST_RETRY },
        })
    }

    fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.credentials {
            Some(credentials) => request.basic_auth(&credentials.user, Some(credentials.password.reveal())),
            None => request,
        }
    }

    /// Who we are, as error messages name it.
    fn who(&self) -> String {
        match &self.credentials {
            Some(credentials) => format!("user `{}`", credentials.user),
            None => "anybody without user and password".to_owned(),
        }
    }

    /// Sends a request whose body is at hand.
    async fn send(&self, url: &StoreUrl, request: RequestBuilder) -> Result<Response, StoreError> {
        match timeout(self.patience.silence, request.send()).await {
            Ok(sent) => sent.map_err(|error| StoreError::from_send(url, error)),
            Err(_) => Err(StoreError::slow(url, self.patience.silence)),
        }
    }

    fn retries(&self) -> Retries {
        Retries { left: RETRIES, backoff: Backoff::new(self.patience.first_retry, LONGEST_RETRY) }
    }
}

/// What is left of the retries of one operation.
struct Retries {
    left: u32,
    backoff: Backoff,
}

impl Retries {
    /// Waits and says true when what failed is worth another try.
    async fn another<T>(&mut self, result: &Result<T, StoreError>) -> bool {
        let is_worth_it = result.as_ref().is_err_and(StoreError::is_transient) && self.left > 0;
        if is_worth_it {
            self.left -= 1;
            sleep(self.backoff.next(random())).await;
        }
        is_worth_it
    }
}
