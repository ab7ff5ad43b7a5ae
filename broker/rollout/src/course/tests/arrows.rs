//! Rollouts of every state, and all that may happen to them.

use std::collections::BTreeSet;

use super::{restart::resumes_from, *};
use crate::course::arrows::ARROWS;

const PLAN: &str = "[[stage]]\ngroup = \"canary\"\nwaves = [\"1\", \"100%\"]\nsoak = \"1h\"";

/// One whose first wave soaks.
fn running() -> Play {
    let mut play = Play::new(3, PLAN);
    play.ends(&play.canary(), Verdict::Kept);
    play
}

fn scheduled() -> Play {
    Play::with(3, PLAN, |rollout| rollout.not_before = NOW.plus_secs(3_600))
}

/// One whose time has not come yet, or that is on its way.
fn paused(mut play: Play) -> Play {
    pauses(&mut play);
    play
}

fn awaiting_approval() -> Play {
    let plan = "[[stage]]\ngroup = \"canary\"\nwaves = [\"1\"]\n[[stage]]\ngroup = \"all\"\napproval = true";
    let mut play = Play::new(3, plan);
    play.ends(&play.canary(), Verdict::Kept);
    play
}

/// Two waves are to go back.
fn reverting() -> Play {
    let mut play = running();
    play.wait(61 * MINUTE);
    play.wave(1).iter().for_each(|node| play.ends(node, Verdict::Kept));
    goes_back(&mut play);
    play
}

fn completed() -> Play {
    let mut play = running();
    all_keep_it(&mut play);
    play
}

fn aborted() -> Play {
    let mut play = running();
    ends(&mut play);
    play
}

fn pauses(play: &mut Play) {
    play.wish(|rollout| rollout.wish = Wish::Pause);
}

fn goes_on(play: &mut Play) {
    play.wish(|_| {});
}

fn is_approved(play: &mut Play) {
    play.wish(|rollout| rollout.approved = 1);
}

fn ends(play: &mut Play) {
    play.wish(|rollout| rollout.wish = Wish::Abort { revert: false });
}

fn goes_back(play: &mut Play) {
    play.wish(|rollout| rollout.wish = Wish::Abort { revert: true });
}

fn time_passes(play: &mut Play) {
    (0..5).for_each(|_| play.wait(61 * MINUTE));
}

fn all_keep_it(play: &mut Play) {
    for wave in 0..play.conductor.waves().len() {
        play.wave(wave).iter().for_each(|node| play.ends(node, Verdict::Kept));
        play.wait(61 * MINUTE);
    }
}

fn another_order_comes(play: &mut Play) {
    let topic = Kind::Release("canary".parse().unwrap(), app()).of(play.sample.trust.fleet());
    play.fleet.take(&topic, &play.sample.announcement(200_000, 9, "1.2.0").to_bytes());
    play.step();
}

fn its_course_is_old(play: &mut Play) {
    resumes_from(play, |course| {
        course.revision = Revision(course.revision.0 - 1);
        course.orders.clear();
    });
}

fn its_course_is_nonsense(play: &mut Play) {
    if !play.conductor.state().is_over() {
        resumes_from(play, |course| course.waves[0].stage = 9);
    }
}

#[test]
fn every_arrow_of_the_diagram_exists() {
    let starts: [fn() -> Play; 8] = [
        scheduled,
        running,
        awaiting_approval,
        || paused(running()),
        || paused(scheduled()),
        reverting,
        completed,
        aborted,
    ];
    let acts: [fn(&mut Play); 10] = [
        pauses,
        goes_on,
        is_approved,
        ends,
        goes_back,
        time_passes,
        all_keep_it,
        another_order_comes,
        its_course_is_old,
        its_course_is_nonsense,
    ];
    let mut taken = BTreeSet::new();
    for start in starts {
        for act in acts {
            let mut play = start();
            act(&mut play);
            taken.extend(play.arrows);
        }
    }
    let never: Vec<_> = ARROWS.iter().filter(|arrow| !taken.contains(*arrow)).collect();
    assert!(never.is_empty(), "nobody takes {never:?}");
}
