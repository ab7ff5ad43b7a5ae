//! The controller of a simulated fleet: what its driver does around the engine, and that it may die at any moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use rollout::{
    Change, Deed, Fleet,
    course::{Changed, Conductor, Now},
};
use schemas::{
    id::{AppId, NodeId},
    root::Trust,
    seal::SecretKey,
    topic::Topic,
};

/// Changes that come together are looked at together.
const GATHER_MS: u64 = 250;
/// Without any, the time alone may change something: it is looked at ever more rarely.
const TICK_MS: (u64, u64) = (10_000, 60_000);
/// Everything is looked at again so often.
const ALL_MS: u64 = 300_000;

/// A controller that runs.
pub(crate) struct Controller {
    pub(crate) fleet: Fleet,
    pub(crate) conductors: BTreeMap<AppId, Conductor>,
    changed: BTreeSet<NodeId>,
    /// Everything has to be looked at.
    all: bool,
    all_ms: u64,
    tick_ms: u64,
    /// The last message of each topic.
    taken: BTreeMap<Topic, Rc<[u8]>>,
    pub(crate) next_ms: u64,
    /// People may want something else.
    has_news: bool,
}

impl Controller {
    /// One that has just read everything that is retained.
    pub(crate) fn start(trust: Trust, retained: &BTreeMap<Topic, Rc<[u8]>>, now_ms: u64) -> Self {
        let mut fleet = Fleet::new(trust);
        for (topic, payload) in retained {
            fleet.take(topic, payload);
        }
        let taken = retained.clone();
        let (conductors, changed) = (BTreeMap::new(), BTreeSet::new());
        Self {
            fleet,
            conductors,
            changed,
            all: true,
            all_ms: now_ms,
            tick_ms: TICK_MS.0,
            next_ms: now_ms,
            has_news: true,
            taken,
        }
    }

    /// Everything retained comes again: what it took already would only be verified once more.
    pub(crate) fn take_again(&mut self, topic: &Topic, payload: &Rc<[u8]>, now_ms: u64) {
        if self.taken.get(topic) != Some(payload) {
            self.take(topic, payload, now_ms);
        }
    }

    /// A message comes.
    pub(crate) fn take(&mut self, topic: &Topic, payload: &Rc<[u8]>, now_ms: u64) {
        self.taken.insert(topic.clone(), payload.clone());
        match self.fleet.take(topic, payload) {
            Some(Change::Record(node) | Change::Report(node) | Change::Availability(node)) => {
                self.changed.insert(node);
            }
            Some(Change::Order(..)) => {}
            Some(Change::Plan(_)) => self.has_news = true,
            _ => return,
        }
        self.tick_ms = TICK_MS.0;
        self.next_ms = self.next_ms.min(now_ms + GATHER_MS);
    }

    /// Leaves the rollouts whose place another one of the same app has taken.
    pub(crate) fn leave_rollouts(&mut self) -> Vec<Deed> {
        let plans = self.fleet.rollouts().plans();
        let wanted = |app: &AppId| Some(plans.get(app)?.believed()?.plans.rollout.first);
        let is_left = |(app, of): (&AppId, &Conductor)| {
            wanted(app).filter(|first| *first != of.first()).map(|_| app.clone())
        };
        let left: Vec<AppId> = self.conductors.iter().filter_map(is_left).collect();
        let left = left.iter().filter_map(|app| self.conductors.remove(app));
        left.flat_map(|mut conductor| conductor.supersede()).collect()
    }

    /// Takes up the rollouts that people want, and says which apps have one.
    pub(crate) fn follow_plans(&mut self, now: Now) -> Vec<AppId> {
        let rollouts = self.fleet.rollouts();
        let has_news = std::mem::take(&mut self.has_news);
        for (app, wanted) in rollouts.plans().iter().filter(|_| has_news) {
            let Some(wanted) = wanted.believed() else { continue };
            let (planned, plans) = (&wanted.planned, wanted.plans.clone());
            if let Some(conductor) = self.conductors.get_mut(app) {
                conductor.renew(planned, &plans);
                continue;
            }
            let course = rollouts.course(app).filter(|course| course.first == plans.rollout.first);
            let conductor = match course {
                Some(course) => Conductor::resume(planned, plans, course, &self.fleet, 1, now),
                None => Conductor::begin(planned, plans, &self.fleet, 1, now),
            };
            self.conductors.insert(app.clone(), conductor);
            self.all = true;
        }
        self.conductors.keys().cloned().collect()
    }

    /// Lets the engine of one app decide.
    pub(crate) fn step(&mut self, app: &AppId, now: Now, key: &SecretKey) -> Vec<Deed> {
        let Some(conductor) = self.conductors.get_mut(app) else { return Vec::new() };
        let changed = if self.all { Changed::All } else { Changed::Nodes(&self.changed) };
        conductor.step(&self.fleet, changed, now, key)
    }

    /// Everything was decided that there was to decide.
    pub(crate) fn rest(&mut self, now_ms: u64) {
        self.changed.clear();
        self.all = now_ms >= self.all_ms + ALL_MS;
        if self.all {
            self.all_ms = now_ms;
        }
        self.next_ms = now_ms + self.tick_ms;
        self.tick_ms = (self.tick_ms * 2).min(TICK_MS.1);
    }
}
