//! The object store: content-addressed files over HTTP, resumable both ways.
//!
//! Everything lies in `<data>/store/v1/…` as it is requested, so that any static HTTP server could serve it too.

mod http;
mod layout;
mod range;
mod server;
mod upload;

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tracing::error;

use self::{http::Site, layout::Layout, upload::UploadLimits};
use crate::{
    access::Access,
    places::{ConnectionLimits, Places},
    settings::Limits,
};

/// How long requests may take to end when the store does.
const STOP_LIMIT: Duration = Duration::from_secs(3);

/// Why the store does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The port is taken, or not ours to take.
    #[error("cannot listen for HTTP on {address}")]
    Bind {
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

/// A running store.
#[derive(Debug)]
pub(crate) struct Store {
    address: SocketAddr,
    server: JoinHandle<()>,
    stop: watch::Sender<bool>,
}

impl Store {
    /// Starts a store on `address` that keeps its files below the folder `data`.
    pub(crate) async fn start(
        address: SocketAddr,
        data: &Path,
        access: Arc<Access>,
        limits: &Limits,
    ) -> Result<Self, StoreError> {
        let root = data.join("store");
        let layout =
            Layout::create(&root).map_err(|source| StoreError::Folder { path: root.clone(), source })?;
        let failed = |source| StoreError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let connections =
            ConnectionLimits { total: limits.http_connections, per_address: limits.connections_per_address };
        let limits = UploadLimits { stored_bytes: limits.object_bytes, plain_bytes: limits.plain_bytes };
        let (stop, stopped) = watch::channel(false);
        let router = http::router(Site::new(layout, access, limits));
        let server = tokio::spawn(server::serve(listener, router, Places::new(connections), stopped));
        Ok(Self { address, server, stop })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends only when the store cannot go on.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        match (&mut self.server).await {
            Ok(()) => anyhow::anyhow!("the store has ended"),
            Err(err) => anyhow::Error::new(err).context("the store cannot go on"),
        }
    }

    /// Takes no more requests and ends those that are there.
    pub(crate) async fn stop(mut self) {
        // The server is gone if nobody listens to this.
        let _ = self.stop.send(true);
        match tokio::time::timeout(STOP_LIMIT, &mut self.server).await {
            Ok(Ok(())) => {}
            Ok(Err(err)) => error!(error = %err, "store ended badly"),
            // What is still being sent can be resumed.
            Err(_late) => self.server.abort(),
        }
    }
}
