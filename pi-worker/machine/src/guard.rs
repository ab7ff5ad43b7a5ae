//! What `pi-worker guard` does before the app starts: it counts a try, or goes back to what is committed.
//!
//! It stands apart from the machine, so that a fault of the worker cannot block going back.

use crate::{
    journal::Change,
    outcome::Failure,
    saved::{Saved, Slot, Step},
};

/// What is to be done before the app starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Guarded {
    /// Nothing.
    Leave,
    /// Store this journal.
    Store(Box<Saved>),
    /// Store this journal, then point `current` to this slot; to nothing for `None`.
    SwitchBack {
        /// The journal.
        saved: Box<Saved>,
        /// What is committed.
        to: Option<Box<Slot>>,
    },
}

/// Decides what is to be done before the app starts; `active` is what `current` points to, `boot` the kernel's boot id.
pub fn guard(saved: Saved, active: Option<&Slot>, boot: &str) -> Guarded {
    let active = active.map(Slot::tree);
    let committed = saved.current.as_ref().map(Slot::tree);
    match &saved.step {
        Step::Idle => Guarded::Leave,
        Step::RollingBack { .. } if active == committed => Guarded::Leave,
        Step::RollingBack { .. } => switch_back(saved),
        Step::Trying { slot, .. } if active != Some(slot.tree()) => Guarded::Leave,
        Step::Trying { .. } if saved.guarded.as_deref() == Some(boot) => Guarded::Leave,
        Step::Trying { slot, tries_left: 0, spent, .. } => {
            let (slot, failure) = ((**slot).clone(), Failure::tries_used_up(slot));
            switch_back(changed(&saved, &Change::RollBack { slot, failure, spent: spent.clone() }))
        }
        Step::Trying { slot, tries_left, connected, spent } => {
            let (slot, tries_left) = ((**slot).clone(), tries_left - 1);
            let change = Change::Try { slot, tries_left, connected: *connected, spent: spent.clone() };
            let counted = Saved { guarded: Some(boot.to_owned()), ..changed(&saved, &change) };
            Guarded::Store(Box::new(counted))
        }
    }
}

fn switch_back(saved: Saved) -> Guarded {
    let to = saved.current.clone().map(Box::new);
    Guarded::SwitchBack { saved: Box::new(saved), to }
}

fn changed(saved: &Saved, change: &Change) -> Saved {
    let mut saved = saved.clone();
    change.apply(&mut saved);
    saved
}

#[cfg(test)]
mod tests;
