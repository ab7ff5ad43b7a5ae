//! Relay and store in one process.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, info, warn};

use crate::{
    access::Access,
    folder::{self, Lock},
    relay::{Relay, RelayError},
    settings::Settings,
    store::Store,
};

/// Open files that are kept for the store, the log and the rest.
const FILES_FOR_OTHERS: u64 = 500;

/// A running service.
#[derive(Debug)]
pub struct Service {
    relay: Option<Relay>,
    store: Store,
    /// Given back last.
    _lock: Lock,
}

impl Service {
    /// Starts what `settings` say. Both listeners are bound when this returns.
    ///
    /// # Errors
    /// Names the port, file or folder that cannot be used.
    pub async fn start(mut settings: Settings) -> anyhow::Result<Self> {
        settings.check()?;
        let lock = folder::lock(&settings.data)?;
        settings.limits.connections = settings.limits.connections.min(possible_connections());
        let access = Arc::new(access(&settings)?);
        let relay = match &settings.bus {
            Some(bus) => {
                info!(%bus, "relay is off, another broker is the bus");
                None
            }
            None => Some(start_relay(&settings, Arc::clone(&access))?),
        };
        let store = Store::start(settings.http, &settings.data, access, &settings.limits).await?;
        Ok(Self { relay, store, _lock: lock })
    }

    /// Where the relay listens, if it runs.
    pub fn mqtt_address(&self) -> Option<SocketAddr> {
        self.relay.as_ref().map(Relay::address)
    }

    /// Where the store listens.
    pub fn http_address(&self) -> SocketAddr {
        self.store.address()
    }

    /// Ends when the service cannot go on, and says why.
    pub async fn failed(&mut self) -> anyhow::Error {
        match &mut self.relay {
            Some(relay) => tokio::select! {
                err = relay.failed() => anyhow::Error::new(err).context("the relay cannot go on"),
                err = self.store.failed() => err,
            },
            None => self.store.failed().await,
        }
    }

    /// Whether a message goes through the relay and back within `limit`.
    pub async fn is_alive(&self, limit: Duration) -> bool {
        match &self.relay {
            Some(relay) => tokio::time::timeout(limit, relay.probe()).await.unwrap_or(false),
            None => true,
        }
    }

    /// Stops cleanly: everything that was acknowledged is stored.
    pub async fn stop(self) {
        let store = self.store.stop();
        match self.relay {
            Some(relay) => {
                tokio::join!(relay.stop(), store);
            }
            None => store.await,
        }
    }
}

fn access(settings: &Settings) -> anyhow::Result<Access> {
    match &settings.users {
        _ if settings.open_loopback => {
            warn!("everybody on this machine may do everything here (--open-loopback): only for trying out");
            Ok(Access::open(&settings.fleet))
        }
        Some(users) => Ok(Access::users(users.clone(), settings.fleet.clone())?),
        None => Err(crate::SettingsError::NoUsers.into()),
    }
}

fn start_relay(settings: &Settings, access: Arc<Access>) -> anyhow::Result<Relay> {
    let lazy = settings.lazy_filters()?;
    let relay: Result<Relay, RelayError> =
        Relay::start(settings.mqtt, &settings.data, access, &settings.limits, lazy);
    relay.context("cannot start the relay")
}

/// Each connection is a file, and the usual soft limit of 1,024 would stop a fleet. Refusing a client in time is
/// better than running out of files, which would stop the store and the log too.
fn possible_connections() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(err) = setrlimit(Resource::Nofile, raised) {
        warn!(error = %err, "cannot raise the limit of open files");
    }
    let files = getrlimit(Resource::Nofile).current;
    let possible = files.map_or(usize::MAX, |files| files.saturating_sub(FILES_FOR_OTHERS) as usize);
    debug!(?files, possible, "open files limit the connections");
    possible
}
