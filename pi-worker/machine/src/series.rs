//! Orders that continue others: a rollout is a series of orders about one release, and a node needs only one of them.
//!
//! What a node has behind it counts as if the later orders were not there, so that it does not matter which of them came
//! when.

use schemas::{
    id::{Digest, Revision},
    report::Outcome,
};

use crate::{
    machine::Machine,
    offers::Offer,
    saved::{Saved, Seen},
    state::{Job, State},
};

impl Machine {
    /// Whether an earlier order of the series was carried out to its end here, well or not.
    pub(crate) fn has_ended(&self, offer: &Offer) -> bool {
        let ends = |outcome: &Outcome| {
            outcome.verdict.was_begun() && offer.continues(outcome.revision, outcome.release)
        };
        self.journal.outcomes().any(ends)
    }

    /// Whether an earlier order of the series is being prepared, so that there is nothing to begin.
    pub(crate) fn is_under_way(&self, offer: &Offer) -> bool {
        let State::Preparing(job, _) = &self.state else { return false };
        offer.continues(job.slot.revision, job.slot.release)
    }

    /// Whether an order of `offers` is the one that is carried out, or continues it.
    pub(crate) fn is_ordered(&self, job: &Job) -> bool {
        let (revision, release) = (job.slot.revision, job.slot.release);
        self.offers.values().any(|offer| offer.revision() == revision || offer.continues(revision, release))
    }

    /// The order that is carried out now stands for those that it continues: they get no verdict of their own.
    pub(crate) fn stand_for_series(&mut self, revision: Revision) {
        let Some(offer) = self.offers.values().find(|offer| offer.revision() == revision).cloned() else {
            return;
        };
        let continued =
            self.offers.values_mut().filter(|before| offer.continues(before.revision(), before.release()));
        continued.for_each(Offer::wait_no_more);
    }
}

/// Outcomes without which something would be begun again: that of the obeyed order, and the last of the series to
/// which the newest order of each group belongs.
pub(crate) fn needed(saved: &Saved) -> Vec<Revision> {
    let last = |seen: &Seen| {
        let of_series = |outcome: &&Outcome| {
            outcome.verdict.was_begun() && seen.is_of_series(outcome.revision, outcome.release)
        };
        saved.outcomes.iter().filter(of_series).map(|outcome| outcome.revision).max()
    };
    saved.seen.values().filter_map(last).chain([saved.obeyed]).collect()
}

impl Seen {
    fn is_of_series(&self, revision: Revision, release: Digest) -> bool {
        self.release == Some(release) && (self.first..=self.revision).contains(&revision)
    }
}

#[cfg(test)]
mod tests;
