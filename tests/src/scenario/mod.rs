//! Scenarios: stories about a fleet that are written line by line, played in the simulator, and checked after every step; some of them
//! are played with real processes as well.
//!
//! `tests/scenarios/README.md` says which verbs there are.

mod command;
mod draft;
mod expect;
mod grammar;
mod histories;
mod play;
mod random;
mod real;
mod script;
mod steady;
mod upset;
mod words;

use std::fmt;

pub use histories::{Histories, Summary};
pub use random::{Kind, script};

use self::{command::Command, play::Play, script::Script};
use crate::timeline::Line;

/// A scenario that was read.
#[derive(Debug, Clone)]
pub struct Scenario {
    lines: Vec<(usize, String, Command)>,
    /// It is to be played with real processes as well.
    pub is_real: bool,
    /// Whenever all is at rest, everything stands as it would if nothing had gone wrong.
    pub is_steady: bool,
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
    /// How often the rules were asked.
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
        let is_marked = |mark| text.lines().any(|line| line.trim() == mark);
        Ok(Self { lines, is_real: is_marked("# real"), is_steady: is_marked("# steady") })
    }

    /// Plays it in the simulator.
    ///
    /// # Errors
    /// Names the line at which a rule was broken, or something was not as expected.
    pub fn play(&self) -> Result<Played, Failed> {
        let mut play = Play::default();
        (0..self.lines.len()).try_for_each(|at| self.perform(at, &mut play))?;
        if self.is_steady {
            steady::compare(self, &play)?;
        }
        let world = play.world;
        Ok(Played {
            timeline: texts(&world.timeline),
            told: world.rules.told,
            late_begins: world.rules.late_begins,
            checks: world.rules.checks,
        })
    }

    /// Plays it with real processes as well; `tell` hears each line of its timeline as it comes.
    ///
    /// # Errors
    /// Names the line that real processes cannot do, at which something else happened than in the simulator, or something was not
    /// as expected.
    pub fn play_for_real(&self, mut tell: impl FnMut(&str)) -> Result<Played, Failed> {
        real::play(self, &mut tell)
    }

    /// Sees that real processes can play it, without any.
    ///
    /// # Errors
    /// Names the line that they cannot do.
    pub fn rehearse(&self) -> Result<(), Failed> {
        Script::of(self).map(drop)
    }

    /// Does what the line at `at` says, in the simulator.
    fn perform(&self, at: usize, play: &mut Play) -> Result<(), Failed> {
        let (_, _, command) = &self.lines[at];
        play.perform(command).map_err(|what| self.failed(at, what, &play.world.timeline))
    }

    fn failed(&self, at: usize, what: String, timeline: &[Line]) -> Failed {
        let (line, text) =
            self.lines.get(at).map(|(line, text, _)| (*line, text.clone())).unwrap_or_default();
        Failed { line, text, what, timeline: texts(timeline) }
    }
}

fn texts(timeline: &[Line]) -> Vec<String> {
    timeline.iter().map(Line::to_string).collect()
}
