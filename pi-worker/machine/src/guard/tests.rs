use schemas::{reason::Reason, report::Verdict};

use crate::{
    Guarded, Saved, Slot, Step, guard,
    testing::{Node, order},
};

#[test]
fn without_a_trial_nothing_is_done() {
    let node = Node::running(5);
    assert_eq!(check(&node, "boot-2"), Guarded::Leave);
}

#[test]
fn a_try_is_counted_once_in_a_boot() {
    let mut node = on_trial();
    let Guarded::Store(saved) = check(&node, "boot-2") else { panic!() };
    assert_eq!((tries_left(&saved), saved.guarded.as_deref()), (2, Some("boot-2")));
    node.disk = Some(*saved);
    assert_eq!(check(&node, "boot-2"), Guarded::Leave);
    assert!(matches!(check(&node, "boot-3"), Guarded::Store(saved) if tries_left(&saved) == 1));
}

#[test]
fn guard_and_worker_together_count_each_boot_once() {
    let mut node = on_trial();
    for boot in ["boot-2", "boot-3", "boot-4"] {
        let Guarded::Store(saved) = check(&node, boot) else { panic!() };
        node.disk = Some(*saved);
        node.restart(boot);
        assert_eq!(node.state(), "trial");
    }
    let Guarded::SwitchBack { saved, to } = check(&node, "boot-5") else { panic!() };
    assert_eq!(to.as_ref().unwrap().version, "5.0");
    (node.disk, node.link) = (Some(*saved), to.map(|slot| *slot));
    node.restart("boot-5");
    node.healthy();
    assert_eq!(node.verdict(), (6, Verdict::RolledBack, Some(Reason::TriesUsedUp)));
}

#[test]
fn before_the_switch_the_old_release_starts_uncounted() {
    let mut node = Node::running(5);
    node.hold("switch");
    node.announce(order(6, 6));
    assert_eq!(check(&node, "boot-2"), Guarded::Leave);
}

#[test]
fn going_back_is_finished_before_the_app_starts() {
    let mut node = on_trial();
    node.hold("switch");
    node.exit();
    assert!(
        matches!(check(&node, "boot-2"), Guarded::SwitchBack { to: Some(slot), .. } if slot.version == "5.0")
    );
    node.release_stored();
    assert_eq!(check(&node, "boot-2"), Guarded::Leave);
}

#[test]
fn a_first_install_without_tries_left_goes_back_to_nothing() {
    let mut node = Node::new();
    node.announce(order(5, 5).part(|part| part.trial.tries = 0));
    assert!(matches!(check(&node, "boot-2"), Guarded::SwitchBack { to: None, .. }));
}

fn on_trial() -> Node {
    let mut node = Node::running(5);
    node.announce(order(6, 6));
    node
}

fn check(node: &Node, boot: &str) -> Guarded {
    let active: Option<&Slot> = node.link.as_ref();
    guard(node.disk.clone().unwrap(), active, boot)
}

fn tries_left(saved: &Saved) -> u32 {
    match saved.step {
        Step::Trying { tries_left, .. } => tries_left,
        _ => panic!("nothing on trial"),
    }
}
