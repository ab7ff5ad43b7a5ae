//! What has to happen when a scenario is played with real processes: what the simulator shows, from one deed to the next.
//!
//! Real processes take as long as they take, and wait for nobody. So a deed comes as soon as everything has happened that had
//! happened before it in the simulator, however long that took there.

use std::{collections::BTreeSet, ops::Range};

use schemas::id::NodeId;

use super::{
    Failed, Scenario,
    command::{Command, Expected, LinkChange, Nodes, PlanLine, TroubleKind},
    play::Play,
};
use crate::timeline::{self, Line, Voice};

/// Ways to break that the app of real nodes knows, too.
const WAYS: [&str; 6] = ["unhealthy", "silent", "exits", "stale", "mute", "not"];

/// A deed, and what comes of it until the next one. The first act has no deed: it is what is there to begin with.
#[derive(Debug)]
pub(super) struct Act {
    /// Where its lines are; that of the deed is the first.
    pub(super) lines: Range<usize>,
    /// What the simulator shows.
    pub(super) told: Vec<Line>,
    /// Somebody does something while a wave of the rollout is open that is started here.
    pub(super) is_visited: bool,
}

/// A scenario in acts.
#[derive(Debug)]
pub(super) struct Script {
    pub(super) acts: Vec<Act>,
    /// Nodes that have begun and not ended.
    begun: BTreeSet<NodeId>,
    /// The act in which the present rollout was started, and whether a wave of it is open.
    start: Option<usize>,
    is_open: bool,
    /// An expectation that must be the end of its act.
    expected: Option<usize>,
}

impl Script {
    /// Plays the scenario in the simulator, and takes note of what happens.
    ///
    /// # Errors
    /// When it does not go there as it says, or names the line that real processes cannot do.
    pub(super) fn of(scenario: &Scenario) -> Result<Self, Failed> {
        let prologue = Act { lines: 0..0, told: Vec::new(), is_visited: false };
        let mut script = Self {
            acts: vec![prologue],
            begun: BTreeSet::new(),
            start: None,
            is_open: false,
            expected: None,
        };
        let mut play = Play::default();
        for (at, (_, _, command)) in scenario.lines.iter().enumerate() {
            let failed = |what| scenario.failed(at, what, &[]);
            hindrance(command).map_or(Ok(()), Err).map_err(failed)?;
            script.turn_to(at, command).map_err(failed)?;
            let before = play.world.timeline.len();
            scenario.perform(at, &mut play)?;
            if let Some(expected) = script.expected.filter(|_| play.world.timeline.len() > before) {
                let what = "more happens before the next deed, and real processes wait for nobody";
                return Err(scenario.failed(expected, what.to_owned(), &[]));
            }
            script.note(&play.world.timeline[before..]);
            if matches!(command, Command::Expect(expected) if !matches!(expected, Expected::Order { .. })) {
                script.expected.get_or_insert(at);
            }
        }
        Ok(script)
    }

    /// The next line: it may be the first of the next act.
    fn turn_to(&mut self, at: usize, command: &Command) -> Result<(), String> {
        if is_deed(command) {
            if let Some(node) = self.begun.first() {
                return Err(format!(
                    "{node} is in the midst of something here, and real processes wait for nobody"
                ));
            }
            if let Some(start) = self.start.filter(|_| self.is_open) {
                self.acts[start].is_visited = true;
            }
            if matches!(command, Command::Start { .. }) {
                self.start = Some(self.acts.len());
            }
            self.expected = None;
            self.acts.push(Act { lines: at..at, told: Vec::new(), is_visited: false });
        } else if self.acts.len() > 1
            && matches!(command, Command::Fleet { .. } | Command::Label { .. } | Command::Runs { .. })
        {
            return Err(
                "real nodes are there and labelled, and run something, before anything is done".to_owned()
            );
        }
        self.act().lines.end = at + 1;
        Ok(())
    }

    /// The simulator shows something.
    fn note(&mut self, told: &[Line]) {
        for line in told {
            match &line.voice {
                Voice::Node(node) if timeline::is_begin(&line.text) => {
                    self.begun.insert(node.clone());
                }
                Voice::Node(node) => {
                    self.begun.remove(node);
                }
                Voice::Rollout(..) => {
                    self.is_open = line.text.starts_with("wave opened") || line.text.starts_with("resumed");
                }
                Voice::Player | Voice::Order(_) => {}
            }
        }
        // What the player says of its deeds is said whoever plays.
        let told = told.iter().filter(|line| line.voice != Voice::Player).cloned();
        self.act().told.extend(told);
    }

    fn act(&mut self) -> &mut Act {
        self.acts.last_mut().expect("a script begins with an act")
    }
}

/// Whether somebody does something to the fleet.
pub(super) fn is_deed(command: &Command) -> bool {
    matches!(
        command,
        Command::Start { .. }
            | Command::Wish(_)
            | Command::Announce { .. }
            | Command::Arrive { .. }
            | Command::Link { .. }
            | Command::Trouble { .. }
            | Command::Breaks { .. }
    )
}

/// Why real processes cannot do what a line says, if they cannot.
fn hindrance(command: &Command) -> Option<String> {
    let what = match command {
        Command::Runs { nodes: Nodes::These(_), .. } => "real nodes all run the same to begin with",
        Command::Release { platform: Some(_), .. } => "releases of real nodes are for every platform",
        Command::Release { breaks: Some((_, how)), .. } | Command::Breaks { how, .. }
            if !WAYS.contains(&how.as_str()) =>
        {
            return Some(format!("a real app knows only these ways to break: {}", WAYS.join(", ")));
        }
        Command::Plan(PlanLine::Stage(_, rules)) if rules.contains("deadline") => {
            "no deadline passes for real processes"
        }
        Command::Start { after_ms: 1.., .. } | Command::Start { mandate_ms: Some(_), .. } => {
            "the time of real processes does not pass so fast"
        }
        Command::Link { change: LinkChange::Cut | LinkChange::PowerOn, .. } => {
            "the network and the power of real processes are this machine's"
        }
        Command::Trouble { what: TroubleKind::Lock(_), .. } => return None,
        Command::Platform { .. }
        | Command::App(_)
        | Command::Withdraw { .. }
        | Command::Missing { .. }
        | Command::CutPower { .. }
        | Command::Trouble { .. }
        | Command::Messages { .. }
        | Command::Replay
        | Command::Controller(_)
        | Command::Clock { .. }
        | Command::Join { .. }
        | Command::Leave { .. }
        | Command::Retire(_)
        | Command::Repair
        | Command::CheckEnd
        | Command::CheckRollouts
        | Command::Finish => "only the simulator can do that",
        _ => return None,
    };
    Some(what.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_real_processes_cannot_do_is_named_with_its_line() {
        let error = |text: &str| Script::of(&Scenario::parse(text).unwrap()).unwrap_err().to_string();
        assert_eq!(error("fleet 2 pi in all\nreplay"), "line 2 (`replay`): only the simulator can do that");
        let begin = "fleet 2 pi in all\nruns 1.0.0\nrelease 1.1.0\nplan all waves 1, 100%\nstart 1.1.0\n";
        let said = error(&format!("{begin}after 1s\npause"));
        assert!(said.starts_with("line 7 (`pause`): pi-") && said.contains("in the midst"), "{said}");
        let said = error(&format!("{begin}after 1s\nexpect rollout running\nafter 10m"));
        assert!(said.starts_with("line 7 (`expect rollout running`): more happens"), "{said}");
        assert!(error(&format!("{begin}after 10m\nlabel pi-1 site=barn")).starts_with("line 7"));
    }

    #[test]
    fn a_rollout_is_visited_when_something_is_done_while_a_wave_is_open() {
        let begin =
            "fleet 2 pi in all\nruns 1.0.0\nrelease 1.1.0\nplan all waves 1, 100% soak 5m\nstart 1.1.0\n";
        let script = |end: &str| Script::of(&Scenario::parse(&format!("{begin}{end}")).unwrap()).unwrap();
        assert!(!script("after 1h\nannounce 1.0.0 to all").acts[1].is_visited);
        let script = script("after 2m\npause\nafter 1h");
        assert!(script.acts[1].is_visited);
        assert_eq!((script.acts.len(), script.acts[2].lines.clone()), (3, 6..8));
    }
}
