//! The object store: content-addressed files over HTTP and HTTPS, resumable both ways.
//!
//! Everything lies in `<data>/store/v1/…` as it is requested, so that any static HTTP server could serve it too.

mod chunks;
mod door;
mod http;
mod layout;
mod log;
mod metrics;
mod range;
mod server;
mod upload;

use std::{fmt, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use axum::Router;
use tokio::{net::TcpListener, sync::watch, task::JoinSet};
use tracing::error;

pub(crate) use self::{
    chunks::Chunks,
    door::Door,
    http::{Caller, log_in},
};
use self::{http::Site, layout::Layout, log::Desk, server::Server, upload::UploadLimits};
use crate::{
    access::Access,
    advice,
    log::Log,
    metrics::Metrics,
    places::{ConnectionLimits, Places},
    settings::Settings,
    tls::Tls,
};

/// How long requests may take to end when the store does.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// Why the store does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The port is taken, or not ours to take.
    #[error("cannot listen for {scheme} on {address}")]
    Bind {
        /// What was to be spoken there.
        scheme: Scheme,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The folder cannot be made.
    #[error("cannot make store folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl StoreError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Bind { source, .. } => advice::of_address(source),
            Self::Folder { .. } => advice::DISK,
        }
    }
}

/// What is spoken where the store listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// HTTP over TCP.
    Http,
    /// HTTP over TLS.
    Https,
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// A running store.
#[derive(Debug)]
pub(crate) struct Store {
    listeners: Vec<(Scheme, SocketAddr)>,
    servers: JoinSet<()>,
    stop: watch::Sender<bool>,
}

impl Store {
    /// Starts a store that listens where `settings` say, and keeps its files in their folder; `page` is served beside it.
    pub(crate) async fn start(
        settings: &Settings,
        access: Arc<Access>,
        tls: Option<Arc<Tls>>,
        door: Option<Door>,
        log: Log,
        (metrics, page): (Metrics, Router),
    ) -> Result<Self, StoreError> {
        let (root, limits) = (settings.data.join("store"), &settings.limits);
        let layout =
            Layout::create(&root).map_err(|source| StoreError::Folder { path: root.clone(), source })?;
        let mut bound = Vec::new();
        for (scheme, address) in settings.store_listeners() {
            let failed = |source| StoreError::Bind { scheme, address, source };
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            bound.push((scheme, listener.local_addr().map_err(failed)?, listener));
        }
        let connections =
            ConnectionLimits { total: limits.http_connections, per_address: limits.connections_per_address };
        let places = Places::new(connections);
        let uploads = UploadLimits { stored_bytes: limits.object_bytes, plain_bytes: limits.plain_bytes };
        let desk = Desk { log, access: Arc::clone(&access) };
        let measured = metrics::Desk { metrics: Arc::new(metrics), access: Arc::clone(&access) };
        let router = http::router(Site::new(layout, access, uploads, door))
            .merge(log::router(desk))
            .merge(metrics::router(measured))
            .merge(page);
        let (stop, stopped) = watch::channel(false);
        let (mut listeners, mut servers) = (Vec::new(), JoinSet::new());
        for (scheme, address, listener) in bound {
            listeners.push((scheme, address));
            let tls = tls.clone().filter(|_| scheme == Scheme::Https);
            let server = Server { router: router.clone(), places: Arc::clone(&places), tls };
            servers.spawn(server.serve(listener, stopped.clone()));
        }
        Ok(Self { listeners, servers, stop })
    }

    /// Where it listens.
    pub(crate) fn listeners(&self) -> &[(Scheme, SocketAddr)] {
        &self.listeners
    }

    /// Ends only when the store cannot go on.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match self.servers.join_next().await {
            Some(Err(err)) => anyhow::Error::new(err).context("the store cannot go on"),
            Some(Ok(())) | None => anyhow::anyhow!("the store has ended"),
        }
    }

    /// Takes no more requests and ends those that are there.
    pub(crate) async fn stop(mut self) {
        // The servers are gone if nobody listens to this.
        let _ = self.stop.send(true);
        let all = async {
            while let Some(ended) = self.servers.join_next().await {
                if let Err(err) = ended {
                    error!(error = %err, "store ended badly");
                }
            }
        };
        // What is still being sent can be resumed; the rest ends with the set.
        let _ = tokio::time::timeout(STOP_LIMIT, all).await;
    }
}
