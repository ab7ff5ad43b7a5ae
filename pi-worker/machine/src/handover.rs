//! From a ready slot to a started one: journal, stop, switch, start.

use schemas::reason::Reason;

use crate::{
    effect::Effect,
    input::{Bus, Fault, Now},
    journal::{Change, MAX_STORES},
    machine::Machine,
    outbox::Flight,
    outcome::Failure,
    saved::{Slot, Spent},
    state::{Handover, HandoverStep, Job, State},
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
        if self.journal.saved().stores > MAX_STORES {
            let text = format!("journal was stored {MAX_STORES} times without a verdict");
            return self.roll_back(job, Failure::new(Reason::Endless, text), false, now);
        }
        if tries_left == 0 && !counted {
            let text = format!("node or worker went down {used} times during the trial");
            return self.roll_back(job, Failure::new(Reason::TriesUsedUp, text), false, now);
        }
        let change = Change::Try {
            slot: job.slot.clone(),
            tries_left: tries_left - u32::from(!counted),
            connected,
            spent,
        };
        self.enter(State::Switching(job, Handover { resumed: true, switched, ..Handover::new(connected) }));
        self.persist(change);
    }

    /// The journal says that the slot takes over, or could not be written.
    pub(crate) fn try_stored(&mut self, result: Result<(), Fault>, now: Now) {
        let State::Switching(_, handover) = &mut self.state else { return };
        let (resumed, switched) = (handover.resumed, handover.switched);
        match result {
            Err(fault) if resumed => self.switching_failed(fault, now),
            Err(fault) => self.fail(fault.into(), now),
            Ok(()) => {
                self.keeper.rest();
                self.hand_over_at(if switched { HandoverStep::Start } else { HandoverStep::Stop });
            }
        }
    }

    /// A stop, a switch or the start of the new slot ended.
    pub(crate) fn switched(&mut self, result: Result<(), Fault>, now: Now) {
        let State::Switching(_, handover) = &mut self.state else { return };
        match (handover.at, result) {
            (_, Err(fault)) => self.switching_failed(fault, now),
            (HandoverStep::Journal | HandoverStep::Stop, Ok(())) => self.hand_over_at(HandoverStep::Switch),
            (HandoverStep::Switch, Ok(())) => self.hand_over_at(HandoverStep::Start),
            (HandoverStep::Start, Ok(())) => self.begin_trial(now),
        }
    }

    fn hand_over_at(&mut self, step: HandoverStep) {
        let current = self.current();
        let State::Switching(job, handover) = &mut self.state else { return };
        let slot = Box::new(job.slot.clone());
        handover.at = step;
        match (step, current) {
            (HandoverStep::Journal, _) => {}
            (HandoverStep::Stop, Some(current)) => self.stop(current),
            (HandoverStep::Stop, None) => self.hand_over_at(HandoverStep::Switch),
            (HandoverStep::Switch, _) => self.outbox.ask(Effect::Switch(Some(slot)), Flight::Switch),
            (HandoverStep::Start, _) => self.outbox.ask(Effect::Start(slot), Flight::Start),
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
        Self { at: HandoverStep::Journal, resumed: false, switched: false, connected, exited: None }
    }
}

#[cfg(test)]
mod tests;
