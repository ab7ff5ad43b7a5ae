use machine::Step as Journalled;
use schemas::{
    id::{Counter, Revision},
    release::{First, Part, PartKind},
    report::{Outcome, Verdict},
    time::UnixTime,
};

use super::*;
use crate::{installer::AppDirs, testing};

/// A Pi with one Pico, as both see each other on the Pi's disk.
struct Desk {
    folder: tempfile::TempDir,
    pi: Joint,
    pico: Joint,
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (data, pi, pico) = (folder.path(), id("pi-1"), id("pico-desk"));
        let desk = Self { pi: Joint::of_pi(data, &pi), pico: Joint::of_pico(data, &pi, &pico), folder };
        desk.is_in(r#"["desk"]"#);
        desk
    }

    /// What the Pico's node has said of its groups, among other things.
    fn is_in(&self, groups: &str) {
        let folder = self.folder.path().join("picos/pico-desk");
        fs::create_dir_all(&folder).unwrap();
        let said = format!(r#"{{"pid": 7, "info": {{"node": "pico-desk", "groups": {groups}}}}}"#);
        fs::write(folder.join("status.json"), said).unwrap();
        // The bridge's own.
        fs::write(folder.with_file_name("lock"), "").unwrap();
    }
}

fn tries(of: &Joint) {
    store(of, &Saved { step: trying(), ..Saved::new(app()) });
}

fn keeps(of: &Joint) {
    store(of, &Saved { current: Some(slot()), ..Saved::new(app()) });
    of.has_ended(&app());
}

fn goes_back(of: &Joint) {
    of.is_not_ready(&app());
    store(of, &Saved { outcomes: vec![rolled_back()], ..Saved::new(app()) });
    of.has_ended(&app());
}

fn rolled_back() -> Outcome {
    Outcome {
        revision: slot().revision,
        release: slot().release,
        version: "2".into(),
        verdict: Verdict::RolledBack,
        reason: Some(Reason::Exited),
        text: "it crashed".into(),
        log_tail: Vec::new(),
        took_ms: 1,
        fetched_bytes: 0,
        requests: 0,
        built: None,
        at: UnixTime(1),
    }
}

/// Puts `saved` in place of the journal of a node.
fn store(of: &Joint, saved: &Saved) {
    let root = of.0.node_folder(&of.0.me).join("apps/lamp");
    let dirs = AppDirs { data: root.join("data"), objects: root.join("objects"), root };
    journal::store(&dirs, saved).unwrap();
}

fn id(name: &str) -> NodeId {
    name.parse().unwrap()
}

fn app() -> AppId {
    "lamp".parse().unwrap()
}

/// A slot of a joint release, ordered for group `desk`.
fn slot() -> Slot {
    let part = testing::part(Digest([1; 32]));
    Slot {
        release: Digest([2; 32]),
        version: "2".into(),
        counter: Counter(2),
        min_counter: Counter(0),
        commit: String::new(),
        notes: String::new(),
        revision: Revision(7),
        group: "desk".parse().unwrap(),
        part: Part { kind: PartKind::MicroPython, joint: Some(First::Pico), ..part },
        since: UnixTime(0),
    }
}

fn trying() -> Journalled {
    Journalled::Trying {
        slot: Box::new(slot()),
        tries_left: 1,
        connected: true,
        spent: machine::Spent::default(),
    }
}

/// Whether it may touch what it runs, at a first look.
async fn may_begin(joint: &Joint) -> bool {
    joint.look_before_switch(&app(), &slot(), First::Pico).await.unwrap() == Answer::Go
}

async fn keep(joint: &Joint) -> Result<(), Fault> {
    joint.may_keep(&app(), &slot(), Ok(())).await
}

fn waits(answer: &Result<(), Fault>) -> bool {
    matches!(answer, Err(fault) if fault.transient && fault.reason == Reason::JointApart)
}

fn is_over(answer: &Result<(), Fault>) -> bool {
    matches!(answer, Err(fault) if !fault.transient && fault.reason == Reason::JointApart)
}

#[tokio::test]
async fn both_keep_it_the_pi_first() {
    let desk = Desk::new();
    for joint in [&desk.pi, &desk.pico] {
        joint.comes(&app(), &slot()).await.unwrap();
    }
    let (pi, never) = (desk.pi.clone(), Cancel::never());
    assert!(!may_begin(&desk.pico).await, "the Pi has not staged it");
    let waiting = tokio::spawn(async move { pi.may_switch(&app(), &slot(), &Cancel::never()).await });
    desk.pico.may_switch(&app(), &slot(), &never).await.unwrap();
    assert!(!waiting.is_finished(), "the Pico goes first");
    tries(&desk.pico);
    assert!(waits(&keep(&desk.pico).await));
    waiting.await.unwrap().unwrap();
    tries(&desk.pi);
    keep(&desk.pi).await.unwrap();
    assert!(waits(&keep(&desk.pico).await), "the Pi has decided, and not kept it yet");
    keeps(&desk.pi);
    keep(&desk.pico).await.unwrap();
    keeps(&desk.pico);
    assert_eq!(
        fs::read_dir(desk.folder.path().join("joint/lamp")).unwrap().count(),
        3,
        "locks alone are left"
    );
}

#[tokio::test]
async fn what_one_gives_up_the_other_gives_up() {
    let desk = Desk::new();
    for joint in [&desk.pi, &desk.pico] {
        joint.comes(&app(), &slot()).await.unwrap();
        tries(joint);
    }
    assert!(waits(&keep(&desk.pico).await));
    goes_back(&desk.pico);
    assert!(is_over(&keep(&desk.pi).await));

    desk.pico.comes(&app(), &slot()).await.unwrap();
    tries(&desk.pico);
    assert!(waits(&keep(&desk.pico).await));
    goes_back(&desk.pi);
    let over = keep(&desk.pico).await;
    assert!(is_over(&over));
    assert_eq!(over.unwrap_err().text, "pi-1 gave it up: exited: it crashed");
}

#[tokio::test]
async fn a_pico_that_died_while_it_was_ready_is_not_ready() {
    let desk = Desk::new();
    for joint in [&desk.pi, &desk.pico] {
        joint.comes(&app(), &slot()).await.unwrap();
        tries(joint);
    }
    assert!(waits(&keep(&desk.pico).await));
    let Desk { folder, pi, pico } = desk;
    drop(pico);
    assert!(waits(&keep(&pi).await), "its file says ready, its lock does not");
    let again = Joint::of_pico(folder.path(), &id("pi-1"), &id("pico-desk"));
    assert!(waits(&keep(&again).await));
    keep(&pi).await.unwrap();
}

#[tokio::test]
async fn who_is_not_well_is_not_ready() {
    let desk = Desk::new();
    for joint in [&desk.pi, &desk.pico] {
        joint.comes(&app(), &slot()).await.unwrap();
        tries(joint);
    }
    assert!(waits(&keep(&desk.pico).await));
    let unproven = Fault { transient: true, ..fault::permanent(Reason::NoProof, "no answer") };
    assert_eq!(desk.pico.may_keep(&app(), &slot(), Err(unproven.clone())).await, Err(unproven));
    assert!(waits(&keep(&desk.pi).await));
}

#[tokio::test]
async fn a_pico_waits_for_ever_once_the_pi_has_decided() {
    let desk = Desk::new();
    for joint in [&desk.pi, &desk.pico] {
        joint.comes(&app(), &slot()).await.unwrap();
        tries(joint);
    }
    assert!(waits(&keep(&desk.pico).await));
    let long_ago = || {
        let mut attempts = desk.pico.0.attempts();
        let since = &mut attempts.get_mut(&app()).unwrap().ready.as_mut().unwrap().1;
        *since = since.checked_sub(PATIENCE).unwrap();
    };
    keep(&desk.pi).await.unwrap();
    long_ago();
    assert!(waits(&keep(&desk.pico).await));
    desk.pi.comes(&app(), &slot()).await.unwrap();
    assert!(is_over(&keep(&desk.pico).await), "the Pi has not decided, and time is up");
}

#[tokio::test]
async fn a_pico_that_is_not_well_any_more_is_not_ready() {
    let desk = Desk::new();
    for joint in [&desk.pi, &desk.pico] {
        joint.comes(&app(), &slot()).await.unwrap();
        tries(joint);
    }
    assert!(waits(&keep(&desk.pico).await));
    desk.pico.is_not_ready(&app());
    assert!(waits(&keep(&desk.pi).await));
    assert!(waits(&keep(&desk.pico).await), "it is well again");
    keep(&desk.pi).await.unwrap();
}

#[tokio::test]
async fn a_release_that_was_kept_before_is_no_failure() {
    let desk = Desk::new();
    let mut outcome = rolled_back();
    outcome.verdict = Verdict::Kept;
    let newer = Slot { release: Digest([9; 32]), ..slot() };
    store(&desk.pi, &Saved { current: Some(newer), outcomes: vec![outcome], ..Saved::new(app()) });
    tries(&desk.pico);
    keep(&desk.pico).await.unwrap();
    // It was kept by an older order, left since, and is ordered again: that is not the same as having it.
    let before = Outcome { revision: Revision(6), verdict: Verdict::Kept, ..rolled_back() };
    let other = Slot { release: Digest([9; 32]), ..slot() };
    store(&desk.pi, &Saved { current: Some(other), outcomes: vec![before], ..Saved::new(app()) });
    assert_eq!(desk.pico.0.others(&app(), &slot()).unwrap()[0].1, Stand::Away);
    assert!(!may_begin(&desk.pico).await);
    let older = Outcome { revision: Revision(6), ..rolled_back() };
    store(&desk.pico, &Saved { outcomes: vec![older], ..Saved::new(app()) });
    assert_eq!(
        desk.pi.0.others(&app(), &slot()).unwrap()[0].1,
        Stand::Away,
        "another order of the same release"
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_waited_for() {
    let desk = Desk::new();
    desk.pico.comes(&app(), &slot()).await.unwrap();
    tries(&desk.pico);
    let journal = desk.folder.path().join("apps/lamp/journal.cbor");
    fs::create_dir_all(&journal).unwrap();
    assert!(waits(&keep(&desk.pico).await));
    fs::write(desk.folder.path().join("picos/pico-desk/status.json"), "{").unwrap();
    let others = desk.pi.0.others(&app(), &slot()).unwrap();
    assert_eq!(others.len(), 1, "who knows whether it is in the group");
    let picos = desk.folder.path().join("picos");
    fs::rename(&picos, picos.with_extension("away")).unwrap();
    fs::write(&picos, "").unwrap();
    assert!(desk.pi.0.others(&app(), &slot()).is_err(), "it does not decide alone");
}

#[tokio::test]
async fn what_was_said_before_a_start_counts_while_it_is_tried() {
    let desk = Desk::new();
    for joint in [&desk.pi, &desk.pico] {
        joint.comes(&app(), &slot()).await.unwrap();
    }
    tries(&desk.pico);
    let Desk { folder, .. } = &desk;
    for (again, stays) in [
        (Joint::of_pi(folder.path(), &id("pi-1")), false),
        (Joint::of_pico(folder.path(), &id("pi-1"), &id("pico-desk")), true),
    ] {
        assert_eq!(again.0.file(&app(), &again.0.me, "cbor").exists(), stays, "{again:?}");
    }
}

#[tokio::test]
async fn picos_of_other_groups_count_only_where_the_app_is() {
    let desk = Desk::new();
    desk.is_in(r#"["attic"]"#);
    tries(&desk.pi);
    keep(&desk.pi).await.unwrap();
    store(
        &desk.pico,
        &Saved { current: Some(Slot { release: Digest([9; 32]), ..slot() }), ..Saved::new(app()) },
    );
    assert!(waits(&keep(&desk.pi).await), "it would be left behind with an older release");
    desk.is_in("[]");
    keep(&desk.pi).await.unwrap();
}

#[tokio::test]
async fn who_waits_says_for_what_and_ends_when_nobody_waits_for_it() {
    let desk = Desk::new();
    desk.pi.comes(&app(), &slot()).await.unwrap();
    let (canceller, cancel) = Cancel::pair();
    canceller.cancel();
    let ended = desk.pi.may_switch(&app(), &slot(), &cancel).await.unwrap_err();
    assert_eq!(ended.reason, Reason::Superseded);
    let mut plain = slot();
    plain.part.joint = None;
    desk.pi.may_switch(&app(), &plain, &Cancel::never()).await.unwrap();
    desk.pi.may_keep(&app(), &plain, Ok(())).await.unwrap();
}

#[tokio::test]
async fn what_others_gave_up_before_does_not_count_at_the_beginning() {
    let desk = Desk::new();
    goes_back(&desk.pico);
    let mut attempt = Attempt::new();
    let see = |attempt: &mut Attempt| {
        let mut others = desk.pi.0.others(&app(), &slot()).unwrap();
        attempt.see(&mut others);
        others.remove(0).1
    };
    assert_eq!(see(&mut attempt), Stand::Away);
    desk.pico.comes(&app(), &slot()).await.unwrap();
    assert_eq!(see(&mut attempt), Stand::At(Step::Coming));
    goes_back(&desk.pico);
    assert!(matches!(see(&mut attempt), Stand::GaveUp(_)), "it was seen on its way");
    let mut attempt = Attempt::new();
    attempt.began = attempt.began.checked_sub(FRESH).unwrap();
    assert!(matches!(see(&mut attempt), Stand::GaveUp(_)), "it had its time");
}
