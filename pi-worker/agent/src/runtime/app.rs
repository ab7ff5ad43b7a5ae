//! One app of the node: its machine, and the effect of it that is being carried out.

use machine::{Effect, Input, Machine, Now, Setup, Slot};

use crate::{
    cancel::Canceller,
    fetch::Manifests,
    installer::AppDirs,
    journal::{self, JournalError},
    whole::sweep_drafts,
};

/// One app of the node.
pub(super) struct App {
    machine: Machine,
    flight: Option<Flight>,
}

/// The effect that is being carried out.
struct Flight {
    canceller: Canceller,
    /// Whether it may be cut short when the worker ends: it will be begun again.
    may_be_cut: bool,
    /// It was cut short, so that its end says nothing.
    is_cut: bool,
}

impl App {
    /// The app as its journal says it, else as its active slot says it.
    ///
    /// # Errors
    /// When the disk refuses to read the journal.
    pub(super) fn open(
        setup: Setup,
        dirs: &AppDirs,
        active: Option<Slot>,
        now: Now,
    ) -> Result<Self, JournalError> {
        sweep_drafts(&dirs.root);
        Manifests::below(&dirs.root).sweep();
        let saved = journal::load(dirs)?;
        Ok(Self { machine: Machine::start(setup, saved, active, now), flight: None })
    }

    /// What it shows of itself.
    pub(super) fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Tells the machine.
    pub(super) fn feed(&mut self, input: Input, now: Now) {
        self.machine.handle(input, now);
    }

    /// When it wants to be woken.
    pub(super) fn due_ms(&self) -> Option<u64> {
        self.machine.poll_timeout()
    }

    /// Lets the machine do what is due; whether anything was.
    pub(super) fn wake(&mut self, now: Now) -> bool {
        let is_due = self.due_ms().is_some_and(|due_ms| due_ms <= now.mono_ms);
        if is_due {
            self.machine.handle_timeout(now);
        }
        is_due
    }

    /// What the machine wants done next.
    pub(super) fn next_effect(&mut self) -> Option<Effect> {
        self.machine.poll_effect()
    }

    /// The effect is being carried out, until [`Self::land`].
    pub(super) fn take_off(&mut self, may_be_cut: bool, canceller: Canceller) {
        self.flight = Some(Flight { canceller, may_be_cut, is_cut: false });
    }

    /// The effect ended; whether its end says something.
    pub(super) fn land(&mut self) -> bool {
        self.flight.take().is_some_and(|flight| !flight.is_cut)
    }

    /// Tells the effect that nobody waits for it any more.
    pub(super) fn cancel(&self) {
        self.flight.iter().for_each(|flight| flight.canceller.cancel());
    }

    /// Cuts the effect short if that does no harm, for the worker ends.
    pub(super) fn cut(&mut self) {
        for flight in self.flight.iter_mut().filter(|flight| flight.may_be_cut) {
            flight.canceller.cancel();
            flight.is_cut = true;
        }
    }

    /// Whether an effect is being carried out.
    pub(super) fn is_busy(&self) -> bool {
        self.flight.is_some()
    }
}

/// Whether an effect does no harm when it is cut short at any point.
pub(super) fn may_be_cut(effect: &Effect) -> bool {
    matches!(effect, Effect::Fetch(_) | Effect::Stage(_) | Effect::PreCheck(_))
}

/// Whether an effect belongs to the short time in which no release runs, which is no time to end.
pub(super) fn must_go_on(effect: &Effect) -> bool {
    matches!(effect, Effect::Persist(_) | Effect::Stop(_) | Effect::Switch(_) | Effect::Start(_))
}
