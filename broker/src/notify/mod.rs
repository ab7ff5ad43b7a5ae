//! Webhooks: what happens is posted to those who want to be told.
//!
//! A notice is put into the outbox in the same transaction as the entry of the deploy log that it is about. So it is
//! delivered at least once whatever is killed in between; its id lets receivers drop doubles. Each receiver has a task of
//! its own: a slow one holds up nobody else.

mod courier;
mod notice;
mod signature;

use std::{collections::BTreeSet, fs, io, path::PathBuf};

use tokio::task::JoinSet;

use self::courier::Courier;
pub(crate) use self::notice::Subscriptions;
pub use self::notice::{Notice, NoticeKind};
use crate::{
    log::{Log, LogError},
    settings::WebhookSettings,
};

/// A shorter secret could be guessed.
const LEAST_SECRET_BYTES: usize = 16;

/// Why nobody can be told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotifyError {
    /// The secret cannot be read.
    #[error("cannot read the secret of a webhook in {path}")]
    Secret {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is too short.
    #[error("the secret of a webhook in {0} is shorter than {LEAST_SECRET_BYTES} bytes")]
    ShortSecret(PathBuf),
    /// Two have the same address.
    #[error("two webhooks have the same address at {0}")]
    Twice(String),
    /// No HTTP on this machine.
    #[error("cannot set up the HTTP client of webhooks")]
    Client(#[source] reqwest::Error),
    /// The outbox.
    #[error(transparent)]
    Log(#[from] LogError),
}

impl NotifyError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Secret { .. } | Self::ShortSecret(_) => {
                "make one with `openssl rand -hex 32`; `secret_file` in the settings names it, and this user must be able to read it"
            }
            Self::Twice(_) => "put what they are told into one `on`",
            Self::Client(_) => "see that this machine lets programs open sockets",
            Self::Log(error) => error.advice(),
        }
    }
}

/// Tells those of the settings until it is dropped.
#[derive(Debug)]
pub(crate) struct Notifier(JoinSet<()>);

impl Notifier {
    /// Starts to deliver what is in the outbox of `log`, and what comes into it.
    pub(crate) fn start(webhooks: &[WebhookSettings], log: &Log) -> Result<Self, NotifyError> {
        let mut urls = BTreeSet::new();
        for webhook in webhooks {
            read_secret(webhook)?;
            if !urls.insert(webhook.url.as_str()) {
                return Err(NotifyError::Twice(webhook.url.host().to_owned()));
            }
        }
        log.keep_parcels_for(urls.iter().map(ToString::to_string).collect());
        let mut couriers = JoinSet::new();
        for webhook in webhooks {
            let courier = Courier::new(webhook.clone(), log.clone()).map_err(NotifyError::Client)?;
            couriers.spawn(courier.run());
        }
        Ok(Self(couriers))
    }

    /// Ends all deliveries; what was not confirmed is delivered after the next start.
    pub(crate) async fn stop(mut self) {
        self.0.shutdown().await;
    }
}

/// The secret, without the end of its line.
fn read_secret(webhook: &WebhookSettings) -> Result<Vec<u8>, NotifyError> {
    let path = &webhook.secret_file;
    let secret = fs::read(path).map_err(|source| NotifyError::Secret { path: path.clone(), source })?;
    let secret = secret.trim_ascii_end();
    if secret.len() < LEAST_SECRET_BYTES {
        return Err(NotifyError::ShortSecret(path.clone()));
    }
    Ok(secret.to_vec())
}
