//! A fleet in virtual time: devices with real machines, a bus, a controller at a real desk, and people.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    time::Duration,
};

use rollout::{Deed, course::Now};
use schemas::{
    announcement::{Announced, Announcement},
    id::{AppId, Digest, NodeId},
    status::availability,
    time::UnixTime,
    topic::{Kind, NodeTopic, Topic},
};

use super::{
    controller::Controller,
    device::{Breaks, Device},
    hub::{Hub, Parcel, Peer},
    memory,
    office::Office,
    rules::Rules,
};
use crate::{
    simulator::{catalog::WALL, rng::Rng},
    timeline::{self, Line, Voice},
};

/// From a device to the broker and back, on a good day.
const LATENCY_MS: u64 = 50;
/// A message that is lost comes again with the next subscription, so much later at most.
const LOST_MS: u64 = 60_000;
/// The broker notices after so long that a device is gone.
const KEEP_ALIVE_MS: (u64, u64) = (30_000, 90_000);
/// More steps at one moment than any moment needs.
const MAX_STEPS_AT_ONCE: u32 = 20_000;

/// How messages fare, in thousandths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Odds {
    pub(crate) lose: u64,
    pub(crate) double: u64,
    pub(crate) delay_ms: u64,
}

/// How a step ended, with the rule that it broke.
pub(crate) type Step = Result<(), String>;

/// Everything.
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) now_ms: u64,
    pub(crate) office: Office,
    pub(crate) hub: Hub,
    pub(crate) devices: Vec<Device>,
    pub(crate) places: BTreeMap<NodeId, usize>,
    pub(crate) controller: Option<Controller>,
    /// The controller dies after so many deeds.
    pub(crate) dies_after: Option<u32>,
    /// The controller's wall clock is so far ahead.
    pub(crate) ahead_secs: i64,
    pub(crate) odds: Odds,
    pub(crate) breaks: Breaks,
    /// Releases of which an object is not in the store.
    pub(crate) missing: BTreeSet<Digest>,
    pub(crate) rules: Rules,
    pub(crate) timeline: Vec<Line>,
    verified: BTreeMap<Rc<[u8]>, Option<Rc<Announced>>>,
    steps_at_once: u32,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let office = Office::open();
        Self {
            rng: Rng::new(seed),
            now_ms: 0,
            hub: Hub::default(),
            devices: Vec::new(),
            places: BTreeMap::new(),
            controller: Some(Controller::start(&office, &BTreeMap::new(), Now::new(Duration::ZERO, WALL))),
            dies_after: None,
            ahead_secs: 0,
            odds: Odds::default(),
            breaks: BTreeMap::new(),
            missing: BTreeSet::new(),
            rules: Rules::default(),
            timeline: Vec::new(),
            verified: BTreeMap::new(),
            steps_at_once: 0,
            office,
        }
    }

    /// Lets everything happen that happens before `end_ms`.
    pub(crate) fn live_until(&mut self, end_ms: u64) -> Step {
        while let Some((at_ms, who)) = self.next().filter(|(at_ms, _)| *at_ms <= end_ms) {
            self.steps_at_once = if at_ms > self.now_ms { 0 } else { self.steps_at_once + 1 };
            if self.steps_at_once > MAX_STEPS_AT_ONCE {
                return Err(format!("goes round in circles with {who:?}"));
            }
            self.now_ms = at_ms.max(self.now_ms);
            match who {
                None => self.deliver()?,
                Some(Peer::Controller) => self.decide()?,
                Some(Peer::Device(device)) => self.happen(device)?,
            }
        }
        self.now_ms = self.now_ms.max(end_ms);
        Ok(())
    }

    fn next(&self) -> Option<(u64, Option<Peer>)> {
        let device = |(at, device): (usize, &Device)| Some((device.wake.as_ref()?.0, Some(Peer::Device(at))));
        let wakes_ms = |of: &Controller| {
            let wait = self.now().until(of.desk.poll_timeout());
            self.now_ms + u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
        };
        let controller = self.controller.as_ref().map(|of| (wakes_ms(of), Some(Peer::Controller)));
        let wires = self.hub.arrives_ms().map(|at_ms| (at_ms, None));
        self.devices.iter().enumerate().filter_map(device).chain(controller).chain(wires).min()
    }

    /// Something happened.
    pub(crate) fn tell(&mut self, voice: Voice, text: String) {
        self.timeline.push(Line { at_ms: self.now_ms, voice, text });
    }

    /// Whoever plays the story does something.
    pub(crate) fn tell_done(&mut self, text: &str) {
        self.tell(Voice::Player, text.to_owned());
    }

    /// The time of everybody whose clock is right.
    pub(crate) fn wall(&self) -> UnixTime {
        WALL.plus_secs(self.now_ms / 1_000)
    }

    /// The time of the controller.
    pub(crate) fn now(&self) -> Now {
        let wall = UnixTime(self.wall().0.saturating_add_signed(self.ahead_secs));
        Now::new(Duration::from_millis(self.now_ms), wall)
    }

    pub(crate) fn topic(&self, kind: Kind) -> Topic {
        kind.of(self.office.trust.fleet())
    }

    /// The broker takes a message, for good.
    pub(crate) fn publish(&mut self, topic: &Topic, payload: &Rc<[u8]>) -> Step {
        self.hub.retained.insert(topic.clone(), payload.clone());
        let now = self.now();
        let is_report = matches!(topic.kind, Kind::Node(_, NodeTopic::Report));
        if is_report && self.odds != Odds::default() {
            self.forward(Peer::Controller, topic, payload);
        } else if let Some(controller) = &mut self.controller {
            controller.take(topic, payload, now);
        }
        match &topic.kind {
            Kind::Release(group, _) => {
                if let Some(announced) = self.verify(topic, payload) {
                    let line = self.rules.ordered(&announced)?;
                    self.tell(Voice::Order(group.clone()), line);
                }
                for device in 0..self.devices.len() {
                    let reads =
                        self.devices[device].link.session && self.devices[device].groups.contains(group);
                    if reads {
                        self.forward(Peer::Device(device), topic, payload);
                    }
                }
            }
            Kind::Node(node, NodeTopic::Record) => {
                if let Some(&device) = self.places.get(node).filter(|at| self.devices[**at].link.session) {
                    self.forward(Peer::Device(device), topic, payload);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A message on its way to a peer: it may be lost, doubled, late, and so be overtaken.
    fn forward(&mut self, to: Peer, topic: &Topic, payload: &Rc<[u8]>) {
        let Odds { lose, double, delay_ms } = self.odds;
        if self.rng.permille(lose) {
            let again_ms = self.now_ms + self.rng.between(1_000, LOST_MS);
            return self.hub.send(again_ms, Parcel::Again(to));
        }
        let copies = 1 + u64::from(self.rng.permille(double));
        for _ in 0..copies {
            let late_ms = if delay_ms > 0 { self.rng.between(0, delay_ms) } else { 0 };
            let parcel = Parcel::Message(to, topic.clone(), payload.clone());
            self.hub.send(self.now_ms + LATENCY_MS + late_ms, parcel);
        }
    }

    fn deliver(&mut self) -> Step {
        let now = self.now();
        match self.hub.take() {
            None => Ok(()),
            Some(Parcel::Message(Peer::Controller, topic, payload)) => {
                if let Some(controller) = &mut self.controller {
                    controller.take(&topic, &payload, now);
                }
                Ok(())
            }
            Some(Parcel::Message(Peer::Device(device), topic, payload)) => {
                self.hear(device, &topic, &payload)
            }
            Some(Parcel::Again(Peer::Controller)) => {
                if let Some(controller) = &mut self.controller {
                    for (topic, payload) in &self.hub.retained {
                        controller.take_again(topic, payload, now);
                    }
                }
                Ok(())
            }
            Some(Parcel::Again(Peer::Device(device))) => {
                let of_device = &self.devices[device];
                let reads = |topic: &Topic| match &topic.kind {
                    Kind::Release(group, _) => of_device.groups.contains(group),
                    Kind::Node(node, NodeTopic::Record) => *node == of_device.name,
                    _ => false,
                };
                let sent: Vec<_> = self.hub.retained.iter().filter(|(topic, _)| reads(topic)).collect();
                let sent: Vec<_> =
                    sent.into_iter().map(|(topic, payload)| (topic.clone(), payload.clone())).collect();
                sent.into_iter().try_for_each(|(topic, payload)| self.hear(device, &topic, &payload))
            }
            Some(Parcel::ToBroker(device, topic, payload)) => {
                let of = &mut self.devices[device];
                of.unsent.take_if(|unsent| *unsent == payload);
                self.publish(&topic, &payload)
            }
            Some(Parcel::Will(device, number)) => {
                let link = self.devices[device].link;
                if link.number == number && !link.session {
                    return self.say_presence(device, false);
                }
                Ok(())
            }
        }
    }

    /// An announcement, once it was verified.
    pub(crate) fn verify(&mut self, topic: &Topic, payload: &Rc<[u8]>) -> Option<Rc<Announced>> {
        if let Some(known) = self.verified.get(payload) {
            return known.clone();
        }
        let Kind::Release(group, app) = &topic.kind else { return None };
        // The controller has verified it already, when it is there.
        let place = (group.clone(), app.clone());
        let known = self.controller.as_ref().and_then(|of| of.desk.fleet().orders().get(&place)?.believed());
        if let Some(known) = known.filter(|known| known.announcement.to_bytes() == **payload) {
            let announced = Some(Rc::new(known.announced.clone()));
            self.verified.insert(payload.clone(), announced.clone());
            return announced;
        }
        let announced = Announcement::from_bytes(payload)
            .and_then(|announcement| announcement.verify(&self.office.trust, group, app));
        let announced = announced.ok().map(Rc::new);
        self.verified.insert(payload.clone(), announced.clone());
        announced
    }

    /// The broker says whether a device is there.
    pub(crate) fn say_presence(&mut self, device: usize, is_there: bool) -> Step {
        let word = if is_there { availability::ONLINE } else { availability::OFFLINE };
        let topic = self.topic(Kind::Node(self.devices[device].name.clone(), NodeTopic::Availability));
        self.publish(&topic, &Rc::from(word.as_bytes()))
    }

    /// A device is on the bus, when it can be.
    pub(crate) fn connect(&mut self, device: usize) -> Step {
        let cut_off = self.devices[device].cut_off;
        let link = &mut self.devices[device].link;
        if link.session || !link.powered || !link.wired || cut_off {
            return Ok(());
        }
        (link.session, link.number) = (true, link.number + 1);
        self.say_presence(device, true)?;
        self.hub.send(self.now_ms + LATENCY_MS, Parcel::Again(Peer::Device(device)));
        self.send_report(device);
        self.bus_is(device, machine::Bus::Connected)
    }

    /// A device is on the bus no more; the broker is told, or notices later.
    pub(crate) fn disconnect(&mut self, device: usize, says_so: bool) -> Step {
        let link = &mut self.devices[device].link;
        if !link.session {
            return Ok(());
        }
        link.session = false;
        let number = link.number;
        self.hub.cut(Peer::Device(device));
        if says_so {
            self.say_presence(device, false)?;
        } else {
            let (low, high) = KEEP_ALIVE_MS;
            let will_ms = self.now_ms + self.rng.between(low, high);
            self.hub.send(will_ms, Parcel::Will(device, number));
        }
        self.bus_is(device, machine::Bus::Unreachable)
    }

    /// The last report goes to the broker, unless it is there.
    pub(crate) fn send_report(&mut self, device: usize) {
        let of = &self.devices[device];
        if let Some(payload) = of.unsent.clone().filter(|_| of.link.session) {
            let topic = self.topic(Kind::Node(of.name.clone(), NodeTopic::Report));
            self.hub.send(self.now_ms + LATENCY_MS, Parcel::ToBroker(device, topic, payload));
        }
    }

    /// The desk looks at everything, and what it asks for is done; or not, when the controller dies meanwhile.
    fn decide(&mut self) -> Step {
        let now = self.now();
        let Some(controller) = &mut self.controller else { return Ok(()) };
        controller.desk.handle_timeout(now);
        for conductor in controller.desk.conductors() {
            self.rules.check(conductor, controller.desk.fleet(), self.now_ms)?;
        }
        for course in std::mem::take(&mut controller.found) {
            if let Some(conductor) = controller.desk.conductor(&course.app) {
                memory::check(&course, conductor, controller.desk.fleet())?;
            }
        }
        while let Some(deed) = self.controller.as_mut().and_then(|of| of.desk.poll_deed()) {
            let app = app_of(&deed);
            if !self.carry_out(deed)? {
                // Deeds come app by app: those of the apps before it are done.
                self.settle_rules(app.as_ref());
                self.tell_done("the controller dies");
                self.controller = None;
            }
        }
        self.settle_rules(None);
        Ok(())
    }

    /// What the desk has asked for is on the bus; when `before` is given, for the apps before that one.
    fn settle_rules(&mut self, before: Option<&AppId>) {
        let conductors = self.controller.iter().flat_map(|of| of.desk.conductors());
        for conductor in conductors.filter(|of| before.is_none_or(|before| of.app() < before)) {
            let begun = |node: &NodeId| {
                let at = self.places.get(node)?;
                self.devices[*at].apps.get(conductor.app())?.machine.under_way()
            };
            self.rules.settle(conductor, begun);
        }
    }

    /// Whether the controller lived to do it.
    fn carry_out(&mut self, deed: Deed) -> Result<bool, String> {
        match deed {
            Deed::Publish(topic, payload) => {
                if let Some(left) = &mut self.dies_after {
                    if *left == 0 {
                        self.dies_after = None;
                        return Ok(false);
                    }
                    *left -= 1;
                }
                self.publish(&topic, &Rc::from(payload))?;
            }
            Deed::Tell(milestone) => {
                *self.rules.told.entry(format!("{:?}", milestone.kind)).or_default() += 1;
                let text = timeline::of_rollout(milestone.kind.name(), &milestone.text);
                self.tell(Voice::Rollout(milestone.app, milestone.version), text);
            }
            Deed::Note(_) => {}
        }
        Ok(true)
    }

    /// The controller is started, and reads the bus.
    pub(crate) fn start_controller(&mut self) {
        if self.controller.is_none() {
            self.controller = Some(Controller::start(&self.office, &self.hub.retained, self.now()));
        }
    }
}

fn app_of(deed: &Deed) -> Option<AppId> {
    match deed {
        Deed::Publish(topic, _) => match &topic.kind {
            Kind::Course(app) | Kind::Release(_, app) => Some(app.clone()),
            _ => None,
        },
        Deed::Tell(milestone) => Some(milestone.app.clone()),
        Deed::Note(_) => None,
    }
}
