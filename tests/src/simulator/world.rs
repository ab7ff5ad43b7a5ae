//! Everything around the machine, and the order in which it happens.

use machine::{
    Bus::{self as BusState, BrokerDown, Connected, Unreachable},
    Effect, Hold, Input,
};
use schemas::{hold::HoldCode, reason::Reason, status::EventType};

use super::{
    apps::Behaviour,
    bus::Bus,
    catalog::Catalog,
    disk::Disk,
    effects::fault,
    history::Summary,
    node::{Flight, Home, Node, Watch},
    rng::Rng,
    story,
};

/// More steps at one moment than any moment needs.
const MAX_STEPS_AT_ONCE: u32 = 300;

/// How wild a history is, in thousandths.
pub(crate) struct Odds {
    pub(crate) faults: u64,
    /// At each border between two effects.
    pub(crate) cuts: u64,
    /// The node has a guard, and a unit that starts the app.
    pub(crate) guarded: bool,
    pub(crate) unit: bool,
}

/// What does not work for a while.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Outages {
    pub(crate) store_ms: u64,
    pub(crate) disk_ms: u64,
}

/// A node and all that it depends on.
pub(crate) struct World<'a> {
    pub(crate) rng: Rng,
    pub(crate) catalog: &'a mut Catalog,
    pub(crate) odds: Odds,
    pub(crate) outages: Outages,
    pub(crate) now_ms: u64,
    pub(crate) node: Node,
    pub(crate) bus: Bus,
    /// The state of the bus for a node that is not cut off.
    pub(crate) outside: BusState,
    pub(crate) summary: Summary,
    pub(crate) story: Option<Vec<String>>,
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

/// How a step ended, with the rule that it broke.
pub(crate) type Step = Result<(), String>;

impl<'a> World<'a> {
    pub(crate) fn new(seed: u64, catalog: &'a mut Catalog, tell: bool) -> Self {
        let mut rng = Rng::new(seed);
        let odds = Odds {
            faults: rng.pick(&[0, 0, 20, 150]),
            cuts: rng.pick(&[0, 0, 5, 30, 100]),
            guarded: rng.permille(600),
            unit: rng.permille(500),
        };
        Self {
            rng,
            catalog,
            odds,
            outages: Outages::default(),
            now_ms: 0,
            node: Node::new(Home::default(), Disk::default(), 0),
            bus: Bus::default(),
            outside: Connected,
            summary: Summary::default(),
            story: tell.then(Vec::new),
            steps_at_once: 0,
        }
    }

    /// Lets everything happen that happens before `end_ms`.
    pub(crate) fn live_until(&mut self, end_ms: u64) -> Step {
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
                self.node.note_told(&order);
                self.input(Input::Announced(Box::new(announced)))?;
                self.node.note_newest(&order);
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

    pub(crate) fn pump(&mut self) -> Step {
        self.node.note_begun()?;
        if self.node.is_held() {
            *self.told("held") += 1;
        }
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

    pub(crate) fn cut_power(&mut self) -> Step {
        self.summary.power_cuts += 1;
        self.tear();
        self.now_ms += self.rng.between(1_000, 600_000);
        let guarded = self.odds.guarded;
        let unit = self.odds.unit;
        self.tell(|| format!("power cut; boot, guard: {guarded}, unit: {unit}"));
        self.node.boot(self.now_ms, guarded, unit, self.catalog);
        self.begin_session()
    }

    pub(crate) fn kill_worker(&mut self) -> Step {
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
        self.tell_holds()?;
        self.look_at_bus()
    }

    /// Other things hold the node back than before, or nothing.
    pub(crate) fn hold(&mut self) -> Step {
        let odds = self.rng.pick(&[0, 0, 200, 600]);
        self.node.holds = HoldCode::ALL.into_iter().filter(|_| self.rng.permille(odds)).collect();
        self.tell_holds()
    }

    pub(crate) fn tell_holds(&mut self) -> Step {
        let hold = |code: &HoldCode| Hold { code: *code, text: code.to_string(), until: None };
        self.input(Input::Holds(self.node.holds.iter().map(hold).collect()))
    }

    /// Somebody asks for something.
    pub(crate) fn ask(&mut self) -> Step {
        match self.rng.below(4) {
            0 => {
                self.node.is_held_by_hand = true;
                self.input(Input::HoldByHand)
            }
            1 => {
                self.node.note_retry();
                self.input(Input::Retry)
            }
            2 => {
                self.node.note_going_back();
                self.input(Input::GoBack)
            }
            _ => self.consent(),
        }
    }

    /// Somebody says yes to what waits.
    pub(crate) fn consent(&mut self) -> Step {
        self.node.note_consent();
        self.input(Input::Consent)
    }

    /// Tells the machine how the bus is, when that changed.
    pub(crate) fn look_at_bus(&mut self) -> Step {
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

    pub(crate) fn subscribe(&mut self) {
        self.tell(|| "subscribe".to_owned());
        self.bus.subscribe(self.now_ms, &mut self.rng);
    }

    pub(crate) fn is_cut_off(&self) -> bool {
        self.node.running.as_ref().is_some_and(|running| running.behaviour == Behaviour::CutsOff)
    }

    fn count_told(&mut self, event: EventType, reason: Option<Reason>) {
        let reason = reason.map(|reason| format!(" {reason}")).unwrap_or_default();
        *self.told(&format!("{event:?}{reason}")) += 1;
    }

    fn told(&mut self, name: &str) -> &mut u64 {
        self.summary.told.entry(name.to_owned()).or_default()
    }

    pub(crate) fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(format!("{:>9.3} s  {}", self.now_ms as f64 / 1_000.0, line()));
        }
    }
}
