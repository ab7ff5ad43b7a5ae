//! Rollouts that the broker's controller carries out, with real nodes.

use std::{fs, process::Command, time::Duration};

use e2e::{App, BusKind, Mqtt, Process, World, wait_until};
use schemas::{
    id::KeyId,
    report::Verdict,
    rollout::Controller,
    seal::{SecretKey, Signed},
};
use serde_json::Value;

/// Every wave passed.
const DONE: i32 = 0;
/// It stopped by itself.
const STOPPED: i32 = 7;
const PATIENCE: Duration = Duration::from_mins(2);
const NAMES: [&str; 4] = ["pi-1", "pi-2", "pi-3", "pi-4"];

/// Nodes that serve 1.0.0, and what to roll out to them.
fn house(kind: BusKind, nodes: usize) -> (World, App) {
    let mut world = World::on(kind).unwrap();
    for name in &NAMES[..nodes] {
        world.register_node(name, &["all"]).unwrap().start().unwrap();
    }
    let app = world.app().unwrap();
    let (code, told) = world.announce(&app, "all").unwrap();
    assert_eq!(code, Some(DONE), "{told}");
    app.commit("1.1.0").unwrap();
    (world, app)
}

/// From now on, versions that never get healthy.
fn spoil(app: &App) {
    app.edit("HEALTHY = True", "HEALTHY = False").unwrap();
    app.edit_file("deploybus.toml", "deadline = \"10s\"", "deadline = \"2s\"").unwrap();
}

/// Begins a rollout with these stages, and follows it to its end.
fn roll_out(world: &World, app: &App, stages: &str, more: &[&str]) -> e2e::Output {
    let folder = app.folder().display().to_string();
    start(world, stages, &[&[folder.as_str()], more].concat())
}

fn start(world: &World, stages: &str, more: &[&str]) -> e2e::Output {
    let plan = world.folder().join("plan.toml");
    fs::write(&plan, format!("app = \"web\"\n{stages}")).unwrap();
    let start = ["rollout", "start", "--plan", plan.to_str().unwrap(), "--yes"];
    world.publisher(&[&start[..], more].concat()).unwrap()
}

fn status(world: &World) -> Value {
    let said = world.publisher(&["rollout", "status", "web", "--json"]).unwrap().expect(DONE).unwrap();
    serde_json::from_str(&said.stdout).unwrap()
}

fn wait_state(world: &World, state: &str) -> Value {
    let mut last = Value::Null;
    wait_until(&format!("a rollout that is {state}"), PATIENCE, || {
        last = status(world);
        last.to_string().contains(&format!("\"state\":\"{state}\"")).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {last}"));
    last
}

const WAVES: &str = "[[stage]]\ngroup = \"all\"\nwaves = [\"1\", \"100%\"]\n";

#[test]
fn waves_follow_each_other_until_every_node_has_it() {
    let (world, app) = house(BusKind::Relay, 3);
    let told = roll_out(&world, &app, &format!("{WAVES}soak = \"1s\"\n"), &["--timeout", "2m"]);
    let told = told.expect(DONE).unwrap();
    for node in world.nodes() {
        assert_eq!(node.serves().as_deref(), Some("1.1.0"), "{}: {}", node.name(), told.stdout);
    }
    let log = world.publisher(&["log", "--json"]).unwrap().expect(DONE).unwrap().stdout;
    for expected in ["rollout_started", "rollout_completed"] {
        assert!(log.contains(expected), "no {expected} in {log}");
    }
    world.publisher(&["log", "verify"]).unwrap().expect(DONE).unwrap();
}

#[test]
fn a_bad_canary_stops_it_before_a_second_node_is_hurt() {
    let (world, app) = house(BusKind::Relay, 3);
    spoil(&app);
    app.commit("1.2.0").unwrap();
    let told = roll_out(&world, &app, WAVES, &["--timeout", "2m"]).expect(STOPPED).unwrap();
    let said = world.publisher(&["rollout", "status", "web"]).unwrap().expect(DONE).unwrap().stdout;
    assert!(said.contains("1 node failed, it stops at 1") && said.contains("unhealthy"), "{said}");
    let log = world.publisher(&["log", "--json"]).unwrap().expect(DONE).unwrap().stdout;
    assert_eq!(log.matches("rolled_back").count(), 1, "one node has tried it: {log}");
    for node in world.nodes() {
        node.wait_serves("1.0.0").unwrap();
    }
    let untouched = NAMES[..3].iter().find(|name| !told.stdout.contains(&format!("{name} rolled_back")));
    let why = world.publisher(&["why", untouched.unwrap()]).unwrap().expect(DONE).unwrap().stdout;
    assert!(why.contains("paused"), "{why}");

    // A resume that does not say that the failure is known changes nothing; one that does goes on to the next failure.
    let refused = world.publisher(&["rollout", "resume", "web"]).unwrap();
    assert!(refused.expect(1).unwrap().stderr.contains("--ack-failures"));
    world.publisher(&["rollout", "resume", "web", "--ack-failures"]).unwrap().expect(DONE).unwrap();
    wait_until("the next failure", PATIENCE, || {
        let log = world.publisher(&["log", "--json"]).ok()?.stdout;
        (log.matches("rollout_stopped").count() == 2).then_some(())
    })
    .unwrap();
    world.publisher(&["rollout", "abort", "web", "--revert", "--yes"]).unwrap().expect(DONE).unwrap();
    wait_state(&world, "aborted");
    for node in world.nodes() {
        node.wait_serves("1.0.0").unwrap();
    }
}

#[test]
fn nodes_that_have_a_half_done_rollout_go_back() {
    let (world, app) = house(BusKind::Relay, 3);
    // The first wave is well, and must stay so for ever.
    roll_out(&world, &app, &format!("{WAVES}soak = \"1h\"\n"), &["--detach"]).expect(DONE).unwrap();
    let one_has_it = || world.nodes().filter(|node| node.serves().as_deref() == Some("1.1.0")).count() == 1;
    wait_until("a canary with 1.1.0", PATIENCE, || one_has_it().then_some(())).unwrap();
    wait_until("a soaking wave", PATIENCE, || status(&world).to_string().contains("soaking").then_some(()))
        .unwrap();
    world.publisher(&["rollout", "abort", "web", "--revert", "--yes"]).unwrap().expect(DONE).unwrap();
    wait_state(&world, "aborted");
    for node in world.nodes() {
        node.wait_serves("1.0.0").unwrap();
    }
}

#[test]
fn a_broker_that_is_killed_again_and_again_carries_the_rollout_to_its_end() {
    let (mut world, app) = house(BusKind::Relay, 4);
    let stages = "[[stage]]\ngroup = \"all\"\nwaves = [\"1\", \"2\", \"3\", \"100%\"]\n";
    roll_out(&world, &app, stages, &["--detach"]).expect(DONE).unwrap();
    let served = |world: &World| world.nodes().filter(|n| n.serves().as_deref() == Some("1.1.0")).count();
    for done in 1..=3 {
        wait_until(&format!("{done} nodes with 1.1.0"), PATIENCE, || (served(&world) >= done).then_some(()))
            .unwrap();
        world.kill_broker().unwrap();
        world.start_broker().unwrap();
    }
    wait_state(&world, "completed");
    assert_eq!(served(&world), 4);
    for name in NAMES {
        let outcomes = world
            .wait_report(name, "outcomes", |report| Some(report.apps.first()?.outcomes.clone()))
            .unwrap();
        let of_release = outcomes.iter().filter(|outcome| outcome.version == "1.1.0");
        let verdicts: Vec<_> = of_release.map(|outcome| outcome.verdict).collect();
        assert_eq!(verdicts, [Verdict::Kept], "{name} was told once");
    }
}

/// A house on Mosquitto whose broker has a controller there; nothing when there is no Mosquitto.
fn house_of_others(nodes: usize) -> Option<(World, App, Mqtt)> {
    if let Some(program) = BusKind::Mosquitto.missing() {
        println!("skipped: needs {program}");
        return None;
    }
    let (mut world, app) = house(BusKind::Mosquitto, nodes);
    world.let_in("controller", "secret").unwrap();
    let home = world.home().join("broker");
    fs::write(home.join("controller.password"), "secret\n").unwrap();
    let mut settings = fs::read_to_string(home.join("broker.toml")).unwrap();
    settings.push_str("\n[controller]\nuser = \"controller\"\npassword = \"controller.password\"\n");
    fs::write(home.join("broker.toml"), settings).unwrap();
    world.stop_broker().unwrap();
    world.start_broker().unwrap();
    let mut bus = Mqtt::connect(world.ports().0, Some(("controller", "secret"))).unwrap();
    wait_controllers(&mut bus, 1);
    Some((world, app, bus))
}

/// What controllers say of themselves.
fn controllers(bus: &mut Mqtt) -> Vec<Controller> {
    let there = bus.retained("deploybus/v1/controller/+", Duration::from_millis(300)).unwrap();
    let read = |bytes: &Vec<u8>| Signed::<Controller>::from_bytes(bytes).unwrap();
    let fleet = "deploybus".parse().unwrap();
    there.values().map(|bytes| read(bytes).verify_own(&fleet).unwrap().into_inner()).collect()
}

fn wait_controllers(bus: &mut Mqtt, count: usize) -> Vec<Controller> {
    wait_until("controllers", PATIENCE, || {
        let there = controllers(bus);
        (there.len() == count).then_some(there)
    })
    .unwrap()
}

/// Who carries the newest rollout out, and in which term. Leases of earlier ones stay on the bus, with terms that may be higher.
fn carrier(bus: &mut Mqtt) -> Option<(KeyId, u64)> {
    let there = controllers(bus).into_iter();
    let leases = there.flat_map(|of| of.leases.into_iter().map(move |lease| (of.key.id(), lease)));
    let newest = leases.max_by_key(|(_, lease)| (lease.first, lease.term));
    newest.map(|(key, lease)| (key, lease.term))
}

#[test]
fn on_the_bus_of_others_a_second_controller_goes_on_where_the_first_one_died() {
    let Some((mut world, app, mut bus)) = house_of_others(2) else { return };
    let other = second_broker(&world).unwrap();
    for controller in wait_controllers(&mut bus, 2) {
        know(&world, controller.key.id());
    }
    // Both are named in the mandate; one works.
    roll_out(&world, &app, &format!("{WAVES}soak = \"5s\"\n"), &["--detach"]).expect(DONE).unwrap();
    wait_until("a soaking wave", PATIENCE, || status(&world).to_string().contains("soaking").then_some(()))
        .unwrap();
    let (works, term) = carrier(&mut bus).unwrap();
    // The one that works dies while the canary soaks.
    let mut other = Some(other);
    if works == second_key(&world) {
        other.take().unwrap().kill().unwrap();
    } else {
        world.kill_broker().unwrap();
    }
    let next = wait_until("the next term", PATIENCE, || carrier(&mut bus).filter(|(_, next)| *next > term));
    assert_ne!(next.unwrap().0, works);
    // The store was the dead one's, too; its controller finds that another one works now.
    if other.is_some() {
        world.start_broker().unwrap();
    }
    wait_state(&world, "completed");
    assert!(world.nodes().all(|node| node.serves().as_deref() == Some("1.1.0")));
    assert_eq!(carrier(&mut bus).map(|(key, _)| key != works), Some(true));
    other.map_or(Ok(()), Process::kill).unwrap();
}

#[test]
fn a_rollout_waits_for_the_controllers_that_it_was_given_to_and_status_says_so() {
    let Some((mut world, app, mut bus)) = house_of_others(2) else { return };
    let first = wait_controllers(&mut bus, 1)[0].key.id();
    // Given to the only one there is, which dies. Another one comes, and has no right to it.
    roll_out(&world, &app, &format!("{WAVES}soak = \"1h\"\n"), &["--detach"]).expect(DONE).unwrap();
    wait_until("a soaking wave", PATIENCE, || status(&world).to_string().contains("soaking").then_some(()))
        .unwrap();
    world.kill_broker().unwrap();
    let other = second_broker(&world).unwrap();
    let stranger = second_key(&world);
    let said = wait_until("a status that says who is away", PATIENCE, || {
        let said = world.publisher(&["rollout", "status", "web"]).ok()?.stdout;
        said.contains("none of the controllers is there that it was given to").then_some(said)
    });
    let said = said.unwrap();
    assert!(said.contains(&format!("{first} (broker")) && said.contains("is away, for"), "{said}");
    assert!(
        said.contains(&format!("{stranger} (broker")) && said.contains("it was not given to it"),
        "{said}"
    );
    let why = world.publisher(&["why", "pi-1"]).unwrap().expect(DONE).unwrap().stdout;
    assert!(why.contains("is away, for") && why.contains("it was not given to it"), "{why}");
    let wished = world.publisher(&["rollout", "pause", "web"]).unwrap();
    let said = wished.expect(1).unwrap().stderr;
    assert!(said.contains("no controller answered") && said.contains("start it anew"), "{said}");
    // It is back, though the other one has been there all the time, and goes on.
    world.start_broker().unwrap();
    wait_state(&world, "paused");
    wait_carrier(&mut bus, first);
    world.publisher(&["rollout", "resume", "web"]).unwrap().expect(DONE).unwrap();
    // It dies again, and the store with it. Started anew, the rollout is the other one's, also when the first one returns.
    know(&world, stranger);
    world.kill_broker().unwrap();
    let again = ["--release", "1.1.0", "--app", "web", "--detach"];
    start(&world, &format!("{WAVES}soak = \"1h\"\n"), &again).expect(DONE).unwrap();
    wait_carrier(&mut bus, stranger);
    world.start_broker().unwrap();
    wait_state(&world, "running");
    wait_carrier(&mut bus, stranger);
    other.kill().unwrap();
}

/// Rollouts are given to the controller `key`, too.
fn know(world: &World, key: KeyId) {
    let know = ["rollout", "controllers", "--know", &key.to_string()];
    world.publisher(&know).unwrap().expect(DONE).unwrap();
}

/// Waits until the controller `key` carries the rollout out.
fn wait_carrier(bus: &mut Mqtt, key: KeyId) {
    wait_until("another carrier", PATIENCE, || (carrier(bus)?.0 == key).then_some(())).unwrap();
}

/// The key of the second broker's controller.
fn second_key(world: &World) -> KeyId {
    let seed = fs::read(world.folder().join("broker-2/controller.key")).unwrap();
    SecretKey::from_seed(seed.as_slice().try_into().unwrap()).public().id()
}

/// Another broker process on the same bus, with a folder and a key of its own.
fn second_broker(world: &World) -> anyhow::Result<Process> {
    let first = world.broker_command()?;
    let mut command = Command::new(first.get_program());
    let data = world.folder().join("broker-2");
    let (old, port) = (world.broker_data(), format!("127.0.0.1:{}", e2e::free_port()?));
    let mut after_http = false;
    for arg in first.get_args() {
        let is_data = arg == old.as_os_str();
        match (after_http, is_data) {
            (true, _) => command.arg(&port),
            (_, true) => command.arg(&data),
            _ => command.arg(arg),
        };
        after_http = arg == "--http";
    }
    Process::start(command, &world.folder().join("broker-2.log"), "broker ready")
}
