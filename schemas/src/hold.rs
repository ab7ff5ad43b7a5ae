//! What holds a node back from beginning with an order, and what people may ask of it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::AppId;

/// What holds a node back: a stable code for machines. What has begun is never held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HoldCode {
    /// Somebody works on the node: its lock file is there.
    Lock,
    /// Its supply voltage is too low to write safely.
    Undervoltage,
    /// Its processor is too hot.
    Temperature,
    /// Its disk has too little room.
    Disk,
    /// Nobody has said yes to this release yet.
    Consent,
    /// It is not the time at which the node may be changed.
    Window,
    /// A code of a newer version than this one.
    #[serde(other)]
    Unknown,
}

impl HoldCode {
    /// Every code that this version gives, what a person has to end first.
    pub const ALL: [Self; 6] =
        [Self::Lock, Self::Undervoltage, Self::Temperature, Self::Disk, Self::Consent, Self::Window];

    /// The code, as reports, topics and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Undervoltage => "undervoltage",
            Self::Temperature => "temperature",
            Self::Disk => "disk",
            Self::Consent => "consent",
            Self::Window => "window",
            Self::Unknown => "unknown",
        }
    }

    /// Whether people chose it for convenience: then it holds back neither what is urgent nor going back.
    pub fn is_choice(self) -> bool {
        matches!(self, Self::Consent | Self::Window)
    }
}

impl fmt::Display for HoldCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `node/<n>/request`: what people and tools ask of a node, not signed and not retained. So it only chooses among what
/// the node has verified already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// What is asked for.
    #[serde(rename = "do")]
    pub what: AskKind,
    /// About which app, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    /// Of [`AskKind::Logs`]: so many of the last lines, at most [`MAX_ASKED_LINES`].
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lines: u16,
    /// Of [`AskKind::Prune`]: only say what would be removed.
    #[serde(default, skip_serializing_if = "is_not")]
    pub dry_run: bool,
    /// Comes back with the answer, where there is one; at most [`MAX_ASK_ID_BYTES`].
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
}

/// More lines are not told at once.
pub const MAX_ASKED_LINES: u16 = 200;
/// Longest id of an ask.
pub const MAX_ASK_ID_BYTES: usize = 64;

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(lines: &u16) -> bool {
    *lines == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_not(dry_run: &bool) -> bool {
    !dry_run
}

/// What can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskKind {
    /// Install the release that waits: the yes that `consent` waits for, and the end of [`AskKind::Hold`].
    Install,
    /// Try the release once more that is ordered and did not prove itself.
    Retry,
    /// Go back to the release that ran before.
    Rollback,
    /// Begin with no other release until somebody asks to install one.
    Hold,
    /// Say the last lines that the app has said, and for a minute what it says: on `node/<n>/log`.
    Logs,
    /// Remove images and containers of ours that neither the present nor the previous release of any app needs; the answer
    /// is on `node/<n>/answer`.
    Prune,
    /// Let go of a Pico's serial port for a while, for tools of people.
    Release,
    /// Take it again.
    Take,
    /// Bring the guard onto a Pico.
    Provision,
}

impl AskKind {
    /// Everything that can be asked for.
    pub const ALL: [Self; 9] = [
        Self::Install,
        Self::Retry,
        Self::Rollback,
        Self::Hold,
        Self::Logs,
        Self::Prune,
        Self::Release,
        Self::Take,
        Self::Provision,
    ];

    /// As topics, settings and the command line spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Install => "install",
            Self::Retry => "retry",
            Self::Rollback => "rollback",
            Self::Hold => "hold",
            Self::Logs => "logs",
            Self::Prune => "prune",
            Self::Release => "release",
            Self::Take => "take",
            Self::Provision => "provision",
        }
    }
}

impl fmt::Display for AskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `bus/request`: what people and tools ask of who carries rollouts out, not signed and not retained. So nothing is ordered by it: a
/// rollout may begin nothing new because of it, and go on where nothing else has stopped it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BusAsk {
    /// What is asked for.
    #[serde(rename = "do")]
    pub what: BusAskKind,
    /// Of the rollout of which app.
    pub app: AppId,
}

/// What can be asked for of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BusAskKind {
    /// Begin nothing new.
    Halt,
    /// Go on after a halt.
    Resume,
}

impl Ask {
    /// An ask that has no more to say.
    pub fn new(what: AskKind, app: AppId) -> Self {
        Self { app: Some(app), ..Self::of_node(what) }
    }

    /// An ask that is about no app.
    pub fn of_node(what: AskKind) -> Self {
        Self { what, app: None, lines: 0, dry_run: false, id: String::new() }
    }

    /// Most bytes of an ask: many times those of the longest name.
    pub const MAX_BYTES: usize = 1_024;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_read_back_and_newer_ones_are_unknown() {
        for code in HoldCode::ALL {
            let json = serde_json::to_string(&code).unwrap();
            assert_eq!(json, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<HoldCode>(&json).unwrap(), code);
        }
        assert_eq!(serde_json::from_str::<HoldCode>("\"moon_phase\"").unwrap(), HoldCode::Unknown);
        let bytes = crate::codec::encode(&"moon_phase");
        assert_eq!(crate::codec::decode::<HoldCode>(&bytes, 99).unwrap(), HoldCode::Unknown);
    }

    #[test]
    fn an_ask_reads_as_tools_write_it() {
        let ask: Ask = serde_json::from_str(r#"{"do":"install","app":"web"}"#).unwrap();
        assert_eq!(ask, Ask::new(AskKind::Install, "web".parse().unwrap()));
        assert_eq!(serde_json::to_string(&ask).unwrap(), r#"{"do":"install","app":"web"}"#);
        let ask: Ask = serde_json::from_str(r#"{"do":"logs","app":"web","lines":50,"id":"7"}"#).unwrap();
        assert_eq!((ask.what, ask.lines, ask.id.as_str()), (AskKind::Logs, 50, "7"));
        let ask: Ask = serde_json::from_str(r#"{"do":"release"}"#).unwrap();
        assert_eq!(serde_json::to_string(&ask).unwrap(), r#"{"do":"release"}"#);
        let ask = Ask { dry_run: true, ..Ask::of_node(AskKind::Prune) };
        assert_eq!(serde_json::to_string(&ask).unwrap(), r#"{"do":"prune","dry_run":true}"#);
        assert!(serde_json::from_str::<Ask>(r#"{"do":"explode","app":"web"}"#).is_err());
        for what in AskKind::ALL {
            assert_eq!(serde_json::to_value(what).unwrap(), what.name());
        }
        let ask: BusAsk = serde_json::from_str(r#"{"do":"halt","app":"web"}"#).unwrap();
        assert_eq!(ask, BusAsk { what: BusAskKind::Halt, app: "web".parse().unwrap() });
    }
}
