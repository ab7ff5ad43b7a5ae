//! `pi-worker guard`: what must happen before apps start, also when the worker itself is broken.
//!
//! It reads the journals and moves links; it knows no network and starts nothing.

use std::{path::Path, process::ExitCode};

use agent::{Settings, boot_id, journal, program::say};
use machine::Guarded;
use schemas::id::AppId;
use tracing::error;

use super::advice;
use crate::{
    data::{self, DataError},
    fault::Failed,
    installer::slots_of,
};

pub(super) fn guard(config: &Path) -> anyhow::Result<ExitCode> {
    let (settings, _lock) = match data::open(config) {
        Err(DataError::Taken { .. }) => {
            say("the worker runs and guards by itself");
            return Ok(ExitCode::SUCCESS);
        }
        opened => opened?,
    };
    let mut code = ExitCode::SUCCESS;
    for app in settings.apps()? {
        match guard_app(&settings, &app) {
            Ok(done) => say(&format!("{app}: {done}")),
            Err(err) => {
                error!(%app, hint = advice::of(&err), "{err:#}");
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

fn guard_app(settings: &Settings, app: &AppId) -> anyhow::Result<String> {
    let dirs = settings.app_dirs(app);
    let slots = slots_of(settings, app);
    let Some(saved) = journal::load(&dirs)? else { return Ok("nothing is under way".to_owned()) };
    match machine::guard(saved, slots.active().as_ref(), &boot_id()) {
        Guarded::Leave => Ok("nothing to do".to_owned()),
        Guarded::Store(saved) => {
            journal::store(&dirs, &saved)?;
            Ok("on trial, one try counted".to_owned())
        }
        Guarded::SwitchBack { saved, to } => {
            journal::store(&dirs, &saved)?;
            slots.switch(to.as_deref()).map_err(Failed::from)?;
            Ok(to.map_or("no try left, nothing before it".to_owned(), |slot| {
                format!("no try left, back to {}", slot.version)
            }))
        }
    }
}

#[cfg(test)]
mod tests;
