use schemas::reason::Reason;

use crate::{
    Input, Yield,
    testing::{Node, fault, order},
};

#[test]
fn an_app_that_ends_is_started_again_with_growing_pauses() {
    let mut node = Node::running(5);
    let mut pauses = Vec::new();
    for _ in 0..8 {
        node.exit();
        let pause_ms = node.machine.poll_timeout().unwrap() - node.now.mono_ms;
        pauses.push(pause_ms / 1_000);
        node.wait(pause_ms);
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    node.wait(60_000);
    node.exit();
    assert_eq!(node.machine.poll_timeout().unwrap() - node.now.mono_ms, 1_000);
}

#[test]
fn another_environment_starts_what_runs_anew_and_nothing_else() {
    let mut node = Node::running(5);
    node.names();
    node.input(Input::Environment);
    assert_eq!(node.names(), ["start", "watch", "prune"]);
    assert_eq!(node.state(), "idle");
}

#[test]
fn health_of_a_committed_release_only_changes_the_report() {
    let mut node = Node::running(5);
    node.health(false, "503");
    assert_eq!((node.machine.report().healthy, node.names().len()), (Some(false), 0));
    node.healthy();
    assert_eq!((node.machine.report().healthy, node.names().len()), (Some(true), 0));
}

#[test]
fn a_fetch_is_interrupted_to_bring_the_running_release_up_again() {
    let mut node = Node::running(5);
    node.hold("fetch");
    node.announce(order(6, 6));
    node.names();
    node.exit();
    node.wait(1_000);
    assert_eq!(node.names(), ["cancel"]);
    node.hold("fetch");
    node.release(Err(fault(Reason::Unknown, false)));
    assert_eq!(node.names(), ["start", "watch", "fetch"]);
    node.release(Ok(Yield::default()));
    assert_eq!(node.state(), "trial");
}

#[test]
fn a_stage_is_not_interrupted_for_that() {
    let mut node = Node::running(5);
    node.hold("stage");
    node.announce(order(6, 6));
    node.names();
    node.exit();
    node.wait(10_000);
    assert_eq!((node.names().len(), node.machine.poll_timeout()), (0, None));
}

#[test]
fn an_app_that_ends_before_its_start_is_answered_is_started_again() {
    let mut node = Node::running(5);
    node.exit();
    node.hold("start");
    node.wait(1_000);
    node.exit();
    node.release(Ok(Yield::default()));
    node.names();
    node.wait(2_000);
    assert_eq!(node.names(), ["start", "watch"]);
}

#[test]
fn a_start_that_fails_is_tried_again() {
    let mut node = Node::running(5);
    node.exit();
    node.fault("start", fault(Reason::StartFailed, false));
    node.wait(1_000);
    node.names();
    node.wait(2_000);
    assert_eq!(node.names(), ["start", "watch"]);
}

#[test]
fn an_idle_node_asks_for_nothing_and_sets_no_timer() {
    let mut node = Node::running(5);
    node.wait(86_400_000);
    assert_eq!((node.names().len(), node.machine.poll_timeout()), (0, None));
}
