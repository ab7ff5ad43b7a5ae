//! What can be wrong with settings.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use config::ConfigError;

use crate::relay::InvalidTopic;

/// A packet with the longest topic fits.
pub(super) const LEAST_BYTES: usize = 2 * 1024;

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read settings file {0}")]
    Unreadable(PathBuf, #[source] io::Error),
    /// The file is no TOML.
    #[error("cannot use the settings{}", of(.0.as_deref()))]
    NotToml(Option<PathBuf>, #[source] ConfigError),
    /// A key is missing, unknown, or has a value that it cannot have.
    #[error("the settings{} are wrong at `{key}`", of(file.as_deref()))]
    Wrong {
        /// The file, when there is one.
        file: Option<PathBuf>,
        /// The key, or `.` for the whole.
        key: String,
        /// What is wrong with it.
        source: Box<ConfigError>,
    },
    /// What the file says does not go together.
    #[error("cannot use the settings of {file}")]
    Together {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: Box<SettingsError>,
    },
    /// Without users nobody could connect.
    #[error("no users file is named, so nobody may connect")]
    NoUsers,
    /// The open mode is for one machine.
    #[error("--open-loopback lets everybody do everything, so address {0} is refused")]
    OpenToTheWorld(SocketAddr),
    /// A listener with TLS, without TLS.
    #[error("`{0}` is set and no certificate for it")]
    NoCertificate(&'static str),
    /// A name that no certificate can have.
    #[error("`{0}` in [tls] names is neither a DNS name nor an address")]
    Name(String),
    /// Nodes could fetch nothing.
    #[error("the store listens nowhere")]
    NoStore,
    /// No way in.
    #[error("the relay listens nowhere")]
    Nowhere,
    /// A limit under which nothing could be published.
    #[error("`limits.{0}` is {1}, it must be at least {LEAST_BYTES}")]
    Limit(&'static str, usize),
    /// A filter of `lazy`.
    #[error("`{0}` in `lazy` is not a topic filter")]
    Lazy(String, #[source] InvalidTopic),
}

impl SettingsError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Unreadable(..) => {
                "`publisher init` writes one, as `broker/broker.toml` in its folder; or try out with --open-loopback"
            }
            Self::NotToml(..) => "correct what is shown",
            Self::Together { source, .. } => source.advice(),
            Self::Wrong { .. } | Self::Name(_) | Self::Limit(..) | Self::Lazy(..) => {
                "correct what is named; docs/settings.md has every key"
            }
            Self::NoUsers => {
                "name one (`users = \"users\"`; `publisher init` writes it), or try out with --open-loopback"
            }
            Self::OpenToTheWorld(_) => "use an address of 127.0.0.0/8 or ::1, or name a users file instead",
            Self::NoCertificate(_) => {
                "name one: [tls] cert = \"cert.pem\", key = \"key.pem\"; `publisher init --host NAME` makes them"
            }
            Self::NoStore => "set `http` or `https`",
            Self::Nowhere => "set one of `mqtt`, `mqtts`, `ws` and `wss`, or name another broker with `bus`",
        }
    }
}

/// For a message about settings: whose they are.
fn of(file: Option<&Path>) -> String {
    file.map(|file| format!(" of {}", file.display())).unwrap_or_default()
}
