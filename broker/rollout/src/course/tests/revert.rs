//! Nodes that go back, and those that do not.

use schemas::reason::Reason;

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

/// A rollout that three nodes have, which are told to go back.
fn told_to_go_back() -> Play {
    let mut play = Play::new(3, "[[stage]]\ngroup = \"all\"\nwaves = [\"100%\"]\nsoak = \"1h\"");
    for node in ["pi-0", "pi-1", "pi-2"] {
        play.ends(node, Verdict::Kept);
    }
    play.wish(|rollout| rollout.wish = Wish::Abort { revert: true });
    play
}

/// Still the release, and the last order to go back ended so.
fn stays(play: &Play, verdict: Verdict, text: &str) -> AppReport {
    let kept = play.outcome(Verdict::Kept);
    let back =
        Outcome { revision: Revision(kept.revision.0 + 5), text: text.to_owned(), ..play.outcome(verdict) };
    let mut app = ended(kept);
    app.outcomes.push(Outcome { reason: Some(Reason::Withdrawn), ..back });
    app
}

#[test]
fn who_does_not_go_back_is_named_with_the_reason_and_nobody_waits_for_it() {
    let mut play = told_to_go_back();
    play.says("pi-0", stays(&play, Verdict::Refused, "there is no release to go back to"));
    let state = |play: &Play, node: &str| play.conductor.seat(&node.parse().unwrap()).unwrap().1.clone();
    assert_eq!(
        state(&play, "pi-0").text(),
        "it is told to go back: withdrawn: there is no release to go back to"
    );
    assert_eq!(state(&play, "pi-1"), NodeState::Stays(String::new()));
    play.is_online("pi-2", false);
    assert_eq!(state(&play, "pi-2"), NodeState::Excused);
    play.says("pi-1", ended(outcome(110, Verdict::Kept)));
    assert!(play.conductor.state().is_over());
    assert_eq!(
        play.last_told(),
        "somebody has ended it; 1 node went back; not pi-0 (withdrawn: there is no release to go back to), pi-2 (away; it does when it is back)"
    );
    play.is_online("pi-2", true);
    assert_eq!(state(&play, "pi-2").name(), "stays");
    play.says("pi-2", ended(outcome(111, Verdict::Kept)));
    assert_eq!(state(&play, "pi-2"), NodeState::Skipped(Skip::WentBack));
}

#[test]
fn who_has_the_time_to_go_back_and_does_not_is_named() {
    let mut play = told_to_go_back();
    play.says("pi-0", ended(outcome(110, Verdict::Kept)));
    play.wait(29 * MINUTE);
    play.wait(MINUTE);
    assert!(play.conductor.state().is_over());
    assert_eq!(play.last_told(), "somebody has ended it; 1 node went back; not pi-1, pi-2");
    play.step();
    let (_, state) = play.conductor.seat(&"pi-1".parse().unwrap()).unwrap();
    assert_eq!((state.name(), state.weight()), ("stays", Weight::Failure));
}
