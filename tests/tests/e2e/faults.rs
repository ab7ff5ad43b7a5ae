//! Disks, clocks, stores and hooks that do not do what they should.

use std::{
    fs,
    process::Command,
    time::{Duration, Instant},
};

use e2e::{App, BusKind, Output, World};
use schemas::{
    reason::Reason,
    report::{Outcome, Verdict},
};

/// Announces what `edit` makes of the app as 1.1.0, and gives the world and how it ended.
fn after(edit: impl FnOnce(&App)) -> (World, Outcome) {
    let (world, app) = World::serving().unwrap();
    edit(&app);
    app.commit("1.1.0").unwrap();
    world.announce_only(&app, "canary").unwrap();
    let outcome = world.wait_outcome("pi-1", "1.1.0").unwrap();
    (world, outcome)
}

fn still_serves(world: &mut World, version: &str) {
    assert_eq!(world.node("pi-1").unwrap().serves().as_deref(), Some(version));
}

#[test]
fn a_pre_check_that_fails_costs_nothing() {
    let (mut world, outcome) = after(|app| hook(app, "echo no module named magic; exit 3", "10s"));
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Failed, Some(Reason::PreCheckFailed)));
    assert!(
        outcome.log_tail.iter().any(|line| line.contains("no module named magic")),
        "{:?}",
        outcome.log_tail
    );
    still_serves(&mut world, "1.0.0");
}

#[test]
fn a_hook_that_hangs_is_ended_with_all_its_children() {
    let start = Instant::now();
    let (mut world, outcome) = after(|app| hook(app, "sleep 7654 & sleep 7653", "500ms"));
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::Failed, Some(Reason::HookTimeout)));
    assert!(start.elapsed() < Duration::from_mins(1));
    let processes = Output::of(Command::new("ps").args(["-eo", "args"])).unwrap().stdout;
    assert!(!processes.contains("sleep 7654") && !processes.contains("sleep 7653"), "{processes}");
    still_serves(&mut world, "1.0.0");
}

#[test]
fn a_program_that_is_not_there_is_rolled_back() {
    let (mut world, outcome) =
        after(|app| app.edit_file("deploybus.toml", "\"python3\"", "\"pyhton3\"").unwrap());
    assert_eq!((outcome.verdict, outcome.reason), (Verdict::RolledBack, Some(Reason::StartFailed)));
    assert!(outcome.text.contains("pyhton3"), "{}", outcome.text);
    world.node("pi-1").unwrap().wait_serves("1.0.0").unwrap();
}

#[test]
fn a_missing_object_fails_at_once_and_is_healed_by_announcing_again() {
    let (mut world, app) = World::serving().unwrap();
    world.node("pi-1").unwrap().kill().unwrap();
    app.commit("1.1.0").unwrap();
    world.announce_only(&app, "canary").unwrap();
    let digest = schemas::id::Digest::of(b"1.1.0\n").to_string();
    fs::remove_file(world.broker_data().join("store/v1/objects").join(&digest[..2]).join(&digest)).unwrap();
    world.node("pi-1").unwrap().start().unwrap();
    let outcome = world.wait_outcome("pi-1", "1.1.0").unwrap();
    assert_eq!(
        (outcome.verdict, outcome.reason),
        (Verdict::Failed, Some(Reason::ObjectMissing)),
        "{}",
        outcome.text
    );
    still_serves(&mut world, "1.0.0");
    assert_eq!(world.announce(&app, "canary").unwrap().0, Some(0));
    still_serves(&mut world, "1.1.0");
}

#[test]
fn a_store_that_is_down_is_waited_for() {
    let (mut world, app) = World::serving().unwrap();
    // The node looks for the store where nobody listens; the bus is there.
    let settings = world.node("pi-1").unwrap().folder().join("pi-worker.toml");
    let right = fs::read_to_string(&settings).unwrap();
    let (port, nobody) = (world.ports().1.to_string(), e2e::free_port().unwrap().to_string());
    fs::write(&settings, right.replace(&port, &nobody)).unwrap();
    world.node("pi-1").unwrap().stop().unwrap();
    world.node("pi-1").unwrap().start().unwrap();
    app.commit("1.1.0").unwrap();
    world.announce_only(&app, "canary").unwrap();
    let waits = world.wait_report("pi-1", "a second attempt", |report| {
        report.apps[0].target.clone().filter(|target| target.attempt > 1)
    });
    assert!(waits.unwrap().waits_for.contains("store"), "it says what it waits for");
    still_serves(&mut world, "1.0.0");
    fs::write(&settings, right).unwrap();
    world.node("pi-1").unwrap().stop().unwrap();
    world.node("pi-1").unwrap().start().unwrap();
    assert_eq!(world.wait_outcome("pi-1", "1.1.0").unwrap().verdict, Verdict::Kept);
}

#[test]
fn a_full_disk_fails_the_install_and_nothing_else() {
    let mut world = World::new().unwrap();
    world.register_node("pi-1", &["canary"]).unwrap();
    if !world.give_small_disk("pi-1", "4m").unwrap() {
        println!("skipped: needs root to mount a small disk");
        return;
    }
    world.node("pi-1").unwrap().start().unwrap();
    let app = world.app().unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, Some(0));
    // Noise does not compress: too large for the disk, small for the store.
    let noise: Vec<u8> = (0u32..6_000_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(app.folder().join("large.bin"), noise).unwrap();
    app.commit("1.1.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, Some(3));
    let outcome = world.wait_outcome("pi-1", "1.1.0").unwrap();
    assert_eq!(
        (outcome.verdict, outcome.reason),
        (Verdict::Failed, Some(Reason::DiskFull)),
        "{}",
        outcome.text
    );
    still_serves(&mut world, "1.0.0");
    // With what filled it gone, the next release installs.
    fs::remove_file(app.folder().join("large.bin")).unwrap();
    app.commit("1.1.1").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, Some(0));
    still_serves(&mut world, "1.1.1");
}

#[test]
fn a_node_whose_clock_is_at_1970_installs_and_says_so() {
    if Command::new("faketime").arg("--help").output().is_err() {
        println!("skipped: needs faketime");
        return;
    }
    // Certificates are judged by what is known to be past.
    let mut world = World::on(BusKind::Tls).unwrap();
    let node = world.register_node("pi-1", &["canary"]).unwrap();
    let worker = node.command("run").unwrap();
    let mut faked = Command::new("faketime");
    faked.args(["-f", "@1970-01-02 00:00:00"]).arg(worker.get_program()).args(worker.get_args());
    faked.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    node.start_as(faked).unwrap();
    let app = world.app().unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, Some(0));
    let outcome = world.wait_outcome("pi-1", "1.0.0").unwrap();
    assert!(outcome.at.0 > 1_700_000_000, "the newest signed time is the floor: {}", outcome.at);
    let unset = world.wait_report("pi-1", "its clock", |report| Some(report.clock_unset));
    assert!(unset.unwrap());
}

#[test]
fn bytes_that_change_in_a_slot_are_found() {
    let (mut world, _app) = World::serving().unwrap();
    let node = world.node("pi-1").unwrap();
    Output::of(&mut node.command("verify").unwrap()).unwrap().expect(0).unwrap();
    let file = node.data().join("apps/web/current/app.py");
    let text = fs::read_to_string(&file).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    fs::write(&file, text.replace("hello", "HELLO")).unwrap();
    let found = Output::of(&mut node.command("verify").unwrap()).unwrap().expect(1).unwrap();
    assert!((found.stdout + &found.stderr).contains("app.py"));
}

fn hook(app: &App, command: &str, timeout: &str) {
    let hooks =
        format!("[hooks]\npre_check = [\"sh\", \"-c\", \"{command}\"]\ntimeout = \"{timeout}\"\n\n[trial]");
    app.edit_file("deploybus.toml", "[trial]", &hooks).unwrap();
}
