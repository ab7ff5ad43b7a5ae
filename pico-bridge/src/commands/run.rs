//! `pico-bridge run`: the bridge itself.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use agent::{Settings, program::say};
use anyhow::Context as _;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use sd_notify::NotifyState;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{debug, info};

use super::Place;
use crate::{bridge::Bridge, nodes::Nodes, ports::Ports, simulate::Simulation};

/// Why the bridge does not begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotRun {
    /// Its folder cannot be made or locked.
    #[error("cannot use folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// Two bridges would take the Picos away from each other.
    #[error("a bridge runs on folder {0} already")]
    Taken(PathBuf),
}

impl CannotRun {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Folder { .. } => {
                "let the user that the bridge runs as write there, and see that the disk has space"
            }
            Self::Taken(_) => "stop that one first, or give this one settings with another `data`",
        }
    }
}

pub(super) fn run(place: &Place, simulate: Option<u8>) -> anyhow::Result<ExitCode> {
    let config = std::path::absolute(&place.config).unwrap_or_else(|_| place.config.clone());
    let pi = Settings::load(&config)?;
    let folder = pi.data.join("picos");
    let _lock = take(&folder)?;
    let nodes = Nodes::open(pi, &config)?;
    let simulation = simulate.map(|count| Simulation::start(count, &folder)).transpose()?;
    let ports = simulation.as_ref().map(Simulation::ports).or(place.ports.as_deref());
    let ports = Ports::new(ports);
    // One thread keeps a bridge small; what waits for the disk has threads of its own.
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(serve(nodes, ports))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(nodes: Nodes, ports: Ports) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let (stopper, stop) = watch::channel(false);
    say(&format!("pico-bridge ready via={}", nodes.via()));
    notify(NotifyState::Ready);
    let bridge = Bridge { nodes: Arc::new(nodes), ports, stop };
    let mut running = tokio::spawn(bridge.run());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        ended = &mut running => return ended.context("the bridge ended by itself"),
    }
    info!("stopping");
    notify(NotifyState::Stopping);
    stopper.send_replace(true);
    running.await.context("the bridge ended by itself")
}

/// The folder, for as long as the file is open.
fn take(folder: &std::path::Path) -> Result<File, CannotRun> {
    let failed = |source| CannotRun::Folder { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let file = File::create(folder.join("lock")).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Err(CannotRun::Taken(folder.to_owned())),
        locked => locked.map(|()| file).map_err(|error| failed(error.into())),
    }
}

/// Tells systemd, where it has started this.
fn notify(state: NotifyState<'_>) {
    if let Err(err) = sd_notify::notify(&[state]) {
        debug!(%err, "systemd cannot be told");
    }
}
