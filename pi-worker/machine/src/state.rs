//! The states of a machine.

use schemas::{hold::HoldCode, id::Revision, status::Phase, time::UnixTime};

use crate::{
    input::{Fault, Health},
    outcome::Failure,
    saved::{Slot, Spent},
};

/// What a machine does. Every arrow there is:
///
/// ```text
/// idle         -> deferred      an order waits for its time, or something holds the node back
/// idle         -> accepting     an order applies
/// idle         -> switching     the worker starts and a slot was being tried
/// idle         -> rolling_back  the worker starts and a slot had failed, or has no tries left
/// deferred     -> idle          the order was taken back, or a new one needs nothing done
/// deferred     -> accepting     its time has come and nothing holds it back, or a newer one applies now
/// accepting    -> fetching      the journal says so
/// accepting    -> idle          superseded, withdrawn, or the journal cannot be written
/// fetching     -> staging       everything is there
/// fetching     -> idle          superseded, withdrawn or failed
/// staging      -> staged        the slot is what was signed
/// staging      -> fetching      it is not: once more
/// staging      -> idle          superseded, withdrawn or failed
/// staged       -> switching     the pre-check said yes
/// staged       -> idle          superseded, withdrawn, or it said no
/// switching    -> trial         the new slot was started
/// switching    -> idle          the journal cannot be written: nothing was touched
/// switching    -> rolling_back  stop, switch or start went wrong
/// trial        -> idle          kept
/// trial        -> rolling_back  not proven in time, ended, or unhealthy when a newer order came
/// rolling_back -> idle          rolled back or failed
/// ```
#[derive(Debug, Default)]
pub(crate) enum State {
    #[default]
    Idle,
    Deferred(Deferral),
    Preparing(Box<Job>, Prep),
    Switching(Box<Job>, Handover),
    Trial(Box<Job>, Trial),
    RollingBack(Box<Job>, Rollback),
}

/// The highest order that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Deferral {
    pub(crate) revision: Revision,
    pub(crate) version: String,
    pub(crate) notes: String,
    pub(crate) text: String,
    pub(crate) hold: Option<HoldCode>,
    pub(crate) until: Option<UnixTime>,
}

/// An order that is being carried out. The slot carries the order's revision and group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) slot: Slot,
    /// What it cost before `since_ms`.
    pub(crate) spent: Spent,
    pub(crate) since_ms: u64,
    /// From 1.
    pub(crate) attempt: u32,
}

/// How far an order is before anything running is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Prep {
    pub(crate) stage: Stage,
    /// Why it is given up as soon as the effect in flight has ended.
    pub(crate) dropped: Option<Failure>,
    /// The fetch was cancelled to start the running app again.
    pub(crate) interrupted: bool,
    /// What was on the disk was not what was signed, once.
    pub(crate) torn: bool,
    pub(crate) progress_permille: u16,
    /// When it last got further.
    pub(crate) progress_ms: u64,
    /// Since it last got further.
    pub(crate) failures: u32,
    /// Not tried again before that, and why.
    pub(crate) pause: Option<(u64, Failure)>,
}

/// What is done before anything running is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Accepting,
    Fetching,
    Staging,
    Staged,
}

/// How far the new slot is in taking over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handover {
    /// Whether it was begun before the worker started.
    pub(crate) resumed: bool,
    /// Whether `current` points to the new slot already.
    pub(crate) switched: bool,
    pub(crate) connected: bool,
    /// The new slot ended by itself before the answer to its start came.
    pub(crate) exited: Option<Fault>,
}

/// How far the new slot is in proving itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Trial {
    pub(crate) deadline_ms: u64,
    /// The deadline as people read it.
    pub(crate) ends_at: UnixTime,
    pub(crate) healthy_since_ms: Option<u64>,
    /// What its checks said when they were bad.
    pub(crate) bad: Option<Health>,
    pub(crate) proven: bool,
    /// The answer when it was last asked for proof, if that was none.
    pub(crate) no_proof: Option<Fault>,
    /// Not asked for proof, or committed, before that.
    pub(crate) not_before_ms: u64,
    /// The bus was there before the switch.
    pub(crate) connected: bool,
    /// Since then it is not, with everything else proven.
    pub(crate) cut_off_since_ms: Option<u64>,
    pub(crate) exited: Option<Fault>,
}

/// How far the slot before is in coming back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rollback {
    pub(crate) failure: Failure,
    pub(crate) at: RollbackStep,
    /// Too many stores: the verdict does not wait for health.
    pub(crate) endless: bool,
    pub(crate) failures: u32,
}

/// What is done to bring the slot before back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RollbackStep {
    Journal,
    Stop,
    Switch,
    /// `current` could not be pointed back; what ran before is started all the same.
    SwitchAgain {
        not_before_ms: u64,
    },
    Watch {
        deadline_ms: u64,
    },
    End,
}

/// Every arrow of the diagram.
#[cfg(any(test, debug_assertions))]
pub(crate) const ARROWS: &[(&str, &str)] = &[
    ("idle", "deferred"),
    ("idle", "accepting"),
    ("idle", "switching"),
    ("idle", "rolling_back"),
    ("deferred", "idle"),
    ("deferred", "accepting"),
    ("accepting", "fetching"),
    ("accepting", "idle"),
    ("fetching", "staging"),
    ("fetching", "idle"),
    ("staging", "staged"),
    ("staging", "fetching"),
    ("staging", "idle"),
    ("staged", "switching"),
    ("staged", "idle"),
    ("switching", "trial"),
    ("switching", "idle"),
    ("switching", "rolling_back"),
    ("trial", "idle"),
    ("trial", "rolling_back"),
    ("rolling_back", "idle"),
];

impl State {
    /// The name in the diagram.
    #[cfg(any(test, debug_assertions))]
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Deferred(_) => "deferred",
            Self::Preparing(_, prep) => prep.stage.name(),
            Self::Switching(..) => "switching",
            Self::Trial(..) => "trial",
            Self::RollingBack(..) => "rolling_back",
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        match self {
            Self::Idle => Phase::Idle,
            Self::Deferred(_) => Phase::Deferred,
            Self::Preparing(_, prep) => match prep.stage {
                Stage::Accepting | Stage::Fetching => Phase::Fetching,
                Stage::Staging => Phase::Staging,
                Stage::Staged => Phase::Staged,
            },
            Self::Switching(..) => Phase::Switching,
            Self::Trial(..) => Phase::Trial,
            Self::RollingBack(..) => Phase::RollingBack,
        }
    }

    /// The order that is being carried out.
    pub(crate) fn job(&self) -> Option<&Job> {
        match self {
            Self::Idle | Self::Deferred(_) => None,
            Self::Preparing(job, _)
            | Self::Switching(job, _)
            | Self::Trial(job, _)
            | Self::RollingBack(job, _) => Some(job),
        }
    }
}

#[cfg(any(test, debug_assertions))]
impl Stage {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Accepting => "accepting",
            Self::Fetching => "fetching",
            Self::Staging => "staging",
            Self::Staged => "staged",
        }
    }
}

impl Job {
    pub(crate) fn spent_until(&self, mono_ms: u64) -> Spent {
        let took_ms = self.spent.took_ms + mono_ms.saturating_sub(self.since_ms);
        Spent { took_ms, ..self.spent.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_diagram_shows_every_arrow_and_no_other() {
        let drawn: Vec<(&str, &str)> = include_str!("state.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("/// ")?.split_once(" -> "))
            .filter_map(|(from, rest)| Some((from.trim(), rest.split_whitespace().next()?)))
            .collect();
        assert_eq!(drawn, ARROWS);
    }
}
