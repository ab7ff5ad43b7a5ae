//! Desks beside each other: three that a mandate names, on a bus that delays what they say; they die between any two deeds, and what
//! lies between them and the bus stands still and breaks.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};
use schemas::{
    announcement::Announcement,
    id::NodeId,
    mandate::Mandate,
    order::{Order, OrderState},
    report::{Outcome, Verdict},
    rollout::{Course, CourseState, WaveState},
    seal::SecretKey,
    topic::NodeTopic,
};

use super::*;
use crate::samples::{Sample, ended, idle, node, node_key, outcome};

const PLAN: &str = "[[stage]]\ngroup = \"all\"\nwaves = [\"1\", \"2\", \"100%\"]\nsoak = \"20s\"";
const NODES: [&str; 4] = ["pi-1", "pi-2", "pi-3", "pi-4"];
const STEP_MS: u64 = 250;

/// What happens to a controller.
#[derive(Debug, Clone)]
enum Happening {
    Dies,
    /// After so many deeds.
    DiesAfter(u32),
    Starts,
    /// Nothing gets to it or from it for so many seconds; then all comes at once, or it has to begin anew with the bus.
    StandsStill(u64, bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        Just(Happening::Dies),
        (0_u32..6).prop_map(Happening::DiesAfter),
        Just(Happening::Starts),
        (1_u64..90, any::<bool>()).prop_map(|(secs, breaks)| Happening::StandsStill(secs, breaks)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn never_do_two_carry_a_rollout_out_and_it_comes_to_its_end(
        events in vec((0_usize..3, 1_u64..60, happening()), 0..12),
        delays in vec(0_u64..1_000, 64),
        ahead_secs in vec(0_u64..1_000_000, 3),
    ) {
        let mut world = World::new(delays, ahead_secs);
        for (of, pause_secs, event) in events {
            world.live(pause_secs * 1_000)?;
            world.happens(of, &event);
        }
        for of in 0..3 {
            world.peers[of].dies_after = None;
            world.gets_through(of);
            world.happens(of, &Happening::Starts);
        }
        world.live(300_000)?;
        let course = world.newest.as_ref().map(|course| &course.state);
        prop_assert_eq!(course, Some(&CourseState::Completed), "{}", world.story.join("\n"));
    }
}

type Said = (Topic, Vec<u8>);

struct Peer {
    key: SecretKey,
    /// Nothing while it is dead.
    desk: Option<Desk>,
    ahead_secs: u64,
    dies_after: Option<u32>,
    /// Until when nothing gets through, and whether the connection breaks then.
    still: Option<(u64, bool)>,
    /// What did not get through.
    unsaid: Vec<Said>,
}

struct World {
    sample: Sample,
    mandate: Mandate,
    now_ms: u64,
    peers: Vec<Peer>,
    retained: BTreeMap<Topic, Vec<u8>>,
    /// When, to whom, what; in the order in which the broker has them.
    wires: Vec<(u64, usize, Said)>,
    delays: std::iter::Cycle<std::vec::IntoIter<u64>>,
    /// The order that nodes obey: none goes back to a lower one.
    order: Option<Order>,
    newest: Option<Course>,
    courses: BTreeMap<(u64, u64), Vec<u8>>,
    kept: BTreeSet<&'static str>,
    story: Vec<String>,
}

impl World {
    fn new(delays: Vec<u64>, ahead_secs: Vec<u64>) -> Self {
        let sample = Sample::new();
        let key = |of: usize| node_key(&format!("controller-{of}"));
        let peer = |(of, ahead_secs)| Peer {
            key: key(of),
            desk: None,
            ahead_secs,
            dies_after: None,
            still: None,
            unsaid: Vec::new(),
        };
        let keys: Vec<_> = (0..3).map(|of| key(of).public()).collect();
        let planned = sample.planned_of((&app(), 100), &keys, PLAN, 1, |_| {});
        let mut world = Self {
            mandate: planned.verify(&sample.trust, &app()).unwrap().mandate.into_inner(),
            now_ms: 0,
            peers: ahead_secs.into_iter().enumerate().map(peer).collect(),
            retained: BTreeMap::new(),
            wires: Vec::new(),
            delays: delays.into_iter().cycle(),
            order: None,
            newest: None,
            courses: BTreeMap::new(),
            kept: BTreeSet::new(),
            story: Vec::new(),
            sample,
        };
        for name in NODES {
            let said = |topic| world.sample.topic(name, topic);
            let record = (said(NodeTopic::Record), world.sample.record(name, &["all"]));
            let report = (said(NodeTopic::Report), world.sample.report(name, 1, vec![idle(1)]));
            world.retained.extend([record, report, (said(NodeTopic::Availability), b"online".to_vec())]);
        }
        world.retained.insert(Kind::Plan(app()).of(world.sample.trust.fleet()), planned.to_bytes());
        (0..3).for_each(|of| world.happens(of, &Happening::Starts));
        world
    }

    fn at(&self, of: usize) -> Now {
        let secs = self.now_ms / 1_000 + self.peers[of].ahead_secs;
        Now::new(Duration::from_millis(self.now_ms), samples::NOW.plus_secs(secs))
    }

    fn happens(&mut self, of: usize, event: &Happening) {
        self.story.push(format!("{}: {of} {event:?}", self.now_ms));
        let peer = &mut self.peers[of];
        match event {
            Happening::Dies => self.dies(of),
            Happening::DiesAfter(deeds) => peer.dies_after = Some(*deeds),
            Happening::Starts if peer.desk.is_none() => {
                let trust = self.sample.trust.clone();
                peer.desk = Some(Desk::new(trust, peer.key.clone(), "test".to_owned(), Pace::LIVE));
                self.reads(of);
            }
            Happening::Starts => {}
            Happening::StandsStill(secs, breaks) => {
                peer.still = Some((self.now_ms + secs * 1_000, *breaks));
            }
        }
    }

    fn dies(&mut self, of: usize) {
        let peer = &mut self.peers[of];
        (peer.desk, peer.dies_after) = (None, None);
        peer.unsaid.clear();
    }

    /// It reads all that the bus keeps.
    fn reads(&mut self, of: usize) {
        let now = self.at(of);
        self.wires.retain(|(_, to, _)| *to != of);
        let Some(desk) = &mut self.peers[of].desk else { return };
        for (topic, payload) in &self.retained {
            desk.handle(Event::Message(topic, payload), now);
        }
        desk.handle(Event::Back, now);
    }

    /// Its connection does not stand still any more.
    fn gets_through(&mut self, of: usize) {
        let now = self.at(of);
        let Some((_, breaks)) = self.peers[of].still.take() else { return };
        let unsaid = std::mem::take(&mut self.peers[of].unsaid);
        if let Some(desk) = self.peers[of].desk.as_mut().filter(|_| breaks) {
            desk.handle(Event::Lost, now);
            self.reads(of);
        } else {
            for said in unsaid {
                self.takes(said);
            }
        }
    }

    /// The broker takes a message and tells everybody; what it tells one does not overtake what it told it before.
    fn takes(&mut self, said: Said) {
        let (topic, payload) = &said;
        match &topic.kind {
            Kind::Course(_) => self.note_course(payload),
            Kind::Release(group, app) => {
                let announcement = Announcement::from_bytes(payload).unwrap();
                let order = announcement.verify(&self.sample.trust, group, app).unwrap().order.into_inner();
                if self.order.as_ref().is_none_or(|known| known.revision < order.revision) {
                    self.order = Some(order);
                }
            }
            _ => {}
        }
        for of in 0..3 {
            let before = self.wires.iter().filter(|(_, to, _)| *to == of).map(|(at_ms, ..)| *at_ms).max();
            let at_ms = (self.now_ms + self.delays.next().unwrap()).max(before.unwrap_or_default());
            self.wires.push((at_ms, of, said.clone()));
        }
        self.retained.insert(said.0, said.1);
    }

    fn note_course(&mut self, payload: &[u8]) {
        let signed = Signed::<Course>::from_bytes(payload).unwrap();
        let course = self.mandate.open(&signed, self.sample.trust.fleet()).unwrap().into_inner();
        let number = (course.term, course.seq.0);
        self.story.push(format!("{}: course {number:?} {}", self.now_ms, course.state.name()));
        let known = self.courses.entry(number).or_insert_with(|| payload.to_vec());
        assert_eq!(known, payload, "two courses {number:?}:\n{}", self.story.join("\n"));
        let newest = self.newest.as_ref().map(|newest| (newest.term, newest.seq.0));
        if newest < Some(number) {
            self.newest = Some(course);
        }
    }

    fn live(&mut self, for_ms: u64) -> Result<(), TestCaseError> {
        for _ in 0..for_ms / STEP_MS {
            self.now_ms += STEP_MS;
            for of in 0..3 {
                if self.peers[of].still.is_some_and(|(until_ms, _)| until_ms <= self.now_ms) {
                    self.gets_through(of);
                }
            }
            self.deliver();
            self.obey();
            (0..3).for_each(|of| self.looks(of));
            self.check()?;
        }
        Ok(())
    }

    fn deliver(&mut self) {
        let (now_ms, peers) = (self.now_ms, &self.peers);
        let wires = std::mem::take(&mut self.wires);
        let is_due = |(at_ms, to, _): &(u64, usize, Said)| *at_ms <= now_ms && peers[*to].still.is_none();
        let (due, wires): (Vec<_>, Vec<_>) = wires.into_iter().partition(is_due);
        self.wires = wires;
        for (_, to, (topic, payload)) in due {
            let now = self.at(to);
            if let Some(desk) = &mut self.peers[to].desk {
                desk.handle(Event::Message(&topic, &payload), now);
            }
        }
    }

    /// One of the nodes that are to have the release keeps it.
    fn obey(&mut self) {
        let Some(order) = self.order.clone().filter(|order| order.state == OrderState::Active) else {
            return;
        };
        let is_next = |name: &&str| order.audience.includes(&node(name)) && !self.kept.contains(name);
        if let Some(name) = NODES.into_iter().find(is_next) {
            self.kept.insert(name);
            let kept = Outcome { release: self.mandate.release, ..outcome(order.revision.0, Verdict::Kept) };
            let report = self.sample.report(name, 2, vec![ended(kept)]);
            self.takes((self.sample.topic(name, NodeTopic::Report), report));
        }
    }

    fn looks(&mut self, of: usize) {
        let now = self.at(of);
        let is_due = |desk: &&mut Desk| desk.poll_timeout() <= now.mono_ms;
        let Some(desk) = self.peers[of].desk.as_mut().filter(is_due) else { return };
        desk.handle_timeout(now);
        while let Some(deed) = self.peers[of].desk.as_mut().and_then(Desk::poll_deed) {
            match &mut self.peers[of].dies_after {
                Some(0) => return self.dies(of),
                Some(left) => *left -= 1,
                None => {}
            }
            let Deed::Publish(topic, payload) = deed else { continue };
            if self.peers[of].still.is_some() {
                self.peers[of].unsaid.push((topic, payload));
            } else {
                self.takes((topic, payload));
            }
        }
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let works = |peer: &&Peer| peer.desk.as_ref().is_some_and(|desk| desk.conductor(&app()).is_some());
        let working = self.peers.iter().filter(works).count();
        prop_assert!(working < 2, "{} carry it out at {}:\n{}", working, self.now_ms, self.story.join("\n"));
        let (Some(order), Some(course)) = (&self.order, &self.newest) else { return Ok(()) };
        let closed = course.waves.iter().filter(|wave| wave.state == WaveState::Closed);
        let mut closed = closed.flat_map(|wave| &wave.seats).map(|(node, _)| node);
        let is_ordered = |node: &&NodeId| order.state == OrderState::Active && order.audience.includes(node);
        let hurt = closed.find(is_ordered);
        prop_assert_eq!(hurt, None, "its wave is closed at {}:\n{}", self.now_ms, self.story.join("\n"));
        Ok(())
    }
}
