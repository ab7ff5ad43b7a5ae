//! What a controller does between the bus and its rollouts: it hears, says which it carries out, takes up, lets go, and steps. Pure:
//! what is said on the bus and the time in, deeds out.
//!
//! Whoever runs it does the deeds in their order and publishes nothing else that rollouts rely on. All that it knows is on the bus, so
//! it may die between any two deeds. It hears what it publishes when the bus shows it, and not before: what got lost is published again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use schemas::{
    hold::BusAsk,
    id::{AppId, NodeId},
    mandate::Mandate,
    root::{RootChain, Trust},
    seal::{SecretKey, Signed},
    topic::{Kind, Topic},
};

use crate::{
    course::{Changed, Conductor, Now},
    deed::{Deed, Note},
    fleet::{Change, Fleet},
    lease::Leases,
    rollouts::Wanted,
};

/// The term of a controller that has no others beside it.
const ONLY_TERM: u64 = 1;

/// How often it looks at what it has heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// What is heard in so long is looked at together.
    pub together_ms: u64,
    /// Time goes on also when nothing is heard: it looks again after so long,
    pub tick_ms: u64,
    /// and each time after twice as long as before, up to this, until something is heard.
    pub longest_tick_ms: u64,
    /// All nodes are looked at that often; else those of which something was heard.
    pub all_ms: u64,
}

impl Pace {
    /// Beside people who wait. With 10,000 nodes, to look at what comes within 50 ms together spares most of the work.
    pub const LIVE: Self = Self { together_ms: 50, tick_ms: 1_000, longest_tick_ms: 1_000, all_ms: 5_000 };
}

/// What happens to it.
#[derive(Debug, Clone, Copy)]
pub enum Event<'a> {
    /// Something is said on the bus, or was said and is told again.
    Message(&'a Topic, &'a [u8]),
    /// The bus is away.
    Lost,
    /// The bus is there, and everything that it keeps was heard.
    Back,
    /// Somebody who signs nothing asks for something of a rollout.
    Ask(&'a BusAsk),
}

/// Why a rollout was not paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPaused {
    /// Another controller carries it out, or none, or there is none of that app.
    #[error("it is not carried out here")]
    NotHere,
    /// It is over, paused, or going back.
    #[error("it begins nothing new as it is")]
    NotOn,
}

/// A controller without bus and clock. It starts cut off: the first [`Event::Back`] says that the bus was read.
#[derive(Debug)]
pub struct Desk {
    key: SecretKey,
    pace: Pace,
    fleet: Fleet,
    /// Nothing where it is the only controller that there can be.
    leases: Option<Leases>,
    conductors: BTreeMap<AppId, Conductor>,
    replaced: Vec<Conductor>,
    deeds: VecDeque<Deed>,
    /// What is known may be old.
    is_cut_off: bool,
    /// Nodes of which something was heard since the last look.
    heard: BTreeSet<NodeId>,
    wakes_ms: u64,
    tick_ms: u64,
    looked_at_all_ms: Option<u64>,
}

impl Desk {
    /// A controller with this key that has heard nothing; `program` is what it says of itself.
    pub fn new(trust: Trust, key: SecretKey, program: String, pace: Pace) -> Self {
        let leases = Leases::new(trust.fleet().clone(), key.public(), program);
        Self { leases: Some(leases), ..Self::alone(Fleet::new(trust), key, pace) }
    }

    /// The only controller that `fleet` can have, which needs no lease: for simulators, where one every 7 s costs more than all else.
    pub fn alone(fleet: Fleet, key: SecretKey, pace: Pace) -> Self {
        Self {
            key,
            pace,
            fleet,
            leases: None,
            conductors: BTreeMap::new(),
            replaced: Vec::new(),
            deeds: VecDeque::new(),
            is_cut_off: true,
            heard: BTreeSet::new(),
            wakes_ms: 0,
            tick_ms: pace.tick_ms,
            looked_at_all_ms: None,
        }
    }

    /// Takes an event, and says what a message was about; nothing when it has no place for it.
    pub fn handle(&mut self, event: Event<'_>, now: Now) -> Option<Change> {
        match event {
            Event::Message(topic, payload) => return self.hear(topic, payload, now),
            Event::Lost => {
                // What is not heard of nodes is no silence of theirs; and nothing may be decided on what is old.
                self.conductors.clear();
                self.is_cut_off = true;
            }
            Event::Back => {
                self.is_cut_off = false;
                self.wakes_ms = now.mono_ms;
            }
            Event::Ask(BusAsk { what, app }) => {
                if let Some(conductor) = self.conductors.get_mut(app) {
                    conductor.ask(*what, now);
                    self.wakes_ms = now.mono_ms;
                }
            }
        }
        None
    }

    /// Begins nothing new of the rollout of `app`, on the word of somebody who signs nothing. That is always safe and within every mandate;
    /// only a wish that people sign lets it go on.
    ///
    /// # Errors
    /// When there is nothing to pause here.
    pub fn pause(&mut self, app: &AppId, text: String, now: Now) -> Result<(), NotPaused> {
        let conductor = self.conductors.get_mut(app).ok_or(NotPaused::NotHere)?;
        if !conductor.stop(text, now) {
            return Err(NotPaused::NotOn);
        }
        self.wakes_ms = now.mono_ms;
        Ok(())
    }

    /// Looks at what it knows, and asks for what follows.
    pub fn handle_timeout(&mut self, now: Now) {
        self.wakes_ms = now.mono_ms.saturating_add(self.tick_ms);
        self.tick_ms = self.tick_ms.saturating_mul(2).min(self.pace.longest_tick_ms);
        self.replaced.clear();
        let heard = std::mem::take(&mut self.heard);
        if self.is_cut_off {
            return;
        }
        self.say_leases(now);
        self.follow_plans();
        self.take_up(now);
        self.step(&heard, now);
    }

    /// When it wants to look next, by the clock that never jumps.
    pub fn poll_timeout(&self) -> u64 {
        self.wakes_ms
    }

    /// What is to be done next.
    pub fn poll_deed(&mut self) -> Option<Deed> {
        self.deeds.pop_front()
    }

    /// What is known of the fleet.
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The rollouts that are carried out here, by app.
    pub fn conductors(&self) -> impl Iterator<Item = &Conductor> {
        self.conductors.values()
    }

    /// The rollout of an app, when it is carried out here.
    pub fn conductor(&self, app: &AppId) -> Option<&Conductor> {
        self.conductors.get(app)
    }

    /// Those whose place others took at the last look.
    pub fn replaced(&self) -> &[Conductor] {
        &self.replaced
    }

    fn hear(&mut self, topic: &Topic, payload: &[u8], now: Now) -> Option<Change> {
        if topic.kind == Kind::Trust && topic.fleet == *self.fleet.trust().fleet() {
            self.follow_keys(payload);
            self.hurry(now);
            return None;
        }
        let change = self.fleet.take(topic, payload)?;
        match &change {
            Change::Record(node) | Change::Report(node) | Change::Availability(node) => {
                self.heard.insert(node.clone());
            }
            Change::Plan(app) => {
                if let Some(text) = self.fleet.rollouts().plan_disbelief(app) {
                    self.deeds.push_back(Deed::Note(Note::NotBelieved(app.clone(), text.to_owned())));
                }
            }
            Change::Order(..) | Change::Controller(_) => {}
            // Mostly its own: what it says of itself gives nothing to decide.
            Change::Course(_) | Change::Request(_) => return Some(change),
        }
        self.hurry(now);
        Some(change)
    }

    fn hurry(&mut self, now: Now) {
        self.tick_ms = self.pace.tick_ms;
        self.wakes_ms = self.wakes_ms.min(now.mono_ms.saturating_add(self.pace.together_ms));
    }

    /// The keys of the fleet have changed.
    fn follow_keys(&mut self, payload: &[u8]) {
        let Ok(chain) = RootChain::from_bytes(payload) else { return };
        let mut newest = None;
        while let Ok(Some((next, _))) = newest.as_ref().unwrap_or(self.fleet.trust()).follow(&chain) {
            newest = Some(next);
        }
        if let Some(trust) = newest {
            self.deeds.push_back(Deed::Note(Note::Keys(trust.version())));
            self.fleet.believe_by(trust);
            self.looked_at_all_ms = None;
        }
    }

    /// Says which rollouts are carried out here, when it is time to, and what is wrong with who does.
    fn say_leases(&mut self, now: Now) {
        let Some(leases) = &mut self.leases else { return };
        let rollouts = self.fleet.rollouts();
        if let Some(said) = leases.look(rollouts, now) {
            let topic = Kind::Controller(said.key.id()).of(self.fleet.trust().fleet());
            let signed = Signed::seal(&said, std::slice::from_ref(&self.key));
            self.deeds.push_back(Deed::Publish(topic, signed.to_bytes()));
        }
        if leases.has_twin(now) {
            self.deeds.push_back(Deed::Note(Note::Twin(self.key.public().id())));
        }
        let forsaken = leases.forsaken(rollouts, now);
        self.deeds.extend(forsaken.into_iter().map(|app| Deed::Note(Note::Forsaken(app))));
    }

    /// The term in which the rollout of `mandate` is carried out here; nothing while another controller does, or none.
    fn term(&self, mandate: &Mandate) -> Option<u64> {
        match &self.leases {
            Some(leases) => leases.term(&mandate.app, mandate.first),
            None => mandate.place(&self.key.public()).map(|_| ONLY_TERM),
        }
    }

    /// Notes what people want of rollouts that are carried out here, and lets go what is not any more.
    fn follow_plans(&mut self) {
        for (app, mut conductor) in std::mem::take(&mut self.conductors) {
            let wanted = self.fleet.rollouts().plan(&app);
            if wanted.is_some_and(|wanted| wanted.plans.mandate.first != conductor.first()) {
                self.deeds.extend(conductor.supersede());
                self.replaced.push(conductor);
                continue;
            }
            // Else another controller has it by now, or nobody is believed to want it.
            let is_here = |wanted: &&Wanted| self.term(&wanted.plans.mandate) == Some(conductor.term());
            if let Some(wanted) = wanted.filter(is_here) {
                conductor.renew(&wanted.planned, &wanted.plans);
                self.conductors.insert(app, conductor);
            }
        }
    }

    /// Takes up what people want and is to be carried out here.
    fn take_up(&mut self, now: Now) {
        let rollouts = self.fleet.rollouts();
        for (app, wanted) in rollouts.plans() {
            let Some(Wanted { planned, plans }) = wanted.believed() else { continue };
            let Some(term) = self.term(&plans.mandate) else { continue };
            if self.conductors.contains_key(app) {
                continue;
            }
            let conductor = match rollouts.course(app) {
                Some(course) => Conductor::resume(planned, plans.clone(), course, &self.fleet, term, now),
                None => Conductor::begin(planned, plans.clone(), &self.fleet, term, now),
            };
            let (version, state) = (conductor.version().to_owned(), conductor.state().clone());
            self.deeds.push_back(Deed::Note(Note::TakenUp { app: app.clone(), version, state }));
            self.conductors.insert(app.clone(), conductor);
        }
    }

    fn step(&mut self, heard: &BTreeSet<NodeId>, now: Now) {
        let since_ms = |at_ms: u64| now.mono_ms.saturating_sub(at_ms);
        let is_due = self.looked_at_all_ms.is_none_or(|at_ms| since_ms(at_ms) >= self.pace.all_ms);
        if is_due {
            self.looked_at_all_ms = Some(now.mono_ms);
        }
        let changed = if is_due { Changed::All } else { Changed::Nodes(heard) };
        for conductor in self.conductors.values_mut() {
            self.deeds.extend(conductor.step(&self.fleet, changed, now, &self.key));
        }
    }
}

#[cfg(test)]
mod tests;
