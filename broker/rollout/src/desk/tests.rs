//! A desk on a bus that keeps what is published. Nodes are puppets.

mod beside;

use schemas::{
    hold::{BusAsk, BusAskKind},
    id::Revision,
    order::{Audience, OrderState},
    report::{Outcome, Verdict},
    rollout::{CourseState, PauseReason, Planned, Wish},
    topic::NodeTopic,
};

use super::*;
use crate::{
    Milestone, MilestoneKind,
    samples::{self, Sample, at, controller_key, ended, idle, node, outcome},
};

const CANARY_THEN_ALL: &str = "[[stage]]\ngroup = \"all\"\nwaves = [\"1\", \"100%\"]";

/// A desk, and all that the bus keeps.
struct Play {
    sample: Sample,
    desk: Desk,
    retained: BTreeMap<Topic, Vec<u8>>,
    planned: Planned,
    secs: u64,
    told: Vec<Milestone>,
    notes: Vec<Note>,
}

impl Play {
    /// Its controller has not heard anything.
    fn new(nodes: &[&str], plan: &str) -> Self {
        let sample = Sample::new();
        let (planned, desk) = (sample.planned(plan, 1, |_| {}), desk(&sample));
        let (retained, told, notes) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut play = Self { sample, desk, retained, planned, secs: 0, told, notes };
        for name in nodes {
            let sample = &play.sample;
            let record = sample.record(name, &["all", "canary"]);
            let report = sample.report(name, 1, vec![idle(1)]);
            let topics = [NodeTopic::Record, NodeTopic::Availability, NodeTopic::Report];
            for (topic, payload) in topics.into_iter().zip([record, b"online".to_vec(), report]) {
                play.says(play.sample.topic(name, topic), payload);
            }
        }
        play.says(play.topic(Kind::Plan(app())), play.planned.to_bytes());
        play
    }

    /// Its controller has begun.
    fn begun(nodes: &[&str], plan: &str) -> Self {
        let mut play = Self::new(nodes, plan);
        play.desk.handle(Event::Back, at(0));
        play.wait(0);
        play.wait(1);
        play
    }

    fn topic(&self, kind: Kind) -> Topic {
        kind.of(self.sample.trust.fleet())
    }

    fn says(&mut self, topic: Topic, payload: Vec<u8>) {
        self.desk.handle(Event::Message(&topic, &payload), at(self.secs));
        self.retained.insert(topic, payload);
    }

    /// A node keeps the release.
    fn keeps(&mut self, name: &str) {
        let kept = Outcome { release: self.planned.release.digest(), ..outcome(100, Verdict::Kept) };
        let report = self.sample.report(name, 2, vec![ended(kept)]);
        self.says(self.sample.topic(name, NodeTopic::Report), report);
    }

    /// It looks so much later, and the bus keeps what it publishes. Gives what that is.
    fn wait(&mut self, secs: u64) -> Vec<Topic> {
        self.secs += secs;
        let mut published = Vec::new();
        for deed in samples::look(&mut self.desk, at(self.secs)) {
            match deed {
                Deed::Publish(topic, payload) => {
                    self.retained.insert(topic.clone(), payload);
                    published.push(topic);
                }
                Deed::Tell(milestone) => self.told.push(milestone),
                Deed::Note(note) => self.notes.push(note),
            }
        }
        published
    }

    /// Another process with the same key reads the bus.
    fn restart(&mut self) {
        self.desk = desk(&self.sample);
        self.read_again();
    }

    fn read_again(&mut self) {
        for (topic, payload) in &self.retained {
            self.desk.handle(Event::Message(topic, payload), at(self.secs));
        }
        self.desk.handle(Event::Back, at(self.secs));
    }

    fn state(&self) -> Option<&CourseState> {
        Some(self.desk.conductor(&app())?.state())
    }

    fn canary(&self) -> String {
        let conductor = self.desk.conductor(&app()).unwrap();
        conductor.seats().find(|(_, wave, _)| *wave == 0).unwrap().0.to_string()
    }

    fn kinds(&self) -> Vec<MilestoneKind> {
        self.told.iter().map(|milestone| milestone.kind).collect()
    }

    fn order(&self) -> (OrderState, Audience) {
        let order = &self.desk.fleet().order(&"all".parse().unwrap(), &app()).unwrap().announced.order;
        (order.state, order.audience.clone())
    }
}

fn desk(sample: &Sample) -> Desk {
    Desk::new(sample.trust.clone(), controller_key(), "test".to_owned(), Pace::LIVE)
}

fn app() -> AppId {
    "web".parse().unwrap()
}

#[test]
fn nothing_is_decided_before_the_bus_was_read_nor_while_it_is_away() {
    let mut play = Play::new(&["pi-1", "pi-2"], CANARY_THEN_ALL);
    assert!(play.wait(0).is_empty() && play.wait(60).is_empty());
    play.desk.handle(Event::Back, at(60));
    assert_eq!(play.desk.poll_timeout(), at(60).mono_ms);
    // Its lease; and once the bus shows that, course and order.
    assert_eq!((play.wait(0).len(), play.wait(1).len()), (1, 2));
    let canary = play.canary();
    play.desk.handle(Event::Lost, at(61));
    play.keeps(&canary);
    assert!(play.wait(1).is_empty() && play.wait(600).is_empty() && play.state().is_none());
    play.read_again();
    play.wait(0);
    play.wait(1);
    assert_eq!(play.state(), Some(&CourseState::Running));
    assert!(play.kinds().contains(&MilestoneKind::WavePassed));
}

#[test]
fn what_is_taken_up_is_looked_at_as_a_whole() {
    let mut play = Play::begun(&["pi-1", "pi-2"], CANARY_THEN_ALL);
    let canary = play.canary();
    play.keeps(&canary);
    play.wait(1);
    let plan = play.retained.remove(&play.topic(Kind::Plan(app()))).unwrap();
    play.restart();
    // That all nodes were looked at when there was nothing to carry out is not enough.
    play.wait(1);
    assert!(play.state().is_none());
    play.says(play.topic(Kind::Plan(app())), plan);
    play.wait(1);
    play.wait(1);
    let (_, state) = play.desk.conductor(&app()).unwrap().seat(&node(&canary)).unwrap();
    assert_eq!(state.name(), "good");
}

#[test]
fn a_rollout_whose_course_is_gone_stops_once_and_so_does_what_it_ordered() {
    let mut play = Play::begun(&["pi-1", "pi-2"], CANARY_THEN_ALL);
    assert_eq!(play.order().0, OrderState::Active);
    play.retained.remove(&play.topic(Kind::Course(app())));
    play.restart();
    play.wait(1);
    play.wait(1);
    assert_eq!(play.state().unwrap().cause().unwrap().why, PauseReason::Unknown);
    assert_eq!(play.order(), (OrderState::Paused, Audience::Nodes(Vec::new())));
    let seq = play.desk.conductor(&app()).unwrap().course().seq;
    (0..5).for_each(|_| drop(play.wait(1)));
    assert_eq!(play.desk.conductor(&app()).unwrap().course().seq, seq);
    assert_eq!(play.kinds().iter().filter(|kind| **kind == MilestoneKind::Stopped).count(), 1);
}

#[test]
fn what_is_too_large_for_one_course_is_declined_and_says_why() {
    let names: Vec<String> = (0..2_000).map(|n| format!("{n:0>63}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let play = Play::begun(&names, CANARY_THEN_ALL);
    assert!(play.state().unwrap().is_over() && play.desk.fleet().orders().is_empty());
    assert_eq!(play.told[0].text, "2000 nodes are too many for one rollout: plan it for smaller groups");
}

#[test]
fn another_rollout_of_the_app_takes_its_place_and_that_is_told_once() {
    let mut play = Play::begun(&["pi-1", "pi-2"], CANARY_THEN_ALL);
    let later = play.sample.planned_from(200_000, CANARY_THEN_ALL, 1, |_| {});
    play.says(play.topic(Kind::Plan(app())), later.to_bytes());
    play.wait(1);
    assert_eq!(play.desk.replaced()[0].state(), &CourseState::Superseded);
    play.wait(1);
    play.wait(1);
    let superseded = play.told.iter().filter(|of| of.kind == MilestoneKind::Superseded);
    assert_eq!(superseded.map(|of| of.first).collect::<Vec<_>>(), [Revision(100)]);
    assert!(play.desk.replaced().is_empty());
    assert_eq!(play.desk.conductor(&app()).unwrap().first(), Revision(200_000));
}

#[test]
fn keys_that_change_take_what_they_do_not_prove_any_more() {
    let mut play = Play::begun(&["pi-1", "pi-2"], CANARY_THEN_ALL);
    let trust = play.topic(Kind::Trust);
    play.says(trust, samples::chain_with_other_ops().to_bytes());
    play.wait(1);
    assert!(play.state().is_none() && play.notes.contains(&Note::Keys(2)));
    // Nobody is told anything of it: who changes keys signs again what is to go on.
    assert!(!play.kinds().contains(&MilestoneKind::Stopped));
}

#[test]
fn a_plan_that_is_cleared_or_overwritten_goes_on_and_that_is_noted() {
    let mut play = Play::begun(&["pi-1", "pi-2"], CANARY_THEN_ALL);
    let plan = play.topic(Kind::Plan(app()));
    play.says(plan.clone(), b"rubbish".to_vec());
    play.says(plan, Vec::new());
    play.wait(1);
    assert_eq!(play.state(), Some(&CourseState::Running));
    let is_doubt = |note: &&Note| matches!(note, Note::NotBelieved(..));
    assert_eq!(play.notes.iter().filter(is_doubt).count(), 2);
}

#[test]
fn its_own_order_that_the_bus_has_lost_is_published_again() {
    let mut play = Play::begun(&["pi-1", "pi-2"], CANARY_THEN_ALL);
    let order = play.topic(Kind::Release("all".parse().unwrap(), app()));
    let given = play.retained[&order].clone();
    play.says(order.clone(), Vec::new());
    let published: Vec<Topic> = (0..12).flat_map(|_| play.wait(1)).collect();
    assert_eq!(published.iter().filter(|topic| **topic == order).count(), 1);
    assert_eq!(play.retained[&order], given);
}

#[test]
fn what_comes_together_is_looked_at_together() {
    let mut play = Play::begun(&["pi-1", "pi-2"], CANARY_THEN_ALL);
    play.wait(1);
    let now_ms = at(play.secs).mono_ms;
    assert_eq!(play.desk.poll_timeout(), now_ms + 1_000);
    // What it says itself gives nothing to decide.
    let course = play.topic(Kind::Course(app()));
    play.says(course.clone(), play.retained[&course].clone());
    assert_eq!(play.desk.poll_timeout(), now_ms + 1_000);
    play.keeps("pi-1");
    play.keeps("pi-2");
    assert_eq!(play.desk.poll_timeout(), now_ms + 50);
}

#[test]
fn who_has_no_key_may_halt_a_rollout_and_end_that_halt_and_no_other_pause() {
    let ask = |play: &mut Play, what| {
        play.desk.handle(Event::Ask(&BusAsk { what, app: app() }), at(play.secs));
        play.wait(1);
    };
    let why = |play: &Play| play.state().unwrap().cause().map(|pause| pause.why);
    let mut play = Play::begun(&["pi-1", "pi-2", "pi-3"], CANARY_THEN_ALL);
    ask(&mut play, BusAskKind::Resume);
    assert_eq!(play.state(), Some(&CourseState::Running));
    ask(&mut play, BusAskKind::Halt);
    assert_eq!((why(&play), play.order().0), (Some(PauseReason::Operator), OrderState::Paused));
    play.restart();
    play.wait(1);
    play.wait(1);
    assert_eq!(why(&play), Some(PauseReason::Operator), "it outlives the controller");
    ask(&mut play, BusAskKind::Resume);
    assert_eq!((play.state(), play.order().0), (Some(&CourseState::Running), OrderState::Active));
    assert_eq!(play.kinds().iter().filter(|kind| **kind == MilestoneKind::Resumed).count(), 1);

    // Nobody ends by that what somebody with a key wants.
    let paused = play.sample.planned(CANARY_THEN_ALL, 2, |rollout| rollout.wish = Wish::Pause);
    play.says(play.topic(Kind::Plan(app())), paused.to_bytes());
    play.wait(1);
    ask(&mut play, BusAskKind::Resume);
    assert_eq!(why(&play), Some(PauseReason::Operator));

    // Nor what failures have stopped.
    let mut play = Play::begun(&["pi-1", "pi-2", "pi-3"], CANARY_THEN_ALL);
    let failed = Outcome { release: play.planned.release.digest(), ..outcome(100, Verdict::RolledBack) };
    let canary = play.canary();
    let report = play.sample.report(&canary, 2, vec![ended(failed)]);
    play.says(play.sample.topic(&canary, NodeTopic::Report), report);
    play.wait(1);
    assert_eq!(why(&play), Some(PauseReason::Failures));
    for what in [BusAskKind::Halt, BusAskKind::Resume] {
        ask(&mut play, what);
        assert_eq!(why(&play), Some(PauseReason::Failures));
    }
}

#[test]
fn anybody_who_may_ask_pauses_it_and_only_a_signed_wish_lets_it_go_on() {
    let mut play = Play::begun(&["pi-1", "pi-2"], CANARY_THEN_ALL);
    let pause = |play: &mut Play| play.desk.pause(&app(), "anna has paused it".to_owned(), at(play.secs));
    assert_eq!(pause(&mut play), Ok(()));
    assert!(!play.wait(0).is_empty());
    assert_eq!(play.state().unwrap().cause().unwrap().text, "anna has paused it");
    assert_eq!(play.order().0, OrderState::Paused);
    assert_eq!(pause(&mut play), Err(NotPaused::NotOn));
    // Not even who may halt it.
    play.desk.handle(Event::Ask(&BusAsk { what: BusAskKind::Resume, app: app() }), at(play.secs));
    play.wait(0);
    assert_eq!(play.order().0, OrderState::Paused);
    assert_eq!(play.desk.pause(&"api".parse().unwrap(), String::new(), at(1)), Err(NotPaused::NotHere));
    // Whoever goes on with it after a restart does not take it for running.
    play.restart();
    (0..5).for_each(|_| drop(play.wait(1)));
    assert_eq!(play.state().unwrap().name(), "paused");
    let resumed = play.sample.planned(CANARY_THEN_ALL, 2, |_| {});
    play.says(play.topic(Kind::Plan(app())), resumed.to_bytes());
    play.wait(1);
    assert_eq!(play.state(), Some(&CourseState::Running));
    assert_eq!(play.order().0, OrderState::Active);
}

#[test]
fn what_is_carried_out_elsewhere_is_not_paused_here() {
    let mut play = Play::begun(&["pi-1", "pi-2"], CANARY_THEN_ALL);
    play.desk.handle(Event::Lost, at(1));
    assert_eq!(play.desk.pause(&app(), String::new(), at(1)), Err(NotPaused::NotHere));
}
