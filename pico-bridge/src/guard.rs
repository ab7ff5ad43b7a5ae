//! What the guard on a Pico says, and what it is asked to do: `pico-w/lib/deploy_guard.py` decides there at each boot.

use serde::Deserialize;
use uf2::Chip;

/// How a line of the guard begins, among what the app prints.
const MARK: &str = "@deploybus ";
/// The guard, as it is brought onto a Pico.
pub(crate) const GUARD: &str = include_str!("../../pico-w/lib/deploy_guard.py");
/// What starts it.
pub(crate) const MAIN: &str = include_str!("../../pico-w/main.py");
/// What receives a release, pasted at each install.
pub(crate) const HELPER: &str = include_str!("../../pico-w/upload.py");

/// Asks who the Pico is and what is on it. It changes nothing.
pub(crate) const PROBE: &str = r#"
import hashlib, json, machine, os, sys
def _read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except OSError:
        return b""
_main, _guard = _read("/main.py"), _read("/lib/deploy_guard.py")
def _slots():
    try:
        return json.loads(_read("/deploy/slots"))
    except ValueError:
        return {}
def _sha(text):
    return hashlib.sha256(text).digest().hex() if text else ""
print(json.dumps({"id": machine.unique_id().hex(), "platform": sys.platform,
    "machine": sys.implementation._machine, "version": list(sys.implementation.version[:3]),
    "says": sys.version.split("; ")[-1], "bootsel": hasattr(machine, "bootloader"),
    "main": _sha(_main), "guard": _sha(_guard), "slots": _slots(),
    "crash": _read("/deploy/crash").decode()}))
"#;

/// Points the Pico to the release that ran before, or to none; what it was on is no longer wanted.
pub(crate) const BACK: &str = r#"
def back(release, why):
    import deploy_guard as guard
    slots = guard.load()
    left = slots.get("try") or slots.get("cur")
    for key in ("try", "left", "secs", "bad", "why"):
        slots.pop(key, None)
    if left and left != release:
        slots.update({"bad": left, "why": why})
    if slots.get("prev") == release:
        slots["prev"] = None
    slots["cur"] = release
    guard.save(slots)
"#;

/// Stops the watchdog, which nothing else can once it runs: by the bit that enables it (RP2040 datasheet 4.7, RP2350
/// datasheet 12.9), through the alias of its register that clears bits.
pub(crate) const DISARM: &str = r#"
import machine
try:
    machine.mem32[0x400DB000 if "RP2350" in __import__("sys").implementation._machine else 0x4005B000] = 1 << 30
except AttributeError:
    pass
"#;

/// One line of the guard.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Said {
    pub(crate) state: State,
    #[serde(default)]
    pub(crate) release: Option<String>,
    #[serde(default)]
    pub(crate) why: String,
}

/// What the guard says that a Pico does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// Nothing is installed.
    Empty,
    /// What is kept runs.
    Run,
    /// What is on trial runs.
    Trial,
    /// What was on trial is kept from now on.
    Kept,
    /// What runs has ended with an error.
    Crash,
    /// What was on trial is not tried again.
    RolledBack,
    /// A word of a newer guard.
    #[serde(other)]
    Unknown,
}

impl Said {
    /// The line, if the guard says it.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        // What an app printed without a line's end may stand before it.
        let (_, json) = line.split_once(MARK)?;
        serde_json::from_str(json.trim()).ok()
    }
}

/// `/deploy/slots`: which releases are on a Pico, by the names of their folders.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Slots {
    pub(crate) cur: Option<String>,
    pub(crate) prev: Option<String>,
    #[serde(rename = "try")]
    pub(crate) trying: Option<String>,
    pub(crate) bad: Option<String>,
    pub(crate) why: Option<String>,
}

impl Slots {
    /// The release that runs, or will at the next boot.
    pub(crate) fn active(&self) -> Option<&str> {
        self.trying.as_deref().or(self.cur.as_deref())
    }

    /// What follows from a line of the guard.
    pub(crate) fn hear(&mut self, said: &Said) {
        match (said.state, &said.release) {
            (State::Kept, Some(release)) if self.trying.as_ref() == Some(release) => {
                self.prev = self.cur.take();
                self.cur = self.trying.take();
            }
            (State::RolledBack, Some(release)) => {
                self.trying = None;
                (self.bad, self.why) = (Some(release.clone()), Some(said.why.clone()));
            }
            _ => {}
        }
    }
}

/// What a Pico answers when it is asked who it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Probed {
    /// The id of its flash, which is also its USB serial number.
    pub(crate) id: String,
    /// `rp2`, or what runs MicroPython otherwise.
    pub(crate) platform: String,
    /// Board and chip, as in `Raspberry Pi Pico W with RP2040`.
    pub(crate) machine: String,
    /// Of MicroPython.
    pub(crate) version: [u32; 3],
    /// The same as it stands in its firmware, as in `MicroPython v1.28.0 on 2026-04-06`.
    #[serde(default)]
    pub(crate) says: String,
    /// Whether it can be asked into BOOTSEL.
    #[serde(default)]
    pub(crate) bootsel: bool,
    main: String,
    guard: String,
    pub(crate) slots: Slots,
    /// The last crash, with the name of its release in the first line.
    #[serde(default)]
    pub(crate) crash: String,
}

impl Probed {
    /// The programs that make a node of it.
    pub(crate) fn agent(&self) -> String {
        let [major, minor, patch] = self.version;
        format!("pico-bridge {}, MicroPython {major}.{minor}.{patch}", env!("CARGO_PKG_VERSION"))
    }

    /// What parts of a release are chosen for.
    pub(crate) fn platform(&self) -> &str {
        match self.chip() {
            Some(chip) => chip.platform(),
            None => &self.platform,
        }
    }

    /// The chip, where it says one that is known.
    pub(crate) fn chip(&self) -> Option<Chip> {
        let is = |name: &str| self.machine.contains(name);
        if is("RP2040") { Some(Chip::Rp2040) } else { is("RP2350").then_some(Chip::Rp2350) }
    }

    /// Whether the guard decides at each boot.
    pub(crate) fn guarded(&self) -> Guarded {
        let digest = |text: &str| schemas::id::Digest::of(text.as_bytes()).to_string();
        match (self.main.as_str(), self.guard.as_str()) {
            ("", "") => Guarded::Blank,
            (main, guard) if main == digest(MAIN) && guard == digest(GUARD) => Guarded::Yes,
            // Another version of the guard is ours all the same; so is one that was cut while it was brought.
            (main, guard) if (main == digest(MAIN) || main.is_empty()) && !guard.is_empty() => Guarded::Older,
            _ => Guarded::Foreign,
        }
    }

    /// The traceback of this release's last crash.
    pub(crate) fn crash_of(&self, release: &str) -> Option<Vec<String>> {
        let mut lines = self.crash.lines();
        (lines.next() == Some(release)).then(|| lines.map(str::to_owned).collect())
    }
}

/// Whose main.py is on a Pico.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guarded {
    /// Ours.
    Yes,
    /// Ours, of another version or not all of it.
    Older,
    /// Nobody's.
    Blank,
    /// Somebody's own.
    Foreign,
}

/// A text as Python writes it: JSON has the same escapes for what is plain text.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_of_the_guard_is_found_behind_what_an_app_prints() {
        let said =
            Said::parse("21.5@deploybus {\"release\": \"ab\", \"state\": \"crash\", \"why\": \"E\"}\r\n")
                .unwrap();
        assert_eq!((said.state, said.release.as_deref(), said.why.as_str()), (State::Crash, Some("ab"), "E"));
        assert_eq!(Said::parse("@deploybus {\"state\": \"dances\"}").unwrap().state, State::Unknown);
        assert_eq!(Said::parse("@deploybus {\"state\": "), None);
        assert_eq!(Said::parse("temperature 21.5"), None);
    }

    #[test]
    fn what_the_guard_says_changes_what_is_known_of_the_slots() {
        let mut slots: Slots = serde_json::from_str(r#"{"cur":"a","try":"b","left":2,"secs":1}"#).unwrap();
        assert_eq!(slots.active(), Some("b"));
        let line = |state: &str, release: &str| {
            Said::parse(&format!("@deploybus {{\"state\":\"{state}\",\"release\":\"{release}\"}}")).unwrap()
        };
        let mut kept = slots.clone();
        kept.hear(&line("kept", "b"));
        assert_eq!((kept.cur.as_deref(), kept.prev.as_deref(), kept.trying), (Some("b"), Some("a"), None));
        slots.hear(&line("rolled_back", "b"));
        assert_eq!((slots.active(), slots.bad.as_deref()), (Some("a"), Some("b")));
    }

    #[test]
    fn somebody_elses_program_is_told_from_ours() {
        let digest = |text: &str| schemas::id::Digest::of(text.as_bytes()).to_string();
        let of = |main: &str, guard: &str| {
            let probed = format!(
                r#"{{"id":"e6","platform":"rp2","machine":"Raspberry Pi Pico W with RP2040","version":[1,28,0],
                "main":"{main}","guard":"{guard}","slots":{{}},"crash":"ab\nTraceback\n  x"}}"#
            );
            serde_json::from_str::<Probed>(&probed).unwrap()
        };
        let ours = of(&digest(MAIN), &digest(GUARD));
        assert_eq!((ours.guarded(), ours.platform()), (Guarded::Yes, "rp2/rp2040"));
        assert_eq!(ours.crash_of("ab").unwrap(), ["Traceback", "  x"]);
        assert_eq!(ours.crash_of("cd"), None);
        assert_eq!(of("", "").guarded(), Guarded::Blank);
        assert_eq!(of(&digest(MAIN), "00").guarded(), Guarded::Older);
        assert_eq!(of("", "00").guarded(), Guarded::Older);
        assert_eq!(of("00", "").guarded(), Guarded::Foreign);
        assert_eq!(of("00", &digest(GUARD)).guarded(), Guarded::Foreign);
    }

    proptest! {
        #[test]
        fn no_line_is_its_end(line in ".{0,80}", json in "[{}\":a-z ]{0,40}") {
            Said::parse(&line);
            Said::parse(&format!("{MARK}{json}"));
        }
    }
}
