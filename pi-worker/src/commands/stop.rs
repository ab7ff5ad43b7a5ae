//! `pi-worker stop`: the apps of a node whose worker does not run any more.

use std::{path::Path, process::ExitCode};

use agent::program::say;
use anyhow::Context as _;
use tokio::{runtime, sync::mpsc::unbounded_channel};

use crate::{data, installer::TreeInstaller};

pub(super) fn stop(config: &Path) -> anyhow::Result<ExitCode> {
    // A worker would start them again, so there must be none.
    let (settings, _lock) = data::open(config)?;
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let stopped = runtime.block_on(async {
        let (notices, _nobody_listens) = unbounded_channel();
        TreeInstaller::new(settings, notices).stop_apps().await
    })?;
    let mut code = ExitCode::SUCCESS;
    for (app, stopped) in &stopped {
        match stopped {
            Ok(()) => say(&format!("{app} is stopped")),
            Err(fault) => {
                say(&format!("{app} cannot be stopped: {}", fault.text));
                code = ExitCode::FAILURE;
            }
        }
    }
    if stopped.is_empty() {
        say("no app is installed here");
    }
    Ok(code)
}
