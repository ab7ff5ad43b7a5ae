//! Rollouts that the broker's controller carries out, with real nodes.

use std::{fs, process::Command, time::Duration};

use e2e::{App, BusKind, Mqtt, Process, World, wait_until};
use schemas::{report::Verdict, rollout::Lease, seal::Signed};
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
    let plan = world.folder().join("plan.toml");
    fs::write(&plan, format!("app = \"web\"\n{stages}")).unwrap();
    let folder = app.folder().display().to_string();
    let start = ["rollout", "start", &folder, "--plan", plan.to_str().unwrap(), "--yes"];
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

#[test]
fn on_the_bus_of_others_a_second_controller_goes_on_where_the_first_one_died() {
    if let Some(program) = BusKind::Mosquitto.missing() {
        return println!("skipped: needs {program}");
    }
    let (mut world, app) = house(BusKind::Mosquitto, 2);
    world.let_in("controller", "secret").unwrap();
    let home = world.home().join("broker");
    fs::write(home.join("controller.password"), "secret\n").unwrap();
    let mut settings = fs::read_to_string(home.join("broker.toml")).unwrap();
    settings.push_str("\n[controller]\nuser = \"controller\"\npassword = \"controller.password\"\n");
    fs::write(home.join("broker.toml"), settings).unwrap();
    world.stop_broker().unwrap();
    world.start_broker().unwrap();
    let mut bus = Mqtt::connect(world.ports().0, Some(("controller", "secret"))).unwrap();
    let wait_controllers = |bus: &mut Mqtt, count: usize| {
        wait_until("controllers", PATIENCE, || {
            let there = bus.retained("deploybus/v1/controller/+", Duration::from_millis(300)).ok()?;
            (there.len() == count).then_some(())
        })
        .unwrap();
    };
    wait_controllers(&mut bus, 1);
    let other = second_broker(&world).unwrap();
    wait_controllers(&mut bus, 2);
    // Both are named in the mandate; the first one works, and dies while the canary soaks.
    roll_out(&world, &app, &format!("{WAVES}soak = \"5s\"\n"), &["--detach"]).expect(DONE).unwrap();
    wait_until("a soaking wave", PATIENCE, || status(&world).to_string().contains("soaking").then_some(()))
        .unwrap();
    let term = lease(&mut bus).unwrap();
    world.kill_broker().unwrap();
    wait_until("the next term", PATIENCE, || (lease(&mut bus)? == term + 1).then_some(())).unwrap();
    // The store was the dead one's, too; its controller finds that another one works now.
    world.start_broker().unwrap();
    wait_state(&world, "completed");
    assert!(world.nodes().all(|node| node.serves().as_deref() == Some("1.1.0")));
    assert_eq!(lease(&mut bus), Some(term + 1));
    other.kill().unwrap();
}

/// The term of the controller that works.
fn lease(bus: &mut Mqtt) -> Option<u64> {
    let topic = "deploybus/v1/bus/lease";
    let bytes = bus.retained(topic, Duration::from_millis(300)).ok()?.remove(topic)?;
    let lease = Signed::<Lease>::from_bytes(&bytes).ok()?.verify_own(&"deploybus".parse().ok()?).ok()?;
    Some(lease.epoch)
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
