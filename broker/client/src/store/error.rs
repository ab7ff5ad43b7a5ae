//! What can go wrong with a store, told apart by whether it is worth another try.

use std::{error::Error, io, path::PathBuf, time::Duration};

use reqwest::StatusCode;

use super::{Key, StoreUrl};
use crate::cause::{self, Said};

/// What went wrong beneath.
type Cause = Box<dyn Error + Send + Sync>;

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Nowhere to ask.
    #[error("no address of a store is set")]
    NoAddress,
    /// The HTTP client cannot work on this machine.
    #[error("cannot set up the HTTP client")]
    Client {
        /// What went wrong beneath.
        #[source]
        source: Cause,
    },
    /// It does not answer. Passing.
    #[error("cannot reach the store at {url}")]
    Unreachable {
        /// Where it was looked for.
        url: StoreUrl,
        /// What went wrong beneath.
        #[source]
        source: Cause,
    },
    /// Its certificate is not believed. Passing, for clocks are set and certificates renewed.
    #[error("the certificate of the store at {url} is not believed")]
    Untrusted {
        /// Where the store is.
        url: StoreUrl,
        /// What is wrong with it.
        #[source]
        source: Cause,
    },
    /// The connection ended in the middle. Passing.
    #[error("connection to the store at {url} was cut")]
    Cut {
        /// Where the store is.
        url: StoreUrl,
        /// What went wrong beneath.
        #[source]
        source: Cause,
    },
    /// It has gone silent. Passing.
    #[error("the store at {url} said nothing for {silent_secs} s")]
    Slow {
        /// Where the store is.
        url: StoreUrl,
        /// How long it said nothing.
        silent_secs: u64,
    },
    /// It sends so little that it may as well send nothing. Passing.
    #[error("the store at {url} sent only {bytes} bytes in {secs} s")]
    Crawling {
        /// Where the store is.
        url: StoreUrl,
        /// How much it sent.
        bytes: u64,
        /// In which time.
        secs: u64,
    },
    /// It answers that it cannot serve us now. Passing.
    #[error("the store at {url} is in trouble (it answers {status})")]
    Busy {
        /// Where the store is.
        url: StoreUrl,
        /// What it answers.
        status: u16,
    },
    /// Somebody else uploads the same at the same time. Passing.
    #[error("the store at {url} takes {key} from somebody else at the same time")]
    Contended {
        /// Where the store is.
        url: StoreUrl,
        /// What is uploaded.
        key: Key,
    },
    /// It does not have it.
    #[error("the store at {url} has no {key}")]
    Absent {
        /// Where the store is.
        url: StoreUrl,
        /// What was asked for.
        key: Key,
    },
    /// It does not let us.
    #[error("the store at {url} does not permit this to {who}")]
    Denied {
        /// Where the store is.
        url: StoreUrl,
        /// As whom we asked.
        who: String,
    },
    /// It is longer than it can be.
    #[error("{key} has {bytes} bytes in the store at {url}, more than the {max_bytes} that it may have")]
    TooLong {
        /// Where the store is.
        url: StoreUrl,
        /// What was asked for.
        key: Key,
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        max_bytes: u64,
    },
    /// It is longer than the store takes.
    #[error("{key} is larger than the store at {url} takes")]
    TooLarge {
        /// Where the store is.
        url: StoreUrl,
        /// What was uploaded.
        key: Key,
    },
    /// What arrived there does not have the digest that names it.
    #[error("the store at {url} found that what it got as {key} is something else")]
    Mismatch {
        /// Where the store is.
        url: StoreUrl,
        /// What was uploaded.
        key: Key,
    },
    /// It answers what no store should.
    #[error("what answers at {url} does not behave like a store: {what}")]
    Unusual {
        /// Where the store is.
        url: StoreUrl,
        /// What is wrong with its answer.
        what: String,
    },
    /// What is to be uploaded cannot be read.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong beneath.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// What a person should do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoAddress => "name a store in the settings, as in store = [\"http://192.168.1.10:8080\"]",
            Self::Client { .. } => "see that this machine lets programs open sockets",
            Self::Unreachable { .. } => {
                "see that the broker runs there, that address and port are right, and that both sides agree on TLS: https:// or http://"
            }
            Self::Untrusted { .. } => {
                "see that `ca` names the fleet's CA file, that the address is one of those in the certificate, and that the clock is right"
            }
            Self::Cut { .. } | Self::Slow { .. } | Self::Crawling { .. } => {
                "see that the network is fine, and try again: what has arrived is kept"
            }
            Self::Busy { .. } => "see the log of the broker, and the space on its disk",
            Self::Contended { .. } => "wait until the other one is done",
            Self::Absent { .. } => "announce the release again: that uploads what is missing",
            Self::Denied { .. } => {
                "see that user and password here are those in the broker's users file, and that the role is publisher or admin"
            }
            Self::TooLong { .. } => {
                "announce the release again, and see who else writes to the store's folder"
            }
            Self::TooLarge { .. } => "raise `object_bytes` in [limits] of broker.toml, or leave the file out",
            Self::Mismatch { .. } => "try again when nothing writes to the file",
            Self::Unusual { .. } => {
                "see that the port is that of the broker's store (`http` or `https` in broker.toml)"
            }
            Self::File { .. } => "see that this user may read it",
        }
    }

    /// Whether the same may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Untrusted { .. }
            | Self::Cut { .. }
            | Self::Slow { .. }
            | Self::Crawling { .. }
            | Self::Busy { .. }
            | Self::Contended { .. } => true,
            Self::NoAddress
            | Self::Client { .. }
            | Self::Absent { .. }
            | Self::Denied { .. }
            | Self::TooLong { .. }
            | Self::TooLarge { .. }
            | Self::Mismatch { .. }
            | Self::Unusual { .. }
            | Self::File { .. } => false,
        }
    }

    /// Whether the store does not have what was asked for.
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent { .. })
    }

    /// Of the errors of two stores that hold the same, the one that leaves more hope, else the later.
    pub(super) fn or(self, later: Self) -> Self {
        if self.is_transient() && !later.is_transient() { self } else { later }
    }

    /// A request that was not answered.
    pub(super) fn from_send(url: &StoreUrl, error: reqwest::Error) -> Self {
        let (url, is_connect) = (url.clone(), error.is_connect());
        let error = error.without_url();
        if let Some(source) = cause::distrust(&error) {
            return Self::Untrusted { url, source: source.into() };
        }
        let source = Said::innermost(&error).into();
        if is_connect { Self::Unreachable { url, source } } else { Self::Cut { url, source } }
    }

    /// A body that ended before its end.
    pub(super) fn cut(url: &StoreUrl, source: impl Into<Cause>) -> Self {
        Self::Cut { url: url.clone(), source: source.into() }
    }

    /// A store that said nothing for a while.
    pub(super) fn slow(url: &StoreUrl, silence: Duration) -> Self {
        Self::Slow { url: url.clone(), silent_secs: silence.as_secs() }
    }

    /// An answer that breaks the rules.
    pub(super) fn unusual(url: &StoreUrl, what: impl Into<String>) -> Self {
        Self::Unusual { url: url.clone(), what: what.into() }
    }

    /// A status that is no success and has no meaning of its own for the request.
    pub(super) fn from_status(url: &StoreUrl, status: StatusCode, who: String) -> Self {
        let url = url.clone();
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Denied { url, who },
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                Self::Busy { url, status: status.as_u16() }
            }
            status if status.is_server_error() => Self::Busy { url, status: status.as_u16() },
            status => Self::Unusual { url, what: format!("it answers {}", status.as_u16()) },
        }
    }
}
