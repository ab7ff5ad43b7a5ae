//! `pi-worker status`: what the node said last, and whether its worker runs.

use std::{fmt::Write as _, path::Path, process::ExitCode};

use agent::status_file::{self, AppStatus, NodeStatus};
use schemas::id::AppId;
use serde::Serialize;

use super::say;
use crate::data::{self, Lock};

#[derive(Debug, Serialize)]
struct Shown {
    running: bool,
    status: NodeStatus,
}

pub(super) fn status(config: &Path, json: bool) -> anyhow::Result<ExitCode> {
    let settings = data::load(config)?;
    let status = status_file::read(&settings.status_file())?;
    let shown = Shown { running: Lock::is_taken(&settings.data), status };
    say(&if json { serde_json::to_string_pretty(&shown)? } else { for_people(&shown) });
    Ok(ExitCode::SUCCESS)
}

fn for_people(Shown { running, status }: &Shown) -> String {
    let worker = if *running { format!("runs (pid {})", status.pid) } else { "does not run".to_owned() };
    let groups: Vec<_> = status.info.groups.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "node    {}, groups {}\nworker  {worker}, said last at {}\nbus     {}\n",
        status.info.node,
        groups.join(" "),
        spelled(&status.at),
        status.bus
    );
    for (app, of) in &status.apps {
        show_app(&mut text, app, of);
    }
    text.truncate(text.trim_end().len());
    text
}

fn show_app(text: &mut String, app: &AppId, AppStatus { version, update, status }: &AppStatus) {
    let or = |text: &str, instead: &str| if text.is_empty() { instead.to_owned() } else { text.to_owned() };
    // Writing to a string does not fail.
    let _ = writeln!(text, "app     {app} {}", or(&version.installed, "not installed"));
    if !version.commit.is_empty() {
        let _ = writeln!(text, "        commit {}", version.commit);
    }
    if !version.previous.is_empty() {
        let _ = writeln!(text, "        can go back to {}", version.previous);
    }
    if update.in_progress {
        let percent = status.progress_ratio * 100.0;
        let _ = writeln!(text, "        {} {percent:.0} %, to {}", status.phase.name(), status.target);
    }
    if !status.last_result.is_empty() {
        let error =
            if status.last_error.is_empty() { String::new() } else { format!(": {}", status.last_error) };
        let _ = writeln!(text, "        last order {}{error}", status.last_result);
    }
}

fn spelled(at: &schemas::status::Timestamp) -> String {
    serde_json::to_value(at).ok().and_then(|at| Some(at.as_str()?.to_owned())).unwrap_or_default()
}
