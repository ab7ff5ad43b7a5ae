//! The states of a rollout. Every arrow there is:
//!
//! ```text
//! scheduled         -> running            its time has come
//! scheduled         -> paused             a person, or nobody knows what had become of it
//! scheduled         -> aborted            a person, or it cannot be carried out
//! scheduled         -> superseded         another order or rollout takes its place
//! running           -> awaiting_approval  the next stage asks for it
//! running           -> paused             a person, failures, too little news, or the mandate is over
//! running           -> reverting          a person; failures, where the plan says so
//! running           -> completed          every wave has passed
//! running           -> aborted            a person, or it cannot be carried on
//! running           -> superseded         another order or rollout takes its place
//! awaiting_approval -> running            somebody approves
//! awaiting_approval -> paused             a person, or nobody knows what had become of it
//! awaiting_approval -> reverting          a person
//! awaiting_approval -> aborted            a person, or it cannot be carried on
//! awaiting_approval -> superseded         another order or rollout takes its place
//! paused            -> running            a person
//! paused            -> scheduled          a person, before its time
//! paused            -> paused             nobody knows what had become of it
//! paused            -> reverting          a person
//! paused            -> aborted            a person, or it cannot be carried on
//! paused            -> superseded         another order or rollout takes its place
//! reverting         -> reverting          the wave before goes back
//! reverting         -> paused             nobody knows what had become of it
//! reverting         -> aborted            every wave has gone back, or it cannot be carried on
//! reverting         -> superseded         another order or rollout takes its place
//! completed         -> superseded         another order takes its place
//! aborted           -> superseded         another order takes its place
//! ```

use schemas::rollout::CourseState;

use super::{Conductor, Dirt};

/// Every arrow of the diagram.
#[cfg(any(test, debug_assertions))]
pub(super) const ARROWS: [(&str, &str); 27] = [
    ("scheduled", "running"),
    ("scheduled", "paused"),
    ("scheduled", "aborted"),
    ("scheduled", "superseded"),
    ("running", "awaiting_approval"),
    ("running", "paused"),
    ("running", "reverting"),
    ("running", "completed"),
    ("running", "aborted"),
    ("running", "superseded"),
    ("awaiting_approval", "running"),
    ("awaiting_approval", "paused"),
    ("awaiting_approval", "reverting"),
    ("awaiting_approval", "aborted"),
    ("awaiting_approval", "superseded"),
    ("paused", "running"),
    ("paused", "scheduled"),
    ("paused", "paused"),
    ("paused", "reverting"),
    ("paused", "aborted"),
    ("paused", "superseded"),
    ("reverting", "reverting"),
    ("reverting", "paused"),
    ("reverting", "aborted"),
    ("reverting", "superseded"),
    ("completed", "superseded"),
    ("aborted", "superseded"),
];

impl Conductor {
    /// It stands otherwise from now on. That is published before anything that relies on it, and all of its nodes are looked at by it.
    pub(super) fn becomes(&mut self, state: CourseState) {
        #[cfg(any(test, debug_assertions))]
        {
            let arrow = (self.course.state.name(), state.name());
            debug_assert!(ARROWS.contains(&arrow), "no arrow {arrow:?}");
            #[cfg(test)]
            self.arrows.push(arrow);
        }
        self.course.state = state;
        self.changed = Dirt::Hard;
        self.looks_at_all = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diagram_shows_every_arrow_and_no_other() {
        let diagram = include_str!("arrows.rs").lines().take_while(|line| line.starts_with("//!"));
        let drawn = diagram.filter_map(|line| {
            let (from, to) = line.strip_prefix("//! ")?.split_once("->")?;
            Some((from.trim(), to.split_whitespace().next()?))
        });
        assert_eq!(drawn.collect::<Vec<_>>(), ARROWS);
    }
}
