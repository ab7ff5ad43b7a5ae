//! What happens on the devices of a simulated fleet.

use std::{collections::BTreeSet, rc::Rc};

use machine::{Effect, Hold, Input};
use schemas::{
    hold::HoldCode,
    id::{AppId, Digest},
    reason::Reason,
    record::Record,
    report::Refusal,
    seal::Signed,
    status::EventType,
    topic::{Kind, NodeTopic, Topic},
};

use super::{
    device::{Device, Habits, Next, cancelled, step_name},
    office,
    world::{Step, World},
};
use crate::{
    simulator::{
        apps::Behaviour,
        catalog::WALL,
        disk::Disk,
        effects::fault,
        node::{Flight, Home, Node, Watch},
    },
    timeline::{self, Voice},
};

/// Several changes that come together give one report.
const GATHER_MS: u64 = 2_000;
/// Fetches that take long say so often how far they are.
const PROGRESS_MS: u64 = 120_000;

impl World {
    /// A message reaches a device.
    pub(super) fn hear(&mut self, device: usize, topic: &Topic, payload: &Rc<[u8]>) -> Step {
        match &topic.kind {
            Kind::Release(group, app) if self.devices[device].groups.contains(group) => {
                let Some(announced) = self.verify(topic, payload) else { return Ok(()) };
                self.ensure_app(device, app)?;
                let order = announced.order.clone();
                if let Some(node) = self.devices[device].apps.get_mut(app) {
                    node.note_told(&order);
                }
                self.feed(device, app, Input::Announced(Box::new((*announced).clone())))?;
                if let Some(node) = self.devices[device].apps.get_mut(app) {
                    node.note_newest(&order);
                }
                Ok(())
            }
            Kind::Node(_, NodeTopic::Record) => self.hear_record(device, payload),
            _ => Ok(()),
        }
    }

    fn hear_record(&mut self, device: usize, payload: &Rc<[u8]>) -> Step {
        if self.devices[device].heard.replace(payload.clone()).is_some_and(|known| known == *payload) {
            return Ok(());
        }
        let trust = &self.office.trust;
        let record = Signed::<Record>::from_bytes(payload).and_then(|signed| signed.verify(trust));
        let Ok(record) = record else { return Ok(()) };
        if record.seq.0 < self.devices[device].known_seq {
            return Ok(());
        }
        self.devices[device].known_seq = record.seq.0;
        let groups: Vec<_> = record.groups.iter().cloned().collect();
        let joined = groups.iter().any(|group| !self.devices[device].groups.contains(group));
        self.devices[device].groups = groups;
        if joined {
            let again = super::hub::Parcel::Again(super::hub::Peer::Device(device));
            self.hub.send(self.now_ms + GATHER_MS, again);
        }
        self.groups_are(device)
    }

    /// All machines of a device are told which groups it is in.
    fn groups_are(&mut self, device: usize) -> Step {
        let Device { groups, apps, .. } = &mut self.devices[device];
        let groups: BTreeSet<_> = groups.iter().cloned().collect();
        for node in apps.values_mut() {
            node.note_groups(&groups);
        }
        let apps: Vec<AppId> = apps.keys().cloned().collect();
        apps.iter().try_for_each(|app| self.feed(device, app, Input::Groups(groups.clone())))
    }

    /// An app of which a device hears for the first time.
    fn ensure_app(&mut self, device: usize, app: &AppId) -> Step {
        if self.devices[device].apps.contains_key(app) {
            return Ok(());
        }
        self.install(device, app, Disk::default())
    }

    /// An app with what is on the disk of it.
    pub(crate) fn install(&mut self, device: usize, app: &AppId, disk: Disk) -> Step {
        let of = &mut self.devices[device];
        let home = Home { node: of.name.clone(), app: app.clone(), platform: of.platform.clone() };
        of.apps.insert(app.clone(), Node::new(home, disk, self.now_ms));
        self.pump(device, app)?;
        self.tell_holds(device)?;
        if self.devices[device].link.session {
            return self.feed(device, app, Input::Bus(machine::Bus::Connected));
        }
        Ok(())
    }

    /// All machines of a device are told how the bus is.
    pub(super) fn bus_is(&mut self, device: usize, bus: machine::Bus) -> Step {
        let apps: Vec<AppId> = self.devices[device].apps.keys().cloned().collect();
        apps.iter().try_for_each(|app| self.feed(device, app, Input::Bus(bus)))
    }

    /// Somebody works on a device and has it wait, or not any more.
    pub(crate) fn lock(&mut self, device: usize, is_locked: bool) -> Step {
        if self.devices[device].trouble.locked != is_locked {
            let name = self.devices[device].name.clone();
            self.tell_done(&format!("{name}: {}", if is_locked { "locked" } else { "unlocked" }));
        }
        self.devices[device].trouble.locked = is_locked;
        self.tell_holds(device)
    }

    /// All machines of a device are told what holds it back.
    pub(crate) fn tell_holds(&mut self, device: usize) -> Step {
        let of = &mut self.devices[device];
        let holds = of.trouble.holds();
        let is_known = |node: &Node| node.holds == holds;
        if !of.link.powered || of.apps.values().all(is_known) {
            return Ok(());
        }
        of.apps.values_mut().for_each(|node| node.holds.clone_from(&holds));
        let hold = |code: &HoldCode| Hold { code: *code, text: code.to_string(), until: None };
        let input = Input::Holds(holds.iter().map(hold).collect());
        let apps: Vec<AppId> = self.devices[device].apps.keys().cloned().collect();
        apps.iter().try_for_each(|app| self.feed(device, app, input.clone()))
    }

    fn feed(&mut self, device: usize, app: &AppId, input: Input) -> Step {
        let now_ms = self.now_ms;
        if let Some(node) = self.devices[device].apps.get_mut(app) {
            if let Input::Bus(bus) = input {
                node.bus = Some(bus);
            }
            node.machine.handle(input, node.now(now_ms));
        }
        self.pump(device, app)
    }

    /// Whatever is due on a device happens.
    pub(super) fn happen(&mut self, device: usize) -> Step {
        let Some((_, next)) = self.devices[device].wake.clone() else { return Ok(()) };
        let now_ms = self.now_ms;
        match next {
            Next::Report => {
                self.report(device);
                Ok(())
            }
            Next::Progress => self.progress(device),
            Next::Effect(app) => self.end_effect(device, &app),
            Next::Health(app) => {
                let node = self.devices[device].apps.get_mut(&app);
                match node.and_then(|node| node.take_health(now_ms)) {
                    Some(health) => self.feed(device, &app, health),
                    None => self.pump(device, &app),
                }
            }
            Next::Exit(app) => {
                if let Some(node) = self.devices[device].apps.get_mut(&app) {
                    (node.running, node.evidence) = (None, None);
                }
                self.look_at_bus(device)?;
                self.feed(device, &app, Input::Exited(fault(Reason::Exited, false)))
            }
            Next::Timeout(app) => {
                if let Some(node) = self.devices[device].apps.get_mut(&app) {
                    let now = node.now(now_ms);
                    node.machine.handle_timeout(now);
                }
                self.pump(device, &app)
            }
        }
    }

    /// Takes the effects of a machine, and checks everything.
    pub(super) fn pump(&mut self, device: usize, app: &AppId) -> Step {
        let now_ms = self.now_ms;
        loop {
            let of = &mut self.devices[device];
            let Some(node) = of.apps.get_mut(app) else { return Ok(()) };
            let Some(effect) = node.machine.poll_effect() else { break };
            node.check_effect(&effect, now_ms).map_err(|rule| format!("{} {app}: {rule}", of.name))?;
            if let (Effect::Persist(next), Some(revision)) = (&effect, node.machine.under_way()) {
                let saved = node.machine.saved();
                if next.obeyed == revision && saved.obeyed < revision {
                    if let Some(code) = node.holds.first() {
                        return Err(format!("{} {app}: {revision} begins in spite of the {code}", of.name));
                    }
                    self.rules.begins((&of.name, &of.groups), app, revision, &saved.seen)?;
                }
            }
            match effect {
                Effect::Watch(slot) => node.watch = Some(Watch { slot: *slot, told: None }),
                Effect::Cancel => {
                    if let Some(flight) = &mut node.flight {
                        (flight.ends_ms, flight.writes, flight.result) = (now_ms, false, cancelled());
                    }
                }
                Effect::Tell { event, to, reason } => self.told(device, app, event, &to, reason)?,
                Effect::Refuse(refused) => {
                    let topic =
                        Kind::Release(refused.group, app.clone()).of(self.office.trust.fleet()).to_string();
                    let at = node.now(now_ms).wall;
                    let refusal = Refusal {
                        topic,
                        reason: refused.reason,
                        text: refused.text,
                        order: Some(refused.order),
                        attack: false,
                        times: 1,
                        at,
                    };
                    of.refuse(refusal);
                }
                effect => {
                    let habits = Habits { breaks: &self.breaks, node: &of.name };
                    let mut flight = Flight::new(effect, now_ms, 0, &habits, &mut self.rng);
                    of.trouble.hinder(&mut flight, now_ms, &self.missing);
                    of.progress_ms = of.trouble.slow_ms.map(|_| now_ms + PROGRESS_MS);
                    node.flight = Some(flight);
                }
            }
        }
        let of = &self.devices[device];
        if let Some(node) = of.apps.get(app) {
            node.check().map_err(|rule| format!("{} {app}: {rule}", of.name))?;
        }
        self.touch(device);
        Ok(())
    }

    /// Something may have changed on a device.
    pub(crate) fn touch(&mut self, device: usize) {
        let of = &mut self.devices[device];
        if of.link.powered && of.due_ms.is_none() {
            of.due_ms = Some(self.now_ms + GATHER_MS);
        }
        of.wake = of.next_ms(self.now_ms);
    }

    fn end_effect(&mut self, device: usize, app: &AppId) -> Step {
        let now_ms = self.now_ms;
        let of = &mut self.devices[device];
        let Some(node) = of.apps.get_mut(app) else { return Ok(()) };
        let Some(flight) = node.flight.take() else { return Ok(()) };
        let habits = Habits { breaks: &self.breaks, node: &of.name };
        let wrong = |rule| format!("{} {app}: {rule}", of.name);
        node.carry_out(&flight, now_ms, &habits).map_err(wrong)?;
        node.check().map_err(wrong)?;
        if of.trouble.cut_after.as_deref() == Some(step_name(&flight.effect)) {
            of.trouble.cut_after = None;
            return self.cut_power(device);
        }
        self.feed(device, app, Input::Done(flight.result))?;
        self.look_at_bus(device)
    }

    /// A release may cut its device off, until it goes.
    fn look_at_bus(&mut self, device: usize) -> Step {
        let runs = |node: &Node| {
            node.running.as_ref().is_some_and(|running| running.behaviour == Behaviour::CutsOff)
        };
        let of = &mut self.devices[device];
        of.cut_off = of.apps.values().any(runs);
        if of.cut_off { self.disconnect(device, false) } else { self.connect(device) }
    }

    fn progress(&mut self, device: usize) -> Step {
        let now_ms = self.now_ms;
        let of = &mut self.devices[device];
        of.progress_ms = None;
        let slow_ms = of.trouble.slow_ms.unwrap_or(1).max(1);
        let fetching = |node: &Node| match &node.flight {
            Some(flight) if matches!(flight.effect, Effect::Fetch(_)) => Some(flight.ends_ms),
            _ => None,
        };
        let found = of.apps.iter().find_map(|(app, node)| Some((app.clone(), fetching(node)?)));
        let Some((app, ends_ms)) = found else {
            self.touch(device);
            return Ok(());
        };
        of.progress_ms = Some(now_ms + PROGRESS_MS);
        let left = ends_ms.saturating_sub(now_ms).saturating_mul(1_000) / slow_ms;
        let permille = u16::try_from(1_000_u64.saturating_sub(left)).unwrap_or(1_000);
        self.feed(device, &app, Input::Progress(permille))
    }

    /// The node says what changed since it was said last.
    fn report(&mut self, device: usize) {
        let at = schemas::time::UnixTime(WALL.0 + self.now_ms / 1_000);
        let of = &mut self.devices[device];
        of.due_ms = None;
        let apps = of.reports();
        let said = (apps, of.refusals.clone());
        if of.said.as_ref() != Some(&said) {
            of.seq += 1;
            let payload =
                office::report(&of.name, &of.key, (of.boot, of.seq), said.0.clone(), said.1.clone(), at);
            (of.said, of.unsent) = (Some(said), Some(Rc::from(payload)));
            self.send_report(device);
        }
        let of = &mut self.devices[device];
        of.wake = of.next_ms(self.now_ms);
    }

    fn told(
        &mut self,
        device: usize,
        app: &AppId,
        event: EventType,
        to: &str,
        reason: Option<Reason>,
    ) -> Step {
        let name = self.devices[device].name.clone();
        let why = reason.map(|reason| format!(", {reason}")).unwrap_or_default();
        let text = timeline::of_node(&name, app.as_str(), to, event, reason.map_or("", Reason::code));
        self.tell(Voice::Node(name), text);
        *self.rules.told.entry(format!("{event:?}{why}")).or_default() += 1;
        if event != EventType::Started {
            return Ok(());
        }
        self.check_parallel(app)
    }

    /// Never more nodes install than the plan allows.
    fn check_parallel(&mut self, app: &AppId) -> Step {
        let of_app = |device: &super::device::Device| {
            let revision = device.apps.get(app)?.machine.under_way()?;
            Some((device.name.clone(), revision))
        };
        let busy: Vec<_> = self.devices.iter().filter_map(of_app).collect();
        self.rules.check_parallel(app, &busy)
    }

    /// The power fails; what was in flight is there in part.
    pub(crate) fn cut_power(&mut self, device: usize) -> Step {
        let name = self.devices[device].name.clone();
        self.tell_done(&format!("{name}: power cut"));
        self.disconnect(device, false)?;
        let of = &mut self.devices[device];
        of.link.powered = false;
        for node in of.apps.values_mut() {
            if let Some(flight) = node.flight.take() {
                node.disk.tear(&flight.effect, &mut self.rng);
            }
            (node.running, node.watch) = (None, None);
        }
        (of.unsent, of.due_ms, of.wake, of.progress_ms) = (None, None, None, None);
        Ok(())
    }

    /// The power is back.
    pub(crate) fn boot(&mut self, device: usize) -> Step {
        let now_ms = self.now_ms;
        let of = &mut self.devices[device];
        if of.link.powered {
            return Ok(());
        }
        let name = of.name.clone();
        of.link.powered = true;
        (of.boot, of.seq, of.said) = (of.boot + 1, 0, None);
        of.refusals.clear();
        for node in of.apps.values_mut() {
            let habits = Habits { breaks: &self.breaks, node: &name };
            node.boot(now_ms, true, true, &habits);
            // It has forgotten them.
            node.holds.clear();
        }
        self.tell_done(&format!("{name}: power is back"));
        let apps: Vec<AppId> = self.devices[device].apps.keys().cloned().collect();
        apps.iter().try_for_each(|app| self.pump(device, app))?;
        self.tell_holds(device)?;
        self.touch(device);
        self.connect(device)
    }

    /// The release that a device runs.
    pub(crate) fn installed(&self, device: usize, app: &AppId) -> Option<Digest> {
        let node = self.devices[device].apps.get(app)?;
        node.machine.saved().current.as_ref().map(|slot| slot.release)
    }
}
