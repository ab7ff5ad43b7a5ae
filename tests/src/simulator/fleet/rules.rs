//! What must hold in a simulated fleet after every step, whatever happened before.
//!
//! Two rules have exceptions, and these are all of them:
//! - **Never more than k nodes install.** A node counts unless the controller has lost sight of it since it was given the order
//!   (it went away, fell silent, was judged lost, or left the group: its place is given to another, and it may have begun all the same), or its order
//!   is for the whole group, as it is when every wave of the group has passed: who was away then catches up when it likes.
//! - **After the stop nobody leaves `waiting`.** A node begins after the stop only if its order was on the way or waited on the node
//!   when the controller stopped, and only until the order that stops it has reached it. How many that are is counted, and
//!   never more than had been offered the release and had not begun.

use std::collections::{BTreeMap, BTreeSet};

use machine::Seen;
use rollout::{
    Fleet, Node,
    course::{Conductor, NodeState, Tally, Weight, check::check, stops},
};
use schemas::{
    announcement::Announced,
    id::{AppId, Digest, GroupId, NodeId, Revision},
    order::{Audience, OrderState},
    rollout::{CourseState, WaveState},
};

use super::world::Step;
use crate::timeline;

/// Wall clocks count seconds.
const SLACK_MS: u64 = 2_000;

/// What is known of everything that was ordered.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    rollouts: BTreeMap<Revision, Followed>,
    orders: BTreeMap<Revision, Fact>,
    newest: BTreeMap<(GroupId, AppId), Revision>,
    /// What happened how often.
    pub(crate) told: BTreeMap<String, u64>,
    /// Nodes that began after a stop, for the message that stops them was on its way.
    pub(crate) late_begins: u64,
    /// How often the rules were asked.
    pub(crate) checks: u64,
}

/// An order that is, or was, on the bus.
#[derive(Debug)]
struct Fact {
    group: GroupId,
    state: OrderState,
    audience: Audience,
    digest: Digest,
    /// The same for people.
    line: String,
}

/// A rollout as its steps show it.
#[derive(Debug)]
struct Followed {
    app: AppId,
    last: Revision,
    /// Nodes of waves that were ever open.
    opened: BTreeSet<NodeId>,
    /// Stage and site of each node.
    seats: BTreeMap<NodeId, (u32, Option<String>)>,
    limits: Limits,
    /// Nodes that the controller lost sight of.
    excepted: BTreeSet<NodeId>,
    /// Who was offered the release and had not begun, when it stopped.
    stopped: Option<BTreeSet<NodeId>>,
    late_begins: usize,
    waves: Vec<WaveState>,
    /// Since when a wave soaks.
    soaks_ms: BTreeMap<usize, u64>,
    goes_back: bool,
}

#[derive(Debug)]
struct Limits {
    fleet: Option<u32>,
    stages: Vec<Option<u32>>,
    site: Option<u32>,
}

impl Rules {
    /// An order comes onto the bus.
    pub(crate) fn ordered(&mut self, announced: &Announced) -> Result<String, String> {
        let order = &announced.order;
        let place = (order.group.clone(), order.app.clone());
        let before = self.newest.get(&place).copied().unwrap_or_default();
        let by_controller = announced.mandate.is_some();
        if by_controller && order.revision < before {
            return Err(format!(
                "the controller puts order {} in the place of order {before}",
                order.revision
            ));
        }
        self.newest.insert(place, order.revision.max(before));
        let line = timeline::says(order, &announced.release.version);
        let fact = Fact {
            group: order.group.clone(),
            state: order.state,
            audience: order.audience.clone(),
            digest: order.digest(),
            line: line.clone(),
        };
        if self.orders.get(&order.revision).is_some_and(|known| known.digest != fact.digest) {
            return Err(format!("two orders with revision {}", order.revision));
        }
        self.orders.insert(order.revision, fact);
        Ok(timeline::of_order(order, &announced.release.version))
    }

    /// What the newest order for a group says.
    pub(crate) fn newest(&self, group: &GroupId, app: &AppId) -> Option<String> {
        let revision = self.newest.get(&(group.clone(), app.clone()))?;
        Some(self.orders.get(revision)?.line.clone())
    }

    /// The conductor of a rollout has decided.
    pub(crate) fn check(&mut self, conductor: &Conductor, fleet: &Fleet, now_ms: u64) -> Step {
        self.checks += 1;
        check(conductor)?;
        let followed =
            self.rollouts.entry(conductor.first()).or_insert_with(|| Followed::new(conductor, fleet));
        for (node, wave, state) in conductor.seats() {
            if conductor.waves()[wave].state != WaveState::Closed {
                note(&mut followed.opened, node);
            }
            let is_away = fleet.nodes().get(node).and_then(Node::online) != Some(true);
            let stage = conductor.plan().stages.get(conductor.waves()[wave].stage as usize);
            let is_in = |of: &Node| stage.is_some_and(|stage| of.is_in(&stage.group));
            let is_gone = !fleet.nodes().get(node).is_some_and(is_in);
            let is_lost = matches!(
                state,
                NodeState::Lost(_) | NodeState::Silent | NodeState::Excused | NodeState::Away
            );
            if is_away || is_lost || is_gone {
                note(&mut followed.excepted, node);
            }
        }
        followed.check_soak(conductor, now_ms)?;
        check_stop(conductor)?;
        for (at, wave) in conductor.waves().iter().enumerate() {
            let before = followed.waves.get(at).copied().unwrap_or_default();
            if before == WaveState::Passed && wave.state != WaveState::Passed {
                return Err(format!("wave {at} had passed and is {}", wave.state.name()));
            }
            let was_known = at < followed.waves.len();
            if was_known && before == WaveState::Closed && wave.state != WaveState::Closed {
                Followed::check_open(at, conductor)?;
            }
        }
        Ok(())
    }

    /// What it has decided is on the bus.
    pub(crate) fn settle(&mut self, conductor: &Conductor, begun: impl Fn(&NodeId) -> Option<Revision>) {
        let Some(followed) = self.rollouts.get_mut(&conductor.first()) else { return };
        followed.waves = conductor.waves().iter().map(|wave| wave.state).collect();
        followed.goes_back =
            matches!(conductor.state(), CourseState::Reverting { .. } | CourseState::Aborted { .. });
        let goes_on = matches!(
            conductor.state(),
            CourseState::Running | CourseState::Completed | CourseState::AwaitingApproval
        );
        if goes_on {
            followed.stopped = None;
        } else if followed.stopped.is_none() {
            let range = conductor.first()..=followed.last;
            let orders = self.orders.range(range.clone()).map(|(_, fact)| fact);
            let active: Vec<&Fact> = orders.filter(|fact| fact.state == OrderState::Active).collect();
            let was_offered = |node: &&NodeId| active.iter().any(|fact| fact.audience.includes(node));
            let has_begun = |node: &&NodeId| begun(node).is_some_and(|with| range.contains(&with));
            let offered = followed.seats.keys().filter(was_offered).filter(|node| !has_begun(node));
            followed.stopped = Some(offered.cloned().collect());
            followed.late_begins = 0;
        }
    }

    /// A node that is in `groups` begins with an order.
    pub(crate) fn begins(
        &mut self,
        (node, groups): (&NodeId, &[GroupId]),
        app: &AppId,
        revision: Revision,
        seen: &BTreeMap<GroupId, Seen>,
    ) -> Step {
        let Some((_, followed)) = self.rollouts.range_mut(..=revision).next_back() else { return Ok(()) };
        if followed.app != *app || revision > followed.last {
            return Ok(());
        }
        let Some(fact) = self.orders.get(&revision) else {
            return Err(format!("{node} begins with order {revision}, which nobody gave"));
        };
        if !groups.contains(&fact.group) {
            return Err(format!("{node} begins with order {revision} for {}, where it is not", fact.group));
        }
        if seen.get(&fact.group).is_some_and(|seen| seen.revision != revision) {
            return Err(format!("{node} begins with order {revision} and has seen a newer one"));
        }
        match fact.state {
            OrderState::Paused => return Err(format!("{node} begins with paused order {revision}")),
            OrderState::Withdrawn { .. } if followed.goes_back => return Ok(()),
            OrderState::Withdrawn { .. } => return Err(format!("{node} goes back, and nobody wants that")),
            OrderState::Active => {}
        }
        if fact.audience != Audience::All && !followed.opened.contains(node) {
            return Err(format!("{node} begins and its wave is closed"));
        }
        if let Some(offered) = &followed.stopped {
            followed.late_begins += 1;
            self.late_begins += 1;
            if fact.audience != Audience::All && !offered.contains(node) {
                return Err(format!("{node} begins after the stop and had not been offered anything"));
            }
            if fact.audience != Audience::All && followed.late_begins > offered.len() {
                return Err(format!("{} nodes begin after the stop", followed.late_begins));
            }
        }
        Ok(())
    }

    /// `busy` are the nodes that carry an order out, and which.
    pub(crate) fn check_parallel(&self, app: &AppId, busy: &[(NodeId, Revision)]) -> Step {
        for (first, followed) in self.rollouts.iter().filter(|(_, followed)| followed.app == *app) {
            let counts = |(node, revision): &&(NodeId, Revision)| {
                let fact = self.orders.get(revision);
                let is_limited = fact
                    .is_some_and(|fact| fact.state == OrderState::Active && fact.audience != Audience::All);
                (*first..=followed.last).contains(revision) && is_limited && !followed.excepted.contains(node)
            };
            let busy: Vec<&NodeId> = busy.iter().filter(counts).map(|(node, _)| node).collect();
            followed.check_parallel(&busy)?;
        }
        Ok(())
    }
}

impl Followed {
    fn new(conductor: &Conductor, fleet: &Fleet) -> Self {
        let plan = conductor.plan();
        let seat = |(node, wave, _): (&NodeId, usize, &NodeState)| {
            let record = fleet.nodes().get(node).and_then(Node::record);
            let site = record.and_then(|record| record.labels.get("site").cloned());
            (node.clone(), (conductor.waves()[wave].stage, site))
        };
        Self {
            app: conductor.app().clone(),
            last: Revision(conductor.first().0 + schemas::mandate::REVISIONS),
            opened: BTreeSet::new(),
            seats: conductor.seats().map(seat).collect(),
            limits: Limits {
                fleet: plan.max_parallel.map(u32::from),
                stages: plan.stages.iter().map(|stage| stage.max_parallel.map(u32::from)).collect(),
                site: plan.max_parallel_per_site.map(u32::from),
            },
            excepted: BTreeSet::new(),
            stopped: None,
            late_begins: 0,
            waves: Vec::new(),
            soaks_ms: BTreeMap::new(),
            goes_back: false,
        }
    }

    /// A wave passes only when it was well for as long as the plan asks for.
    fn check_soak(&mut self, conductor: &Conductor, now_ms: u64) -> Step {
        for (at, wave) in conductor.waves().iter().enumerate() {
            let soak = conductor.plan().stages.get(wave.stage as usize).map(|stage| stage.soak);
            let soak_ms = soak.map_or(0, |soak| u64::try_from(soak.as_millis()).unwrap_or(u64::MAX));
            match wave.state {
                WaveState::Soaking => {
                    self.soaks_ms.entry(at).or_insert(now_ms);
                }
                WaveState::Passed if self.waves.get(at) == Some(&WaveState::Passed) => {}
                WaveState::Passed if soak_ms > 0 => {
                    let soaked_ms = self.soaks_ms.get(&at).map_or(0, |since_ms| now_ms - since_ms);
                    if soaked_ms + SLACK_MS < soak_ms {
                        return Err(format!("wave {at} passes after {soaked_ms} ms of its soak"));
                    }
                }
                WaveState::Passed => {}
                WaveState::Closed | WaveState::Open | WaveState::Failed => {
                    self.soaks_ms.remove(&at);
                }
            }
        }
        Ok(())
    }

    /// A wave opens only when all of the one before is known, and something of it is good or was looked at.
    fn check_open(wave: usize, conductor: &Conductor) -> Step {
        let Some(before) = wave.checked_sub(1) else { return Ok(()) };
        let tally = conductor.tally(before);
        let is_known =
            |(_, of, state): (&NodeId, usize, &NodeState)| of != before || state.weight() != Weight::Pending;
        if !conductor.seats().all(is_known) {
            return Err(format!("wave {wave} opens while wave {before} is on the way: {tally:?}"));
        }
        // Unless somebody has looked at those who failed, or who was well has gone since.
        if tally.good == 0 && tally.acknowledged == 0 && tally.skipped == 0 {
            return Err(format!("wave {wave} opens and nobody of wave {before} is well: {tally:?}"));
        }
        Ok(())
    }

    fn check_parallel(&self, busy: &[&NodeId]) -> Step {
        let exceeds = |limit: Option<u32>, count: usize| limit.is_some_and(|limit| count > limit as usize);
        if exceeds(self.limits.fleet, busy.len()) {
            return Err(format!("more nodes install than the plan allows: {busy:?}"));
        }
        let (mut stages, mut sites) = (BTreeMap::new(), BTreeMap::new());
        for (stage, site) in busy.iter().filter_map(|node| self.seats.get(*node)) {
            *stages.entry(*stage).or_insert(0) += 1;
            if let Some(site) = site {
                *sites.entry(site).or_insert(0) += 1;
            }
        }
        let limit_of = |stage: u32| self.limits.stages.get(stage as usize).copied().flatten();
        if let Some((stage, count)) = stages.iter().find(|(stage, count)| exceeds(limit_of(**stage), **count))
        {
            return Err(format!("{count} nodes of stage {stage} install: {busy:?}"));
        }
        match sites.iter().find(|(_, count)| exceeds(self.limits.site, **count)) {
            Some((site, count)) => Err(format!("{count} nodes of site {site} install: {busy:?}")),
            None => Ok(()),
        }
    }
}

/// It does not run on with more failures than a stage may have.
fn check_stop(conductor: &Conductor) -> Step {
    if *conductor.state() != CourseState::Running {
        return Ok(());
    }
    for (at, stage) in conductor.plan().stages.iter().enumerate() {
        let of_stage = |wave: &usize| conductor.waves()[*wave].stage as usize == at;
        let mut tally = Tally::default();
        for of in (0..conductor.waves().len()).filter(of_stage).map(|wave| conductor.tally(wave)) {
            tally.good += of.good;
            tally.failures += of.failures;
        }
        if let Some(text) = stops(&tally, stage) {
            return Err(format!("it goes on although {text}"));
        }
    }
    Ok(())
}

fn note(nodes: &mut BTreeSet<NodeId>, node: &NodeId) {
    if !nodes.contains(node) {
        nodes.insert(node.clone());
    }
}
