//! One random history: chaos, then calm, with the rules checked after every step.

use std::{collections::BTreeMap, fmt};

use machine::Bus::{BrokerDown, Connected, Unreachable};
use schemas::{
    report::{Outcome, Verdict},
    status::Phase,
};

use super::{
    apps::{Behaviour, Behaviours as _},
    catalog::{BEST, Catalog, OrderKey, What, When},
    world::{Outages, Step, World},
};

/// Longest pauses between two things that happen by chance: a moment, a trial, an outage.
const PAUSES_MS: [u64; 4] = [1_000, 8_000, 60_000, 1_200_000];
/// After so long without chaos everything must have ended.
const CALM_MS: u64 = 3_600_000;

/// What a history saw.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Inputs and timeouts that the machine handled.
    pub steps: u64,
    /// How often the power failed.
    pub power_cuts: u64,
    /// How often the worker was killed.
    pub kills: u64,
    /// What was told, by name.
    pub told: BTreeMap<String, u64>,
}

/// A history that broke a rule.
#[derive(Debug)]
pub struct Broken {
    /// What it follows from.
    pub seed: u64,
    /// The rule.
    pub rule: String,
    /// Everything that happened, if it was asked for.
    pub story: Vec<String>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "history {} broke a rule: {}", self.seed, self.rule)?;
        self.story.iter().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl Summary {
    /// Adds what another history saw.
    pub fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.power_cuts += other.power_cuts;
        self.kills += other.kills;
        for (name, count) in &other.told {
            *self.told.entry(name.clone()).or_default() += count;
        }
    }
}

/// Runs the history of `seed`.
///
/// # Errors
/// When a rule is broken; with the whole story, which is told only then.
pub fn run(seed: u64, catalog: &mut Catalog) -> Result<Summary, Broken> {
    match play(seed, catalog, false) {
        Ok(summary) => Ok(summary),
        Err(_) => Err(play(seed, catalog, true).err().unwrap_or_else(|| Broken {
            seed,
            rule: "the history does not follow from its seed".into(),
            story: Vec::new(),
        })),
    }
}

fn play(seed: u64, catalog: &mut Catalog, tell: bool) -> Result<Summary, Broken> {
    let mut world = World::new(seed, catalog, tell);
    match world.chaos().and_then(|()| world.calm()) {
        Ok(()) => Ok(world.summary),
        Err(rule) => Err(Broken { seed, rule, story: world.story.unwrap_or_default() }),
    }
}

impl World<'_> {
    fn chaos(&mut self) -> Step {
        self.pump()?;
        self.look_at_bus()?;
        for _ in 0..self.rng.between(4, 40) {
            let longest_ms = self.rng.pick(&PAUSES_MS);
            let until_ms = self.now_ms + self.rng.between(0, longest_ms);
            self.live_until(until_ms)?;
            self.act()?;
        }
        Ok(())
    }

    /// Something happens by chance.
    fn act(&mut self) -> Step {
        let until_ms = self.now_ms + self.rng.between(0, 3_000_000);
        match self.rng.below(100) {
            0..45 => {
                let order = self.bus.publish_any(self.now_ms, &mut self.rng);
                self.tell(|| format!("publish {order:?}"));
            }
            45..57 => return self.cut_power(),
            57..67 => return self.kill_worker(),
            67..82 => {
                let states = [Connected, Connected, BrokerDown, Unreachable];
                self.outside = self.rng.pick(&states);
                return self.look_at_bus();
            }
            82..85 => self.subscribe(),
            85..89 => return self.hold(),
            89..91 => return self.ask(),
            91..92 => self.outages.store_ms = until_ms,
            92..94 => self.outages.disk_ms = until_ms,
            94..98 => self.node.ill_until_ms = until_ms,
            98..99 if !self.node.disk.link_lost => {
                self.tell(|| "the journal is lost".to_owned());
                self.node.disk.journal = None;
                self.node.ended.clear();
                self.node.is_held_by_hand = false;
                return self.kill_worker();
            }
            // Without both nobody could know what is installed.
            _ if self.node.disk.journal.is_some() => {
                self.tell(|| "the symlink is lost".to_owned());
                (self.node.disk.link, self.node.disk.link_lost) = (None, true);
                return self.kill_worker();
            }
            _ => {}
        }
        let (outages, ill_until_ms) = (self.outages, self.node.ill_until_ms);
        self.tell(|| format!("{outages:?}, ill until {ill_until_ms}"));
        Ok(())
    }

    /// Nothing goes wrong any more: everything that was begun comes to its end.
    fn calm(&mut self) -> Step {
        (self.odds.faults, self.odds.cuts, self.outside) = (0, 0, Connected);
        (self.outages, self.node.ill_until_ms) = (Outages::default(), 0);
        self.tell(|| "calm".to_owned());
        self.node.holds.clear();
        self.tell_holds()?;
        // That ends a hold by hand, too.
        self.consent()?;
        self.look_at_bus()?;
        self.subscribe();
        self.live_until(self.now_ms + CALM_MS)?;
        if self.is_cut_off() {
            return Ok(());
        }
        self.check_end()?;
        let best = OrderKey {
            revision: 0,
            release: BEST,
            group: 0,
            what: What::Run,
            when: When::Now,
            for_us: true,
            urgent: false,
            continues: None,
        };
        let best = self.bus.publish(best, self.now_ms);
        self.tell(|| format!("publish the best release: {best:?}"));
        self.live_until(self.now_ms + CALM_MS)?;
        self.check_best(best)
    }

    /// With everything calm the node rests, runs what is committed, and has answered the order that it should obey.
    fn check_end(&self) -> Step {
        let report = self.node.machine.report();
        let saved = self.node.machine.saved();
        let behaviour = saved.current.as_ref().map(|slot| self.catalog.behaviour(&slot.release));
        let steady = behaviour.is_some_and(Behaviour::stays_up);
        if report.phase != Phase::Idle || steady && self.node.flight.is_some() {
            return Err(format!("does not come to rest: {:?}", report.target));
        }
        if self.node.disk.journal.as_ref() != Some(saved) {
            return Err("the journal at rest is not on the disk".into());
        }
        if steady && self.node.running.is_none() {
            return Err("what is committed does not run".into());
        }
        let obeys = |order: &OrderKey| order.what == What::Run && order.for_us;
        let Some(highest) = self.bus.retained().filter(obeys).max_by_key(|order| order.revision) else {
            return Ok(());
        };
        if highest.revision < saved.obeyed.0 {
            return Ok(());
        }
        let release = self.catalog.digest(highest.release);
        let first = highest.continues.unwrap_or(highest.revision);
        let about = |outcome: &&Outcome| {
            let of_series = (first..highest.revision).contains(&outcome.revision.0);
            let ended = of_series && outcome.release == release && outcome.verdict.was_begun();
            outcome.revision.0 == highest.revision || ended
        };
        match saved.outcomes.iter().find(about) {
            None => Err(format!("order {} got no verdict", highest.revision)),
            Some(outcome) if outcome.verdict != Verdict::Kept && outcome.reason.is_none() => {
                Err(format!("order {} failed for no reason", highest.revision))
            }
            Some(_) => Ok(()),
        }
    }

    /// Whatever happened before, a good release that is ordered last is what runs in the end.
    fn check_best(&self, best: OrderKey) -> Step {
        let wanted = self.catalog.digest(best.release);
        let running = self.node.running.as_ref().map(|running| running.slot.release);
        let installed = self.node.machine.report().installed.map(|installed| installed.release);
        if (running, installed) != (Some(wanted), Some(wanted)) {
            return Err(format!("the best release is not what runs: {:?}", self.node.machine.report()));
        }
        Ok(())
    }
}
