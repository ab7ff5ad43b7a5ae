//! `[run]`, `[hooks]` and `[trial]`.

use schemas::release::{Hook, Run, Trial};
use serde::Deserialize;

use super::{Command, Period, exactly_one};

/// From SIGTERM to SIGKILL, unless said otherwise: what systemd users know as a short stop.
const STOP_TIMEOUT_MS: u64 = 10_000;
/// A pre-check that takes longer hangs, unless the file says otherwise.
const HOOK_TIMEOUT_MS: u64 = 60_000;

#[derive(Deserialize)]
#[serde(try_from = "RawRun")]
pub(super) struct RunTable(pub(super) Run);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRun {
    command: Option<Command>,
    unit: Option<UnitName>,
    stop_timeout: Option<Period>,
}

impl TryFrom<RawRun> for RunTable {
    type Error = String;

    fn try_from(raw: RawRun) -> Result<Self, String> {
        if raw.unit.is_some() && raw.stop_timeout.is_some() {
            return Err("`stop_timeout` is for `command`; the unit has its own TimeoutStopSec".to_owned());
        }
        let stop_timeout_ms = raw.stop_timeout.map_or(STOP_TIMEOUT_MS, |period| period.0);
        let process = raw.command.map(|command| Run::Process { command: command.0, stop_timeout_ms });
        let systemd = raw.unit.map(|unit| Run::Systemd { unit: unit.0 });
        exactly_one("[run]", vec![("command", process), ("unit", systemd)]).map(Self)
    }
}

/// A unit name with its suffix: `web.service`, not `web`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct UnitName(pub(super) String);

impl TryFrom<String> for UnitName {
    type Error = String;

    fn try_from(unit: String) -> Result<Self, String> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"@._:\\-".contains(&b);
        let has_suffix =
            unit.rsplit_once('.').is_some_and(|(name, suffix)| !name.is_empty() && !suffix.is_empty());
        if has_suffix && unit.bytes().all(plain) && unit.len() < 256 {
            Ok(Self(unit))
        } else {
            Err(format!("`{unit}` is not the name of a unit, as in `web.service`"))
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(try_from = "RawHooks")]
pub(super) struct HooksTable(pub(super) Option<Hook>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHooks {
    pre_check: Option<Command>,
    timeout: Option<Period>,
}

impl TryFrom<RawHooks> for HooksTable {
    type Error = &'static str;

    fn try_from(raw: RawHooks) -> Result<Self, &'static str> {
        if raw.pre_check.is_none() && raw.timeout.is_some() {
            return Err("`timeout` without a hook");
        }
        let timeout_ms = raw.timeout.map_or(HOOK_TIMEOUT_MS, |period| period.0);
        Ok(Self(raw.pre_check.map(|command| Hook { command: command.0, timeout_ms })))
    }
}

#[derive(Default, Deserialize)]
#[serde(try_from = "RawTrial")]
pub(super) struct TrialTable(pub(super) Trial);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTrial {
    min_healthy: Option<Period>,
    deadline: Option<Period>,
    tries: Option<u32>,
}

impl TryFrom<RawTrial> for TrialTable {
    type Error = &'static str;

    fn try_from(raw: RawTrial) -> Result<Self, &'static str> {
        let default = Trial::default();
        let trial = Trial {
            min_healthy_ms: raw.min_healthy.map_or(default.min_healthy_ms, |period| period.0),
            deadline_ms: raw.deadline.map_or(default.deadline_ms, |period| period.0),
            tries: raw.tries.unwrap_or(default.tries),
        };
        if trial.min_healthy_ms >= trial.deadline_ms {
            return Err("`min_healthy` must be shorter than `deadline`, else no release can pass");
        }
        if trial.tries == 0 {
            return Err("`tries` must be at least 1");
        }
        Ok(Self(trial))
    }
}
