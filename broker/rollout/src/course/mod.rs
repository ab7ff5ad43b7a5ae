//! A rollout on its way: which wave is open, when it stops, what is ordered. Pure: the fleet, the time and a key in, deeds out.
//!
//! Its states, and what leads from one to the next, are in `arrows.rs`.
//!
//! All that it remembers is its [`Course`], which it publishes before the orders that rely on it: a controller that dies at any
//! moment goes on from there.

mod advance;
mod arrows;
mod begin;
pub mod check;
mod explain;
mod judge;
mod orders;
mod revert;
mod state;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use schemas::{
    id::{AppId, Digest, GroupId, NodeId, Revision},
    mandate::Mandate,
    order::Order,
    rollout::{Course, CourseState, CourseWave, Planned, Plans, Rollout, Standing, WaveState},
    seal::{SecretKey, Signed, Verified},
    time::UnixTime,
    topic::Kind,
};

use self::state::Subject;
pub use self::{
    explain::{Line, explain},
    judge::{Judgement, Tally, judge, stops},
    state::{Bucket, Failure, NodeState, Skip, Weight},
};
use crate::{
    deed::{Deed, Milestone, MilestoneKind},
    fleet::Fleet,
    plan::Plan,
};

/// What is remembered of nodes is published that often at most while nothing else changes.
const SOFT_MS: u64 = 5_000;
/// An order that is not on the bus is published again after so long.
const AGAIN_MS: u64 = 10_000;

/// The clock of rollouts does not begin at 0, for waves may be older than the process that goes on with them.
const BEFORE_START: Duration = Duration::from_hours(365 * 24);

/// The time as a rollout sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds of a clock that never jumps.
    pub mono_ms: u64,
    /// The wall clock.
    pub wall: UnixTime,
}

impl Now {
    /// The time in a process that has run for `running`, by a clock that never jumps.
    pub fn new(running: Duration, wall: UnixTime) -> Self {
        let mono = running.saturating_add(BEFORE_START);
        Self { mono_ms: u64::try_from(mono.as_millis()).unwrap_or(u64::MAX), wall }
    }

    /// How long it is until `mono_ms`.
    pub fn until(self, mono_ms: u64) -> Duration {
        Duration::from_millis(mono_ms.saturating_sub(self.mono_ms))
    }
}

/// Which nodes have to be looked at.
#[derive(Debug, Clone, Copy)]
pub enum Changed<'a> {
    /// All.
    All,
    /// Those of which something was heard.
    Nodes(&'a BTreeSet<NodeId>),
}

/// One rollout, and how far it is.
#[derive(Debug, Clone)]
pub struct Conductor {
    planned: Planned,
    rollout: Verified<Rollout>,
    mandate: Verified<Mandate>,
    version: String,
    plan: Plan,
    subject: Subject,
    course: Course,
    seats: Vec<Seat>,
    index: BTreeMap<NodeId, usize>,
    orders: BTreeMap<GroupId, Given>,
    /// When the open wave came into its state, or began to go back.
    wave_since_ms: u64,
    /// When the course was published last.
    published_ms: u64,
    changed: Dirt,
    /// How nodes stand depends on something that has changed.
    looks_at_all: bool,
    /// That no numbers are left was told.
    has_told_used_up: bool,
    /// What is to be done, and was not given to anybody yet.
    deeds: Vec<Deed>,
    /// The arrows that it took.
    #[cfg(test)]
    arrows: Vec<(&'static str, &'static str)>,
}

/// A node with its place.
#[derive(Debug, Clone)]
struct Seat {
    node: NodeId,
    wave: usize,
    standing: Standing,
    state: NodeState,
    since_ms: u64,
    /// Its order is on the bus.
    offered: bool,
    site: Option<String>,
}

/// An order that is to be on its topic.
#[derive(Debug, Clone)]
struct Given {
    order: Verified<Order>,
    signed: Signed<Order>,
    /// Put there last.
    at_ms: u64,
    /// It is to be signed anew, with a number of this term.
    is_of_earlier_term: bool,
}

/// What has to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Dirt {
    None,
    /// Only what is remembered of nodes.
    Soft,
    Hard,
}

impl Seat {
    /// What was said before a node was given up is no news: only how it ended is.
    fn unless_lost(&self, state: NodeState) -> NodeState {
        let is_news = !matches!(
            state,
            NodeState::Installing { .. } | NodeState::Trial | NodeState::Silent | NodeState::Away
        );
        match &self.state {
            _ if is_news || self.standing != Standing::Lost => state,
            NodeState::Lost(text) => NodeState::Lost(text),
            _ => NodeState::Lost("it fell silent after it had begun"),
        }
    }
}

impl Conductor {
    /// People want something else of the same rollout.
    pub(crate) fn renew(&mut self, planned: &Planned, plans: &Plans) {
        let is_later = plans.rollout.seq >= self.rollout.seq && self.planned != *planned;
        if is_later && plans.rollout.first == self.rollout.first {
            self.planned = planned.clone();
            self.rollout = plans.rollout.clone();
            self.mandate = plans.mandate.clone();
        }
    }

    /// Looks at the fleet and says what is to be done.
    pub fn step(&mut self, fleet: &Fleet, changed: Changed<'_>, now: Now, key: &SecretKey) -> Vec<Deed> {
        self.notice_others(fleet);
        self.heed(now);
        if self.course.state != CourseState::Superseded {
            self.look(fleet, changed, now);
            self.advance(fleet, now);
            self.offer(fleet, now);
        }
        self.order(fleet, now, key);
        self.publish(now, key);
        std::mem::take(&mut self.deeds)
    }

    /// Another rollout of the same app takes its place: nothing more is ordered by this one.
    pub(crate) fn supersede(&mut self) -> Vec<Deed> {
        if !self.course.state.is_over() {
            self.becomes(CourseState::Superseded);
            self.tell(MilestoneKind::Superseded, "another rollout of the app took its place".to_owned());
        }
        std::mem::take(&mut self.deeds)
    }

    /// How it stands; the seats are in [`Self::seats`].
    pub fn state(&self) -> &CourseState {
        &self.course.state
    }

    /// The name of the rollout.
    pub fn first(&self) -> Revision {
        self.course.first
    }

    /// The term in which it is carried out.
    pub(crate) fn term(&self) -> u64 {
        self.course.term
    }

    /// The app.
    pub fn app(&self) -> &AppId {
        &self.course.app
    }

    /// The version of the release.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The waves, without their seats.
    pub fn waves(&self) -> &[CourseWave] {
        &self.course.waves
    }

    /// When it began.
    pub fn started_at(&self) -> UnixTime {
        self.course.started_at
    }

    /// Every node with its wave and state.
    pub fn seats(&self) -> impl Iterator<Item = (&NodeId, usize, &NodeState)> {
        self.seats.iter().map(|seat| (&seat.node, seat.wave, &seat.state))
    }

    /// What a node does, and in which wave; nothing when it is in none.
    pub fn seat(&self, node: &NodeId) -> Option<(usize, &NodeState)> {
        let seat = &self.seats[*self.index.get(node)?];
        Some((seat.wave, &seat.state))
    }

    /// Whether the order of a node is on the bus, or is about to be.
    #[cfg(any(test, feature = "samples"))]
    pub fn is_offered(&self, node: &NodeId) -> bool {
        self.index.get(node).is_some_and(|at| self.seats[*at].offered)
    }

    /// So much of the soak of `wave` is left, as far as was written down.
    pub fn soak_left(&self, wave: usize) -> Option<Duration> {
        let of = self.course.waves.get(wave).filter(|wave| wave.state == WaveState::Soaking)?;
        let soak = self.plan.stages.get(of.stage as usize)?.soak;
        Some(soak.saturating_sub(Duration::from_secs(of.watched_secs)))
    }

    /// When what is remembered was written down.
    pub fn written_at(&self) -> UnixTime {
        self.course.head.issued_at
    }

    /// How many nodes of `wave` are how far.
    pub fn tally(&self, wave: usize) -> Tally {
        self.count(|seat| seat.wave == wave)
    }

    /// Everything that it remembers, as it is published.
    pub fn course(&self) -> Course {
        let mut course = self.course.clone();
        for seat in &self.seats {
            course.waves[seat.wave].seats.push((seat.node.clone(), seat.standing));
        }
        course.orders = self.orders.values().map(|given| given.signed.clone()).collect();
        course
    }

    fn tell(&mut self, kind: MilestoneKind, text: String) {
        self.deeds.push(Deed::Tell(Milestone {
            app: self.course.app.clone(),
            version: self.version.clone(),
            groups: self.plan.groups(),
            first: self.course.first,
            seq: self.course.seq.next(0),
            kind,
            text,
        }));
    }

    fn count(&self, counts: impl Fn(&Seat) -> bool) -> Tally {
        let mut tally = Tally::default();
        for seat in self.seats.iter().filter(|seat| counts(seat)) {
            let weight = seat.state.weight();
            let is_bad = matches!(weight, Weight::Failure | Weight::Skipped);
            if is_bad && self.is_acknowledged(&seat.node) {
                tally.total += 1;
                tally.acknowledged += 1;
            } else {
                tally.add(weight);
            }
        }
        tally
    }

    fn is_acknowledged(&self, node: &NodeId) -> bool {
        self.rollout.acknowledged.contains(node)
    }

    /// Looks at the nodes of waves that are or were open.
    fn look(&mut self, fleet: &Fleet, changed: Changed<'_>, now: Now) {
        let looks_at_all = std::mem::take(&mut self.looks_at_all);
        match changed {
            Changed::Nodes(nodes) if !looks_at_all => {
                let seats: Vec<usize> =
                    nodes.iter().filter_map(|node| self.index.get(node).copied()).collect();
                for at in seats {
                    self.look_at(at, fleet, now);
                }
            }
            _ => {
                for at in 0..self.seats.len() {
                    self.look_at(at, fleet, now);
                }
            }
        }
        self.give_up(now);
    }

    fn look_at(&mut self, at: usize, fleet: &Fleet, now: Now) {
        let seat = &self.seats[at];
        let wave = &self.course.waves[seat.wave];
        let is_closed = wave.state == WaveState::Closed;
        let Some(stage) = self.plan.stages.get(wave.stage as usize) else { return };
        let is_ours = |digest: &Digest| self.orders.values().any(|given| given.order.digest() == *digest);
        let state = if is_closed && self.course.state != CourseState::Completed {
            NodeState::Waiting
        } else {
            self.subject.look(fleet, (&seat.node, &stage.group), (seat.standing, seat.offered), is_ours)
        };
        let is_told_to_go_back = self.is_told_to_go_back(seat.wave);
        let state = match state {
            state if is_told_to_go_back => self.on_the_way_back(&seat.node, state, fleet),
            // Whoever had begun and is taken away is no proof that all is well.
            NodeState::Skipped(Skip::Gone) if wave.state == WaveState::Passed => state,
            NodeState::Skipped(Skip::OtherOrder | Skip::Gone)
                if self.seats[at].standing != Standing::None =>
            {
                NodeState::Failed(Failure::taken_away())
            }
            state => state,
        };
        // Whoever has proven itself may be switched off afterwards.
        let is_proven = wave.state == WaveState::Passed || self.course.state.is_over();
        let state = if is_proven && state == NodeState::Away { NodeState::Good } else { state };
        let state = self.seats[at].unless_lost(state);
        self.seat_is(at, state, now);
    }

    fn seat_is(&mut self, at: usize, state: NodeState, now: Now) {
        let seat = &mut self.seats[at];
        if !seat.state.is_as_far_as(&state) {
            seat.since_ms = now.mono_ms;
        }
        let standing = state.standing(seat.standing);
        if standing != seat.standing {
            seat.standing = standing;
            self.changed = self.changed.max(Dirt::Soft);
        }
        seat.state = state;
    }

    /// Silence is not success.
    fn give_up(&mut self, now: Now) {
        if self.course.state.is_over() {
            return;
        }
        let trial_ms = self.subject.trial_ms;
        let is_paused = matches!(self.course.state, CourseState::Paused(_));
        for at in 0..self.seats.len() {
            let seat = &mut self.seats[at];
            if is_paused && seat.state == NodeState::Offered {
                // Nobody has to answer an order that says to begin nothing.
                seat.since_ms = now.mono_ms;
            }
            if let Some((limit_ms, text)) = seat.state.limit(trial_ms)
                && now.mono_ms.saturating_sub(seat.since_ms) >= limit_ms
            {
                self.seat_is(at, NodeState::Lost(text), now);
            }
        }
    }

    fn publish(&mut self, now: Now, key: &SecretKey) {
        let is_due = match self.changed {
            Dirt::None => false,
            Dirt::Soft => now.mono_ms.saturating_sub(self.published_ms) >= SOFT_MS,
            Dirt::Hard => true,
        };
        if is_due {
            self.course.seq = self.course.seq.next(0);
            self.course.head.issued_at = now.wall;
            self.changed = Dirt::None;
            self.published_ms = now.mono_ms;
            if let Some(wave) = self.last_open().filter(|_| self.course.state == CourseState::Running) {
                self.course.waves[wave].watched_secs = now.mono_ms.saturating_sub(self.wave_since_ms) / 1_000;
            }
            let course = Signed::seal(&self.course(), std::slice::from_ref(key)).to_bytes();
            let topic = Kind::Course(self.course.app.clone()).of(&self.mandate.head.fleet);
            // Before the orders that rely on it.
            self.deeds.push(Deed::Publish(topic, course));
        }
        self.publish_orders(now);
    }
}

#[cfg(test)]
mod tests;
