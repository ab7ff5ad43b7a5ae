//! Rollouts as people read them, told by a real controller.

use rollout::{
    Change, Desk, Event,
    samples::{NOW, Sample, at, controller_key, desk, ended, idle, look, node, node_key, outcome, working},
};
use schemas::{
    announcement::Announcement,
    report::{AppReport, Outcome, Verdict},
    rollout::{Controller, Lease, Planned, Rollout, Wish},
    seal::{Head, SecretKey, Signed},
    status::Phase,
    topic::{Kind, NodeTopic, Topic},
};

use super::*;
use crate::{
    watch::{self, Watcher},
    why,
};

const PLAN: &str = "[[stage]]\ngroup = \"all\"\nwaves = [\"1\", \"100%\"]\nsoak = \"2m\"";

/// A fleet, a rollout over it, and the controller.
struct Story {
    sample: Sample,
    desk: Desk,
    planned: Planned,
    now: Now,
    seq: u64,
}

impl Story {
    fn new(plan: &str, nodes: &[&str]) -> Self {
        let sample = Sample::new();
        let members: Vec<_> = nodes.iter().map(|name| (*name, Some(idle(1)))).collect();
        let mut fleet = sample.fleet(&members);
        let planned = sample.planned(plan, 1, |_| {});
        fleet.take(&Kind::Plan(web()).of(sample.trust.fleet()), &planned.to_bytes());
        let mut story = Self { sample, desk: desk(fleet), planned, now: at(0), seq: 1 };
        story.lease(30);
        story.step();
        story
    }

    fn lease(&mut self, secs: u64) {
        let lease = Lease { app: web(), first: Revision(100), term: 4 };
        self.is_there(&controller_key(), secs, vec![lease]);
    }

    /// A controller is there for so long.
    fn is_there(&mut self, key: &SecretKey, secs: u64, leases: Vec<Lease>) {
        let (head, until) = (Head::new(self.sample.trust.fleet().clone(), NOW), NOW.plus_secs(secs));
        let said = Controller { head, key: key.public(), program: "broker 1.0.0".into(), until, leases };
        let topic = Kind::Controller(key.public().id()).of(self.sample.trust.fleet());
        self.hears(&topic, &Signed::seal(&said, std::slice::from_ref(key)).to_bytes());
    }

    fn hears(&mut self, topic: &Topic, payload: &[u8]) {
        self.desk.handle(Event::Message(topic, payload), self.now);
    }

    fn step(&mut self) {
        look(&mut self.desk, self.now);
    }

    fn wait(&mut self, secs: u64) {
        self.now = Now { mono_ms: self.now.mono_ms + secs * 1_000, wall: self.now.wall.plus_secs(secs) };
        self.lease(self.now.wall.0 - NOW.0 + 30);
        self.step();
    }

    fn says(&mut self, name: &str, app: AppReport) {
        self.seq += 1;
        let report = self.sample.report(name, self.seq, vec![app]);
        let topic = self.sample.topic(name, NodeTopic::Report);
        self.hears(&topic, &report);
        self.step();
    }

    fn ends(&mut self, name: &str, verdict: Verdict) {
        let release = self.planned.release.digest();
        let reason = (verdict != Verdict::Kept).then_some(Reason::Unhealthy);
        let text = reason.map(|_| "it answered 500".to_owned()).unwrap_or_default();
        let log_tail = reason.map(|_| "Traceback".to_owned()).into_iter().collect();
        self.says(name, ended(Outcome { release, reason, text, log_tail, ..outcome(100, verdict) }));
    }

    fn wish(&mut self, plan: &str, change: impl FnOnce(&mut Rollout)) {
        self.planned = self.sample.planned(plan, 2, change);
        let topic = Kind::Plan(web()).of(self.sample.trust.fleet());
        let planned = self.planned.to_bytes();
        self.hears(&topic, &planned);
        self.step();
    }

    fn canary(&self) -> String {
        let conductor = self.desk.conductor(&web()).unwrap();
        conductor.seats().find(|(_, wave, _)| *wave == 0).unwrap().0.to_string()
    }

    fn wanted(&self) -> &Wanted {
        self.desk.fleet().rollouts().plan(&web()).unwrap()
    }

    fn view(&self) -> RolloutView {
        view(self.desk.fleet(), self.wanted(), self.now.wall)
    }

    fn text(&self) -> String {
        text(&self.view(), self.now.wall, false)
    }

    fn why(&self, name: &str) -> String {
        why::text(&why::why(self.desk.fleet(), &node(name), None, self.now.wall).unwrap())
    }
}

fn web() -> AppId {
    "web".parse().unwrap()
}

const NODES: [&str; 4] = ["pi-barn", "pi-hall", "pi-roof", "pi-shed"];

/// The canary failed: who it is follows from the counter of the release.
fn failed() -> Story {
    let mut story = Story::new(PLAN, &NODES);
    let canary = story.canary();
    story.says(&canary, working(100, Phase::Fetching, 412));
    story.ends(&canary, Verdict::RolledBack);
    story.wait(90);
    story
}

#[test]
fn a_rollout_that_stopped_says_why_and_what_to_do() {
    let story = failed();
    insta::assert_snapshot!(story.text());
    let views = views(story.desk.fleet(), story.now.wall);
    insta::assert_json_snapshot!(json(&views, story.now.wall));
    insta::assert_json_snapshot!(list_json(&views, story.now.wall));
    insta::assert_snapshot!(list(&views, story.now.wall));
}

#[test]
fn failures_that_are_known_are_not_asked_about_again() {
    let mut story = failed();
    let canary = story.canary();
    let failures = |story: &Story| {
        let conductor = conductor(story.desk.fleet(), story.wanted(), story.now.wall).unwrap();
        super::failed(&conductor, story.wanted())
    };
    assert_eq!(failures(&story), [node(&canary)]);
    story.wish(PLAN, |rollout| rollout.acknowledged = vec![node(&canary)]);
    assert!(failures(&story).is_empty());
    assert_eq!(story.view().state, "running");
    assert!(story.text().contains(&format!("{canary} of wave 1 rolled back (acknowledged)")));
}

#[test]
fn a_rollout_on_its_way_shows_who_is_how_far() {
    let mut story = Story::new(PLAN, &NODES);
    let canary = story.canary();
    story.ends(&canary, Verdict::Kept);
    story.wait(50);
    assert!(
        story.text().contains("50 s, 70 s left") || story.text().contains("50 s, 1 min left"),
        "{}",
        story.text()
    );
    story.wait(71);
    let others: Vec<&str> = NODES.into_iter().filter(|name| *name != canary).collect();
    let mut waits = working(101, Phase::Deferred, 0);
    waits.target.as_mut().unwrap().waits_for = "its window, from 22:00 on".to_owned();
    story.says(others[0], waits);
    let topic = story.sample.topic(others[1], NodeTopic::Availability);
    story.hears(&topic, b"offline");
    story.step();
    insta::assert_snapshot!(story.text());
}

#[test]
fn a_wave_has_time_left_only_while_its_rollout_goes_on() {
    let mut story = Story::new(PLAN, &NODES);
    let canary = story.canary();
    story.ends(&canary, Verdict::Kept);
    assert_eq!((story.view().waves[0].state, story.view().waves[0].soak_left_s), ("soaking", Some(120)));
    story.wish(PLAN, |rollout| rollout.wish = Wish::Pause);
    assert_eq!((story.view().waves[0].state, story.view().waves[0].soak_left_s), ("soaking", None));
}

#[test]
fn no_controller_is_said_before_anything_else() {
    let mut story = Story::new(PLAN, &NODES);
    story.now.wall = NOW.plus_secs(600);
    let view = story.view();
    assert!(!view.controller.works && view.advice.contains("no controller works"), "{}", view.advice);
    assert!(story.text().contains("is away, for 9 min at least"), "{}", story.text());
    story.lease(700);
    assert_eq!(story.view().advice, "");
}

#[test]
fn a_rollout_whose_controllers_are_away_says_who_is_there_and_what_to_do() {
    let mut story = Story::new(PLAN, &NODES);
    story.now.wall = NOW.plus_secs(600);
    story.is_there(&node_key("other"), 700, Vec::new());
    insta::assert_snapshot!(story.text());
    assert!(story.why(&story.canary()).contains("> controller  cd78"), "{}", story.why(&story.canary()));
    // A stranger's lease is none.
    let lease = Lease { app: web(), first: Revision(100), term: u64::MAX };
    story.is_there(&node_key("other"), 700, vec![lease]);
    assert!(!story.view().controller.works);
    story.is_there(&controller_key(), 700, Vec::new());
    let view = story.view();
    assert!(view.advice.starts_with("wait: controller cd78"), "{}", view.advice);
}

#[test]
fn every_state_that_waits_for_a_person_says_for_what() {
    let mut story = Story::new(PLAN, &NODES);
    story.wish(PLAN, |rollout| rollout.wish = Wish::Pause);
    assert_eq!(story.view().advice, "`publisher rollout resume web`, or abort it");
    let approval = format!("{PLAN}\napproval = true");
    let story = Story::new(&approval, &NODES);
    assert_eq!(
        (story.view().state, story.view().advice.as_str()),
        ("awaiting_approval", "`publisher rollout approve web`")
    );
    let story = Story::new("[[stage]]\ngroup = \"nobody\"", &NODES);
    assert_eq!((story.view().state, story.view().reason), ("aborted", Some("plan")));
    assert!(story.view().advice.starts_with("correct the plan"));
}

#[test]
fn watch_tells_each_step_of_a_rollout_once() {
    let mut story = Story::new(PLAN, &NODES);
    let (mut watcher, mut told) = (Watcher::default(), Vec::new());
    let canary = story.canary();
    let mut look = |story: &Story| {
        for change in [Change::Plan(web()), Change::Course(web())] {
            told.extend(watcher.lines(story.desk.fleet(), &change).iter().map(watch::Line::plain));
        }
    };
    look(&story);
    story.says(&canary, working(100, Phase::Fetching, 5));
    look(&story);
    story.ends(&canary, Verdict::Kept);
    look(&story);
    story.wait(121);
    look(&story);
    assert_eq!(
        told,
        [
            "web rollout of 1.1.0 is running, wave 1 of 2 is open",
            "web rollout of 1.1.0 is running, wave 1 of 2 is soaking",
            "web rollout of 1.1.0 is running, wave 2 of 2 is open",
        ]
    );
}

#[test]
fn why_a_node_has_nothing_new_is_told_rule_by_rule() {
    let story = failed();
    let canary = story.canary();
    let other = NODES.into_iter().find(|name| *name != canary).unwrap();
    insta::assert_snapshot!(format!("{}\n\n════\n\n{}", story.why(&canary), story.why(other)));
    insta::assert_json_snapshot!(why::why(story.desk.fleet(), &node(&canary), None, story.now.wall).unwrap());
}

#[test]
fn why_names_what_holds_a_node_back_before_any_rollout() {
    let sample = Sample::new();
    let mut fleet = sample.fleet(&[("pi-1", Some(idle(1))), ("pi-2", None)]);
    fleet.take(&sample.topic("pi-2", NodeTopic::Availability), b"offline");
    fleet.take(&sample.topic("pi-3", NodeTopic::Availability), b"online");
    let kind = Kind::Release("canary".parse().unwrap(), web());
    let announcement: Announcement = sample.announcement(50, 9, "1.1.0");
    fleet.take(&kind.of(sample.trust.fleet()), &announcement.to_bytes());
    let why = |name: &str, now| why::text(&why::why(&fleet, &node(name), None, now).unwrap());
    assert!(why("pi-1", NOW).contains("this one applies"));
    assert!(why("pi-1", NOW.plus_secs(9_000)).contains("> order"), "{}", why("pi-1", NOW.plus_secs(9_000)));
    assert!(why("pi-2", NOW).contains("> online      offline"), "{}", why("pi-2", NOW));
    assert!(why("pi-2", NOW).contains("what to do: see that it has power"), "{}", why("pi-2", NOW));
    assert!(why("pi-3", NOW).contains("> record      there is none"), "{}", why("pi-3", NOW));
    assert!(why("pi-3", NOW).contains("what to do: `publisher node approve`"), "{}", why("pi-3", NOW));
    assert!(super::super::why::why(&fleet, &node("pi-9"), None, NOW).is_none());
}

#[test]
fn why_says_of_a_node_that_runs_it_that_nothing_holds_it_back() {
    let mut story = Story::new(PLAN, &NODES);
    let canary = story.canary();
    story.ends(&canary, Verdict::Kept);
    let text = story.why(&canary);
    assert!(text.contains("web: it runs what is ordered") && !text.contains("\n  > "), "{text}");
}
