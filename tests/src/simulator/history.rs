//! One random history: chaos, then calm, with the rules checked after every step.

use std::{collections::BTreeMap, fmt};

use machine::{
    Bus::{self as BusState, BrokerDown, Connected, Unreachable},
    Effect, Input,
};
use schemas::{
    reason::Reason,
    report::Verdict,
    status::{EventType, Phase},
};

use super::{
    apps::Behaviour,
    bus::Bus,
    catalog::{BEST, Catalog, OrderKey, What, When},
    effects::fault,
    node::{Flight, Node, Watch},
    rng::Rng,
    story,
};

/// Longest pauses between two things that happen by chance: a moment, a trial, an outage.
const PAUSES_MS: [u64; 4] = [1_000, 8_000, 60_000, 1_200_000];
/// After so long without chaos everything must have ended.
const CALM_MS: u64 = 3_600_000;
/// More steps at one moment than any moment needs.
const MAX_STEPS_AT_ONCE: u32 = 300;

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
    match History::new(seed, catalog, false).play() {
        Ok(summary) => Ok(summary),
        Err(_) => Err(History::new(seed, catalog, true).play().err().unwrap_or_else(|| Broken {
            seed,
            rule: "the history does not follow from its seed".into(),
            story: Vec::new(),
        })),
    }
}

/// How wild a history is, in thousandths.
struct Odds {
    faults: u64,
    /// At each border between two effects.
    cuts: u64,
    /// The node has a guard, and a unit that starts the app.
    guarded: bool,
    unit: bool,
}

/// What does not work for a while.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outages {
    store_ms: u64,
    disk_ms: u64,
}

struct History<'a> {
    seed: u64,
    rng: Rng,
    catalog: &'a mut Catalog,
    odds: Odds,
    outages: Outages,
    now_ms: u64,
    node: Node,
    bus: Bus,
    /// The state of the bus for a node that is not cut off.
    outside: BusState,
    summary: Summary,
    story: Option<Vec<String>>,
    steps_at_once: u32,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Next {
    Effect,
    Message,
    Health,
    Exit,
    Timeout,
}

type Step = Result<(), String>;

impl<'a> History<'a> {
    fn new(seed: u64, catalog: &'a mut Catalog, tell: bool) -> Self {
        let mut rng = Rng::new(seed);
        let odds = Odds {
            faults: rng.pick(&[0, 0, 20, 150]),
            cuts: rng.pick(&[0, 0, 5, 30, 100]),
            guarded: rng.permille(600),
            unit: rng.permille(500),
        };
        Self {
            seed,
            rng,
            catalog,
            odds,
            outages: Outages::default(),
            now_ms: 0,
            node: Node::new(),
            bus: Bus::default(),
            outside: Connected,
            summary: Summary::default(),
            story: tell.then(Vec::new),
            steps_at_once: 0,
        }
    }

    fn play(mut self) -> Result<Summary, Broken> {
        match self.chaos().and_then(|()| self.calm()) {
            Ok(()) => Ok(self.summary),
            Err(rule) => Err(Broken { seed: self.seed, rule, story: self.story.unwrap_or_default() }),
        }
    }

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
            82..87 => self.subscribe(),
            87..91 => self.outages.store_ms = until_ms,
            91..94 => self.outages.disk_ms = until_ms,
            94..98 => self.node.ill_until_ms = until_ms,
            98..99 if !self.node.disk.link_lost => {
                self.tell(|| "the journal is lost".to_owned());
                self.node.disk.journal = None;
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
        self.look_at_bus()?;
        self.subscribe();
        self.live_until(self.now_ms + CALM_MS)?;
        if self.is_cut_off() {
            return Ok(());
        }
        self.check_end()?;
        let best =
            OrderKey { revision: 0, release: BEST, group: 0, what: What::Run, when: When::Now, for_us: true };
        let best = self.bus.publish(best, self.now_ms);
        self.tell(|| format!("publish the best release: {best:?}"));
        self.live_until(self.now_ms + CALM_MS)?;
        self.check_best(best)
    }

    /// Lets everything happen that happens before `end_ms`.
    fn live_until(&mut self, end_ms: u64) -> Step {
        while let Some((at_ms, next)) = self.next().filter(|(at_ms, _)| *at_ms <= end_ms) {
            self.steps_at_once = if at_ms > self.now_ms { 0 } else { self.steps_at_once + 1 };
            if self.steps_at_once > MAX_STEPS_AT_ONCE {
                return Err(format!("goes round in circles with {next:?}"));
            }
            self.now_ms = at_ms.max(self.now_ms);
            self.happen(next)?;
        }
        self.now_ms = self.now_ms.max(end_ms);
        Ok(())
    }

    fn next(&self) -> Option<(u64, Next)> {
        let connected = self.node.bus == Some(Connected);
        [
            (self.node.flight.as_ref().map(|flight| flight.ends_ms), Next::Effect),
            (self.bus.arrives_ms().filter(|_| connected), Next::Message),
            (self.node.health_ms(self.now_ms), Next::Health),
            (self.node.exit_ms(), Next::Exit),
            (self.node.timeout_ms(), Next::Timeout),
        ]
        .into_iter()
        .filter_map(|(at_ms, next)| Some((at_ms?, next)))
        .min()
    }

    fn happen(&mut self, next: Next) -> Step {
        match next {
            Next::Effect => self.end_effect(),
            Next::Message => {
                let Some(order) = self.bus.take() else { return Ok(()) };
                let announced = self.catalog.announced(order);
                let order = announced.order.clone();
                self.input(Input::Announced(Box::new(announced)))?;
                self.node.note_withdrawn(&order);
                Ok(())
            }
            Next::Health => match self.node.take_health(self.now_ms) {
                Some(health) => self.input(health),
                None => Ok(()),
            },
            Next::Exit => {
                self.node.running = None;
                self.node.evidence = None;
                self.look_at_bus()?;
                self.input(Input::Exited(fault(Reason::Exited, false)))
            }
            Next::Timeout => {
                self.summary.steps += 1;
                self.node.machine.handle_timeout(self.node.now(self.now_ms));
                self.pump()
            }
        }
    }

    /// Gives the machine an input, takes its effects, and checks everything.
    fn input(&mut self, input: Input) -> Step {
        self.tell(|| story::input(&input));
        self.summary.steps += 1;
        self.node.machine.handle(input, self.node.now(self.now_ms));
        self.pump()
    }

    fn pump(&mut self) -> Step {
        while let Some(effect) = self.node.machine.poll_effect() {
            self.tell(|| story::effect(&effect));
            self.node.check_effect(&effect, self.now_ms)?;
            match effect {
                Effect::Watch(slot) => self.node.watch = Some(Watch { slot: *slot, told: None }),
                Effect::Cancel => self.cancel(),
                Effect::Tell { event, reason, .. } => self.count_told(event, reason),
                Effect::Refuse(refused) => *self.told(refused.reason.code()) += 1,
                effect => {
                    if self.rng.permille(self.odds.cuts) {
                        return self.cut_power();
                    }
                    let faults = self.faults(&effect);
                    let flight = Flight::new(effect, self.now_ms, faults, self.catalog, &mut self.rng);
                    self.node.flight = Some(flight);
                }
            }
        }
        self.node.check()
    }

    /// How many of a thousand effects of this kind fail now.
    fn faults(&self, effect: &Effect) -> u64 {
        let writes = matches!(effect, Effect::Persist(_) | Effect::Stage(_));
        let store_down = matches!(effect, Effect::Fetch(_)) && self.now_ms < self.outages.store_ms;
        if store_down {
            1_000
        } else if writes && self.now_ms < self.outages.disk_ms {
            800
        } else {
            self.odds.faults
        }
    }

    fn end_effect(&mut self) -> Step {
        let Some(flight) = self.node.flight.take() else { return Ok(()) };
        self.node.carry_out(&flight, self.now_ms, self.catalog)?;
        self.node.check()?;
        if self.rng.permille(self.odds.cuts) {
            return self.cut_power();
        }
        self.input(Input::Done(flight.result))?;
        self.look_at_bus()
    }

    fn cancel(&mut self) {
        let now_ms = self.now_ms;
        if let Some(flight) = &mut self.node.flight
            && self.rng.permille(700)
        {
            (flight.ends_ms, flight.writes) = (now_ms, false);
            flight.result = Err(fault(Reason::Unknown, true));
        }
    }

    fn cut_power(&mut self) -> Step {
        self.summary.power_cuts += 1;
        self.tear();
        self.now_ms += self.rng.between(1_000, 600_000);
        let guarded = self.odds.guarded;
        let unit = self.odds.unit;
        self.tell(|| format!("power cut; boot, guard: {guarded}, unit: {unit}"));
        self.node.boot(self.now_ms, guarded, unit, self.catalog);
        self.begin_session()
    }

    fn kill_worker(&mut self) -> Step {
        self.summary.kills += 1;
        self.tear();
        self.tell(|| "worker killed".to_owned());
        self.node.start_worker(self.now_ms);
        self.begin_session()
    }

    /// The effect in flight is left at any point.
    fn tear(&mut self) {
        let Some(flight) = self.node.flight.take() else { return };
        self.node.disk.tear(&flight.effect, &mut self.rng);
        if matches!(flight.effect, Effect::Stop(_)) && self.rng.permille(500) {
            self.node.running = None;
        }
    }

    fn begin_session(&mut self) -> Step {
        self.bus.lose_wire();
        self.pump()?;
        self.look_at_bus()
    }

    /// Tells the machine how the bus is, when that changed.
    fn look_at_bus(&mut self) -> Step {
        let state = if self.is_cut_off() { Unreachable } else { self.outside };
        if self.node.bus == Some(state) {
            return Ok(());
        }
        self.node.bus = Some(state);
        match state {
            Connected => self.subscribe(),
            BrokerDown | Unreachable => self.bus.lose_wire(),
        }
        self.input(Input::Bus(state))
    }

    fn subscribe(&mut self) {
        self.tell(|| "subscribe".to_owned());
        self.bus.subscribe(self.now_ms, &mut self.rng);
    }

    fn is_cut_off(&self) -> bool {
        self.node.running.as_ref().is_some_and(|running| running.behaviour == Behaviour::CutsOff)
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
        let about = |outcome: &&schemas::report::Outcome| outcome.revision.0 == highest.revision;
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

    fn count_told(&mut self, event: EventType, reason: Option<Reason>) {
        let reason = reason.map(|reason| format!(" {reason}")).unwrap_or_default();
        *self.told(&format!("{event:?}{reason}")) += 1;
    }

    fn told(&mut self, name: &str) -> &mut u64 {
        self.summary.told.entry(name.to_owned()).or_default()
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>9.3} s  {}", self.now_ms as f64 / 1_000.0, line()));
        }
    }
}
