//! systemd through its own commands, for nodes where D-Bus cannot be reached.

use std::{
    io,
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{process::Command, time::sleep};

use super::UnitState;

/// How often a unit is looked at where nothing tells of changes.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Starts the unit; gives `done` or what `systemctl` said.
pub(super) async fn start(unit: &str) -> io::Result<String> {
    systemctl(&["reset-failed", unit]).await?;
    Ok(done_or_said(&systemctl(&["start", unit]).await?))
}

/// Stops the unit; gives `done` or what `systemctl` said.
pub(super) async fn stop(unit: &str) -> io::Result<String> {
    Ok(done_or_said(&systemctl(&["stop", unit]).await?))
}

/// The state of the unit.
pub(super) async fn state(unit: &str) -> io::Result<UnitState> {
    let properties = "--property=LoadState,ActiveState,SubState,Result,NRestarts";
    let output = systemctl(&["show", properties, "--", unit]).await?;
    if output.status.success() {
        return Ok(parse(&String::from_utf8_lossy(&output.stdout)));
    }
    Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Calls `look` now and then, until it says that it has seen enough.
pub(super) async fn follow(unit: &str, mut look: impl FnMut(UnitState) -> bool) -> io::Result<()> {
    while !look(state(unit).await?) {
        sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// The last lines that the unit logged; none where there is no journal.
pub(super) async fn journal_tail(unit: &str) -> Vec<u8> {
    let lines = schemas::report::MAX_LOG_LINES.to_string();
    let mut journalctl = Command::new("journalctl");
    journalctl.args(["--no-pager", "--quiet", "--output=cat", "--lines", &lines, "--unit", unit]);
    journalctl.stdin(Stdio::null()).kill_on_drop(true);
    journalctl.output().await.map(|output| output.stdout).unwrap_or_default()
}

async fn systemctl(arguments: &[&str]) -> io::Result<Output> {
    let mut systemctl = Command::new("systemctl");
    systemctl.args(["--no-pager", "--no-ask-password"]).args(arguments);
    systemctl.stdin(Stdio::null()).kill_on_drop(true);
    systemctl.output().await
}

fn done_or_said(output: &Output) -> String {
    if output.status.success() {
        return "done".to_owned();
    }
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

fn parse(shown: &str) -> UnitState {
    let value = |name: &str| {
        let of = |line: &str| Some(line.strip_prefix(name)?.strip_prefix('=')?.to_owned());
        shown.lines().find_map(of).unwrap_or_default()
    };
    UnitState {
        load: value("LoadState"),
        active: value("ActiveState"),
        sub: value("SubState"),
        result: value("Result"),
        restarts: value("NRestarts").parse().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_systemctl_shows_is_understood_in_any_order() {
        let state =
            parse("Result=success\nNRestarts=3\nLoadState=loaded\nActiveState=active\nSubState=running\n");
        assert_eq!((state.load.as_str(), state.active.as_str(), state.restarts), ("loaded", "active", 3));
        assert_eq!(parse("").restarts, 0);
    }
}
