//! What a machine does first: it reads the journal and the symlink, and goes on where the node stopped.

use crate::{
    handover::Resumed,
    input::Now,
    machine::{Machine, Setup},
    outcome::Failure,
    saved::{Saved, Slot, Step},
    state::Job,
};

impl Machine {
    /// A machine that goes on from its journal; `active` is what `current` points to.
    pub fn start(setup: Setup, saved: Option<Saved>, active: Option<Slot>, now: Now) -> Self {
        let known = saved.is_some();
        let saved = saved.unwrap_or_else(|| Saved::new(setup.app.clone()));
        let counted = saved.guarded.as_ref() == Some(&setup.boot);
        let mut machine = Self::new(setup, saved);
        match machine.saved().step.clone() {
            Step::Idle => machine.start_idle(known, active, now),
            Step::Trying { slot, tries_left, connected, spent } => {
                // With equal trees the symlink cannot tell whether the switch was done: it is done again.
                let current = machine.saved().current.as_ref().map(Slot::tree);
                let active = active.as_ref().map(Slot::tree);
                let switched = active == Some(slot.tree()) && active != current;
                let slot = *slot;
                machine.resume(Resumed { slot, tries_left, connected, spent, counted, switched }, now);
            }
            Step::RollingBack { slot, reason, text, log_tail, spent } => {
                let endless = machine.saved().is_endless();
                let job = Job { slot: *slot, spent, since_ms: now.mono_ms, attempt: 1 };
                machine.roll_back(Box::new(job), Failure { reason, text, log_tail }, endless, now);
            }
        }
        machine.settle(now);
        machine
    }

    fn start_idle(&mut self, known: bool, active: Option<Slot>, now: Now) {
        if let Some(active) = active {
            self.adopt(active);
        } else if self.saved().current.is_some() {
            self.keeper.unpointed = true;
        }
        if !known {
            self.journal.note(|_| ());
        }
        self.keeper.start(now);
        if let Some(current) = self.current()
            && self.journal.has_outcome(self.saved().obeyed)
        {
            self.tidy = Some(current.tree());
        }
    }

    /// The symlink is the truth about what is committed.
    fn adopt(&mut self, active: Slot) {
        let saved = self.saved();
        if saved.current.as_ref().is_some_and(|current| current.tree() == active.tree()) {
            return;
        }
        let known = saved.previous.clone().filter(|previous| previous.tree() == active.tree());
        self.journal.note(|saved| {
            let slot = known.unwrap_or(active);
            saved.obeyed = saved.obeyed.max(slot.revision);
            if saved.current.is_none() {
                saved.floor = saved.floor.max(slot.min_counter);
            }
            saved.previous = saved.current.replace(slot);
        });
    }
}

#[cfg(test)]
mod tests;
