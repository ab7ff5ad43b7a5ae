//! A scenario as real processes play it: `publisher init`, a broker with its controller, a worker for each node, and the command
//! line for what people do.
//!
//! [`Script`] says what has to happen before the next deed, for the simulator has shown it; here it is waited for. So both players
//! prove each other: what the simulator shows is what happens.

mod awaited;
mod cast;
mod expect;
mod proof;
mod witness;

use std::time::{Duration, Instant};

use anyhow::{Error, Result, bail};

use self::{
    awaited::Awaited,
    cast::Cast,
    witness::{Heard, Witness},
};
use super::{
    Failed, Played, Scenario,
    command::Command,
    script::{Act, Script},
    texts,
};
use crate::timeline::Voice;

/// Nothing happens for so long at most while something is still to come: many times any soak, trial and install.
const PATIENCE: Duration = Duration::from_mins(1);
/// What has come already is heard within.
const MOMENT: Duration = Duration::from_millis(20);
/// Names of what is missing in an error.
const MAX_NAMES: usize = 3;

/// A scenario on its way.
struct Real<'a> {
    scenario: &'a Scenario,
    cast: Cast,
    witness: Witness,
    /// Hears each line of the timeline as it comes.
    tell: &'a mut dyn FnMut(&str),
}

/// Plays a scenario; `tell` hears each line of its timeline as it comes.
pub(super) fn play(scenario: &Scenario, tell: &mut dyn FnMut(&str)) -> Result<Played, Failed> {
    let script = Script::of(scenario)?;
    let failed = |at: usize, error: &Error| scenario.failed(at, format!("{error:#}"), &[]);
    let lines = scenario.lines.iter().map(|(.., command)| command);
    let mut cast = Cast::of(lines).map_err(|error| failed(0, &error))?;
    let (prologue, acts) = script.acts.split_first().expect("a script begins with a prologue");
    for at in prologue.lines.clone() {
        cast.perform(&scenario.lines[at].2, false).map_err(|error| failed(at, &error))?;
    }
    let witness = Witness::of(&cast.world).map_err(|error| failed(0, &error))?;
    let mut real = Real { scenario, cast, witness, tell };
    real.expect_all(prologue)?;
    acts.iter().try_for_each(|act| real.play(act))?;
    let last = scenario.lines.len().saturating_sub(1);
    real.compare_with_log().map_err(|error| real.failed(last, &error))?;
    Ok(Played { timeline: texts(&real.witness.timeline), ..Played::default() })
}

impl Real<'_> {
    /// Does what an act begins with, waits for what comes of it, and sees that it is as expected.
    fn play(&mut self, act: &Act) -> Result<(), Failed> {
        let scenario = self.scenario;
        for at in act.lines.clone() {
            let (.., command) = &scenario.lines[at];
            for text in self.cast.words(command) {
                let line = self.witness.tell(Voice::Player, text);
                (self.tell)(&line.to_string());
            }
            self.cast.perform(command, act.is_visited).map_err(|error| self.failed(at, &error))?;
        }
        let is_end = act.lines.end == scenario.lines.len();
        self.meet(act, is_end).map_err(|error| self.failed(act.lines.end - 1, &error))?;
        self.expect_all(act)
    }

    /// Waits until everything has come that the simulator shows. At the end nothing more may come until the controller says again
    /// that it is there.
    fn meet(&mut self, act: &Act, is_end: bool) -> Result<()> {
        let mut awaited = Awaited::new(&act.told);
        let (mut heard, mut is_calm) = (Instant::now(), !is_end);
        loop {
            let missing = awaited.missing();
            match self.witness.next(MOMENT)? {
                Some(Heard::Line(line)) => {
                    heard = Instant::now();
                    (self.tell)(&line.to_string());
                    awaited.take(&line).map_err(Error::msg)?;
                }
                // It says so every seven seconds, and the controller looks about each second.
                Some(Heard::Controller) if missing.is_empty() => is_calm = true,
                None if missing.is_empty() && is_calm => return Ok(()),
                Some(Heard::Controller) | None if heard.elapsed() <= PATIENCE => {}
                _ => bail!(in_vain(&missing)),
            }
        }
    }

    fn expect_all(&self, act: &Act) -> Result<(), Failed> {
        for at in act.lines.clone() {
            if let (.., Command::Expect(expected)) = &self.scenario.lines[at] {
                self.expect(expected).map_err(|error| self.failed(at, &error))?;
            }
        }
        Ok(())
    }

    fn failed(&self, at: usize, error: &Error) -> Failed {
        self.scenario.failed(at, format!("{error:#}"), &self.witness.timeline)
    }
}

fn in_vain(missing: &[&str]) -> String {
    let secs = PATIENCE.as_secs();
    let names: Vec<String> = missing.iter().take(MAX_NAMES).map(|text| format!("`{text}`")).collect();
    match (missing.len(), missing.len().saturating_sub(MAX_NAMES)) {
        (0, _) => format!("the controller has not said that it is there for {secs} s"),
        (_, 0) => format!("nothing happened for {secs} s, and the simulator shows {}", names.join(", ")),
        (_, more) => {
            format!(
                "nothing happened for {secs} s, and the simulator shows {} and {more} more",
                names.join(", ")
            )
        }
    }
}
