//! `pi-worker run`: the node itself.

use std::{
    path::Path,
    pin::{Pin, pin},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use agent::{Pulse, program::say};
use anyhow::Context as _;
use sd_notify::NotifyState;
use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
};
use tracing::{debug, info, warn};

use super::enroll;
use crate::{data, installer::TreeInstaller};

/// How long work on the disk that cannot be ended early holds up the end of the worker.
const LAST_WORK: Duration = Duration::from_secs(2);
/// How often systemd is told that a node is well that waits to be let in; the unit asks for twice in 30 s.
const WAITING_PULSE: Duration = Duration::from_secs(10);

pub(super) fn run(config: &Path, stop_apps: bool) -> anyhow::Result<ExitCode> {
    let (settings, _lock) = data::open(config)?;
    // One thread for the loop keeps a worker small; what waits for the disk or hashes has threads of its own.
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(serve(settings, stop_apps));
    runtime.shutdown_timeout(LAST_WORK);
    ended.map(|()| ExitCode::SUCCESS)
}

async fn serve(settings: agent::Settings, stop_apps: bool) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let shutdown = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        info!("stopping");
        notify(NotifyState::Stopping);
    };
    let mut shutdown = pin!(shutdown);
    if !come_in(&settings, shutdown.as_mut()).await? {
        return Ok(());
    }
    let node = settings.node.clone();
    let pulse = |pulse| match pulse {
        Pulse::Ready => {
            notify(NotifyState::Ready);
            say(&format!("pi-worker ready node={node}"));
        }
        Pulse::Alive => notify(NotifyState::Watchdog),
    };
    let mut installer = None;
    let of = settings.clone();
    let make = |notices| installer.insert(Arc::new(TreeInstaller::new(of, notices))).clone();
    agent::run(settings, make, pulse, shutdown).await?;
    if let Some(installer) = installer.filter(|_| stop_apps) {
        for (app, stopped) in installer.stop_apps().await? {
            if let Err(fault) = stopped {
                warn!(%app, text = %fault.text, "cannot stop app");
            }
        }
    }
    Ok(())
}

/// A node that was invited asks until it is let in; false when it is to stop before.
async fn come_in(settings: &agent::Settings, mut shutdown: Pin<&mut impl Future>) -> anyhow::Result<bool> {
    let mut first = pin!(enroll::first(settings));
    let mut pulse = tokio::time::interval(WAITING_PULSE);
    loop {
        tokio::select! {
            biased;
            let_in = &mut first => return let_in.map(|()| true),
            _ = &mut shutdown => return Ok(false),
            // A node that waits to be let in is well: for systemd it has started.
            _ = pulse.tick() => {
                notify(NotifyState::Ready);
                notify(NotifyState::Watchdog);
            }
        }
    }
}

/// Tells systemd, where it has started this.
fn notify(state: NotifyState<'_>) {
    if let Err(err) = sd_notify::notify(&[state]) {
        debug!(%err, "systemd cannot be told");
    }
}
