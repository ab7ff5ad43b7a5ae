//! What `pi-worker guard` does before the app starts: it counts a try, or goes back to what is committed.
//!
//! It stands apart from the machine, so that a fault of the worker cannot block going back.

use schemas::reason::Reason;

use crate::saved::{Saved, Slot, Step};

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
        Step::Trying { tries_left: 0, .. } => switch_back(give_up(saved)),
        Step::Trying { .. } => Guarded::Store(Box::new(count(saved, boot))),
    }
}

fn switch_back(saved: Saved) -> Guarded {
    let to = saved.current.clone().map(Box::new);
    Guarded::SwitchBack { saved: Box::new(saved), to }
}

fn give_up(mut saved: Saved) -> Saved {
    if let Step::Trying { slot, spent, .. } = saved.step {
        let tries = slot.part.trial.tries;
        saved.step = Step::RollingBack {
            slot,
            reason: Reason::TriesUsedUp,
            text: format!("node or worker went down {} times during the trial", tries.saturating_add(1)),
            log_tail: Vec::new(),
            spent,
        };
        saved.stores = saved.stores.saturating_add(1);
    }
    saved
}

fn count(mut saved: Saved, boot: &str) -> Saved {
    if let Step::Trying { tries_left, .. } = &mut saved.step {
        *tries_left = tries_left.saturating_sub(1);
        saved.guarded = Some(boot.to_owned());
        saved.stores = saved.stores.saturating_add(1);
    }
    saved
}

#[cfg(test)]
mod tests;
