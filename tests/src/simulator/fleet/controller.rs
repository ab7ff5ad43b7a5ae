//! The controller of a simulated fleet: a desk that has read the bus, and may die at any moment.

use std::{collections::BTreeMap, rc::Rc};

use rollout::{Desk, Event, Fleet, Pace, course::Now};
use schemas::{rollout::Course, topic::Topic};

use super::office::Office;

/// An hour takes a millisecond: without news it looks ever more rarely.
const PACE: Pace = Pace { together_ms: 250, tick_ms: 10_000, longest_tick_ms: 60_000, all_ms: 300_000 };

/// A controller that runs.
pub(crate) struct Controller {
    pub(crate) desk: Desk,
    /// The last message of each topic.
    taken: BTreeMap<Topic, Rc<[u8]>>,
    /// What it goes on from, until it has looked.
    pub(crate) found: Vec<Course>,
}

impl Controller {
    /// One that has just read everything that is retained.
    pub(crate) fn start(office: &Office, retained: &BTreeMap<Topic, Rc<[u8]>>, now: Now) -> Self {
        let desk = Desk::alone(Fleet::new(office.trust.clone()), office.controller().clone(), PACE);
        let mut controller = Self { desk, taken: BTreeMap::new(), found: Vec::new() };
        for (topic, payload) in retained {
            controller.take(topic, payload, now);
        }
        let rollouts = controller.desk.fleet().rollouts();
        let found = rollouts.plans().keys().filter_map(|app| rollouts.course(app));
        controller.found = found.map(|course| (**course).clone()).collect();
        controller.desk.handle(Event::Back, now);
        controller
    }

    /// Everything retained comes again: what it took already would only be verified once more.
    pub(crate) fn take_again(&mut self, topic: &Topic, payload: &Rc<[u8]>, now: Now) {
        if self.taken.get(topic) != Some(payload) {
            self.take(topic, payload, now);
        }
    }

    /// A message comes.
    pub(crate) fn take(&mut self, topic: &Topic, payload: &Rc<[u8]>, now: Now) {
        self.taken.insert(topic.clone(), payload.clone());
        self.desk.handle(Event::Message(topic, payload), now);
    }
}
