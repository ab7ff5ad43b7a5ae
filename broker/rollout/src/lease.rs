//! Which of several controllers carries a rollout out: of those that its mandate names, the one that has the lease. Pure: what the bus
//! says and the time in, what this controller says of itself out.
//!
//! Each rollout has its own lease, so that whom a mandate does not name is in nobody's way. Each controller writes on a topic of its own
//! alone: of two that take a rollout at once, both see both, and the higher term counts. What clocks say decides nothing: a controller
//! is there when something new was heard of it not long ago.

use std::collections::{BTreeMap, VecDeque};

use schemas::{
    id::{AppId, FleetId, PublicKey, Revision},
    mandate::{MAX_CONTROLLERS, Mandate},
    rollout::{Controller, Lease},
    seal::Head,
    time::UnixTime,
};

use crate::{Rollouts, course::Now};

/// A controller works for so long after it said what the bus shows of it.
const TERM_SECS: u64 = 20;
/// It says so again after so long.
const RENEW_MS: u64 = 7_000;
/// After so long a silence others take its rollouts: by then it has stopped, and what it said last has arrived.
const SILENCE_MS: u64 = TERM_SECS * 1_000 + 10_000;
/// For each controller that the mandate names before it, one waits so much longer: so the first one takes a rollout up.
const PLACE_MS: u64 = 3_000;
/// Who takes a rollout that may be somebody else's waits so long once the bus shows that, for messages take less: whoever else has it is
/// heard by then.
const SETTLE_MS: u64 = 3_000;
/// When another process has been heard that has this controller's key, this one is silent for so long.
const TWIN_MS: u64 = 2 * SILENCE_MS;
/// Of what was said last, so much may still be on its way back.
const REMEMBERED: usize = 16;
/// After so long, a rollout that nobody can carry out is spoken of: whoever was started at the same time is there by then.
const FORSAKEN_MS: u64 = 60_000;

/// What a controller knows of the leases. It works while the bus shows a lease of its own, and no longer: whoever is cut off
/// cannot renew it, hears nothing of the nodes, and must not take their silence for theirs.
#[derive(Debug)]
pub(crate) struct Leases {
    fleet: FleetId,
    own: PublicKey,
    program: String,
    /// Until when controllers say that they are there, and when they said so.
    heard: BTreeMap<PublicKey, (UnixTime, u64)>,
    /// The leases of this controller.
    held: BTreeMap<AppId, Own>,
    /// The rollouts that are carried out here, with their terms.
    works: BTreeMap<AppId, (Revision, u64)>,
    /// Rollouts that nobody carries out.
    free: BTreeMap<AppId, Free>,
    said: Option<Said>,
    /// When that was said what the bus shows of this controller.
    shown_said_ms: Option<u64>,
    twin: Twin,
}

/// Another process with this controller's key, as there is one when a data folder was copied: what it says is not what was said here.
#[derive(Debug, Default)]
struct Twin {
    /// What was said here last, and what the bus showed at the start.
    own: VecDeque<UnixTime>,
    shown: Option<UnixTime>,
    /// How often the bus has shown something else. One may have been on its way when this process was started.
    heard: u32,
    heard_ms: u64,
    told: bool,
}

/// A lease of this controller.
#[derive(Debug, Clone, Copy)]
struct Own {
    first: Revision,
    term: u64,
    /// It counts when the bus has shown it for so long.
    settle_ms: u64,
    /// Since when it does.
    shown_since_ms: Option<u64>,
}

/// A rollout that nobody carries out.
#[derive(Debug, Clone, Copy)]
struct Free {
    first: Revision,
    since_ms: u64,
    /// That none of those is there that it was given to was told.
    told: bool,
}

/// What was said last.
#[derive(Debug)]
struct Said {
    leases: Vec<Lease>,
    until: UnixTime,
    at_ms: u64,
}

impl Leases {
    /// A controller with this key that has heard nothing; `program` is what it says of itself.
    pub(crate) fn new(fleet: FleetId, own: PublicKey, program: String) -> Self {
        let (held, works, free) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (heard, twin) = (BTreeMap::new(), Twin::default());
        Self { fleet, own, program, heard, held, works, free, said: None, shown_said_ms: None, twin }
    }

    /// The term in which this controller carries out the rollout `first` of `app`; nothing while another one does, or none.
    pub(crate) fn term(&self, app: &AppId, first: Revision) -> Option<u64> {
        self.works.get(app).filter(|(of, _)| *of == first).map(|(_, term)| *term)
    }

    /// What this controller is to say of itself now.
    pub(crate) fn look(&mut self, rollouts: &Rollouts, now: Now) -> Option<Controller> {
        self.hear(rollouts, now);
        self.works.clear();
        if self.twin.is_there(now) {
            self.held.clear();
            return None;
        }
        let place = |mandate: &Mandate| mandate.place(&self.own);
        let mandates = rollouts.plans().values().filter_map(|of| Some(&*of.believed()?.plans.mandate));
        let named: Vec<_> = mandates.filter_map(|mandate| Some((mandate, place(mandate)?))).collect();
        self.held.retain(|app, own| {
            named.iter().any(|(mandate, _)| mandate.app == *app && mandate.first == own.first)
        });
        let mut leases = Vec::new();
        for (mandate, place) in named {
            if let Some(term) = self.wants(rollouts, mandate, place, now) {
                leases.push(Lease { app: mandate.app.clone(), first: mandate.first, term });
            }
        }
        let is_said = |said: &Said| said.leases == leases && since(said.at_ms, now) < RENEW_MS;
        if self.said.as_ref().is_some_and(is_said) {
            return None;
        }
        let until = now.wall.plus_secs(TERM_SECS);
        self.said = Some(Said { leases: leases.clone(), until, at_ms: now.mono_ms });
        self.twin.said(until);
        let (head, program) = (Head::new(self.fleet.clone(), now.wall), self.program.clone());
        Some(Controller { head, key: self.own, program, until, leases })
    }

    /// Whether another process was found that has this controller's key; told once.
    pub(crate) fn has_twin(&mut self, now: Now) -> bool {
        self.twin.is_there(now) && !std::mem::replace(&mut self.twin.told, true)
    }

    /// Rollouts that were given to other controllers, none of which is there. Each is told once.
    pub(crate) fn forsaken(&mut self, rollouts: &Rollouts, now: Now) -> Vec<AppId> {
        let mut forsaken = Vec::new();
        for (app, wanted) in rollouts.plans() {
            let Some(mandate) = wanted.believed().map(|wanted| &wanted.plans.mandate) else { continue };
            if mandate.place(&self.own).is_some() {
                continue;
            }
            let is_over = rollouts.course(app).is_some_and(|course| course.state.is_over());
            if is_over || mandate.keys.iter().any(|key| self.is_there(key, now)) {
                self.free.remove(app);
                continue;
            }
            let free = self.freed(mandate, now);
            if !free.told && since(free.since_ms, now) >= FORSAKEN_MS {
                free.told = true;
                forsaken.push(app.clone());
            }
        }
        forsaken
    }

    /// Notes of whom there is something new.
    fn hear(&mut self, rollouts: &Rollouts, now: Now) {
        for said in rollouts.controllers().values() {
            let heard = self.heard.entry(said.key).or_insert((said.until, now.mono_ms));
            if heard.0 != said.until {
                *heard = (said.until, now.mono_ms);
            }
        }
        let shown = rollouts.controllers().get(&self.own.id()).map(|shown| shown.until);
        self.twin.hear(shown, self.said.is_none(), now);
        if let Some(said) = self.said.as_ref().filter(|said| Some(said.until) == shown) {
            self.shown_said_ms = Some(said.at_ms);
        }
    }

    fn is_there(&self, key: &PublicKey, now: Now) -> bool {
        self.heard.get(key).is_some_and(|(_, heard_ms)| since(*heard_ms, now) < SILENCE_MS)
    }

    /// The term in which the rollout is, or is to be, carried out here, this controller being named at `place`.
    fn wants(&mut self, rollouts: &Rollouts, mandate: &Mandate, place: usize, now: Now) -> Option<u64> {
        let (app, highest) = (&mandate.app, rollouts.term(&mandate.app));
        let own = self.held.get(app).copied();
        let others = rollouts.leases(app).filter(|held| self.is_there(&held.key, now));
        if let Some(other) = others.filter(|held| held.key != self.own).map(|held| held.term).max()
            && own.is_none_or(|own| own.term < other || !own.is_settled(now))
        {
            self.held.remove(app);
            self.free.remove(app);
            return None;
        }
        let shown = rollouts.leases(app).find(|held| held.key == self.own).map(|held| held.term);
        // From before it was started again.
        let left = shown.filter(|_| self.said.is_none()).map(|term| Own::new(mandate, term, 0));
        if let Some(mut own) = own.or(left).filter(|own| own.term >= highest) {
            let is_shown = shown == Some(own.term) && self.is_fresh(now);
            own.shown_since_ms = own.shown_since_ms.or(Some(now.mono_ms)).filter(|_| is_shown);
            if is_shown && own.is_settled(now) {
                self.works.insert(app.clone(), (own.first, own.term));
            }
            self.held.insert(app.clone(), own);
            self.free.remove(app);
            return Some(own.term);
        }
        if since(self.freed(mandate, now).since_ms, now) < PLACE_MS * place as u64 {
            self.held.remove(app);
            return None;
        }
        let term = next(own.map_or(highest, |own| own.term.max(highest)), place);
        let is_sole = mandate.keys.len() == 1 || highest == 0 && place == 0;
        self.held.insert(app.clone(), Own::new(mandate, term, if is_sole { 0 } else { SETTLE_MS }));
        Some(term)
    }

    /// Whether what the bus shows of this controller was said not long ago, also when the machine was asleep meanwhile.
    fn is_fresh(&self, now: Now) -> bool {
        let is_fresh = self.shown_said_ms.is_some_and(|ms| since(ms, now) <= TERM_SECS * 1_000);
        is_fresh && self.heard.get(&self.own).is_some_and(|(until, _)| now.wall <= *until)
    }

    /// Since when nobody carries the rollout out.
    fn freed(&mut self, mandate: &Mandate, now: Now) -> &mut Free {
        let new = Free { first: mandate.first, since_ms: now.mono_ms, told: false };
        let free = self.free.entry(mandate.app.clone()).or_insert(new);
        if free.first != mandate.first {
            *free = new;
        }
        free
    }
}

impl Twin {
    fn said(&mut self, until: UnixTime) {
        self.own.push_back(until);
        if self.own.len() > REMEMBERED {
            self.own.pop_front();
        }
    }

    fn hear(&mut self, shown: Option<UnixTime>, is_start: bool, now: Now) {
        if shown == self.shown {
            return;
        }
        self.shown = shown;
        match shown {
            Some(until) if is_start => self.said(until),
            Some(until) if !self.own.contains(&until) => {
                self.heard += 1;
                self.heard_ms = now.mono_ms;
            }
            _ => {}
        }
    }

    fn is_there(&mut self, now: Now) -> bool {
        if self.heard > 0 && since(self.heard_ms, now) >= TWIN_MS {
            (self.heard, self.told) = (0, false);
        }
        self.heard > 1
    }
}

impl Own {
    fn new(mandate: &Mandate, term: u64, settle_ms: u64) -> Self {
        Self { first: mandate.first, term, settle_ms, shown_since_ms: None }
    }

    fn is_settled(&self, now: Now) -> bool {
        self.settle_ms == 0 || self.shown_since_ms.is_some_and(|ms| since(ms, now) >= self.settle_ms)
    }
}

fn since(ms: u64, now: Now) -> u64 {
    now.mono_ms.saturating_sub(ms)
}

/// The next term after `highest`, which leaves `place` when it is divided.
fn next(highest: u64, place: usize) -> u64 {
    let most = MAX_CONTROLLERS as u64;
    (highest / most).saturating_add(1).saturating_mul(most).saturating_add(place as u64)
}

#[cfg(test)]
mod tests;
