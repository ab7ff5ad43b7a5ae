//! Controllers that die and go on, or that others take the place of.

use super::*;

#[test]
fn a_controller_that_dies_at_any_moment_goes_on_where_it_was() {
    for at in 0..12 {
        let mut play = Play::new(4, &format!("{CANARY_THEN_ALL}\nsoak = \"2m\""));
        let canary = play.canary();
        let mut moments = 0;
        let mut moment = |play: &mut Play| {
            moments += 1;
            if moments == at {
                let before = (play.conductor.state().clone(), play.order("all"));
                play.restart();
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
