//! Going back to the committed release, which still stands on the disk.

use schemas::{reason::Reason, report::Verdict};

use crate::{
    effect::Effect,
    input::{Fault, Now},
    journal::Change,
    machine::Machine,
    outbox::Flight,
    outcome::{Failure, Subject},
    retry::{START_LIMIT_MS, pause_ms},
    state::{Job, Rollback, RollbackStep, State},
};

impl Machine {
    /// Goes back to the committed release.
    pub(crate) fn roll_back(&mut self, job: Box<Job>, failure: Failure, endless: bool, now: Now) {
        self.keeper.rest();
        let (slot, spent) = (job.slot.clone(), job.spent_until(now.mono_ms));
        let change = Change::RollBack { slot, failure: failure.clone(), spent };
        let rollback = Rollback { failure, at: RollbackStep::Journal, endless, failures: 0 };
        self.enter(State::RollingBack(job, rollback));
        self.persist(change);
    }

    /// The journal says so, or could not be written; the symlink is the truth in both cases.
    pub(crate) fn rollback_stored(&mut self) {
        self.roll_back_at(RollbackStep::Stop);
    }

    /// The stop or the switch back ended.
    pub(crate) fn rollback_step_ended(&mut self, result: &Result<(), Fault>, now: Now) {
        let has_current = self.journal.saved().current.is_some();
        let State::RollingBack(job, rollback) = &mut self.state else {
            return self.unexpected("rollback step ended");
        };
        match (rollback.at, result) {
            // What cannot be stopped is in the way of what is started next, and that shows there.
            (RollbackStep::Stop, _) => self.roll_back_at(RollbackStep::Switch),
            (RollbackStep::Switch, Ok(())) if has_current => {
                self.start_if_down(now);
                let deadline_ms = now.mono_ms.saturating_add(self.current_deadline_ms());
                self.roll_back_at(RollbackStep::Watch { deadline_ms });
            }
            (RollbackStep::Switch, Ok(())) => {
                let (job, failure) = (job.clone(), rollback.failure.clone());
                self.end_rollback(&job, Verdict::Failed, failure, now);
            }
            (RollbackStep::Switch, Err(_)) => {
                rollback.failures = rollback.failures.saturating_add(1);
                let not_before_ms = now.mono_ms + pause_ms(rollback.failures, START_LIMIT_MS);
                self.start_if_down(now);
                self.roll_back_at(RollbackStep::SwitchAgain { not_before_ms });
            }
            _ => {}
        }
    }

    /// Asks for the next effect of the roll back, when it is time.
    pub(crate) fn bring_back(&mut self, now: Now) {
        let healthy = self.healthy() == Some(true);
        let State::RollingBack(job, rollback) = &self.state else { return };
        match rollback.at {
            RollbackStep::SwitchAgain { not_before_ms } if not_before_ms <= now.mono_ms => {
                self.roll_back_at(RollbackStep::Switch);
            }
            RollbackStep::Watch { .. } if healthy => {
                let (job, failure) = (job.clone(), rollback.failure.clone());
                self.end_rollback(&job, Verdict::RolledBack, failure, now);
            }
            RollbackStep::Watch { deadline_ms } if deadline_ms <= now.mono_ms || rollback.endless => {
                let text = format!(
                    "the release before did not get healthy either; {}: {}",
                    rollback.failure.reason, rollback.failure.text
                );
                let failure = Failure { reason: Reason::RollbackFailed, text, ..rollback.failure.clone() };
                let job = job.clone();
                self.end_rollback(&job, Verdict::Failed, failure, now);
            }
            _ => {}
        }
    }

    /// The verdict was stored, or will be.
    pub(crate) fn rollback_ended(&mut self) {
        let State::RollingBack(job, _) = &self.state else { return self.unexpected("rollback ended") };
        let tree = job.slot.tree();
        self.tidy = Some(tree);
        self.enter(State::Idle);
    }

    /// When the roll back must be looked at again.
    pub(crate) fn rollback_ms(&self) -> Option<u64> {
        let State::RollingBack(_, rollback) = &self.state else { return None };
        match rollback.at {
            RollbackStep::SwitchAgain { not_before_ms } => Some(not_before_ms),
            RollbackStep::Watch { deadline_ms } => Some(deadline_ms),
            _ => None,
        }
    }

    fn roll_back_at(&mut self, step: RollbackStep) {
        let current = self.current();
        let State::RollingBack(job, rollback) = &mut self.state else { return };
        rollback.at = step;
        match step {
            RollbackStep::Stop => {
                let slot = Box::new(job.slot.clone());
                self.stop(slot);
            }
            RollbackStep::Switch => self.outbox.ask(Effect::Switch(current), Flight::Switch),
            _ => {}
        }
    }

    fn end_rollback(&mut self, job: &Job, verdict: Verdict, failure: Failure, now: Now) {
        let spent = job.spent_until(now.mono_ms);
        let outcome = Subject::from(&job.slot).ended(verdict, failure, spent, now.wall);
        if let State::RollingBack(_, rollback) = &mut self.state {
            rollback.at = RollbackStep::End;
        }
        self.persist(Change::End(outcome));
    }

    fn start_if_down(&mut self, now: Now) {
        if !self.keeper.is_tended() {
            self.keeper.start(now);
        }
    }

    fn current_deadline_ms(&self) -> u64 {
        self.journal.saved().current.as_ref().map_or(0, |slot| slot.part.trial.deadline_ms)
    }
}

#[cfg(test)]
mod tests;
