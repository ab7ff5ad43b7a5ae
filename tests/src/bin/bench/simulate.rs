//! A rollout over 100,000 nodes with the conductor that a controller uses: how long it takes, and how much memory. They are more than
//! one course holds, so a controller would decline them; what it takes is done all the sooner.
//!
//! Nodes are light here, not machines: one that is named by an order, or in its share, says so once and is done a little later. What
//! they say is signed and verified before the clock starts to count, for that is the work of the bus; the conductor is what is
//! measured, with the changes of each quarter of a second together, as a desk hands them over.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use rollout::{
    Deed, Fleet,
    course::{Changed, Conductor, Now},
    samples::{NOW, Sample, controller_key, ended, idle, outcome},
};
use schemas::{
    id::{Digest, NodeId},
    order::{Audience, OrderState},
    report::{AppReport, Outcome, Verdict},
    rollout::CourseState,
    topic::NodeTopic,
};

use crate::figure::{Aim, Figures, Measured, Samples, resident_kib};

const NODES: usize = 100_000;
const PLAN: &str = "[[stage]]\ngroup = \"all\"\nwaves = [\"10\", \"5%\", \"40%\", \"100%\"]\nmax_failure_rate = \"5%\"\nsoak = \"2m\"";
/// It looks so often.
const STEP_MS: u64 = 250;
/// So many nodes say something between two looks.
const REPORTS_A_STEP: usize = 500;
/// No rollout of these nodes takes longer than a day.
const MOST_MS: u64 = 86_400_000;
const MOST_SECS: f64 = 10.0;
const MOST_MIB: f64 = 1024.0;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let (took, mib) = play()?;
    let measured = |what, unit| Measured { bench: "simulate", what, unit };
    figures.ours(measured("rollout over 100,000 nodes", "s"), &Samples::from(took), Aim::Most(MOST_SECS))?;
    figures.ours(measured("memory of it", "MiB"), &Samples::from(mib), Aim::Most(MOST_MIB))
}

/// The rollout on its way.
struct Race {
    sample: Sample,
    fleet: Fleet,
    conductor: Conductor,
    release: Digest,
    now: Now,
    ran_ms: u64,
    /// Nodes that have the order and have not ended.
    due: Vec<NodeId>,
    /// Nodes that no order has named so far, and the number of the last report of the others.
    waiting: BTreeSet<NodeId>,
    conductor_secs: f64,
    messages_secs: f64,
}

/// Seconds that the conductor took, and MiB that it needed.
fn play() -> Result<(f64, f64)> {
    let before_kib = resident_kib(std::process::id())?;
    let mut race = Race::prepare()?;
    let mut changed = BTreeSet::new();
    while *race.conductor.state() != CourseState::Completed {
        if race.ran_ms > MOST_MS || race.conductor.state().cause().is_some() {
            bail!("the rollout is {:?}", race.conductor.state());
        }
        race.step(&changed);
        changed = race.report();
        let pause_ms = if changed.is_empty() { 20 * STEP_MS } else { STEP_MS };
        race.ran_ms += pause_ms;
        race.now = Now::new(Duration::from_millis(race.ran_ms), NOW.plus_secs(race.ran_ms / 1_000));
    }
    println!(
        "simulate: {NODES} nodes took {} min of their time; their reports were verified in {:.1} s",
        race.ran_ms / 60_000,
        race.messages_secs
    );
    let mib = (resident_kib(std::process::id())? - before_kib) / 1_024.0;
    Ok((race.conductor_secs, mib))
}

impl Race {
    fn prepare() -> Result<Self> {
        let sample = Sample::new();
        let names: Vec<String> = (0..NODES).map(|number| format!("pi-{number}")).collect();
        let members: Vec<(&str, Option<AppReport>)> =
            names.iter().map(|name| (name.as_str(), Some(idle(1)))).collect();
        let fleet = sample.fleet(&members);
        let planned = sample.planned(PLAN, 1, |_| {});
        let plans = planned.verify(&sample.trust, &"web".parse()?)?;
        let now = Now::new(Duration::ZERO, NOW);
        let began = Instant::now();
        let conductor = Conductor::lay_out(&planned, plans, &fleet, 1, now);
        let conductor_secs = began.elapsed().as_secs_f64();
        let release = planned.release.digest();
        let waiting = fleet.nodes().keys().cloned().collect();
        Ok(Self {
            sample,
            fleet,
            conductor,
            release,
            now,
            ran_ms: 0,
            due: Vec::new(),
            waiting,
            conductor_secs,
            messages_secs: 0.0,
        })
    }

    fn step(&mut self, changed: &BTreeSet<NodeId>) {
        let began = Instant::now();
        let deeds = self.conductor.step(&self.fleet, Changed::Nodes(changed), self.now, &controller_key());
        self.conductor_secs += began.elapsed().as_secs_f64();
        for deed in deeds {
            let Deed::Publish(topic, payload) = deed else { continue };
            self.fleet.take(&topic, &payload);
            if matches!(topic.kind, schemas::topic::Kind::Release(..)) {
                self.hear();
            }
        }
    }

    /// Nodes for which the order is begin with it.
    fn hear(&mut self) {
        let orders = self.fleet.believed_orders().map(|ordered| &ordered.announced.order);
        let active = orders.filter(|order| order.state == OrderState::Active);
        let Some(audience) = active.map(|order| order.audience.clone()).next() else { return };
        let named: Vec<NodeId> = match &audience {
            Audience::Nodes(nodes) => {
                nodes.iter().filter(|node| self.waiting.contains(*node)).cloned().collect()
            }
            all => self.waiting.iter().filter(|node| all.includes(node)).cloned().collect(),
        };
        for node in named {
            self.waiting.remove(&node);
            self.due.push(node);
        }
    }

    /// Some nodes say how it ended, one of a hundred badly.
    fn report(&mut self) -> BTreeSet<NodeId> {
        let began = Instant::now();
        let from = self.due.len().saturating_sub(REPORTS_A_STEP);
        let said: BTreeSet<NodeId> = self.due.drain(from..).collect();
        for node in &said {
            let is_first = self.conductor.seat(node).is_some_and(|(wave, _)| wave == 0);
            let is_bad = node.as_str().ends_with("07") && !is_first;
            let verdict = if is_bad { Verdict::RolledBack } else { Verdict::Kept };
            let outcome = Outcome { release: self.release, ..outcome(self.conductor.first().0, verdict) };
            let payload = self.sample.report(node.as_str(), 2, vec![ended(outcome)]);
            self.fleet.take(&self.sample.topic(node.as_str(), NodeTopic::Report), &payload);
        }
        self.messages_secs += began.elapsed().as_secs_f64();
        said
    }
}
