//! `pi-worker verify`: everything that is installed, read back from the disk now.

use std::{path::Path, process::ExitCode};

use agent::program::say;

use crate::{data, fault::Failed, installer::slots_of};

pub(super) fn verify(config: &Path) -> anyhow::Result<ExitCode> {
    let settings = data::load(config)?;
    let (mut slots, mut drifts) = (0, 0);
    for app in settings.apps()? {
        let found = slots_of(&settings, &app).verify().map_err(Failed::from)?;
        slots += found.len();
        for (tree, differs) in found {
            drifts += differs.len();
            for drift in differs {
                say(&format!("{app} {} {drift}", tree.short()));
            }
        }
    }
    say(&format!("{slots} slots read back, {drifts} differences"));
    Ok(if drifts == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
