//! What is ordered: for each group of a rollout the one order that is to be on its topic.

use std::collections::BTreeMap;

use schemas::{
    announcement::Announcement,
    id::{GroupId, NodeId},
    order::{Audience, Order, OrderState, Policy},
    rollout::{CourseState, WaveState},
    seal::{Head, SecretKey, Signed, Verified},
    time::UnixTime,
    topic::Kind,
};

use super::{
    AGAIN_MS, Conductor, Dirt, Given, Now, Seat,
    state::{NodeState, Weight},
};
use crate::{
    Deed, Fleet, MilestoneKind, Node, Ordered,
    plan::{MAX_NAMED, Percent, Share},
};

/// So many numbers are kept for orders that pause or take back.
const RESERVE: u64 = 1_000;
/// So many numbers are used as fast as nodes come and go; after that, so long lies between two.
const FREE: u64 = 1_000;
const HASTE_MS: u64 = 5_000;

impl Conductor {
    /// What others have ordered meanwhile.
    pub(super) fn notice_others(&mut self, fleet: &Fleet) {
        if self.course.state == CourseState::Superseded {
            return;
        }
        let groups = self.plan.groups();
        for group in self.mandate.groups.clone() {
            let Some(there) = fleet.order(&group, &self.course.app) else { continue };
            let order = &there.announced.order;
            if self.is_of_mandate(there) {
                self.notice_another_term(&group, order);
            } else if order.revision > self.mandate.first && groups.contains(&group) {
                let text = format!("order {} for {group} took its place", order.revision);
                self.becomes(CourseState::Superseded);
                self.tell(MilestoneKind::Superseded, text);
                return;
            }
        }
    }

    /// A controller of another term may have written `order`: what is wanted gets a higher number.
    fn notice_another_term(&mut self, group: &GroupId, order: &Verified<Order>) {
        if self.is_given(group, order) || order.revision < self.course.revision {
            return;
        }
        let was_given = self.orders.remove(group).is_some();
        if was_given || order.revision > self.course.revision {
            self.changed = Dirt::Hard;
        }
        self.course.revision = order.revision;
    }

    /// Whether an order was given by the mandate of this rollout.
    pub(super) fn is_of_mandate(&self, there: &Ordered) -> bool {
        there.announced.mandate.as_ref().is_some_and(|mandate| mandate.first == self.mandate.first)
    }

    /// Whether this is the order that was given last for its group.
    fn is_given(&self, group: &GroupId, order: &Verified<Order>) -> bool {
        self.orders.get(group).is_some_and(|given| given.order.digest() == order.digest())
    }

    /// After a start, the orders that were given say who had one.
    pub(super) fn restore_offers(&mut self) {
        for at in 0..self.seats.len() {
            let seat = &self.seats[at];
            let given = self.group_of(seat.wave).and_then(|group| self.orders.get(group));
            let is_named = given.is_some_and(|given| given.order.audience.includes(&seat.node));
            let is_open = self.course.waves[seat.wave].state != WaveState::Closed;
            self.seats[at].offered |= is_named && is_open;
        }
    }

    /// Decides who of the open waves may begin: all, or so many at a time.
    pub(super) fn offer(&mut self, fleet: &Fleet, now: Now) {
        let is_for_all = self.course.state == CourseState::Completed;
        if self.course.state != CourseState::Running && !is_for_all {
            return;
        }
        let mut room = Room::new(self);
        let mut changed = Vec::new();
        for at in 0..self.seats.len() {
            let seat = &self.seats[at];
            let wave = &self.course.waves[seat.wave];
            if wave.state == WaveState::Closed {
                continue;
            }
            let stage = wave.stage as usize;
            let wants = match seat.state.weight() {
                Weight::Good | Weight::Failure | Weight::Skipped => true,
                _ if is_for_all || !self.is_limited(stage) => true,
                // Who is away could come back at any time, and be one too many.
                _ if is_away(fleet, &seat.node) && !began(seat) => false,
                _ => seat.offered || room.takes(self, stage, seat),
            };
            if self.seats[at].offered != wants {
                self.seats[at].offered = wants;
                changed.push(at);
            }
        }
        // Their time to answer begins.
        for at in changed {
            self.look_at(at, fleet, now);
        }
    }

    /// Whether so many nodes may install at the same time, and no more.
    fn is_limited(&self, stage: usize) -> bool {
        let of_stage = self.plan.stages.get(stage).and_then(|stage| stage.max_parallel);
        [of_stage, self.plan.max_parallel, self.plan.max_parallel_per_site].iter().any(Option::is_some)
    }

    /// Signs what is to be on the topics and is not.
    pub(super) fn order(&mut self, fleet: &Fleet, now: Now, key: &SecretKey) {
        for (group, (state, audience)) in self.wanted(fleet) {
            let given = self.orders.get(&group);
            let says_so = |given: &Given| given.order.state == state && given.order.audience == audience;
            if given.is_some_and(|given| says_so(given) && !given.is_of_earlier_term) {
                continue;
            }
            let begins = state == OrderState::Active;
            if self.course.revision >= self.mandate.last {
                self.tell_used_up(&group);
            } else if (!begins || self.may_let_begin()) && !self.is_hasty(given, state, now) {
                self.sign(group, state, audience, now, key);
            }
        }
        self.see_again(fleet, now);
    }

    fn sign(&mut self, group: GroupId, state: OrderState, audience: Audience, now: Now, key: &SecretKey) {
        let order = Order {
            head: Head::new(self.mandate.head.fleet.clone(), now.wall),
            app: self.course.app.clone(),
            group: group.clone(),
            revision: self.course.revision.next(self.mandate.first.0),
            release: self.mandate.release,
            audience,
            state,
            policy: Policy::default(),
            not_before: UnixTime(0),
            expires: self.mandate.expires,
            continues: Some(self.mandate.first),
        };
        let signed = Signed::seal(&order, std::slice::from_ref(key));
        // It fails only by a key that the mandate does not name, and then nobody has us carry it out.
        let Ok(order) = self.mandate.verify(&signed, &self.mandate.head.fleet) else { return };
        self.course.revision = order.revision;
        self.changed = Dirt::Hard;
        self.orders.insert(group, Given { order, signed, at_ms: 0, is_of_earlier_term: false });
    }

    /// Somebody has used all numbers up, so nobody can be told what is wanted.
    fn tell_used_up(&mut self, group: &GroupId) {
        if !std::mem::replace(&mut self.has_told_used_up, true) {
            let text = format!(
                "the numbers of the controller's orders are used up, and nodes of {group} were not told: announce to them, or roll back"
            );
            self.tell(MilestoneKind::Stopped, text);
        }
    }

    /// Whether numbers are left for orders that let nodes begin: the last ones are for those that stop them.
    pub(super) fn may_let_begin(&self) -> bool {
        self.course.revision.0.saturating_add(RESERVE) < self.mandate.last.0
    }

    /// Whether another audience has to wait: nodes that come and go all the time are not to use up all numbers.
    fn is_hasty(&self, given: Option<&Given>, state: OrderState, now: Now) -> bool {
        let used = self.course.revision.0.saturating_sub(self.mandate.first.0);
        let is_late =
            |given: &Given| given.order.state != state || now.mono_ms.saturating_sub(given.at_ms) >= HASTE_MS;
        used > FREE && !given.is_none_or(is_late)
    }

    /// An order that is not on its topic goes there again, and so does the course.
    fn see_again(&mut self, fleet: &Fleet, now: Now) {
        let app = self.course.app.clone();
        let is_there = fleet.rollouts().course(&app).is_some() && !fleet.rollouts().is_course_stale(&app);
        if !is_there && now.mono_ms.saturating_sub(self.published_ms) >= AGAIN_MS {
            self.changed = Dirt::Hard;
        }
        for (group, given) in &mut self.orders {
            let there = fleet.order(group, &app);
            let is_there = there.is_some_and(|there| there.announced.order.digest() == given.order.digest());
            let is_beaten = there.is_some_and(|there| there.announced.order.revision > given.order.revision);
            if is_beaten {
                // A person's: ours has no place there any more.
                given.at_ms = now.mono_ms.max(1);
            } else if !is_there && given.at_ms > 0 && now.mono_ms.saturating_sub(given.at_ms) >= AGAIN_MS {
                given.at_ms = 0;
            } else if is_there && given.at_ms == 0 {
                given.at_ms = now.mono_ms.max(1);
            }
        }
    }

    pub(super) fn publish_orders(&mut self, now: Now) {
        for (group, given) in self.orders.iter_mut().filter(|(_, given)| given.at_ms == 0) {
            given.at_ms = now.mono_ms.max(1);
            let announcement = Announcement {
                order: given.signed.clone(),
                release: self.planned.release.clone(),
                mandate: Some(self.planned.mandate.clone()),
            };
            let topic = Kind::Release(group.clone(), self.course.app.clone()).of(&self.mandate.head.fleet);
            self.deeds.push(Deed::Publish(topic, announcement.to_bytes()));
        }
    }

    /// For each group that has had an order: what its order is to say.
    fn wanted(&self, fleet: &Fleet) -> BTreeMap<GroupId, (OrderState, Audience)> {
        let nobody = || (OrderState::Paused, Audience::Nodes(Vec::new()));
        let mut wanted = BTreeMap::new();
        for group in &self.mandate.groups {
            let mut waves = (0..self.course.waves.len()).filter(|wave| self.group_of(*wave) == Some(group));
            let order = if waves.any(|wave| self.course.waves[wave].state != WaveState::Closed) {
                self.wanted_for(fleet, group)
            } else if matches!(self.course.state, CourseState::Superseded | CourseState::Completed) {
                None
            } else {
                // What an earlier rollout left half done goes no further.
                let is_ours = self.orders.contains_key(group);
                (is_ours || self.is_left_half_done(fleet, group)).then(nobody)
            };
            wanted.extend(order.map(|order| (group.clone(), order)));
        }
        wanted
    }

    /// Whether nodes of the group may begin by an order that nobody leads any more: one of an earlier rollout that is half done,
    /// or one of this rollout that is not remembered.
    fn is_left_half_done(&self, fleet: &Fleet, group: &GroupId) -> bool {
        let Some(there) = fleet.order(group, &self.course.app) else { return false };
        let (order, mandate) = (&there.announced.order, &there.announced.mandate);
        let is_earlier = mandate.as_ref().is_some_and(|mandate| mandate.first < self.mandate.first);
        let is_strange = self.is_of_mandate(there) && !self.is_given(group, order);
        order.state == OrderState::Active && (is_strange || is_earlier && order.audience != Audience::All)
    }

    fn wanted_for(&self, fleet: &Fleet, group: &GroupId) -> Option<(OrderState, Audience)> {
        let present = || self.orders.get(group).map(|given| given.order.audience.clone());
        match &self.course.state {
            CourseState::Superseded => self.wanted_after(fleet, group),
            CourseState::Running | CourseState::Completed | CourseState::AwaitingApproval => {
                Some((OrderState::Active, self.audience(group)))
            }
            CourseState::Scheduled | CourseState::Paused(_) => {
                Some((OrderState::Paused, present().unwrap_or_else(|| self.audience(group))))
            }
            CourseState::Reverting { wave, .. } => {
                let from = *wave as usize;
                let nodes = self.named(group, |seat| seat.wave >= from);
                if nodes.is_empty() {
                    return Some((OrderState::Paused, present()?));
                }
                let audience = if nodes.len() > MAX_NAMED { Audience::All } else { Audience::Nodes(nodes) };
                Some((OrderState::Withdrawn { revert: true }, audience))
            }
            CourseState::Aborted { reverted, .. } => {
                Some((OrderState::Withdrawn { revert: *reverted }, Audience::All))
            }
        }
    }

    /// Another order took the rollout's place: where it is half done it goes no further, for nobody looks at it any more.
    fn wanted_after(&self, fleet: &Fleet, group: &GroupId) -> Option<(OrderState, Audience)> {
        let given = &self.orders.get(group)?.order;
        let there = fleet.order(group, &self.course.app)?;
        let is_there = there.announced.order.digest() == given.digest();
        let is_half_done = given.state == OrderState::Active && given.audience != Audience::All;
        (is_there && is_half_done).then(|| (OrderState::Paused, Audience::Nodes(Vec::new())))
    }

    /// Whom the order of a group is for.
    fn audience(&self, group: &GroupId) -> Audience {
        if self.is_through(group) {
            return Audience::All;
        }
        // Counted before they are named: this is asked at every step.
        let offered = self.open_seats(group).filter(|seat| seat.offered);
        if offered.take(MAX_NAMED + 1).count() <= MAX_NAMED {
            return Audience::Nodes(self.named(group, |seat| seat.offered));
        }
        let mut stages = (0..self.plan.stages.len()).filter(|at| self.plan.stages[*at].group == *group);
        let is_limited = stages.any(|stage| self.is_limited(stage));
        let of_waves = self.course.waves.iter().enumerate().rev().find_map(|(at, wave)| {
            let counts = wave.state != WaveState::Closed && self.group_of(at) == Some(group);
            wave.audience.clone().filter(|_| counts)
        });
        let is_settled = |state: &NodeState| matches!(state.weight(), Weight::Good | Weight::Failure);
        let is_for_all_of = |audience: &Audience| {
            let mut wanted = self.open_seats(group).filter(|seat| seat.offered && !is_settled(&seat.state));
            wanted.all(|seat| audience.includes(&seat.node))
        };
        match of_waves {
            Some(audience) if !is_limited && is_for_all_of(&audience) => audience,
            _ => Audience::Nodes(self.named(group, |seat| seat.offered && !is_settled(&seat.state))),
        }
    }

    /// Whether every wave of the group has passed, and together they were to be everybody.
    fn is_through(&self, group: &GroupId) -> bool {
        let mut waves =
            self.course.waves.iter().enumerate().filter(|(at, _)| self.group_of(*at) == Some(group));
        let last = self.plan.stages.iter().rfind(|stage| stage.group == *group);
        let all = Share::Percent(Percent::ALL);
        waves.all(|(_, wave)| wave.state == WaveState::Passed)
            && last.is_some_and(|stage| stage.waves.last() == Some(&all))
    }

    fn open_seats(&self, group: &GroupId) -> impl Iterator<Item = &Seat> {
        let is_open = |wave: usize| {
            self.course.waves[wave].state != WaveState::Closed && self.group_of(wave) == Some(group)
        };
        let open: Vec<bool> = (0..self.course.waves.len()).map(is_open).collect();
        self.seats.iter().filter(move |seat| open[seat.wave])
    }

    fn named(&self, group: &GroupId, counts: impl Fn(&Seat) -> bool) -> Vec<NodeId> {
        let mut named: Vec<NodeId> =
            self.open_seats(group).filter(|seat| counts(seat)).map(|seat| seat.node.clone()).collect();
        named.sort();
        named
    }
}

fn is_away(fleet: &Fleet, node: &NodeId) -> bool {
    fleet.nodes().get(node).and_then(Node::online) != Some(true)
}

fn began(seat: &Seat) -> bool {
    seat.standing != schemas::rollout::Standing::None
}

/// How many more nodes may begin.
struct Room {
    stages: Vec<usize>,
    fleet: usize,
    sites: BTreeMap<String, usize>,
}

impl Room {
    fn new(conductor: &Conductor) -> Self {
        let mut room =
            Self { stages: vec![0; conductor.plan.stages.len()], fleet: 0, sites: BTreeMap::new() };
        for seat in conductor.seats.iter().filter(|seat| seat.offered && may_begin(&seat.state)) {
            room.count(conductor.course.waves[seat.wave].stage as usize, seat);
        }
        room
    }

    /// Whether there is room for one more, which takes it.
    fn takes(&mut self, conductor: &Conductor, stage: usize, seat: &Seat) -> bool {
        let plan = &conductor.plan;
        let fits = |limit: Option<std::num::NonZeroU32>, used: usize| {
            limit.is_none_or(|limit| used < limit.get() as usize)
        };
        let of_site = seat.site.as_ref().map_or(0, |site| self.sites.get(site).copied().unwrap_or_default());
        let is_room = fits(plan.max_parallel, self.fleet)
            && fits(
                plan.stages.get(stage).and_then(|stage| stage.max_parallel),
                self.stages.get(stage).copied().unwrap_or_default(),
            )
            && (seat.site.is_none() || fits(plan.max_parallel_per_site, of_site));
        if is_room {
            self.count(stage, seat);
        }
        is_room
    }

    fn count(&mut self, stage: usize, seat: &Seat) {
        self.fleet += 1;
        if let Some(of_stage) = self.stages.get_mut(stage) {
            *of_stage += 1;
        }
        if let Some(site) = &seat.site {
            *self.sites.entry(site.clone()).or_default() += 1;
        }
    }
}

/// Whether a node that has the order may be installing, or begin to at any time.
fn may_begin(state: &NodeState) -> bool {
    state.is_in_flight() || matches!(state, NodeState::Waiting | NodeState::Deferred(_))
}
