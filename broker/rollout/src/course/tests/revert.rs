//! Nodes that go back, and those that do not.

use super::*;

#[test]
fn an_abort_lets_nodes_go_back_newest_first() {
    let plan = "[[stage]]\ngroup = \"all\"\nwaves = [\"1\", \"2\", \"100%\"]";
    let mut play = Play::new(4, plan);
    let (first, second) = (play.canary(), play.wave(1)[0].clone());
    play.ends(&first, Verdict::Kept);
    play.ends(&second, Verdict::Kept);
    play.wish(|rollout| rollout.wish = Wish::Abort { revert: true });
    assert!(matches!(
        play.conductor.state(),
        CourseState::Reverting { wave: 2, .. } | CourseState::Reverting { wave: 1, .. }
    ));
    let back = |revision| ended(outcome(revision, Verdict::Kept));
    assert_eq!(play.order("all").0, OrderState::Withdrawn { revert: true });
    assert!(!play.order("all").1.contains(&first));
    play.says(&second, back(110));
    assert!(play.order("all").1.contains(&first));
    play.says(&first, back(111));
    assert!(matches!(play.conductor.state(), CourseState::Aborted { reverted: true, .. }));
    assert_eq!(play.order("all"), (OrderState::Withdrawn { revert: true }, vec!["*".to_owned()]));
    let (_, state) = play.conductor.seat(&first.parse().unwrap()).unwrap();
    assert_eq!(*state, NodeState::Skipped(Skip::WentBack));
}

#[test]
fn a_plan_may_say_that_a_failure_lets_all_go_back() {
    let mut play = Play::new(3, &format!("on_failure = \"revert\"\n{CANARY_THEN_ALL}"));
    let canary = play.canary();
    play.ends(&canary, Verdict::RolledBack);
    assert!(matches!(play.conductor.state(), CourseState::Aborted { reverted: true, .. }));
    assert_eq!(play.why(), PauseReason::Failures);
}

#[test]
fn a_controller_that_dies_while_nodes_go_back_lets_them_have_their_time() {
    let mut play =
        Play::new(4, "[[stage]]\ngroup = \"all\"\nwaves = [\"1\", \"2\", \"100%\"]\nsoak = \"1h\"");
    let first = play.canary();
    play.ends(&first, Verdict::Kept);
    play.wait(61 * MINUTE);
    play.wish(|rollout| rollout.wish = Wish::Abort { revert: true });
    play.wait(MINUTE);
    play.restart();
    assert!(matches!(play.conductor.state(), CourseState::Reverting { .. }), "{:?}", play.conductor.state());
    play.wait(30 * MINUTE);
    assert!(play.conductor.state().is_over(), "and no more than that");
}
