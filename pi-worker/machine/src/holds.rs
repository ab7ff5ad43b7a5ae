//! What holds a node back from beginning. It never holds back what has begun: that finishes, commits or goes back.
//!
//! Which hold applies to which choice:
//!
//! | choice | lock | undervoltage, temperature, disk | consent, window |
//! |---|---|---|---|
//! | install a release | held | held | held, unless the order is urgent |
//! | go back to the release before, by a revert or an order | held | free | free |
//! | what runs already is what is ordered | free | free | free |
//!
//! Nobody is to be kept on a bad release by a calendar or by want of a yes, and its slot still stands on the disk, so
//! neither room nor heat keeps anybody from going back. The lock holds all: somebody has the node on the bench.

use schemas::{hold::HoldCode, id::Digest};

use crate::{
    input::Hold,
    machine::Machine,
    offers::{Judgement, Offer},
    saved::Slot,
};

/// Which way a choice goes: that decides what holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    On,
    Urgent,
    Back,
}

impl Machine {
    /// The judgement on an order that nothing was begun for yet, as what holds the node back leaves it.
    pub(crate) fn hold_back(&self, offer: &Offer, judgement: Judgement) -> Judgement {
        let consented = self.saved().consented == Some(offer.release());
        self.hold_back_unless(offer, judgement, consented)
    }

    /// The same, where it is known whether somebody has said yes.
    pub(crate) fn hold_back_unless(&self, offer: &Offer, judgement: Judgement, consented: bool) -> Judgement {
        let Some(slot) = judgement.begins() else { return judgement };
        let way = self.way(offer, slot);
        let applies = |hold: &&Hold| way.is_held_by(hold.code, consented);
        let by_hand = self.held_by_hand();
        let mut holds: Vec<&Hold> = self.holds.iter().chain(&by_hand).filter(applies).collect();
        holds.sort_by_key(|hold| hold.code);
        let Some(first) = holds.first() else { return judgement };
        let texts: Vec<&str> = holds.iter().map(|hold| hold.text.as_str()).collect();
        Judgement::Later {
            due_ms: u64::MAX,
            hold: Some(first.code),
            until: first.until,
            text: texts.join("; "),
        }
    }

    fn way(&self, offer: &Offer, slot: &Slot) -> Way {
        let before: Option<Digest> = self.saved().previous.as_ref().map(|previous| previous.release);
        match before == Some(slot.release) {
            true => Way::Back,
            false if offer.is_urgent() => Way::Urgent,
            false => Way::On,
        }
    }
}

impl Way {
    fn is_held_by(self, code: HoldCode, consented: bool) -> bool {
        match self {
            Self::Back => code == HoldCode::Lock,
            Self::Urgent => !code.is_choice(),
            Self::On => !(consented && code == HoldCode::Consent),
        }
    }
}

#[cfg(test)]
mod tests;
