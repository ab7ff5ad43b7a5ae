//! The journal in memory: what is on the disk, and what goes there next.

use std::collections::BTreeSet;

use schemas::{
    id::{Digest, GroupId, Revision},
    report::Outcome,
    time::UnixTime,
};

use crate::{
    effect::Effect,
    input::{Fault, Now},
    machine::Machine,
    outbox::Flight,
    outcome::{self, Failure},
    retry::JOURNAL_PAUSE_MS,
    saved::{Saved, Seen, Slot, Spent, Step},
};

/// What the next journal says that the one on the disk does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing but what was noted meanwhile.
    Note,
    /// The order is carried out.
    Accept(Revision),
    /// The slot takes over, or did already.
    Try { slot: Slot, tries_left: u32, connected: bool, spent: Spent },
    /// The slot proved itself.
    Keep { slot: Slot, since: UnixTime, outcome: Outcome },
    /// The slot failed.
    RollBack { slot: Slot, failure: Failure, spent: Spent },
    /// What was under way is over.
    End(Outcome),
}

/// A journal on its way to the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) change: Change,
    /// How many of the ended orders go to the disk with it.
    ended: usize,
}

/// What is on the disk, and what waits to get there.
#[derive(Debug)]
pub(crate) struct Journal {
    /// As on the disk, but for what is only noted; after a failed store of a roll back, ahead of it.
    saved: Saved,
    /// Trees that the journal on the disk may name: the last that was stored, and those that could not be after it.
    named: BTreeSet<Digest>,
    /// Orders that ended, and nobody was told yet.
    ended: Vec<Outcome>,
    /// Whether something was noted.
    dirty: bool,
    /// Not stored before that.
    not_before_ms: u64,
}

impl Change {
    pub(crate) fn apply(&self, saved: &mut Saved) {
        saved.stores = saved.stores.saturating_add(u32::from(*self != Self::Note));
        match self {
            Self::Note => {}
            Self::Accept(revision) => saved.obeyed = saved.obeyed.max(*revision),
            Self::Try { slot, tries_left, connected, spent } => {
                saved.guarded = None;
                saved.step = Step::Trying {
                    slot: Box::new(slot.clone()),
                    tries_left: *tries_left,
                    connected: *connected,
                    spent: spent.clone(),
                };
            }
            Self::Keep { slot, since, outcome } => {
                saved.floor = saved.floor.max(slot.min_counter);
                saved.previous = saved.current.replace(Slot { since: *since, ..slot.clone() });
                saved.step = Step::Idle;
                outcome::push(saved, outcome.clone());
            }
            Self::RollBack { slot, failure, spent } => {
                saved.guarded = None;
                saved.step = Step::RollingBack {
                    slot: Box::new(slot.clone()),
                    reason: failure.reason,
                    text: failure.text.clone(),
                    log_tail: outcome::bounded(failure.log_tail.clone()),
                    spent: spent.clone(),
                };
            }
            Self::End(outcome) => {
                saved.step = Step::Idle;
                outcome::push(saved, outcome.clone());
            }
        }
    }

    fn outcome(&self) -> Option<&Outcome> {
        match self {
            Self::Keep { outcome, .. } | Self::End(outcome) => Some(outcome),
            _ => None,
        }
    }
}

impl Journal {
    pub(crate) fn new(saved: Saved) -> Self {
        let named = saved.trees().collect();
        Self { saved, named, ended: Vec::new(), dirty: false, not_before_ms: 0 }
    }

    pub(crate) fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Changes what needs no store before the next step; it is stored when there is time.
    pub(crate) fn note(&mut self, change: impl FnOnce(&mut Saved)) {
        change(&mut self.saved);
        self.dirty = true;
    }

    /// Notes the highest order of a group's topic.
    pub(crate) fn note_seen(&mut self, group: GroupId, seen: Seen) {
        self.note(|saved| {
            saved.seen.insert(group, seen);
        });
    }

    /// Notes how an order ended; people are told once that is on the disk.
    pub(crate) fn note_outcome(&mut self, outcome: Outcome) {
        self.ended.push(outcome);
        self.dirty = true;
    }

    /// Whether the order ended already.
    pub(crate) fn has_outcome(&self, revision: Revision) -> bool {
        self.outcomes().any(|outcome| outcome.revision == revision)
    }

    /// How the last orders ended, those of which nobody was told yet too.
    pub(crate) fn outcomes(&self) -> impl Iterator<Item = &Outcome> {
        self.saved.outcomes.iter().chain(&self.ended)
    }

    /// Slots that must stay: without them the journal on the disk could not be followed.
    pub(crate) fn named(&self) -> impl Iterator<Item = Digest> {
        self.named.iter().copied().chain(self.saved.trees())
    }

    /// Whether there are outcomes that nobody was told of.
    pub(crate) fn has_news(&self) -> bool {
        !self.ended.is_empty()
    }

    /// When the notes are to be stored.
    pub(crate) fn note_ms(&self) -> Option<u64> {
        self.dirty.then_some(self.not_before_ms)
    }

    /// The next journal, to be given back to `stored` or `not_stored`.
    fn draft(&mut self, change: Change) -> (Saved, Draft) {
        let mut saved = self.saved.clone();
        for outcome in &self.ended {
            outcome::push(&mut saved, outcome.clone());
        }
        change.apply(&mut saved);
        self.named.extend(saved.trees());
        self.dirty = false;
        (saved, Draft { change, ended: self.ended.len() })
    }

    /// Takes over what of a draft is true whether it was stored or not, and gives what people can be told.
    fn settle(&mut self, draft: &Draft, with_change: bool) -> Vec<Outcome> {
        let mut told: Vec<Outcome> = self.ended.drain(..draft.ended).collect();
        for outcome in &told {
            outcome::push(&mut self.saved, outcome.clone());
        }
        if with_change {
            draft.change.apply(&mut self.saved);
            told.extend(draft.change.outcome().cloned());
        }
        told
    }
}

impl Machine {
    pub(crate) fn persist(&mut self, change: Change) {
        let (saved, draft) = self.journal.draft(change);
        self.outbox.ask(Effect::Persist(Box::new(saved)), Flight::Persist(Box::new(draft)));
    }

    /// Stores what was noted, when it is time.
    pub(crate) fn persist_notes(&mut self, now: Now) {
        if self.outbox.is_free() && self.journal.note_ms().is_some_and(|ms| ms <= now.mono_ms) {
            self.persist(Change::Note);
        }
    }

    /// A store ended. A change that only says what is true already holds even when it could not be stored.
    pub(crate) fn persisted(&mut self, draft: &Draft, result: Result<(), Fault>, now: Now) {
        let holds = matches!(draft.change, Change::RollBack { .. } | Change::End(_));
        if result.is_err() {
            self.journal.dirty = true;
            self.journal.not_before_ms = now.mono_ms + JOURNAL_PAUSE_MS;
        }
        let told = self.journal.settle(draft, result.is_ok() || holds);
        if result.is_ok() {
            self.journal.named = self.journal.saved.trees().collect();
        }
        for outcome in told {
            self.outbox.say(Effect::told(outcome.verdict, outcome.version, outcome.reason));
        }
        match draft.change {
            Change::Note => {}
            Change::Accept(_) => self.accepted(result, now),
            Change::Try { .. } => self.try_stored(result, now),
            Change::Keep { .. } => self.keep_stored(&result, now),
            Change::RollBack { .. } => self.rollback_stored(),
            Change::End(_) => self.rollback_ended(),
        }
    }
}
