//! `pi-worker status`: what the node said last, and whether its worker runs.

use std::{fmt::Write as _, path::Path, process::ExitCode};

use agent::{
    program::say,
    status_file::{self, AppStatus, NodeStatus},
};
use jiff::{Timestamp, tz::TimeZone};
use schemas::{hold::HoldCode, id::AppId, report::Target, status::Phase};
use serde::Serialize;

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
        let reports = &status.report.apps;
        let target =
            reports.iter().find(|report| report.app == *app).and_then(|report| report.target.as_ref());
        show_app(&mut text, app, of, target);
    }
    text.truncate(text.trim_end().len());
    text
}

fn show_app(
    text: &mut String,
    app: &AppId,
    AppStatus { version, update, status }: &AppStatus,
    target: Option<&Target>,
) {
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
    if let Some(target) = target.filter(|_| status.phase == Phase::Deferred) {
        let _ = writeln!(text, "        {}", deferred(target, &TimeZone::system()));
    }
    if !status.last_result.is_empty() {
        let error =
            if status.last_error.is_empty() { String::new() } else { format!(": {}", status.last_error) };
        let _ = writeln!(text, "        last order {}{error}", status.last_result);
    }
}

/// As in `deferred (window) until Mon 02:00: 1.1.0 waits for its maintenance window`, in local time.
fn deferred(target: &Target, zone: &TimeZone) -> String {
    let hold = target.hold.map(|hold| format!(" ({hold})")).unwrap_or_default();
    let form = if target.hold == Some(HoldCode::Window) { "%a %H:%M" } else { "%Y-%m-%d %H:%M" };
    let time = target.until.and_then(|time| Timestamp::from_second(i64::try_from(time.0).ok()?).ok());
    let until = time.map(|time| format!(" until {}", time.to_zoned_datetime(zone.clone()).strftime(form)));
    let until = until.unwrap_or_default();
    format!("deferred{hold}{until}: {} waits for {}", target.version, target.waits_for)
}

fn spelled(at: &schemas::status::Timestamp) -> String {
    serde_json::to_value(at).ok().and_then(|at| Some(at.as_str()?.to_owned())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use schemas::{id::Revision, time::UnixTime};

    use super::*;

    #[test]
    fn an_order_that_waits_says_for_what_and_until_when() {
        let target = |hold, until| Target {
            revision: Revision(6),
            version: "1.1.0".into(),
            progress_permille: 0,
            attempt: 1,
            waits_for: "its maintenance window".into(),
            hold,
            until,
        };
        let monday = Some(UnixTime(1_799_020_800 + 7_200));
        for (target, expected) in [
            (
                target(Some(HoldCode::Window), monday),
                "deferred (window) until Mon 02:00: 1.1.0 waits for its",
            ),
            (target(Some(HoldCode::Lock), None), "deferred (lock): 1.1.0"),
            (target(None, monday), "deferred until 2027-01-04 02:00: 1.1.0"),
        ] {
            let said = deferred(&target, &TimeZone::UTC);
            assert!(said.starts_with(expected), "{said}");
        }
    }
}
