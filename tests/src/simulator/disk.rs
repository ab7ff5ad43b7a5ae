//! The disk of the model node: the journal, the symlink, the slots, and objects that were fetched.

use std::collections::{BTreeMap, BTreeSet};

use machine::{Effect, Saved, Slot};
use schemas::id::Digest;

use super::rng::Rng;

/// What is on the disk. An effect that ended is on it for good; one in flight when the power fails is there in part.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) journal: Option<Saved>,
    /// The tree to which `current` points.
    pub(crate) link: Option<Digest>,
    /// The symlink is gone through no fault of the machine.
    pub(crate) link_lost: bool,
    /// Complete slots, with what is known of each.
    pub(crate) slots: BTreeMap<Digest, Slot>,
    /// Trees whose objects are all there.
    pub(crate) objects: BTreeSet<Digest>,
}

impl Disk {
    /// The slot to which `current` points.
    pub(crate) fn active(&self) -> Option<Slot> {
        self.slots.get(&self.link?).cloned()
    }

    /// Carries out what an effect writes.
    pub(crate) fn write(&mut self, effect: &Effect) {
        match effect {
            Effect::Persist(saved) => self.journal = Some((**saved).clone()),
            Effect::Fetch(slot) if !self.slots.contains_key(&slot.tree()) => {
                self.objects.insert(slot.tree());
            }
            Effect::Stage(slot) => {
                self.objects.remove(&slot.tree());
                self.slots.entry(slot.tree()).or_insert_with(|| (**slot).clone());
            }
            Effect::Switch(slot) => {
                (self.link, self.link_lost) = (slot.as_ref().map(|slot| slot.tree()), false);
                // Releases may share a tree: what is known of it is what was switched to last.
                self.slots.extend(slot.iter().map(|slot| (slot.tree(), (**slot).clone())));
            }
            Effect::Prune { keep } => self.slots.retain(|tree, _| keep.contains(tree)),
            _ => {}
        }
    }

    /// The power fails while an effect writes: whatever is replaced as a whole is old or new, the rest is there in part.
    pub(crate) fn tear(&mut self, effect: &Effect, rng: &mut Rng) {
        match effect {
            Effect::Prune { keep } => {
                self.slots.retain(|tree, _| keep.contains(tree) || rng.permille(500));
            }
            // A slot that is not renamed yet is removed at the next start; one that stands already stays.
            _ if rng.permille(500) => self.write(effect),
            _ => {}
        }
    }
}
