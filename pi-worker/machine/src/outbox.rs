//! What was asked for and not yet answered: effects go out in order, and one answer at a time is waited for.

use std::collections::VecDeque;

use crate::{effect::Effect, journal::Draft};

/// The effect that the machine waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Flight {
    Persist(Box<Draft>),
    Fetch,
    Stage,
    PreCheck,
    Stop,
    Switch,
    Start,
    Prove,
    Prune,
}

/// Effects on their way out.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    queue: VecDeque<Effect>,
    flight: Option<Flight>,
}

impl Outbox {
    /// Asks for an effect whose answer is waited for. There is none in flight.
    pub(crate) fn ask(&mut self, effect: Effect, flight: Flight) {
        debug_assert!(self.flight.is_none() && effect.is_answered());
        self.queue.push_back(effect);
        self.flight = Some(flight);
    }

    /// Asks for an effect that nobody answers.
    pub(crate) fn say(&mut self, effect: Effect) {
        debug_assert!(!effect.is_answered());
        self.queue.push_back(effect);
    }

    /// The next effect to carry out.
    pub(crate) fn poll(&mut self) -> Option<Effect> {
        self.queue.pop_front()
    }

    /// Whether nothing is waited for.
    pub(crate) fn is_free(&self) -> bool {
        self.flight.is_none()
    }

    /// What is waited for.
    pub(crate) fn flight(&self) -> Option<&Flight> {
        self.flight.as_ref()
    }

    /// What was waited for, now that it is answered; nothing when it was not even taken yet.
    pub(crate) fn land(&mut self) -> Option<Flight> {
        if self.queue.iter().any(Effect::is_answered) {
            return None;
        }
        self.flight.take()
    }
}
