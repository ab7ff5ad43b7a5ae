//! The model node: a real machine, with a disk, a process and a watch on its health that are only pretended.

use std::collections::{BTreeMap, BTreeSet};

use machine::{Effect, Fault, Guarded, Health, Input, Machine, Now, Setup, Slot, Yield, guard};
use schemas::{
    hold::HoldCode,
    id::{AppId, Digest, GroupId, NodeId, Revision},
    order::{Order, OrderState},
    release::PartKind,
    status::Phase,
};

use super::{
    apps::{Behaviour, Behaviours},
    catalog::WALL,
    disk::Disk,
};

/// A node, switched on.
pub(crate) struct Node {
    home: Home,
    pub(crate) machine: Machine,
    pub(crate) disk: Disk,
    pub(crate) running: Option<Running>,
    pub(crate) watch: Option<Watch>,
    pub(crate) flight: Option<Flight>,
    pub(crate) evidence: Option<Evidence>,
    /// What the machine knows about the bus.
    pub(crate) bus: Option<machine::Bus>,
    /// The last store failed but was on the disk all the same: the journal is ahead of the machine.
    pub(crate) torn: bool,
    /// That happened at least once, so the symlink may have decided what is committed.
    pub(crate) was_torn: bool,
    /// Newest orders of their groups that are for this node, since the worker started.
    newest: BTreeMap<GroupId, Order>,
    /// Every order that the machine was told of.
    orders: BTreeMap<Revision, Order>,
    /// What holds it back.
    pub(crate) holds: Vec<HoldCode>,
    /// Releases that somebody said yes to while they waited.
    consented: BTreeSet<Digest>,
    /// Somebody wants no other release until there is such a yes.
    pub(crate) is_held_by_hand: bool,
    /// What somebody asked to have tried once more, or to go back to.
    asked_for: BTreeSet<(Revision, Digest)>,
    /// The order that was begun last, since the worker started.
    begun: Option<Revision>,
    /// The order that was begun before the worker started.
    accepted: Revision,
    /// Orders that were begun and came to their end, with their release, as a journal on the disk said.
    pub(crate) ended: BTreeSet<(Revision, Digest)>,
    /// Whatever runs answers its checks badly until then.
    pub(crate) ill_until_ms: u64,
    /// Its wall clock is so far ahead.
    pub(crate) ahead_secs: i64,
    boot: u32,
    /// When the worker started.
    started_ms: u64,
}

/// Who a model node is.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    pub(crate) node: NodeId,
    pub(crate) app: AppId,
    pub(crate) platform: String,
}

/// The app's process.
#[derive(Debug, Clone)]
pub(crate) struct Running {
    pub(crate) slot: Slot,
    pub(crate) behaviour: Behaviour,
    pub(crate) since_ms: u64,
}

/// The checks that are asked.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    pub(crate) slot: Slot,
    pub(crate) told: Option<bool>,
}

/// The effect that is being carried out.
#[derive(Debug, Clone)]
pub(crate) struct Flight {
    pub(crate) effect: Effect,
    pub(crate) ends_ms: u64,
    pub(crate) result: Result<Yield, Fault>,
    /// Whether it writes what it should; with a bad result too, now and then.
    pub(crate) writes: bool,
}

/// What the model itself saw of the release that was started last.
#[derive(Debug, Clone)]
pub(crate) struct Evidence {
    pub(crate) release: Digest,
    pub(crate) healthy_since_ms: Option<u64>,
    pub(crate) proved: bool,
}

impl Node {
    /// A node that was switched on at `now_ms`, with what is on its disk.
    pub(crate) fn new(home: Home, disk: Disk, now_ms: u64) -> Self {
        let now = Now { mono_ms: 0, wall: WALL.plus_secs(now_ms / 1_000) };
        Self {
            machine: Machine::start(home.setup(0), disk.journal.clone(), disk.active(), now),
            home,
            disk,
            running: None,
            watch: None,
            flight: None,
            evidence: None,
            bus: None,
            torn: false,
            was_torn: false,
            newest: BTreeMap::new(),
            orders: BTreeMap::new(),
            holds: Vec::new(),
            consented: BTreeSet::new(),
            is_held_by_hand: false,
            asked_for: BTreeSet::new(),
            begun: None,
            accepted: Revision::default(),
            ended: BTreeSet::new(),
            ill_until_ms: 0,
            ahead_secs: 0,
            boot: 0,
            started_ms: now_ms,
        }
    }

    /// The time as the machine sees it.
    pub(crate) fn now(&self, now_ms: u64) -> Now {
        Now {
            mono_ms: now_ms - self.started_ms,
            wall: schemas::time::UnixTime((WALL.0 + now_ms / 1_000).saturating_add_signed(self.ahead_secs)),
        }
    }

    /// The first order of the series of an order.
    pub(crate) fn first(&self, revision: Revision) -> Revision {
        self.orders.get(&revision).map_or(revision, Order::first)
    }

    /// Takes note of how orders ended, as the journal on the disk says it.
    pub(crate) fn note_ended(&mut self) {
        let outcomes = self.disk.journal.iter().flat_map(|saved| &saved.outcomes);
        let begun = outcomes.filter(|outcome| outcome.verdict.was_begun());
        self.ended.extend(begun.map(|outcome| (outcome.revision, outcome.release)));
    }

    /// Takes note of an order that the machine is about to be told of.
    pub(crate) fn note_told(&mut self, order: &Order) {
        self.orders.insert(order.revision, order.clone());
    }

    /// Takes note of a yes to what waits.
    pub(crate) fn note_consent(&mut self) {
        self.is_held_by_hand = false;
        let report = self.machine.report();
        let target = report.target.filter(|_| report.phase == Phase::Deferred);
        let order = target.and_then(|target| self.orders.get(&target.revision));
        self.consented.extend(order.map(|order| order.release));
    }

    /// Takes note of the wish to have the newest order tried once more.
    pub(crate) fn note_retry(&mut self) {
        let newest = self.newest.values().max_by_key(|order| order.revision);
        if let Some(order) = newest.filter(|order| order.state == OrderState::Active) {
            self.asked_for.insert((order.revision, order.release));
            self.consented.insert(order.release);
        }
    }

    /// Takes note of the wish to go back to what ran before.
    pub(crate) fn note_going_back(&mut self) {
        let previous = self.machine.saved().previous.as_ref();
        self.asked_for.extend(previous.map(|slot| (slot.revision, slot.release)));
    }

    /// Whether somebody asked for this, so that no order has to.
    pub(crate) fn is_asked_for(&self, slot: &Slot) -> bool {
        self.asked_for.contains(&(slot.revision, slot.release))
    }

    /// Takes note of the order that is prepared now.
    ///
    /// # Errors
    /// When it was begun although something holds the node back.
    pub(crate) fn note_begun(&mut self) -> Result<(), String> {
        let report = self.machine.report();
        let prepares = matches!(report.phase, Phase::Fetching | Phase::Staging | Phase::Staged);
        let Some(target) = report.target.filter(|_| prepares) else { return Ok(()) };
        if self.begun.replace(target.revision) == Some(target.revision) {
            return Ok(());
        }
        let Some(order) = self.orders.get(&target.revision) else { return Ok(()) };
        if order.state == OrderState::Active && order.revision == self.accepted {
            return Ok(());
        }
        let by_hand = self.is_held_by_hand.then_some(HoldCode::Consent);
        match self.holds.iter().chain(&by_hand).find(|code| self.is_held_by(order, **code)) {
            Some(code) => Err(format!("order {} is begun while {code} holds the node back", order.revision)),
            None => Ok(()),
        }
    }

    /// Whether something that waits is held back.
    pub(crate) fn is_held(&self) -> bool {
        self.machine.report().target.is_some_and(|target| target.hold.is_some())
    }

    fn is_held_by(&self, order: &Order, code: HoldCode) -> bool {
        let before = self.machine.saved().previous.as_ref().map(|slot| slot.release);
        let is_back = matches!(order.state, OrderState::Withdrawn { .. }) || before == Some(order.release);
        match code {
            HoldCode::Lock => true,
            _ if is_back => false,
            HoldCode::Window => !order.policy.urgent,
            HoldCode::Consent => !order.policy.urgent && !self.consented.contains(&order.release),
            _ => true,
        }
    }

    /// Takes note of an order, if the machine did not refuse it as a replay.
    pub(crate) fn note_newest(&mut self, order: &Order) {
        let seen = self.machine.saved().seen.get(&order.group).map(|seen| seen.revision);
        if seen != Some(order.revision) {
            return;
        }
        self.newest.remove(&order.group);
        if order.audience.includes(&self.home.node) {
            self.newest.insert(order.group.clone(), order.clone());
        }
    }

    /// Takes note of the groups that it is in, and forgets the orders of others.
    pub(crate) fn note_groups(&mut self, groups: &BTreeSet<GroupId>) {
        self.newest.retain(|group, _| groups.contains(group));
    }

    /// The highest order that takes another back.
    pub(crate) fn withdrawn(&self) -> Revision {
        let withdrawn = |order: &&Order| matches!(order.state, OrderState::Withdrawn { .. });
        self.newest.values().filter(withdrawn).map(|order| order.revision).max().unwrap_or_default()
    }

    /// Whether an order lets the node go back.
    pub(crate) fn goes_back(&self, revision: Revision) -> bool {
        let reverts = |order: &Order| matches!(order.state, OrderState::Withdrawn { .. });
        self.newest.values().any(|order| order.revision == revision && reverts(order))
    }

    /// The highest order under which `slot` is prepared: its own, or a later one of the series.
    pub(crate) fn stands_under(&self, slot: &Slot) -> Revision {
        let continues = |order: &&Order| {
            order.state == OrderState::Active
                && order.release == slot.release
                && (order.first()..order.revision).contains(&slot.revision)
        };
        let later = self.newest.values().filter(continues).map(|order| order.revision);
        later.max().unwrap_or_default().max(slot.revision)
    }

    /// When the machine wants to be called.
    pub(crate) fn timeout_ms(&self) -> Option<u64> {
        self.machine.poll_timeout().map(|ms| ms + self.started_ms)
    }

    /// The worker starts again on what is on the disk; what runs goes on.
    pub(crate) fn start_worker(&mut self, now_ms: u64) {
        (self.started_ms, self.bus, self.watch, self.flight, self.evidence) =
            (now_ms, None, None, None, None);
        self.torn = false;
        self.newest.clear();
        self.begun = None;
        self.accepted = self.disk.journal.as_ref().map(|saved| saved.obeyed).unwrap_or_default();
        // What was not on the disk yet is forgotten.
        self.is_held_by_hand = self.disk.journal.as_ref().is_some_and(|saved| saved.held);
        let (journal, active) = (self.disk.journal.clone(), self.disk.active());
        self.machine = Machine::start(self.home.setup(self.boot), journal, active, self.now(now_ms));
    }

    /// The node boots: the guard, then perhaps the app by itself, then the worker.
    pub(crate) fn boot(&mut self, now_ms: u64, guarded: bool, unit: bool, apps: &dyn Behaviours) {
        self.boot += 1;
        self.running = None;
        if guarded {
            self.run_guard();
        }
        // Without a guard an app that starts by itself is not counted, so only guarded nodes have one.
        if guarded && unit {
            self.running = self.booted_slot().map(|slot| Running::new(slot, now_ms, apps));
        }
        self.start_worker(now_ms);
    }

    /// What the checks of the watched slot say now.
    pub(crate) fn health(&self, now_ms: u64) -> Option<bool> {
        let watch = self.watch.as_ref().filter(|watch| !watch.slot.part.checks.is_empty())?;
        let running = self.running.as_ref().filter(|running| running.slot.tree() == watch.slot.tree());
        let Some(running) = running.filter(|_| now_ms >= self.ill_until_ms) else { return Some(false) };
        running.behaviour.health(now_ms - running.since_ms)
    }

    /// When the checks of the watched slot may say something new.
    pub(crate) fn health_ms(&self, now_ms: u64) -> Option<u64> {
        let watch = self.watch.as_ref()?;
        if self.health(now_ms).is_some_and(|ok| watch.told != Some(ok)) {
            return Some(now_ms);
        }
        if now_ms < self.ill_until_ms {
            return Some(self.ill_until_ms);
        }
        let running = self.running.as_ref()?;
        running.behaviour.next_health_ms(now_ms - running.since_ms).map(|ms| running.since_ms + ms)
    }

    /// The news of the watched slot's checks, when there is any.
    pub(crate) fn take_health(&mut self, now_ms: u64) -> Option<Input> {
        let ok = self.health(now_ms)?;
        let watch = self.watch.as_mut().filter(|watch| watch.told != Some(ok))?;
        watch.told = Some(ok);
        let tree = watch.slot.tree();
        if let Some(evidence) = &mut self.evidence {
            evidence.saw_health(ok, now_ms);
        }
        Some(Input::Health(Health { tree, ok, text: String::new(), log_tail: Vec::new() }))
    }

    /// When the app ends by itself.
    pub(crate) fn exit_ms(&self) -> Option<u64> {
        let running = self.running.as_ref()?;
        running.behaviour.exit_ms().map(|ms| running.since_ms + ms)
    }

    fn run_guard(&mut self) {
        let Some(journal) = self.disk.journal.clone() else { return };
        let active = self.disk.active();
        match guard(journal, active.as_ref(), &boot_id(self.boot)) {
            Guarded::Leave => {}
            Guarded::Store(saved) => self.disk.journal = Some(*saved),
            Guarded::SwitchBack { saved, to } => {
                self.disk.journal = Some(*saved);
                (self.disk.link, self.disk.link_lost) = (to.map(|slot| slot.tree()), false);
            }
        }
    }

    /// What a unit of the node starts: the files behind `current`, with the settings of the last start.
    fn booted_slot(&self) -> Option<Slot> {
        let active = self.disk.active()?;
        let committed = self.disk.journal.as_ref().and_then(|journal| journal.current.clone());
        Some(committed.filter(|committed| committed.tree() == active.tree()).unwrap_or(active))
    }
}

impl Running {
    pub(crate) fn new(slot: Slot, since_ms: u64, apps: &dyn Behaviours) -> Self {
        let behaviour = apps.behaviour(&slot.release);
        Self { slot, behaviour, since_ms }
    }
}

impl Evidence {
    pub(crate) fn new(slot: &Slot, now_ms: u64) -> Self {
        let healthy_since_ms = slot.part.checks.is_empty().then_some(now_ms);
        Self { release: slot.release, healthy_since_ms, proved: false }
    }

    fn saw_health(&mut self, ok: bool, now_ms: u64) {
        if ok {
            self.healthy_since_ms.get_or_insert(now_ms);
        } else {
            (self.healthy_since_ms, self.proved) = (None, false);
        }
    }
}

impl Default for Home {
    fn default() -> Self {
        Self {
            node: "pi-1".parse().expect("is a node name"),
            app: "web".parse().expect("is an app name"),
            platform: "linux/aarch64".into(),
        }
    }
}

impl Home {
    fn setup(&self, boot: u32) -> Setup {
        Setup {
            node: self.node.clone(),
            app: self.app.clone(),
            platform: self.platform.clone(),
            kinds: vec![PartKind::Tree],
            boot: boot_id(boot),
        }
    }
}

fn boot_id(boot: u32) -> String {
    format!("boot-{boot}")
}
