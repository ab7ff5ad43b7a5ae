//! What people ask of a node without a signature. It chooses among what the node has verified, and never what is older than the floor:
//!
//! | ask | what follows | what keeps it from that |
//! |---|---|---|
//! | install | the release that waits is begun, and a hold by hand ends | all but `consent` |
//! | hold | every other release waits as if for `consent` | |
//! | retry | the newest order is begun once more, if it ended badly | the order is paused, withdrawn or expired; all holds but `consent` |
//! | roll back | the release that ran before is tried, and kept when it proves itself | the lock, and the floor |
//!
//! A wish that cannot be followed now is forgotten: whoever asks sees that nothing happens, and asks again. So is one that a power cut
//! comes between.

use schemas::{
    hold::HoldCode,
    order::OrderState,
    report::{Outcome, Verdict},
};

use crate::{
    input::{Hold, Now},
    machine::Machine,
    offers::{Judgement, Offer},
    saved::Slot,
    state::State,
};

/// What people are told of a release that waits because of a hold by hand.
const HELD: &str = "somebody asked the node to hold what it has";

/// What is to be begun as soon as nothing else is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Retry,
    Back,
}

impl Machine {
    /// Somebody says yes to the release that waits. It stays said until that release was tried.
    pub(crate) fn consent(&mut self) {
        if self.saved().held {
            self.journal.note(|saved| saved.held = false);
        }
        let State::Deferred(deferral) = &self.state else { return };
        let waiting = self.offers.values().find(|offer| offer.revision() == deferral.revision);
        if let Some(release) = waiting.map(Offer::release) {
            self.journal.note(|saved| saved.consented = Some(release));
        }
    }

    /// Somebody wants no other release than the one that runs.
    pub(crate) fn hold_by_hand(&mut self) {
        if !self.saved().held {
            self.journal.note(|saved| saved.held = true);
        }
    }

    /// Somebody wants something begun. What is under way goes on.
    pub(crate) fn ask(&mut self, asked: Asked) {
        if matches!(self.state, State::Idle | State::Deferred(_)) {
            self.asked = Some(asked);
        }
    }

    /// What somebody wants begun, if it can be.
    pub(crate) fn take_asked(&mut self, now: Now) -> Option<Box<Slot>> {
        match self.asked.take()? {
            Asked::Retry => self.slot_to_retry(now),
            Asked::Back => self.slot_to_go_back(),
        }
    }

    /// The hold by hand, if there is one.
    pub(crate) fn held_by_hand(&self) -> Option<Hold> {
        let held = Hold { code: HoldCode::Consent, text: HELD.to_owned(), until: None };
        self.saved().held.then_some(held)
    }

    fn slot_to_retry(&mut self, now: Now) -> Option<Box<Slot>> {
        let mut offer = self.offers.values().max_by_key(|offer| offer.revision())?.clone();
        let is_about = |outcome: &&Outcome| {
            outcome.revision == offer.revision() || offer.continues(outcome.revision, outcome.release)
        };
        let last = self.journal.outcomes().filter(is_about).last()?;
        let has_failed = matches!(last.verdict, Verdict::RolledBack | Verdict::Failed);
        if !has_failed || offer.state() != OrderState::Active || self.expiry(&offer, now).is_some() {
            return None;
        }
        // Who asks for it has said yes to it.
        let release = offer.release();
        let judgement = self.judge_again(&mut offer, now);
        match self.hold_back_unless(&offer, judgement, true) {
            Judgement::Choose(crate::offers::Choice::Begin(slot)) => {
                self.journal.note(|saved| saved.consented = Some(release));
                Some(slot)
            }
            _ => None,
        }
    }

    fn slot_to_go_back(&self) -> Option<Box<Slot>> {
        let saved = self.saved();
        let is_locked = self.holds.iter().any(|hold| hold.code == HoldCode::Lock);
        // What is kept with others is left with them, by an order to all.
        let is_joint = saved.current.as_ref().is_some_and(|current| current.part.joint.is_some());
        let previous = saved.previous.clone().filter(|previous| previous.counter >= saved.floor);
        previous.filter(|_| !is_locked && !is_joint).map(Box::new)
    }
}

#[cfg(test)]
mod tests;
