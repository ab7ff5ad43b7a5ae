//! Rollouts as people live through them. Nodes are puppets here: they say what a test lets them say.

mod arrows;
mod restart;
mod revert;

use std::time::Duration;

use schemas::{
    announcement::Announcement,
    id::{Digest, GroupId, NodeId},
    order::{Audience, OrderState},
    report::{AppReport, Outcome, Verdict},
    rollout::{CourseState, PauseReason, Rollout, WaveState, Wish},
    seal::Signed,
    status::Phase,
    topic::NodeTopic,
};

use super::*;
use crate::samples::{NOW, Sample, at, controller_key, ended, idle, outcome, working};

const CANARY_THEN_ALL: &str = "[[stage]]\ngroup = \"all\"\nwaves = [\"1\", \"100%\"]";

/// A fleet of puppets and the rollout that is carried out over it.
struct Play {
    sample: Sample,
    fleet: Fleet,
    plan: String,
    planned: Planned,
    conductor: Conductor,
    now: Now,
    seq: u64,
    told: Vec<Milestone>,
    not_before: UnixTime,
    arrows: Vec<(&'static str, &'static str)>,
}

impl Play {
    fn new(nodes: usize, plan: &str) -> Self {
        Self::with(nodes, plan, |_| {})
    }

    fn with(nodes: usize, plan: &str, change: impl FnOnce(&mut Rollout)) -> Self {
        let sample = Sample::new();
        let names: Vec<String> = (0..nodes).map(|n| format!("pi-{n}")).collect();
        let members: Vec<_> = names.iter().map(|name| (name.as_str(), Some(idle(1)))).collect();
        let mut fleet = sample.fleet(&members);
        let planned = sample.planned(plan, 1, change);
        let now = at(0);
        let plans = planned.verify(&sample.trust, &app()).unwrap();
        fleet.take(&Kind::Plan(app()).of(sample.trust.fleet()), &planned.to_bytes());
        let not_before = plans.rollout.not_before;
        let conductor = Conductor::begin(&planned, plans, &fleet, 1, now);
        let (plan, told, arrows) = (plan.to_owned(), Vec::new(), Vec::new());
        let mut play =
            Self { sample, fleet, plan, planned, conductor, now, seq: 1, told, not_before, arrows };
        play.step();
        play
    }

    fn step(&mut self) {
        let deeds = self.conductor.step(&self.fleet, Changed::All, self.now, &controller_key());
        for deed in deeds {
            match deed {
                Deed::Publish(topic, payload) => drop(self.fleet.take(&topic, &payload)),
                Deed::Tell(milestone) => self.told.push(milestone),
                Deed::Note(_) => {}
            }
        }
        self.arrows.append(&mut self.conductor.arrows);
        check::check(&self.conductor).unwrap();
    }

    fn wait(&mut self, time: Duration) {
        self.now.mono_ms += u64::try_from(time.as_millis()).unwrap();
        self.now.wall = self.now.wall.plus_secs(time.as_secs());
        self.step();
    }

    fn says(&mut self, node: &str, app: AppReport) {
        self.seq += 1;
        self.sample.says(&mut self.fleet, node, self.seq, Some(app));
        self.step();
    }

    fn ends(&mut self, node: &str, verdict: Verdict) {
        let outcome = self.outcome(verdict);
        self.says(node, ended(outcome));
    }

    fn outcome(&self, verdict: Verdict) -> Outcome {
        Outcome { release: self.release(), ..outcome(self.conductor.first().0, verdict) }
    }

    fn release(&self) -> Digest {
        self.planned.release.digest()
    }

    fn is_online(&mut self, node: &str, online: bool) {
        let text: &[u8] = if online { b"online" } else { b"offline" };
        self.fleet.take(&self.sample.topic(node, NodeTopic::Availability), text);
        self.step();
    }

    fn wish(&mut self, change: impl FnOnce(&mut Rollout)) {
        let seq = self.conductor.rollout.seq.0 + 1;
        let not_before = self.not_before;
        self.planned = self.sample.planned(&self.plan, seq, |rollout| {
            rollout.not_before = not_before;
            change(rollout);
        });
        let plans = self.planned.verify(&self.sample.trust, &app()).unwrap();
        self.conductor.renew(&self.planned, &plans);
        self.step();
    }

    /// The controller dies, and another one reads the bus.
    fn restart(&mut self) {
        self.restart_in_term(self.conductor.term());
    }

    /// Another one takes over.
    fn restart_in_term(&mut self, term: u64) {
        let course = self.fleet.rollouts().course(&app()).unwrap().clone();
        let plans = self.planned.verify(&self.sample.trust, &app()).unwrap();
        self.conductor = Conductor::resume(&self.planned, plans, &course, &self.fleet, term, self.now);
        self.step();
    }

    fn order(&self, group: &str) -> (OrderState, Vec<String>) {
        let key = (group.parse::<GroupId>().unwrap(), app());
        let order = &self.fleet.orders()[&key].believed().unwrap().announced.order;
        let names = match &order.audience {
            Audience::All => vec!["*".to_owned()],
            Audience::Nodes(nodes) => nodes.iter().map(ToString::to_string).collect(),
            Audience::Share { .. } => vec!["share".to_owned()],
        };
        (order.state, names)
    }

    fn wave(&self, wave: usize) -> Vec<String> {
        let of_wave = |(node, at, _): (&NodeId, usize, &NodeState)| (at == wave).then(|| node.to_string());
        self.conductor.seats().filter_map(of_wave).collect()
    }

    fn canary(&self) -> String {
        self.wave(0)[0].clone()
    }

    fn state_of(&self, node: &str) -> &'static str {
        self.conductor.seat(&node.parse().unwrap()).unwrap().1.name()
    }

    fn last_told(&self) -> &str {
        self.told.last().map(|milestone| milestone.text.as_str()).unwrap_or_default()
    }

    fn why(&self) -> PauseReason {
        self.conductor.state().cause().unwrap().why
    }
}

fn app() -> AppId {
    "web".parse().unwrap()
}

const MINUTE: Duration = Duration::from_mins(1);

#[test]
fn all_is_well_wave_after_wave_and_then_it_is_for_everybody() {
    use MilestoneKind::{Completed, Started, WaveOpened, WavePassed};
    let mut play = Play::new(5, CANARY_THEN_ALL);
    let canary = play.canary();
    assert_eq!(play.order("all"), (OrderState::Active, vec![canary.clone()]));
    play.ends(&canary, Verdict::Kept);
    assert_eq!(play.order("all").1.len(), 5);
    for node in play.wave(1) {
        assert_eq!(*play.conductor.state(), CourseState::Running);
        play.ends(&node, Verdict::Kept);
    }
    assert_eq!(*play.conductor.state(), CourseState::Completed);
    assert_eq!(play.order("all"), (OrderState::Active, vec!["*".to_owned()]));
    let told: Vec<MilestoneKind> = play.told.iter().map(|milestone| milestone.kind).collect();
    assert_eq!(told, [Started, WaveOpened, WavePassed, WaveOpened, WavePassed, Completed]);
}

#[test]
fn a_bad_canary_stops_it_before_a_second_node_is_hurt() {
    let mut play = Play::new(5, CANARY_THEN_ALL);
    let canary = play.canary();
    play.says(&canary, working(100, Phase::Trial, 0));
    play.ends(&canary, Verdict::RolledBack);
    assert_eq!(play.why(), PauseReason::Failures);
    assert_eq!(play.order("all"), (OrderState::Paused, vec![canary.clone()]));
    for node in play.wave(1) {
        assert_eq!(play.state_of(&node), "waiting");
    }
    let cause = play.conductor.state().cause().unwrap();
    assert_eq!(cause.text, format!("1 node failed, it stops at 1: {canary}"));
    assert_eq!(play.conductor.waves()[0].state, WaveState::Failed);
}

#[test]
fn hundred_nodes_ten_online_all_ten_fail_and_it_stops() {
    let mut play = Play::new(100, "[[stage]]\ngroup = \"all\"\nmax_failure_rate = \"30%\"\nmin_reports = 3");
    for n in 10..100 {
        play.fleet.take(&play.sample.topic(&format!("pi-{n}"), NodeTopic::Availability), b"offline");
    }
    play.step();
    for n in 0..10 {
        let node = format!("pi-{n}");
        let stops = play.conductor.state().cause().is_some();
        assert_eq!(stops, n >= 3, "after {n} failures");
        play.ends(&node, Verdict::RolledBack);
    }
    assert_eq!((play.why(), play.order("all").0), (PauseReason::Failures, OrderState::Paused));
}

#[test]
fn a_canary_that_is_away_is_no_success() {
    let mut play = Play::new(2, &format!("{CANARY_THEN_ALL}\ndeadline = \"30m\""));
    let canary = play.canary();
    play.is_online(&canary, false);
    assert_eq!(play.state_of(&canary), "excused");
    play.wait(29 * MINUTE);
    assert_eq!(*play.conductor.state(), CourseState::Running);
    play.wait(MINUTE);
    assert_eq!(play.why(), PauseReason::Inconclusive);
    // It comes back: nothing begins before somebody says so, and an order that is paused needs no answer.
    play.is_online(&canary, true);
    play.wait(6 * MINUTE);
    assert_eq!((play.order("all").0, play.state_of(&canary)), (OrderState::Paused, "offered"));
    play.wish(|_| {});
    assert_eq!(play.order("all"), (OrderState::Active, vec![canary.clone()]));
    play.ends(&canary, Verdict::Kept);
    assert_eq!(play.conductor.waves()[1].state, WaveState::Open);
}

#[test]
fn silence_after_the_switch_is_a_failure_and_silence_before_the_order_is_none() {
    let mut play = Play::new(3, CANARY_THEN_ALL);
    let canary = play.canary();
    play.says(&canary, working(100, Phase::Trial, 0));
    play.is_online(&canary, false);
    play.wait(6 * MINUTE);
    assert_eq!(play.state_of(&canary), "trial");
    play.wait(2 * MINUTE);
    assert_eq!((play.state_of(&canary), play.why()), ("lost", PauseReason::Failures));
    // What it says when it is back is what counts.
    play.is_online(&canary, true);
    play.ends(&canary, Verdict::Kept);
    assert_eq!(play.state_of(&canary), "good");
}

#[test]
fn a_node_that_is_there_and_never_answers_is_lost() {
    let mut play = Play::new(2, CANARY_THEN_ALL);
    let canary = play.canary();
    assert_eq!(play.state_of(&canary), "offered");
    play.wait(5 * MINUTE);
    assert_eq!((play.state_of(&canary), play.why()), ("lost", PauseReason::Failures));
}

#[test]
fn a_node_that_holds_itself_back_is_waited_for() {
    let mut play = Play::new(2, CANARY_THEN_ALL);
    let canary = play.canary();
    play.says(&canary, working(100, Phase::Deferred, 0));
    play.wait(600 * MINUTE);
    assert_eq!((play.state_of(&canary), play.conductor.state()), ("deferred", &CourseState::Running));
}

#[test]
fn who_gets_on_is_given_time() {
    let mut play = Play::new(2, CANARY_THEN_ALL);
    let canary = play.canary();
    for permille in 0..9 {
        play.says(&canary, working(100, Phase::Fetching, permille * 100));
        play.wait(19 * MINUTE);
    }
    assert_eq!(*play.conductor.state(), CourseState::Running);
    play.wait(MINUTE);
    assert_eq!(play.why(), PauseReason::Failures);
}

#[test]
fn a_wave_must_stay_well_while_it_soaks() {
    let mut play = Play::new(2, &format!("{CANARY_THEN_ALL}\nsoak = \"10m\""));
    let canary = play.canary();
    play.ends(&canary, Verdict::Kept);
    play.wait(9 * MINUTE);
    assert_eq!(play.conductor.waves()[0].state, WaveState::Soaking);
    let sick = AppReport { healthy: Some(false), ..ended(play.outcome(Verdict::Kept)) };
    play.says(&canary, sick);
    assert_eq!((play.state_of(&canary), play.why()), ("unwell", PauseReason::Failures));
}

#[test]
fn a_node_that_is_away_at_the_end_of_its_soak_holds_the_next_wave() {
    let mut play = Play::new(2, &format!("{CANARY_THEN_ALL}\nsoak = \"2m\""));
    let canary = play.canary();
    play.ends(&canary, Verdict::Kept);
    play.is_online(&canary, false);
    play.wait(3 * MINUTE);
    assert_eq!((play.state_of(&canary), play.conductor.waves()[1].state), ("away", WaveState::Closed));
    play.wait(2 * MINUTE);
    assert_eq!((play.state_of(&canary), play.why()), ("lost", PauseReason::Failures));
}

#[test]
fn who_has_proven_itself_may_be_switched_off() {
    let mut play = Play::new(3, CANARY_THEN_ALL);
    let canary = play.canary();
    play.ends(&canary, Verdict::Kept);
    play.is_online(&canary, false);
    play.says(&play.wave(1)[0].clone(), working(101, Phase::Fetching, 5));
    play.wait(7 * MINUTE);
    assert_eq!((play.state_of(&canary), play.state_of(&play.wave(1)[1])), ("good", "lost"));
}

#[test]
fn resuming_needs_the_failures_to_be_known() {
    let mut play = Play::new(4, CANARY_THEN_ALL);
    let canary = play.canary();
    play.ends(&canary, Verdict::RolledBack);
    play.wish(|_| {});
    assert_eq!(play.why(), PauseReason::Failures, "the same failure stops it again");
    play.wish(|rollout| rollout.acknowledged = vec![canary.parse().unwrap()]);
    assert_eq!(*play.conductor.state(), CourseState::Running);
    let next = play.wave(1);
    assert!(play.order("all").1.contains(&next[0]));
    play.ends(&next[0], Verdict::Failed);
    assert_eq!(play.why(), PauseReason::Failures, "a new one does too");
}

#[test]
fn another_order_takes_its_place() {
    let mut play = Play::new(3, CANARY_THEN_ALL);
    let later = play.sample.announcement(100_101, 9, "1.2.0");
    let order = later.order.clone();
    let key = Kind::Release("canary".parse().unwrap(), app()).of(play.sample.trust.fleet());
    play.fleet.take(&key, &Announcement { order, ..later }.to_bytes());
    play.step();
    assert_eq!(*play.conductor.state(), CourseState::Running, "it is for another group");
    let mut play = Play::new(3, "[[stage]]\ngroup = \"canary\"");
    play.fleet.take(&key, &play.sample.announcement(100_101, 9, "1.2.0").to_bytes());
    play.step();
    assert_eq!(*play.conductor.state(), CourseState::Superseded);
}

#[test]
fn what_is_half_done_goes_no_further_when_another_order_takes_its_place() {
    let plan = "[[stage]]\ngroup = \"canary\"\nwaves = [\"1\"]\n[[stage]]\ngroup = \"all\"";
    let mut play = Play::new(3, plan);
    play.ends(&play.canary(), Verdict::Kept);
    assert_eq!(play.order("all").1.len(), 2);
    let other = play.sample.announcement(200_000, 9, "1.2.0");
    let canary = Kind::Release("canary".parse().unwrap(), app()).of(play.sample.trust.fleet());
    play.fleet.take(&canary, &other.to_bytes());
    play.step();
    assert_eq!(
        (play.conductor.state(), play.order("all")),
        (&CourseState::Superseded, (OrderState::Paused, vec![]))
    );
    // Not even a controller that was started again puts its own in the place of a person's.
    play.restart();
    play.wait(MINUTE);
    let there = &play.fleet.orders()[&("canary".parse().unwrap(), app())].believed().unwrap().announced;
    assert_eq!(there.order.revision.0, 200_000);
}

#[test]
fn a_wave_is_no_proof_when_its_node_is_taken_away() {
    let mut play = Play::new(3, &format!("{CANARY_THEN_ALL}\nsoak = \"10m\""));
    let canary = play.canary();
    play.ends(&canary, Verdict::Kept);
    let other = ended(Outcome { release: Digest::of(b"other"), ..outcome(200_000, Verdict::Kept) });
    play.says(&canary, other);
    assert_eq!((play.state_of(&canary), play.why()), ("failed", PauseReason::Failures));
    assert_eq!(play.conductor.waves()[1].state, WaveState::Closed);
}

#[test]
fn of_two_people_with_the_same_number_both_are_heard() {
    let mut play = Play::new(3, CANARY_THEN_ALL);
    play.wish(|rollout| rollout.approved = 1);
    let number = play.conductor.rollout.seq.0;
    play.planned = play.sample.planned(CANARY_THEN_ALL, number, |rollout| rollout.wish = Wish::Pause);
    let plans = play.planned.verify(&play.sample.trust, &app()).unwrap();
    play.conductor.renew(&play.planned, &plans);
    play.step();
    assert_eq!(play.why(), PauseReason::Operator);
}

#[test]
fn a_stage_waits_for_an_approval() {
    let plan = "[[stage]]\ngroup = \"canary\"\nwaves = [\"1\"]\n[[stage]]\ngroup = \"all\"\napproval = true";
    let mut play = Play::new(3, plan);
    let canary = play.canary();
    play.ends(&canary, Verdict::Kept);
    assert_eq!(*play.conductor.state(), CourseState::AwaitingApproval);
    assert_eq!(
        play.order("canary"),
        (OrderState::Active, vec![canary]),
        "one node was asked for, not the group"
    );
    play.wait(600 * MINUTE);
    play.wish(|rollout| rollout.approved = 1);
    assert_eq!((play.conductor.state(), play.order("all").1.len()), (&CourseState::Running, 2));
}

#[test]
fn what_an_earlier_rollout_left_half_done_goes_no_further() {
    let mut play = Play::new(3, CANARY_THEN_ALL);
    play.ends(&play.canary(), Verdict::Kept);
    assert_eq!(play.order("all").1.len(), 3);
    // Another one for the same app, which begins elsewhere.
    let plan = "[[stage]]\ngroup = \"canary\"\nwaves = [\"1\"]\nsoak = \"1h\"\n[[stage]]\ngroup = \"all\"";
    play.planned = play.sample.planned_from(200_000, plan, 1, |_| {});
    let plans = play.planned.verify(&play.sample.trust, &app()).unwrap();
    let old = std::mem::replace(
        &mut play.conductor,
        Conductor::begin(&play.planned, plans, &play.fleet, 1, play.now),
    );
    play.fleet.take(&Kind::Plan(app()).of(play.sample.trust.fleet()), &play.planned.to_bytes());
    assert_eq!(play.order("all").1.len(), 3);
    play.step();
    assert_eq!(play.order("all"), (OrderState::Paused, vec![]));
    assert_eq!(play.order("canary").1.len(), 1);
    assert_eq!(*{ old }.state(), CourseState::Running);
}

#[test]
fn it_begins_when_its_time_has_come() {
    let mut play = Play::with(2, CANARY_THEN_ALL, |rollout| rollout.not_before = NOW.plus_secs(3_600));
    play.wait(MINUTE);
    assert_eq!(*play.conductor.state(), CourseState::Scheduled);
    play.wish(|rollout| rollout.wish = Wish::Pause);
    play.wish(|_| {});
    assert_eq!(*play.conductor.state(), CourseState::Scheduled, "a pause does not bring it forward");
    play.wait(60 * MINUTE);
    assert_eq!(*play.conductor.state(), CourseState::Running);
}

#[test]
fn somebody_may_pause_it_and_nobody_to_go_to_is_said() {
    let mut play = Play::new(2, CANARY_THEN_ALL);
    play.wish(|rollout| rollout.wish = Wish::Pause);
    assert_eq!((play.why(), play.order("all").0), (PauseReason::Operator, OrderState::Paused));
    let mut later = Play::new(0, "[[stage]]\ngroup = \"all\"");
    assert_eq!(later.why(), PauseReason::Plan, "nobody is in it");
    later.wish(|_| {});
    assert!(later.conductor.state().is_over());
}

#[test]
fn no_more_nodes_install_at_the_same_time_than_the_plan_says() {
    let mut play = Play::new(9, "max_parallel = 2\n[[stage]]\ngroup = \"all\"");
    let mut done = 0;
    while *play.conductor.state() != CourseState::Completed {
        let (_, names) = play.order("all");
        let open: Vec<_> = names.into_iter().filter(|name| play.state_of(name) == "offered").collect();
        assert!((1..=2).contains(&open.len()), "{open:?}");
        play.ends(&open[0], Verdict::Kept);
        done += 1;
    }
    assert_eq!(done, 9);
}

#[test]
fn who_is_away_takes_no_place_and_holds_nobody_up() {
    let mut play = Play::new(3, "max_parallel = 1\n[[stage]]\ngroup = \"all\"\nwaves = [\"2\", \"100%\"]");
    let first = play.wave(0);
    let (away, there) = (first[1].clone(), first[0].clone());
    play.is_online(&away, false);
    assert_eq!((play.state_of(&away), play.order("all").1), ("excused", vec![there.clone()]));
    play.ends(&there, Verdict::Kept);
    assert_eq!(play.conductor.waves()[1].state, WaveState::Open);
    play.is_online(&away, true);
    assert_eq!(play.state_of(&away), "waiting", "the one of the next wave has the place");
    play.ends(&play.wave(1)[0].clone(), Verdict::Kept);
    assert_eq!(play.state_of(&away), "offered");
}

#[test]
fn what_was_said_before_a_node_was_given_up_does_not_bring_it_back() {
    let mut play = Play::new(3, "[[stage]]\ngroup = \"all\"\nmax_failures = 2");
    play.says("pi-0", working(100, Phase::Fetching, 5));
    play.is_online("pi-0", false);
    play.wait(21 * MINUTE);
    for _ in 0..3 {
        assert_eq!((play.state_of("pi-0"), play.conductor.tally(0).failures), ("lost", 3));
        play.wait(MINUTE);
        play.restart();
    }
    play.is_online("pi-0", true);
    play.ends("pi-0", Verdict::Kept);
    assert_eq!(play.state_of("pi-0"), "good");
}

#[test]
fn a_plan_that_cannot_be_carried_out_says_why_and_orders_nothing() {
    let play = Play::new(2, "[[stage]]\ngroup = \"all\"\nwaves = []");
    assert!(play.conductor.state().is_over() && play.fleet.orders().is_empty());
    assert_eq!(play.why(), PauseReason::Plan);
}

#[test]
fn a_course_is_read_back_as_it_was_signed() {
    let mut play = Play::new(3, CANARY_THEN_ALL);
    let canary = play.canary();
    play.ends(&canary, Verdict::RolledBack);
    let course = play.conductor.course();
    let signed = Signed::seal(&course, &[controller_key()]);
    let read = signed.verify_by(&controller_key().public(), play.sample.trust.fleet()).unwrap();
    assert_eq!(*read, course);
}
