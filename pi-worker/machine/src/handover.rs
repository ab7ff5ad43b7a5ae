//! From a ready slot to a started one: journal, stop, switch, start.

use crate::{
    effect::Effect,
    input::{Bus, Fault, Now},
    journal::Change,
    machine::Machine,
    outbox::Flight,
    outcome::Failure,
    saved::{Slot, Spent},
    state::{Handover, Job, State},
};

/// A trial as the journal has it when the worker starts.
pub(crate) struct Resumed {
    pub(crate) slot: Slot,
    pub(crate) tries_left: u32,
    pub(crate) connected: bool,
    pub(crate) spent: Spent,
    /// Whether the guard counted this start already.
    pub(crate) counted: bool,
    /// Whether `current` points to the slot.
    pub(crate) switched: bool,
}

impl Machine {
    /// Lets the slot that was prepared take over.
    pub(crate) fn hand_over(&mut self, now: Now) {
        let Some(job) = self.state.job().cloned() else { return };
        let connected = self.bus == Some(Bus::Connected);
        let change = Change::Try {
            slot: job.slot.clone(),
            tries_left: job.slot.part.trial.tries,
            connected,
            spent: job.spent_until(now.mono_ms),
        };
        self.enter(State::Switching(Box::new(job), Handover::new(connected)));
        self.persist(change);
    }

    /// Goes on with a trial that a power cut or the end of the worker broke off.
    pub(crate) fn resume(&mut self, resumed: Resumed, now: Now) {
        let Resumed { slot, tries_left, connected, spent, counted, switched } = resumed;
        let used = slot.part.trial.tries.saturating_sub(tries_left) + u32::from(!counted);
        let job = Box::new(Job { slot, spent, since_ms: now.mono_ms, attempt: used.saturating_add(1) });
        if self.journal.saved().is_endless() {
            return self.roll_back(job, Failure::endless(), false, now);
        }
        if tries_left == 0 && !counted {
            let failure = Failure::tries_used_up(&job.slot);
            return self.roll_back(job, failure, false, now);
        }
        let change = Change::Try {
            slot: job.slot.clone(),
            tries_left: tries_left - u32::from(!counted),
            connected,
            spent: job.spent.clone(),
        };
        self.enter(State::Switching(job, Handover { resumed: true, switched, ..Handover::new(connected) }));
        self.persist(change);
    }

    /// The journal says that the slot takes over, or could not be written.
    pub(crate) fn try_stored(&mut self, result: Result<(), Fault>, now: Now) {
        let State::Switching(job, handover) = &self.state else { return self.unexpected("try stored") };
        let slot = Box::new(job.slot.clone());
        match result {
            Err(fault) if handover.resumed => self.switching_failed(fault, now),
            Err(fault) => self.fail(fault.into(), now),
            Ok(()) => {
                let ran = self.current().filter(|_| !handover.switched);
                let switched = handover.switched;
                self.keeper.rest();
                match ran {
                    Some(current) => self.stop(current),
                    None if switched => self.outbox.ask(Effect::Start(slot), Flight::Start),
                    None => self.outbox.ask(Effect::Switch(Some(slot)), Flight::Switch),
                }
            }
        }
    }

    /// The stop of what ran, the switch, or the start of the new slot ended.
    pub(crate) fn handover_step_ended(&mut self, step: &Flight, result: Result<(), Fault>, now: Now) {
        let State::Switching(job, _) = &self.state else { return self.unexpected("handover step ended") };
        let slot = Box::new(job.slot.clone());
        match (step, result) {
            (_, Err(fault)) => self.switching_failed(fault, now),
            (Flight::Stop, Ok(())) => self.outbox.ask(Effect::Switch(Some(slot)), Flight::Switch),
            (Flight::Switch, Ok(())) => self.outbox.ask(Effect::Start(slot), Flight::Start),
            (_, Ok(())) => self.begin_trial(now),
        }
    }

    fn switching_failed(&mut self, fault: Fault, now: Now) {
        let State::Switching(job, _) = &self.state else { return };
        let job = job.clone();
        self.roll_back(job, fault.into(), false, now);
    }
}

impl Handover {
    fn new(connected: bool) -> Self {
        Self { resumed: false, switched: false, connected, exited: None }
    }
}

#[cfg(test)]
mod tests;
