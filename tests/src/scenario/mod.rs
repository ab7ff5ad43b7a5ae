//! Scenarios: stories about a fleet that are written line by line, played in the simulator, and checked after every step.
//!
//! `tests/scenarios/README.md` says which verbs there are.

mod command;
mod expect;
mod grammar;
mod histories;
mod play;
mod random;
mod upset;
mod words;

use std::fmt;

pub use histories::{Histories, Summary};
pub use random::{Kind, script};

use self::{command::Command, play::Play};

/// A scenario that was read.
#[derive(Debug, Clone)]
pub struct Scenario {
    lines: Vec<(usize, String, Command)>,
    /// It is to be played with real processes as well.
    pub is_real: bool,
}

/// Why a scenario cannot be read, or did not go as it says.
#[derive(Debug)]
pub struct Failed {
    /// The line, from 1.
    pub line: usize,
    /// What it says.
    pub text: String,
    /// What is wrong.
    pub what: String,
    /// What had happened until then.
    pub timeline: Vec<String>,
}

/// What a played scenario shows.
#[derive(Debug, Default)]
pub struct Played {
    /// What happened, line by line.
    pub timeline: Vec<String>,
    /// What happened how often.
    pub told: std::collections::BTreeMap<String, u64>,
    /// Nodes that began after a stop, for the message that stops them was on its way.
    pub late_begins: u64,
    /// How often the engine was checked.
    pub checks: u64,
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (`{}`): {}", self.line, self.text, self.what)
    }
}

impl std::error::Error for Failed {}

impl Scenario {
    /// Reads a scenario.
    ///
    /// # Errors
    /// Names the first line that makes no sense.
    pub fn parse(text: &str) -> Result<Self, Failed> {
        let mut lines = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let failed =
                |what| Failed { line: at + 1, text: line.trim().to_owned(), what, timeline: Vec::new() };
            if let Some(command) = Command::parse(line).map_err(failed)? {
                lines.push((at + 1, line.trim().to_owned(), command));
            }
        }
        let is_real = text.lines().any(|line| line.trim() == "# real");
        Ok(Self { lines, is_real })
    }

    /// Plays it in the simulator.
    ///
    /// # Errors
    /// Names the line at which a rule was broken, or something was not as expected.
    pub fn play(&self) -> Result<Played, Failed> {
        let mut play = Play::default();
        for (line, text, command) in &self.lines {
            if let Err(what) = play.perform(command) {
                let timeline = std::mem::take(&mut play.world.timeline);
                return Err(Failed { line: *line, text: text.clone(), what, timeline });
            }
        }
        let world = play.world;
        Ok(Played {
            timeline: world.timeline,
            told: world.rules.told,
            late_begins: world.rules.late_begins,
            checks: world.rules.checks,
        })
    }
}
