//! Controllers that die and go on, or that others take the place of.

use schemas::rollout::{Course, Pause};

use super::*;

#[test]
fn a_controller_that_dies_at_any_moment_goes_on_where_it_was() {
    for at in 1..=8 {
        let mut play = Play::new(4, &format!("{CANARY_THEN_ALL}\nsoak = \"2m\""));
        let canary = play.canary();
        let (mut moments, mut has_died) = (0, false);
        let mut moment = |play: &mut Play| {
            moments += 1;
            if moments == at {
                let before = (play.conductor.state().clone(), play.order("all"));
                play.restart();
                has_died = true;
                assert_eq!((play.conductor.state().clone(), play.order("all")), before);
            }
        };
        moment(&mut play);
        play.says(&canary, working(100, Phase::Fetching, 5));
        moment(&mut play);
        play.ends(&canary, Verdict::Kept);
        moment(&mut play);
        play.wait(3 * MINUTE);
        moment(&mut play);
        for node in play.wave(1) {
            play.ends(&node, Verdict::Kept);
            moment(&mut play);
        }
        play.wait(3 * MINUTE);
        moment(&mut play);
        assert!(has_died, "there is no moment {at}");
        assert_eq!(*play.conductor.state(), CourseState::Completed, "died at {at}");
        assert_eq!(play.order("all").1, ["*"]);
    }
}

#[test]
fn what_was_signed_before_the_controller_died_is_published_again_to_the_byte() {
    let mut play = Play::new(3, CANARY_THEN_ALL);
    let given =
        play.fleet.orders()[&("all".parse().unwrap(), app())].believed().unwrap().announcement.clone();
    // The order is lost on the way to the disk, the course is not.
    play.fleet.take(&Kind::Release("all".parse().unwrap(), app()).of(play.sample.trust.fleet()), b"");
    play.wait(Duration::from_secs(1));
    play.restart();
    let again = &play.fleet.orders()[&("all".parse().unwrap(), app())].believed().unwrap().announcement;
    assert_eq!(again.to_bytes(), given.to_bytes());
}

#[test]
fn an_order_with_the_same_number_by_a_controller_of_another_term_is_overtaken() {
    let mut play = Play::new(3, CANARY_THEN_ALL);
    let key = ("all".parse::<GroupId>().unwrap(), app());
    let given = play.fleet.orders()[&key].believed().unwrap().announced.order.clone();
    let order = Order { audience: Audience::All, ..(*given).clone() };
    let announcement = Announcement {
        order: Signed::seal(&order, &[controller_key()]),
        release: play.planned.release.clone(),
        mandate: Some(play.planned.mandate.clone()),
    };
    play.fleet
        .take(&Kind::Release(key.0.clone(), app()).of(play.sample.trust.fleet()), &announcement.to_bytes());
    play.step();
    let there = &play.fleet.orders()[&key].believed().unwrap().announced.order;
    assert_eq!((there.revision.0, &there.audience), (given.revision.0 + 1, &given.audience));
}

/// Nobody has watched meanwhile, and the clock of the controller that goes on says what it likes.
fn is_down(play: &mut Play, jumps: i64) {
    play.now.mono_ms += 3_600_000;
    play.now.wall = UnixTime(play.now.wall.0.saturating_add_signed(jumps));
    play.restart();
}

#[test]
fn of_a_soak_counts_what_a_controller_has_watched_whatever_clocks_say() {
    for jumps in [3_600, 1_000_000, -1_000_000, 0] {
        let mut play = Play::new(2, &format!("{CANARY_THEN_ALL}\nsoak = \"10m\""));
        let canary = play.canary();
        play.ends(&canary, Verdict::Kept);
        for _ in 0..5 {
            play.wait(MINUTE);
        }
        is_down(&mut play, jumps);
        for _ in 0..4 {
            play.wait(MINUTE);
            assert_eq!(play.conductor.waves()[0].state, WaveState::Soaking, "{jumps}");
        }
        // What was written down last may be a tenth behind.
        play.wait(MINUTE);
        play.wait(MINUTE);
        assert_eq!(play.conductor.waves()[0].state, WaveState::Passed, "{jumps}");
    }
}

#[test]
fn a_controller_that_never_lives_long_gets_through_a_soak_all_the_same() {
    let mut play = Play::new(2, &format!("{CANARY_THEN_ALL}\nsoak = \"10m\""));
    let canary = play.canary();
    play.ends(&canary, Verdict::Kept);
    let mut lives = 0;
    while play.conductor.waves()[0].state == WaveState::Soaking {
        play.wait(2 * MINUTE);
        is_down(&mut play, 3_600);
        lives += 1;
    }
    assert!((5..=6).contains(&lives), "{lives}");
}

#[test]
fn a_wave_whose_nodes_are_away_is_waited_for_anew_by_who_goes_on() {
    let mut play = Play::new(2, &format!("{CANARY_THEN_ALL}\ndeadline = \"30m\""));
    let canary = play.canary();
    play.is_online(&canary, false);
    is_down(&mut play, 1_000_000);
    play.wait(29 * MINUTE);
    assert_eq!(*play.conductor.state(), CourseState::Running);
    play.wait(2 * MINUTE);
    assert_eq!(play.why(), PauseReason::Inconclusive);
}

/// What the bus has as the course, changed by hand and taken up by a controller with the same key.
pub(super) fn resumes_from(play: &mut Play, change: impl FnOnce(&mut Course)) {
    let mut course = play.fleet.rollouts().course(&app()).unwrap().clone().into_inner();
    course.seq = course.seq.next(0);
    change(&mut course);
    let bytes = Signed::seal(&course, &[controller_key()]).to_bytes();
    play.fleet.take(&Kind::Course(app()).of(play.sample.trust.fleet()), &bytes);
    play.restart();
}

#[test]
fn a_course_that_does_not_fit_its_plan_ends_the_rollout_and_nothing_else() {
    let changes: [fn(&mut Course); 3] = [
        |course| course.waves[0].stage = 9,
        |course| {
            let seats = course.waves[0].seats.clone();
            course.waves[1].seats.extend(seats);
        },
        |course| {
            let cause = Pause { why: PauseReason::Operator, text: String::new(), at: NOW };
            course.state = CourseState::Reverting { cause, wave: u32::MAX };
        },
    ];
    for change in changes {
        let mut play = Play::new(4, &format!("{CANARY_THEN_ALL}\nmax_parallel = 1"));
        let canary = play.canary();
        play.says(&canary, working(100, Phase::Fetching, 5));
        resumes_from(&mut play, change);
        assert!(matches!(play.conductor.state(), CourseState::Aborted { reverted: false, .. }));
        assert!(play.last_told().contains("cannot read how it stands"), "{}", play.last_told());
        assert_eq!(play.order("all"), (OrderState::Paused, Vec::new()));
    }
}

#[test]
fn a_course_that_is_older_than_its_orders_is_not_gone_on_from() {
    let mut play = Play::new(3, &format!("{CANARY_THEN_ALL}\nsoak = \"1h\""));
    let before = play.fleet.rollouts().course(&app()).unwrap().clone().into_inner();
    let canary = play.canary();
    play.ends(&canary, Verdict::Kept);
    play.wish(|rollout| rollout.wish = Wish::Pause);
    assert_eq!(play.order("all").0, OrderState::Paused);
    // Somebody tells a controller that knows nothing what was so before the pause.
    resumes_from(&mut play, |course| *course = Course { seq: course.seq, ..before });
    assert_eq!(play.why(), PauseReason::Unknown);
    assert_eq!(play.order("all").0, OrderState::Paused);
}

#[test]
fn what_a_controller_of_an_earlier_term_has_on_its_way_comes_too_late() {
    let mut play = Play::new(3, CANARY_THEN_ALL);
    let given = play.fleet.order(&"all".parse().unwrap(), &app()).unwrap().announced.order.revision;
    play.restart_in_term(9);
    let again = play.fleet.order(&"all".parse().unwrap(), &app()).unwrap().announced.order.clone();
    assert!(again.revision.0 >= given.0 + 100, "{} after {given}", again.revision);
    assert_eq!((again.state, play.order("all").1), (OrderState::Active, play.wave(0)));
    // And once is enough.
    let revision = again.revision;
    play.wait(MINUTE);
    assert_eq!(play.fleet.order(&"all".parse().unwrap(), &app()).unwrap().announced.order.revision, revision);
}

#[test]
fn an_order_that_nobody_remembers_goes_no_further_and_is_noted_once() {
    let plan = "[[stage]]\ngroup = \"canary\"\nwaves = [\"1\"]\n[[stage]]\ngroup = \"all\"";
    let mut play = Play::new(3, plan);
    let mine = play.fleet.order(&"canary".parse().unwrap(), &app()).unwrap().announced.order.clone();
    // By a thief of the controller's key, for a group whose waves are closed.
    let order =
        Order { group: "all".parse().unwrap(), revision: Revision(mine.revision.0 + 7), ..(*mine).clone() };
    let announcement = Announcement {
        order: Signed::seal(&order, &[controller_key()]),
        release: play.planned.release.clone(),
        mandate: Some(play.planned.mandate.clone()),
    };
    let topic = Kind::Release("all".parse().unwrap(), app()).of(play.sample.trust.fleet());
    play.fleet.take(&topic, &announcement.to_bytes());
    play.step();
    assert_eq!(play.order("all"), (OrderState::Paused, Vec::new()));
    let seq = play.conductor.course().seq;
    play.step();
    play.step();
    assert_eq!(play.conductor.course().seq, seq);
}
