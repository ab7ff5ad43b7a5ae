//! What a machine wants done.

use schemas::{
    id::{Digest, GroupId},
    reason::Reason,
    report::Verdict,
    status::EventType,
};

use crate::saved::{Saved, Slot};

/// What a machine wants done. Effects are carried out in the order in which they are given, one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    // Answered by exactly one `Input::Done`.
    /// Replace the journal; it is on the disk when this ends.
    Persist(Box<Saved>),
    /// Bring every missing object of the slot's tree to the disk.
    Fetch(Box<Slot>),
    /// Build the slot beside the others and read it back from the disk; a slot that stands already is only read back.
    Stage(Box<Slot>),
    /// Run the release's pre-check in the slot.
    PreCheck(Box<Slot>),
    /// Stop what runs of this slot; nothing running is fine.
    Stop(Box<Slot>),
    /// Point `current` to the slot, durably; to nothing for `None`.
    Switch(Option<Box<Slot>>),
    /// Start the slot; one that runs already is taken over as it is.
    Start(Box<Slot>),
    /// Ask the running code what it is.
    Prove(Box<Slot>),
    /// Remove every slot but these.
    Prune {
        /// Trees that stay.
        keep: Vec<Digest>,
    },

    // Not answered.
    /// Begin to ask the slot's checks, in place of any other slot's; answers come as `Input::Health`. Ended by `Stop`.
    Watch(Box<Slot>),
    /// End the `Fetch`, `Stage` or `PreCheck` in flight; its answer still comes.
    Cancel,
    /// Tell the bus what happened.
    Tell {
        /// What happened.
        event: EventType,
        /// The version that it was about.
        to: String,
        /// Why, where there is a why.
        reason: Option<Reason>,
    },
    /// Show that an announcement was refused and left no other trace.
    Refuse(Refused),
}

/// An announcement that was refused and left no other trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The group on whose topic it came.
    pub group: GroupId,
    /// The digest of its order.
    pub order: Digest,
    /// Why.
    pub reason: Reason,
    /// The same for people.
    pub text: String,
}

impl Effect {
    /// Whether the machine waits for an `Input::Done`.
    pub fn is_answered(&self) -> bool {
        !matches!(self, Self::Watch(_) | Self::Cancel | Self::Tell { .. } | Self::Refuse(_))
    }

    pub(crate) fn told(verdict: Verdict, to: String, reason: Option<Reason>) -> Self {
        Self::Tell { event: verdict.into(), to, reason }
    }
}
