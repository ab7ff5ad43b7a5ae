//! The machine itself: what goes in, what comes out, and which part of it has the word.

use std::collections::BTreeMap;

use schemas::{
    id::{AppId, Digest, GroupId, NodeId},
    release::PartKind,
};

use crate::{
    asks::Asked,
    effect::Effect,
    input::{Bus, Fault, Health, Hold, Input, Keys, Now, Yield},
    journal::Journal,
    keeper::Keeper,
    offers::Offer,
    outbox::{Flight, Outbox},
    saved::{Saved, Slot},
    state::State,
};

/// Who the machine works for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setup {
    /// The node.
    pub node: NodeId,
    /// The app.
    pub app: AppId,
    /// What parts are chosen for, as in `linux/aarch64`.
    pub platform: String,
    /// The kinds of part that can be installed here.
    pub kinds: Vec<PartKind>,
    /// The kernel's id of this boot.
    pub boot: String,
}

/// What a node does about one app.
#[derive(Debug)]
pub struct Machine {
    pub(crate) setup: Setup,
    pub(crate) journal: Journal,
    pub(crate) state: State,
    pub(crate) outbox: Outbox,
    pub(crate) keeper: Keeper,
    /// The newest order of each group.
    pub(crate) offers: BTreeMap<GroupId, Offer>,
    /// When the orders must be looked at again.
    pub(crate) wake_ms: Option<u64>,
    pub(crate) bus: Option<Bus>,
    /// Which keys count, once that was told.
    pub(crate) keys: Option<Keys>,
    /// What holds the node back from beginning.
    pub(crate) holds: Vec<Hold>,
    /// What somebody wants begun.
    pub(crate) asked: Option<Asked>,
    pub(crate) watched: Option<Watched>,
    /// What runs was started with another environment than it would get now.
    pub(crate) keeper_is_stale: bool,
    /// Slots are to be removed, but for this and those that the journal needs.
    pub(crate) tidy: Option<Digest>,
    #[cfg(test)]
    pub(crate) arrows: Vec<(&'static str, &'static str)>,
}

/// The slot whose checks are asked.
#[derive(Debug)]
pub(crate) struct Watched {
    tree: Digest,
    healthy: Option<bool>,
}

impl Machine {
    /// Takes an input.
    pub fn handle(&mut self, input: Input, now: Now) {
        match input {
            Input::Announced(announced) => self.announced(&announced, now),
            Input::Done(result) => self.done(result, now),
            Input::Progress(permille) => self.progressed(permille, now),
            Input::Health(health) => self.health(health, now),
            Input::Exited(fault) => self.exited(fault, now),
            Input::Bus(bus) => self.bus = Some(bus),
            Input::Keys(keys) => self.renew(keys),
            Input::Groups(groups) => self.regroup(&groups),
            Input::Environment => self.keeper_is_stale = true,
            Input::Holds(holds) => self.holds = holds,
            Input::Consent => self.consent(),
            Input::HoldByHand => self.hold_by_hand(),
            Input::Retry => self.ask(Asked::Retry),
            Input::GoBack => self.ask(Asked::Back),
        }
        self.settle(now);
    }

    /// Does what is due. Called too early, it does nothing.
    pub fn handle_timeout(&mut self, now: Now) {
        self.settle(now);
    }

    /// When `handle_timeout` is to be called, on the clock of [`Now::mono_ms`].
    pub fn poll_timeout(&self) -> Option<u64> {
        let dropped = matches!(&self.state, State::Preparing(_, prep) if prep.dropped.is_some());
        let wake_ms = self.wake_ms.filter(|_| !dropped);
        if !self.outbox.is_free() {
            let State::Preparing(_, prep) = &self.state else { return None };
            let fetching = self.outbox.flight() == Some(&Flight::Fetch) && !prep.interrupted;
            return [wake_ms, self.start_ms().filter(|_| fetching)].into_iter().flatten().min();
        }
        let state_ms = match &self.state {
            State::Idle | State::Deferred(_) => wake_ms,
            State::Preparing(_, prep) => {
                prep.pause.as_ref().map(|(until_ms, _)| *until_ms).into_iter().chain(wake_ms).min()
            }
            State::Switching(..) => None,
            State::Trial(_, trial) => {
                self.trial_ms().into_iter().chain(wake_ms.filter(|_| trial.is_bad())).min()
            }
            State::RollingBack(..) => self.rollback_ms(),
        };
        [state_ms, self.start_ms(), self.journal.note_ms()].into_iter().flatten().min()
    }

    /// The next effect to carry out.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.outbox.poll()
    }

    /// The journal as it is on the disk, but for what was only noted.
    pub fn saved(&self) -> &Saved {
        self.journal.saved()
    }

    pub(crate) fn new(setup: Setup, saved: Saved) -> Self {
        Self {
            setup,
            journal: Journal::new(saved),
            state: State::Idle,
            outbox: Outbox::default(),
            keeper: Keeper::default(),
            offers: BTreeMap::new(),
            wake_ms: None,
            bus: None,
            keys: None,
            holds: Vec::new(),
            asked: None,
            watched: None,
            keeper_is_stale: false,
            tidy: None,
            #[cfg(test)]
            arrows: Vec::new(),
        }
    }

    /// Asks for whatever is due now, until an answer must be waited for.
    pub(crate) fn settle(&mut self, now: Now) {
        self.reconsider(now);
        self.keep(now);
        if self.outbox.is_free() {
            match &self.state {
                State::Idle | State::Deferred(_) => self.rest(now),
                State::Preparing(..) => self.prepare(now),
                State::Switching(..) => {}
                State::Trial(..) => self.weigh(now),
                State::RollingBack(..) => self.bring_back(now),
            }
        }
        self.persist_notes(now);
    }

    pub(crate) fn enter(&mut self, next: State) {
        #[cfg(any(test, debug_assertions))]
        {
            let arrow = (self.state.name(), next.name());
            debug_assert!(crate::state::ARROWS.contains(&arrow), "no arrow {arrow:?}");
            #[cfg(test)]
            self.arrows.push(arrow);
        }
        self.state = next;
    }

    /// An answer came in a state that never asks for it. Nothing follows from it; wherever that is looked at, it fails.
    pub(crate) fn unexpected(&self, what: &str) {
        debug_assert!(false, "{what} in phase {:?}", self.state.phase());
    }

    /// Asks the checks of `slot` from now on.
    pub(crate) fn watch(&mut self, slot: Slot) {
        let healthy = slot.part.is_unchecked().then_some(true);
        self.watched = Some(Watched { tree: slot.tree(), healthy });
        self.outbox.say(Effect::Watch(Box::new(slot)));
    }

    /// Stops `slot`, and with it the asking of its checks.
    pub(crate) fn stop(&mut self, slot: Box<Slot>) {
        self.watched = None;
        self.outbox.ask(Effect::Stop(slot), Flight::Stop);
    }

    /// What the checks say of what runs.
    pub(crate) fn healthy(&self) -> Option<bool> {
        self.watched.as_ref()?.healthy
    }

    pub(crate) fn set_unhealthy(&mut self) {
        if let Some(watched) = &mut self.watched {
            watched.healthy = Some(false);
        }
    }

    fn done(&mut self, result: Result<Yield, Fault>, now: Now) {
        let Some(flight) = self.outbox.land() else { return };
        let plain = |result: Result<Yield, Fault>| result.map(|_| ());
        match flight {
            Flight::Persist(draft) => self.persisted(&draft, plain(result), now),
            Flight::Fetch | Flight::Stage | Flight::PreCheck => self.prepared(result, now),
            Flight::Prove => self.proved(plain(result), now),
            // Slots that could not be removed are removed the next time.
            Flight::Prune => {}
            Flight::Start if self.keeps() => self.kept_started(&plain(result), now),
            Flight::Switch if self.keeps() => self.kept_switched(&plain(result), now),
            step @ (Flight::Stop | Flight::Switch | Flight::Start) => match self.state {
                State::Switching(..) => self.handover_step_ended(&step, plain(result), now),
                _ => self.rollback_step_ended(&plain(result), now),
            },
        }
    }

    fn health(&mut self, health: Health, now: Now) {
        match &mut self.watched {
            Some(watched) if watched.tree == health.tree => {
                watched.healthy = Some(health.ok);
                self.trial_health(health, now);
            }
            _ => {}
        }
    }

    fn exited(&mut self, fault: Fault, now: Now) {
        let (keeps, starts) = (self.keeps(), self.outbox.flight() == Some(&Flight::Start));
        match &mut self.state {
            _ if keeps => self.kept_exited(now),
            State::Trial(_, trial) => {
                trial.exited = Some(fault);
                self.set_unhealthy();
            }
            State::Switching(_, handover) if starts => handover.exited = Some(fault),
            _ => {}
        }
    }
}
