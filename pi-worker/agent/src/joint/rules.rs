//! What a node of a joint release may do, by how far the others are. Pure.

use std::fmt;

use schemas::{id::NodeId, release::First};
use serde::{Deserialize, Serialize};

/// How far a node is with a joint release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Step {
    /// It is being fetched and staged.
    Coming,
    /// It is on the node, and nothing that runs was touched.
    Staged,
    /// The same of the Pi and all its Picos; or somebody tries it already.
    Gathered,
    /// It runs, is healthy, and would be kept.
    Ready,
    /// The Pi keeps it as soon as its journal is written: no Pico goes back by itself any more.
    Decided,
}

/// How a node stands to a joint release, as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stand {
    /// It has nothing to do with it yet.
    Away,
    /// What it says cannot be read now.
    Unclear,
    /// It is on its way.
    At(Step),
    /// It goes back, or did.
    GaveUp(String),
    /// It has it for good.
    Kept,
}

/// Which of the nodes it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The Pi, which decides.
    Pi,
    /// A Pico on its USB.
    Pico,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// Go on.
    Go,
    /// Not yet, and for what.
    Wait(String),
    /// Never, and why.
    GiveUp(String),
}

/// Whether a node may touch what it runs. The Pi has seen all its Picos staged before it says that they are.
pub(super) fn may_switch(role: Role, first: First, others: &[(NodeId, Stand)]) -> Answer {
    let wanted = match (role, first) {
        (Role::Pi, First::Pi) => Step::Staged,
        (Role::Pico, First::Pico) => Step::Gathered,
        (Role::Pi, First::Pico) | (Role::Pico, First::Pi) => Step::Ready,
    };
    weigh(wanted, others)
}

/// Whether the release is on all nodes, as the Pi sees it.
pub(super) fn are_gathered(picos: &[(NodeId, Stand)]) -> bool {
    weigh(Step::Staged, picos) == Answer::Go
}

/// Whether a node that runs the release and finds it well may keep it.
pub(super) fn may_keep(role: Role, others: &[(NodeId, Stand)]) -> Answer {
    if role == Role::Pi {
        return weigh(Step::Ready, others);
    }
    match others.iter().find(|(_, stand)| *stand != Stand::Kept) {
        None => Answer::Go,
        Some((node, Stand::GaveUp(why))) => Answer::GiveUp(format!("{node} gave it up: {why}")),
        // The Pico took over because the Pi was on its way.
        Some((node, Stand::Away)) => Answer::GiveUp(format!("{node} does not go on with it")),
        Some((node, stand)) => Answer::Wait(format!("{node} {stand}")),
    }
}

fn weigh(wanted: Step, others: &[(NodeId, Stand)]) -> Answer {
    let mut answer = Answer::Go;
    for (node, stand) in others {
        match stand {
            Stand::GaveUp(why) => return Answer::GiveUp(format!("{node} gave it up: {why}")),
            Stand::Kept => {}
            Stand::At(step) if *step >= wanted => {}
            stand => answer = Answer::Wait(format!("{node} {stand}")),
        }
    }
    answer
}

impl fmt::Display for Stand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Away => "has not begun with it",
            Self::Unclear => "cannot be asked",
            Self::At(Step::Coming) => "is fetching it",
            Self::At(Step::Staged) => "has it, and waits for the others",
            Self::At(Step::Gathered) => "has it, and is not sure of it yet",
            Self::At(Step::Ready) => "runs it, and has not decided yet",
            Self::At(Step::Decided) => "is about to keep it",
            Self::GaveUp(_) => "gave it up",
            Self::Kept => "keeps it",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn others(stands: &[Stand]) -> Vec<(NodeId, Stand)> {
        let named = |(at, stand): (usize, &Stand)| (format!("n-{at}").parse().unwrap(), stand.clone());
        stands.iter().enumerate().map(named).collect()
    }

    fn gave_up() -> Stand {
        Stand::GaveUp("exited: it crashed".into())
    }

    fn waits(answer: &Answer) -> bool {
        matches!(answer, Answer::Wait(_))
    }

    #[test]
    fn who_goes_first_needs_the_others_staged_who_goes_second_needs_them_well() {
        let staged = others(&[Stand::Kept, Stand::At(Step::Gathered)]);
        let ready = others(&[Stand::Kept, Stand::At(Step::Ready)]);
        for (role, first, is_first) in [
            (Role::Pico, First::Pico, true),
            (Role::Pi, First::Pico, false),
            (Role::Pi, First::Pi, true),
            (Role::Pico, First::Pi, false),
        ] {
            let asked = |others: &[_]| may_switch(role, first, others);
            assert_eq!(asked(&ready), Answer::Go, "{role:?} {first:?}");
            assert_eq!(asked(&staged) == Answer::Go, is_first, "{role:?} {first:?}");
            assert!(waits(&asked(&others(&[Stand::At(Step::Coming)]))));
            assert!(waits(&asked(&others(&[Stand::Away]))));
            assert_eq!(
                asked(&others(&[Stand::Away, gave_up()])),
                Answer::GiveUp("n-1 gave it up: exited: it crashed".into())
            );
        }
    }

    #[test]
    fn no_pico_begins_before_all_have_it() {
        let (one, both) = (
            others(&[Stand::At(Step::Staged), Stand::Away]),
            others(&[Stand::At(Step::Staged), Stand::Kept]),
        );
        assert!(!are_gathered(&one) && are_gathered(&both));
        assert!(waits(&may_switch(Role::Pico, First::Pico, &others(&[Stand::At(Step::Staged)]))));
        assert_eq!(may_switch(Role::Pi, First::Pi, &both), Answer::Go);
    }

    #[test]
    fn who_cannot_be_asked_is_waited_for() {
        let unclear = others(&[Stand::Unclear]);
        assert!(waits(&may_keep(Role::Pico, &unclear)) && waits(&may_keep(Role::Pi, &unclear)));
    }

    #[test]
    fn a_pi_without_picos_goes_on_alone() {
        assert_eq!(may_switch(Role::Pi, First::Pico, &[]), Answer::Go);
        assert_eq!(may_keep(Role::Pi, &[]), Answer::Go);
    }

    #[test]
    fn a_pi_keeps_it_with_all_its_picos_ready() {
        assert_eq!(may_keep(Role::Pi, &others(&[Stand::Kept, Stand::At(Step::Ready)])), Answer::Go);
        let answer = may_keep(Role::Pi, &others(&[Stand::At(Step::Staged), Stand::At(Step::Ready)]));
        assert_eq!(answer, Answer::Wait("n-0 has it, and waits for the others".into()));
        assert!(matches!(may_keep(Role::Pi, &others(&[gave_up()])), Answer::GiveUp(_)));
        assert!(
            waits(&may_keep(Role::Pi, &others(&[Stand::Away]))),
            "one that has come into the fleet meanwhile"
        );
    }

    #[test]
    fn a_pico_keeps_it_after_its_pi_alone() {
        for step in [Step::Coming, Step::Staged, Step::Ready, Step::Decided] {
            assert!(waits(&may_keep(Role::Pico, &others(&[Stand::At(step)]))), "{step:?}");
        }
        assert_eq!(may_keep(Role::Pico, &others(&[Stand::Kept])), Answer::Go);
        for stand in [Stand::Away, gave_up()] {
            assert!(matches!(may_keep(Role::Pico, &others(&[stand])), Answer::GiveUp(_)));
        }
    }
}
