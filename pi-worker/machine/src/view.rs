//! What a machine shows of itself.

use schemas::{
    id::Revision,
    report::{AppReport, Target},
};

use crate::{
    machine::Machine,
    saved::Slot,
    state::{Job, Prep, Stage, State},
};

/// What an update entity shows beside what is installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latest {
    /// The version on the way, else the one that waits, else the one that is installed; empty without any.
    pub version: String,
    /// Its notes, at most 255 characters.
    pub notes: String,
    /// Whether the node is on the way.
    pub in_progress: bool,
    /// How far, when it is on the way.
    pub percent: Option<u8>,
}

impl Machine {
    /// The app as the node's report says it.
    pub fn report(&self) -> AppReport {
        let saved = self.saved();
        AppReport {
            app: self.setup.app.clone(),
            phase: self.state.phase(),
            revision: saved.obeyed,
            installed: saved.current.as_ref().map(Slot::installed),
            previous: saved.previous.as_ref().map(Slot::installed),
            target: self.target(),
            healthy: self.healthy(),
            outcomes: saved.outcomes.clone(),
        }
    }

    /// The order that is being carried out, or brought back from.
    pub fn under_way(&self) -> Option<Revision> {
        self.state.job().map(|job| job.slot.revision)
    }

    /// What an update entity shows beside what is installed.
    pub fn latest(&self) -> Latest {
        let (version, notes) = match (&self.state, self.state.job()) {
            (_, Some(job)) => (job.slot.version.clone(), job.slot.notes.clone()),
            (State::Deferred(deferral), None) => (deferral.version.clone(), deferral.notes.clone()),
            _ => {
                let current = self.saved().current.as_ref();
                current.map(|slot| (slot.version.clone(), slot.notes.clone())).unwrap_or_default()
            }
        };
        let in_progress = self.state.job().is_some();
        let percent = in_progress.then(|| u8::try_from(self.permille() / 10).unwrap_or(100));
        Latest { version, notes, in_progress, percent }
    }

    fn target(&self) -> Option<Target> {
        if let State::Deferred(deferral) = &self.state {
            return Some(Target {
                revision: deferral.revision,
                version: deferral.version.clone(),
                progress_permille: 0,
                attempt: 1,
                waits_for: deferral.text.clone(),
                hold: deferral.hold,
                until: deferral.until,
            });
        }
        let job: &Job = self.state.job()?;
        Some(Target {
            revision: job.slot.revision,
            version: job.slot.version.clone(),
            progress_permille: self.permille(),
            attempt: job.attempt,
            waits_for: self.waits_for(),
            hold: None,
            until: self.trial_ends_at(),
        })
    }

    /// How far the order is as a whole: most of the time goes into fetching, then staging.
    fn permille(&self) -> u16 {
        let part = |prep: &Prep, share: u32| {
            u16::try_from(u32::from(prep.progress_permille) * share / 1_000).unwrap_or(0)
        };
        match &self.state {
            State::Idle | State::Deferred(_) => 0,
            State::Preparing(_, prep) => match prep.stage {
                Stage::Accepting => 0,
                Stage::Fetching => part(prep, 600),
                Stage::Staging => 600 + part(prep, 250),
                Stage::Staged => 850,
            },
            State::Switching(..) => 900,
            State::Trial(..) | State::RollingBack(..) => 950,
        }
    }

    fn waits_for(&self) -> String {
        match &self.state {
            State::Preparing(_, prep) => {
                let failure = prep.pause.as_ref().map(|(_, failure)| failure);
                failure.map(|f| format!("another try after {}: {}", f.reason, f.text)).unwrap_or_default()
            }
            State::RollingBack(_, rollback) => {
                format!("the release before, after {}: {}", rollback.failure.reason, rollback.failure.text)
            }
            _ => self.trial_waits_for(),
        }
    }
}
