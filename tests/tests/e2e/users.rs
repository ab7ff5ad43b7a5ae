//! `publisher user` and a broker that runs: who is let in, how far, and for how long.

use std::{io::Write as _, process::Stdio, time::Duration};

use e2e::{Mqtt, Output, World, wait_until};
use serde_json::Value;

const PASSWORD: &str = "correct horse battery";
/// The broker looks at its users file once a second.
const SOON: Duration = Duration::from_secs(10);

#[test]
fn every_role_that_is_offered_is_let_in_at_once() {
    let world = World::new().unwrap();
    for role in ["publisher", "controller", "watcher", "home-assistant", "admin"] {
        let name = format!("a-{role}");
        let token =
            told(&world, &["user", "add", &name, "--role", role])["token"].as_str().unwrap().to_owned();
        log_in(&world, &name, &token).unwrap().subscribe("deploybus/v1/trust").unwrap();
        assert!(log_in(&world, &name, "another").is_err());
    }
    let listed = told(&world, &["user", "list"]);
    let of =
        |name: &str| listed.as_array().unwrap().iter().find(|user| user["user"] == name).cloned().unwrap();
    assert_eq!((&of("a-admin")["role"], &of("publisher")["secret"]), (&"admin".into(), &"token".into()));
}

#[test]
fn a_guest_may_do_what_it_was_added_for() {
    let world = World::new().unwrap();
    let added = told(
        &world,
        &["user", "add", "cam", "--role", "guest", "--publish", "cam/#", "--subscribe", "cam/cmd/+"],
    );
    let token = added["token"].as_str().unwrap();
    let mut cam = log_in(&world, "cam", token).unwrap();
    cam.subscribe("cam/cmd/+").unwrap();
    assert!(cam.subscribe("deploybus/v1/#").is_err());
    cam.publish("cam/cmd/go", b"now", false).unwrap();
    assert_eq!(cam.next(SOON).unwrap().unwrap().1, b"now");
}

#[test]
fn a_chosen_password_lets_in_and_is_nowhere_in_the_file() {
    let world = World::new().unwrap();
    let mut add =
        world.publisher_command(&["user", "add", "anna", "--role", "watcher", "--password-stdin"]).unwrap();
    let mut add = add.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    writeln!(add.stdin.take().unwrap(), "{PASSWORD}").unwrap();
    let said = add.wait_with_output().unwrap();
    assert!(said.status.success());
    assert!(!String::from_utf8(said.stdout).unwrap().contains(PASSWORD));
    log_in(&world, "anna", PASSWORD).unwrap();
    let file = std::fs::read_to_string(world.home().join("broker/users")).unwrap();
    assert!(file.contains("argon2:$argon2id$") && !file.contains(PASSWORD), "{file}");
}

#[test]
fn who_is_removed_or_has_a_new_secret_is_cut_off() {
    let world = World::new().unwrap();
    let token_file = world.folder().join("token");
    let out = token_file.to_str().unwrap();
    let added = told(&world, &["user", "add", "anna", "--role", "watcher", "--token-out", out]);
    assert!(added["token"].is_null());
    let token = || std::fs::read_to_string(&token_file).unwrap().trim_end().to_owned();
    let old = token();
    let mut anna = log_in(&world, "anna", &old).unwrap();

    told(&world, &["user", "passwd", "anna", "--token-out", out]);
    wait_cut_off(&mut anna);
    assert!(log_in(&world, "anna", &old).is_err());
    let mut anna = log_in(&world, "anna", &token()).unwrap();

    told(&world, &["user", "remove", "anna"]);
    wait_cut_off(&mut anna);
    assert!(log_in(&world, "anna", &token()).is_err());
}

#[test]
fn the_publisher_goes_on_with_its_own_new_secret() {
    let world = World::new().unwrap();
    let watcher = || std::fs::read_to_string(world.home().join("watcher.password")).unwrap();
    let before = watcher();
    told(&world, &["user", "passwd", "publisher"]);
    told(&world, &["user", "passwd", "watcher"]);
    world.publisher(&["status"]).unwrap().expect(0).unwrap();
    assert_ne!(watcher(), before);
    log_in(&world, "watcher", watcher().trim_end()).unwrap();
}

#[test]
fn what_cannot_be_is_refused_with_advice_and_changes_nothing() {
    let mut world = World::new().unwrap();
    world.register_node("pi-1", &["canary"]).unwrap();
    let taken = world.folder().join("taken");
    std::fs::write(&taken, "mine").unwrap();
    let file = || std::fs::read_to_string(world.home().join("broker/users")).unwrap();
    let before = file();
    for (args, code, expected) in [
        (vec!["add", "x", "--role", "node"], 2, "publisher node add"),
        (vec!["add", "x", "--role", "king"], 2, "use one of publisher"),
        (vec!["add", "x y", "--role", "admin"], 2, "use 1 to 63 of"),
        (vec!["add", "x", "--role", "guest"], 1, "guest x could do nothing"),
        (vec!["add", "x", "--role", "guest", "--publish", "a#"], 2, "stand alone"),
        (vec!["add", "x", "--role", "admin", "--publish", "a"], 1, "are for guests"),
        (vec!["add", "pi-1", "--role", "admin"], 1, "pi-1 is a node"),
        (vec!["add", "x", "--role", "admin", "--password"], 1, "--password-stdin"),
        (vec!["add", "x", "--role", "admin", "--token-out", taken.to_str().unwrap()], 1, "cannot write"),
        (vec!["remove", "publisher"], 1, "who this publisher logs in as"),
        (vec!["remove", "pi-1"], 1, "publisher node retire pi-1"),
        (vec!["passwd", "pi-1"], 1, "node add pi-1 --force"),
        (vec!["passwd", "nobody"], 1, "no user nobody"),
        (vec!["list", "--users", "/nowhere/users"], 1, "cannot read /nowhere/users"),
    ] {
        let args = [vec!["user"], args].concat();
        let said = Output::of(&mut world.publisher_command(&args).unwrap()).unwrap();
        assert_eq!(said.code, Some(code), "{args:?}: {}", said.stderr);
        assert!(said.stderr.contains(expected), "{args:?}: {}", said.stderr);
    }
    assert_eq!(file(), before);
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "mine");
}

fn told(world: &World, args: &[&str]) -> Value {
    let said = world.publisher(&[args, &["--json"]].concat()).unwrap().expect(0).unwrap();
    serde_json::from_str(&said.stdout).unwrap()
}

fn log_in(world: &World, name: &str, secret: &str) -> anyhow::Result<Mqtt> {
    Mqtt::connect(world.ports().0, Some((name, secret)))
}

fn wait_cut_off(client: &mut Mqtt) {
    let is_gone = || client.next(Duration::from_millis(100)).is_err().then_some(());
    wait_until("the broker to cut off", SOON, is_gone).unwrap();
}
