//! Controllers on a bus that delays what they say: who carries what out, and that nobody else does.

use proptest::{collection::vec, prelude::*};
use schemas::{
    id::Digest,
    seal::{SecretKey, Signed},
    time::UnixTime,
    topic::{Kind, Topic},
};

use super::*;
use crate::{Fleet, samples::Sample};

const PLAN: &str = "[[stage]]\ngroup = \"all\"";

fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&Digest::of(&[n]).0)
}

fn app(name: &str) -> AppId {
    name.parse().unwrap()
}

fn at(secs: u64) -> Now {
    Now { mono_ms: secs * 1_000, wall: UnixTime(1_000_000 + secs) }
}

/// A controller, and what it has heard.
struct Peer {
    key: SecretKey,
    fleet: Fleet,
    leases: Leases,
}

impl Peer {
    fn new(sample: &Sample, n: u8) -> Self {
        let leases = Leases::new("deploybus".parse().unwrap(), key(n).public(), "test".to_owned());
        Self { key: key(n), fleet: sample.empty_fleet(), leases }
    }

    fn hears(&mut self, (topic, payload): &(Topic, Vec<u8>)) {
        self.fleet.take(topic, payload);
    }

    /// What it says at `now`.
    fn look(&mut self, now: Now) -> Option<Controller> {
        self.leases.look(self.fleet.rollouts(), now)
    }

    /// The same as it travels.
    fn looks(&mut self, now: Now) -> Option<(Topic, Vec<u8>)> {
        self.look(now).map(|said| sealed(&said, &self.key))
    }

    fn works(&self, name: &str) -> Option<u64> {
        let app = app(name);
        let first = self.fleet.rollouts().plan(&app)?.plans.mandate.first;
        self.leases.term(&app, first)
    }
}

fn sealed(said: &Controller, key: &SecretKey) -> (Topic, Vec<u8>) {
    let topic = Kind::Controller(said.key.id()).of(&said.head.fleet);
    (topic, Signed::seal(said, std::slice::from_ref(key)).to_bytes())
}

/// Controllers that hear each other at once.
struct House {
    sample: Sample,
    peers: Vec<Peer>,
    /// Those that are there.
    up: Vec<bool>,
}

impl House {
    fn of(count: u8) -> Self {
        let sample = Sample::new();
        let peers: Vec<Peer> = (0..count).map(|n| Peer::new(&sample, n)).collect();
        Self { up: vec![true; peers.len()], peers, sample }
    }

    /// A rollout of an app is given to some of them.
    fn given(mut self, name: &str, first: u64, to: &[u8]) -> Self {
        self.gives(name, first, to);
        self
    }

    fn gives(&mut self, name: &str, first: u64, to: &[u8]) {
        let keys: Vec<PublicKey> = to.iter().map(|n| key(*n).public()).collect();
        let app = app(name);
        let planned = self.sample.planned_of((&app, first), &keys, PLAN, 1, |_| {});
        let message = (Kind::Plan(app).of(self.sample.trust.fleet()), planned.to_bytes());
        self.peers.iter_mut().for_each(|peer| peer.hears(&message));
    }

    fn says(&mut self, message: &(Topic, Vec<u8>)) {
        self.peers.iter_mut().for_each(|peer| peer.hears(message));
    }

    /// All that are there look around, again and again.
    fn live(&mut self, secs: std::ops::RangeInclusive<u64>) {
        for now in secs.map(at) {
            for of in (0..self.peers.len()).filter(|of| self.up[*of]).collect::<Vec<_>>() {
                if let Some(message) = self.peers[of].looks(now) {
                    self.says(&message);
                }
            }
            self.peers.iter_mut().zip(&self.up).filter(|(_, up)| **up).for_each(|(peer, _)| {
                peer.looks(now);
            });
        }
    }

    /// The one that works, and its term.
    fn works(&self, name: &str) -> Option<(usize, u64)> {
        let there = self.peers.iter().enumerate().filter(|(of, _)| self.up[*of]);
        let mut working = there.filter_map(|(of, peer)| Some((of, peer.works(name)?)));
        let one = working.next();
        assert_eq!(working.next(), None, "two carry {name} out");
        one
    }
}

#[test]
fn the_first_one_that_is_named_begins_at_once_and_renews_its_lease() {
    let mut house = House::of(2).given("web", 100, &[1, 0]);
    house.live(0..=1);
    assert_eq!(house.works("web"), Some((1, 4)));
    house.live(2..=300);
    assert_eq!(house.works("web"), Some((1, 4)));
}

#[test]
fn it_works_once_the_bus_shows_its_lease() {
    let mut house = House::of(1).given("web", 100, &[0]);
    let message = house.peers[0].looks(at(1)).unwrap();
    assert_eq!(house.peers[0].works("web"), None);
    house.says(&message);
    assert_eq!((house.peers[0].looks(at(2)), house.peers[0].works("web")), (None, Some(4)));
}

#[test]
fn the_second_one_takes_its_place_when_the_first_one_is_not_there() {
    let mut house = House::of(2).given("web", 100, &[0, 1]);
    house.up[0] = false;
    house.live(0..=5);
    assert_eq!(house.works("web"), None);
    house.live(6..=6);
    assert_eq!(house.works("web"), Some((1, 5)));
}

#[test]
fn whom_the_mandate_does_not_name_is_in_nobodys_way() {
    let mut house = House::of(2).given("web", 100, &[0]).given("camera", 200_000, &[1]);
    house.live(0..=1);
    assert_eq!((house.works("web"), house.works("camera")), (Some((0, 4)), Some((1, 4))));
    // The other one never takes it, and is no obstacle when the first one is back.
    house.up[0] = false;
    house.live(2..=200);
    assert_eq!((house.works("web"), house.works("camera")), (None, Some((1, 4))));
    house.up[0] = true;
    house.live(201..=204);
    assert_eq!(house.works("web"), Some((0, 4)));
}

#[test]
fn a_rollout_that_none_can_carry_out_that_is_there_is_spoken_of_once() {
    let mut house = House::of(2).given("web", 100, &[0]);
    house.up[0] = false;
    let mut told = Vec::new();
    for secs in 0..=200 {
        let peer = &mut house.peers[1];
        told.extend(peer.leases.forsaken(peer.fleet.rollouts(), at(secs)).into_iter().map(|app| (secs, app)));
    }
    assert_eq!(told, [(60, app("web"))]);
}

#[test]
fn another_one_waits_until_the_lease_is_over_and_then_begins_a_new_term() {
    let mut house = House::of(2).given("web", 100, &[0, 1]);
    house.live(0..=10);
    house.up[0] = false;
    // Heard of at 7; 3 s for who is named before it, and 3 s for others who take it.
    house.live(11..=42);
    assert_eq!(house.works("web"), None);
    house.live(43..=44);
    assert_eq!(house.works("web"), Some((1, 9)));
    // The first one was only asleep.
    house.up[0] = true;
    house.live(45..=100);
    assert_eq!(house.works("web"), Some((1, 9)));
}

#[test]
fn who_is_cut_off_stops_working_and_goes_on_when_it_gets_through() {
    let mut house = House::of(1).given("web", 100, &[0]);
    house.live(0..=1);
    let unheard = (2..=28).map(at).filter_map(|now| house.peers[0].looks(now)).last().unwrap();
    assert_eq!(house.peers[0].works("web"), None);
    house.says(&unheard);
    house.peers[0].looks(at(29));
    assert_eq!(house.peers[0].works("web"), Some(4));
}

#[test]
fn of_two_that_begin_at_once_one_lets_go_before_the_other_works() {
    let mut house = House::of(2).given("web", 100, &[0, 1]);
    // Neither hears the other.
    let said: Vec<_> = [(0, 0), (1, 0), (1, 3)].map(|(of, secs)| house.peers[of].looks(at(secs))).into();
    said.iter().flatten().for_each(|message| house.says(message));
    house.live(4..=6);
    assert_eq!(house.works("web"), None);
    house.live(7..=60);
    assert_eq!(house.works("web"), Some((1, 5)));
}

#[test]
fn a_new_rollout_of_the_app_has_a_lease_of_its_own() {
    let mut house = House::of(2).given("web", 100, &[0]);
    house.live(0..=1);
    house.gives("web", 200_000, &[1]);
    house.live(2..=3);
    assert_eq!(house.works("web"), Some((1, 4)));
}

#[test]
fn clocks_that_are_wrong_by_years_decide_nothing() {
    let mut house = House::of(2).given("web", 100, &[0, 1]);
    for until in [0, u64::MAX] {
        let said = Controller { until: UnixTime(until), ..house.peers[0].look(at(0)).unwrap() };
        house.says(&sealed(&said, &key(0)));
        house.peers[1].look(at(1));
        assert_eq!(house.peers[1].works("web"), None);
        house.peers[0] = Peer::new(&house.sample, 0);
        house.gives("web", 100, &[0, 1]);
    }
    house.up[0] = false;
    house.live(2..=29);
    assert_eq!(house.works("web"), None, "it was heard of at 1");
    house.live(30..=40);
    assert_eq!(house.works("web"), Some((1, 9)));
}

#[test]
fn of_two_processes_with_one_key_the_one_that_hears_the_other_is_silent() {
    let mut house = House::of(1).given("web", 100, &[0]);
    house.live(0..=1);
    assert_eq!(house.works("web"), Some((0, 4)));
    // A copy of its data folder was started elsewhere.
    let says = |until| Controller {
        until: UnixTime(until),
        leases: vec![Lease { app: app("web"), first: Revision(100), term: 4 }],
        ..Peer::new(&Sample::new(), 0).look(at(0)).unwrap()
    };
    house.says(&sealed(&says(1_000_100), &key(0)));
    house.live(2..=3);
    assert_eq!(house.works("web"), Some((0, 4)), "it may have been on its way since before the start");
    house.says(&sealed(&says(1_000_101), &key(0)));
    house.live(4..=4);
    assert_eq!((house.works("web"), house.peers[0].leases.has_twin(at(4))), (None, true));
    assert!(house.peers[0].look(at(9)).is_none() && !house.peers[0].leases.has_twin(at(9)));
    house.live(64..=70);
    assert!(house.works("web").is_some(), "the other one is gone");
}

#[test]
fn rubbish_in_the_place_of_a_controller_lets_nobody_take_over() {
    let mut house = House::of(2).given("web", 100, &[0, 1]);
    house.live(0..=1);
    house.up[0] = false;
    let mut message = house.peers[0].looks(at(9)).unwrap();
    for rubbish in [&b"rubbish"[..], b""] {
        message.1 = rubbish.to_vec();
        house.says(&message);
    }
    house.live(2..=29);
    assert_eq!(house.works("web"), None);
}

#[test]
fn a_term_that_is_anothers_or_beyond_all_counts_for_nothing() {
    for term in [u64::MAX, 7, 1 << 50] {
        let mut house = House::of(2).given("web", 100, &[0, 1]);
        let lease = Lease { app: app("web"), first: Revision(100), term };
        let thief = Controller { leases: vec![lease], ..house.peers[1].look(at(0)).unwrap() };
        house.says(&sealed(&thief, &key(1)));
        house.up[1] = false;
        house.live(1..=3);
        assert_eq!(house.works("web"), Some((0, 4)), "{term}");
    }
}

#[test]
fn a_stranger_takes_no_rollout_away_whatever_it_says() {
    let mut house = House::of(2).given("web", 100, &[0]);
    house.live(0..=1);
    let lease = Lease { app: app("web"), first: Revision(100), term: u64::MAX };
    let stranger = house.peers[1].look(at(9)).unwrap();
    let stranger = Controller { leases: vec![lease], ..stranger };
    house.says(&sealed(&stranger, &key(1)));
    // Nor when it speaks in the place of the one that works.
    let mut message = sealed(&Controller { key: key(0).public(), ..stranger }, &key(1));
    house.says(&message);
    message.1 = b"rubbish".to_vec();
    house.says(&message);
    house.live(10..=12);
    assert_eq!(house.works("web"), Some((0, 4)));
}

/// What happens to a controller in a random history.
#[derive(Debug, Clone)]
enum Event {
    Dies,
    Starts,
    /// Nothing gets to it or from it, for so many seconds.
    IsCutOff(u64),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    /// Messages take up to a second; controllers die, are started again, and are cut off. Clocks say what they like.
    #[test]
    fn never_do_two_carry_a_rollout_out_and_in_the_end_one_does(
        events in vec((0_usize..3, 1_u64..60, prop_oneof![
            Just(Event::Dies), Just(Event::Starts), (1_u64..90).prop_map(Event::IsCutOff),
        ]), 0..12),
        delays in vec(0_u64..1_000, 64),
        ahead in vec(0_u64..1_000_000, 3),
    ) {
        let mut world = Delayed::new(delays, ahead);
        let mut now_ms = 0;
        for (of, pause_secs, event) in events {
            let until_ms = now_ms + pause_secs * 1_000;
            world.live(now_ms, until_ms)?;
            world.happens(of, &event, until_ms);
            now_ms = until_ms;
        }
        (0..3).for_each(|of| world.happens(of, &Event::Starts, now_ms));
        world.cut_until_ms = [0; 3];
        world.live(now_ms, now_ms + 60_000)?;
        prop_assert!(world.working().is_some(), "nobody carries it out");
    }
}

/// Three controllers that a mandate names, and messages on their way.
struct Delayed {
    sample: Sample,
    peers: Vec<Option<Peer>>,
    cut_until_ms: [u64; 3],
    ahead: Vec<u64>,
    delays: std::iter::Cycle<std::vec::IntoIter<u64>>,
    retained: BTreeMap<Topic, Vec<u8>>,
    /// When, to whom, what; in the order in which the broker has them.
    wires: Vec<(u64, usize, (Topic, Vec<u8>))>,
    story: Vec<String>,
}

impl Delayed {
    fn new(delays: Vec<u64>, ahead: Vec<u64>) -> Self {
        let sample = Sample::new();
        let keys: Vec<PublicKey> = (0..3).map(|n| key(n).public()).collect();
        let planned = sample.planned_of((&app("web"), 100), &keys, PLAN, 1, |_| {});
        let topic = Kind::Plan(app("web")).of(sample.trust.fleet());
        let peers = (0..3).map(|n| Some(Peer::new(&sample, n))).collect();
        let retained = [(topic.clone(), planned.to_bytes())].into();
        let delays = delays.into_iter().cycle();
        let mut world = Self {
            sample,
            peers,
            cut_until_ms: [0; 3],
            ahead,
            delays,
            retained,
            wires: Vec::new(),
            story: Vec::new(),
        };
        world.forward(&(topic, planned.to_bytes()), 0);
        world
    }

    /// The broker tells everybody; what it tells one controller does not overtake what it told it before.
    fn forward(&mut self, message: &(Topic, Vec<u8>), now_ms: u64) {
        for of in 0..3 {
            let delay = self.delays.next().unwrap();
            let before = self.wires.iter().filter(|(_, to, _)| *to == of).map(|(at_ms, ..)| *at_ms).max();
            let at_ms = (now_ms + delay).max(before.unwrap_or_default());
            self.wires.push((at_ms, of, message.clone()));
        }
    }

    fn happens(&mut self, of: usize, event: &Event, now_ms: u64) {
        self.story.push(format!("{now_ms}: {of} {event:?}"));
        match event {
            Event::Dies => self.peers[of] = None,
            Event::Starts if self.peers[of].is_none() => {
                let mut peer = Peer::new(&self.sample, u8::try_from(of).unwrap());
                self.retained.clone().into_iter().for_each(|message| peer.hears(&message));
                self.wires.retain(|(_, to, _)| *to != of);
                self.peers[of] = Some(peer);
            }
            Event::Starts => {}
            Event::IsCutOff(secs) => self.cut_until_ms[of] = now_ms + secs * 1_000,
        }
    }

    fn live(&mut self, from_ms: u64, to_ms: u64) -> Result<(), TestCaseError> {
        for now_ms in (from_ms..to_ms).step_by(250) {
            let (due, wires) = std::mem::take(&mut self.wires)
                .into_iter()
                .partition(|(at_ms, to, _)| *at_ms <= now_ms && self.cut_until_ms[*to] <= now_ms);
            self.wires = wires;
            let due: Vec<(u64, usize, (Topic, Vec<u8>))> = due;
            for (_, to, message) in due {
                if let Some(peer) = &mut self.peers[to] {
                    peer.hears(&message);
                }
            }
            for of in 0..3 {
                let wall = UnixTime(1_000_000 + now_ms / 1_000 + self.ahead[of]);
                let is_cut_off = self.cut_until_ms[of] > now_ms;
                let Some(peer) = &mut self.peers[of] else { continue };
                let Some(said) = peer.look(Now { mono_ms: now_ms, wall }) else { continue };
                let terms: Vec<u64> = said.leases.iter().map(|lease| lease.term).collect();
                self.story.push(format!("{now_ms}: {of} says {terms:?}"));
                if !is_cut_off {
                    let message = sealed(&said, &peer.key);
                    self.retained.insert(message.0.clone(), message.1.clone());
                    self.forward(&message, now_ms);
                }
            }
            let working: Vec<usize> = self.working_all().collect();
            prop_assert!(working.len() < 2, "{working:?} at {now_ms} ms:\n{}", self.story.join("\n"));
        }
        Ok(())
    }

    fn working_all(&self) -> impl Iterator<Item = usize> {
        let works = |peer: &Option<Peer>| peer.as_ref().is_some_and(|peer| peer.works("web").is_some());
        self.peers.iter().enumerate().filter(move |(_, peer)| works(peer)).map(|(of, _)| of)
    }

    fn working(&self) -> Option<usize> {
        self.working_all().next()
    }
}
