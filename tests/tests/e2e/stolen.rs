//! What is stolen, and what its thief cannot do: each row of the table in docs/security.md, with the thief's real means.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use e2e::{App, Mqtt, Process, World, binary, read_key};
use schemas::{
    announcement::Announcement,
    id::{AppId, Counter, Digest, GroupId, Revision, Seq},
    order::Order,
    reason::Reason,
    record::Record,
    release::Release,
    report::{Report, Verdict},
    seal::{SecretKey, Signed},
};
use serde_json::Value;

const RELEASE: &str = "deploybus/v1/release/canary/web";
const QUIET: Duration = Duration::from_millis(300);
/// Higher than the clock's milliseconds that `publisher` uses.
const FUTURE: Revision = Revision(9_000_000_000_000_000);

fn group() -> GroupId {
    "canary".parse().unwrap()
}

fn web() -> AppId {
    "web".parse().unwrap()
}

/// Two nodes that run 1.0.0, and what the bus retained then.
fn house() -> (World, App) {
    let (mut world, app) = World::serving().unwrap();
    world.add_node("pi-2", &["canary"]).unwrap();
    world.wait_outcome("pi-2", "1.0.0").unwrap();
    (world, app)
}

fn genuine(world: &World) -> Announcement {
    let mut bus = world.raw_publisher().unwrap();
    let bytes = bus.retained(RELEASE, QUIET).unwrap().remove(RELEASE).unwrap();
    Announcement::from_bytes(&bytes).unwrap()
}

/// The release that runs, as who has verified it may read it.
fn running(world: &World) -> Release {
    genuine(world).release.verify(&world.forge().unwrap().trust).unwrap().into_inner()
}

fn wait_refused(world: &World, node: &str, reason: Reason) {
    world
        .wait_report(node, &format!("a refusal for {reason}"), |report| {
            report.refusals.iter().any(|refusal| refusal.reason == reason).then_some(())
        })
        .unwrap();
}

fn all_serve(world: &World, version: &str) {
    for node in world.nodes() {
        assert_eq!(node.serves().as_deref(), Some(version), "{}", node.name());
    }
}

fn status(world: &World) -> Value {
    let said = world.publisher(&["status", "--json"]).unwrap().expect(0).unwrap();
    serde_json::from_str(&said.stdout).unwrap()
}

fn of_node<'a>(status: &'a Value, name: &str) -> &'a Value {
    status["nodes"].as_array().unwrap().iter().find(|node| node["node"] == name).unwrap()
}

/// Runs somebody else's broker on the ports of ours, with all that ours had, which lets its owner do everything.
fn take_over(world: &mut World) -> Process {
    let copy = world.folder().join("stolen-broker");
    world.kill_broker().unwrap();
    copy_all(&world.broker_data(), &copy);
    copy_all(&world.home().join("broker"), &copy.join("settings"));
    let (mqtt, http) = world.ports();
    let mut broker = Command::new(binary("broker").unwrap());
    broker.args(["run", "--open-loopback", "--data"]).arg(&copy);
    broker.args(["--mqtt", &format!("127.0.0.1:{mqtt}"), "--http", &format!("127.0.0.1:{http}")]);
    Process::start(broker, &world.folder().join("stolen.log"), "broker ready").unwrap()
}

fn copy_all(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap();
    assert!(copied.success());
}

#[test]
fn who_has_the_broker_host_installs_nothing_and_fakes_no_health() {
    let (mut world, app) = house();
    let old = genuine(&world);
    app.commit("1.1.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, Some(0));
    let thiefs_broker = take_over(&mut world);
    let mut bus = Mqtt::connect(world.ports().0, None).unwrap();
    // Nothing that is needed to sign lies on that machine.
    let stolen = world.folder().join("stolen-broker");
    for role in ["root", "release", "ops"] {
        let seed = fs::read_to_string(world.home().join(format!("keys/{role}.key"))).unwrap();
        assert!(!is_anywhere(&stolen, seed.trim()), "the {role} key");
    }
    // Replay: the older announcement in the place of the newer.
    bus.publish(RELEASE, &old.to_bytes(), true).unwrap();
    for node in ["pi-1", "pi-2"] {
        wait_refused(&world, node, Reason::Replayed);
    }
    // Its own code, signed by its own keys.
    let mut forge = world.forge().unwrap();
    (forge.release_key, forge.ops_key) = (SecretKey::from_seed(&[7; 32]), SecretKey::from_seed(&[8; 32]));
    let release = forge.release(&web(), Digest::of(b"evil"), 1, 1);
    let order = forge.order(&group(), &web(), Digest::of(b"evil"), FUTURE);
    bus.publish(RELEASE, &forge.announcement(&order, &release).to_bytes(), true).unwrap();
    for node in ["pi-1", "pi-2"] {
        wait_refused(&world, node, Reason::BadSignature);
    }
    // Health: a report by its own key, and a record that says that this key is the node's.
    let report = report_of(&world, "pi-2");
    let forged = Report { seq: Seq(u64::MAX), ..report };
    bus.publish("deploybus/v1/node/pi-2/report", &seal(&forged, 7), true).unwrap();
    let believed = status(&world);
    assert!(of_node(&believed, "pi-2")["not_believed"].is_string(), "{believed}");
    let key = SecretKey::from_seed(&[7; 32]).public();
    let record = Record { key, seq: Seq(u64::MAX), ..record_of(&world, "pi-2") };
    bus.publish("deploybus/v1/node/pi-2/record", &seal(&record, 8), true).unwrap();
    let believed = status(&world);
    assert!(of_node(&believed, "pi-2")["not_believed"].is_string(), "{believed}");
    // An older report of the node itself, once a newer one was seen, says nothing: nodes number them.
    all_serve(&world, "1.1.0");
    // Home again: the fleet goes on as if nothing had been.
    drop(thiefs_broker);
    world.start_broker().unwrap();
    app.commit("1.2.0").unwrap();
    let (code, told) = world.announce(&app, "canary").unwrap();
    assert_eq!(code, Some(0), "{told}");
    all_serve(&world, "1.2.0");
}

#[test]
fn who_has_the_ops_key_ships_no_code_and_goes_below_no_floor() {
    let (world, _app) = house();
    let forge = world.forge().unwrap();
    let old = running(&world);
    // A security release sets a floor.
    let counter = Counter(old.counter.0 + 1);
    let secure = Release { version: "1.0.1".into(), counter, min_counter: counter, ..old.clone() };
    let order = forge.order(&group(), &web(), Digest::of(b""), FUTURE);
    let mut bus = world.raw_publisher().unwrap();
    bus.publish(RELEASE, &forge.announcement(&order, &secure).to_bytes(), true).unwrap();
    for node in ["pi-1", "pi-2"] {
        assert_eq!(world.wait_outcome(node, "1.0.1").unwrap().verdict, Verdict::Kept);
    }
    // The thief orders what was fine once.
    let old = Release { version: "1.0.0 again".into(), ..old };
    let order = Order { revision: Revision(FUTURE.0 + 1), ..order };
    bus.publish(RELEASE, &forge.announcement(&order, &old).to_bytes(), true).unwrap();
    for node in ["pi-1", "pi-2"] {
        let outcome = world.wait_outcome(node, "1.0.0 again").unwrap();
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Refused, Some(Reason::BelowFloor)));
    }
    // And what was never released.
    let own = Signed::seal(&secure, std::slice::from_ref(&forge.ops_key));
    let order = Order { revision: Revision(FUTURE.0 + 2), release: own.digest(), ..order };
    let order = Signed::seal(&order, std::slice::from_ref(&forge.ops_key));
    bus.publish(RELEASE, &Announcement { order, release: own, mandate: None }.to_bytes(), true).unwrap();
    wait_refused(&world, "pi-1", Reason::BadSignature);
    // Nor does what the record says about the environment make what runs load code.
    let topic = "deploybus/v1/node/pi-1/record";
    let there = bus.retained(topic, QUIET).unwrap().remove(topic).unwrap();
    let record = Signed::<Record>::from_bytes(&there).unwrap().verify(&forge.trust).unwrap().into_inner();
    let env = [("LD_PRELOAD", "/tmp/evil.so"), ("PYTHONPATH", "/tmp"), ("MOOD", "bad")];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let record = Record { seq: Seq(record.seq.0 + 1), env, ..record };
    bus.publish(topic, &Signed::seal(&record, std::slice::from_ref(&forge.ops_key)).to_bytes(), true)
        .unwrap();
    let run_file =
        world.nodes().find(|node| node.name() == "pi-1").unwrap().data().join("apps/web/run/app.pid");
    let environment = || {
        let run: Value = serde_json::from_slice(&fs::read(&run_file).ok()?).ok()?;
        let environ = fs::read(format!("/proc/{}/environ", run["pid"])).ok()?;
        Some(String::from_utf8_lossy(&environ).into_owned()).filter(|all| all.contains("MOOD=bad"))
    };
    let environment =
        e2e::wait_until("the app with the other environment", Duration::from_secs(20), environment).unwrap();
    assert!(!environment.contains("LD_PRELOAD") && !environment.contains("PYTHONPATH="), "{environment}");
}

#[test]
fn who_has_the_release_key_makes_no_node_install_anything() {
    let (world, _app) = house();
    let forge = world.forge().unwrap();
    let evil = Release { version: "6.6.6".into(), ..running(&world) };
    let release = Signed::seal(&evil, std::slice::from_ref(&forge.release_key));
    let mut bus = world.raw_publisher().unwrap();
    // Its own order, and the genuine order beside another release.
    let order = forge.order(&group(), &web(), release.digest(), FUTURE);
    let order = Signed::seal(&order, std::slice::from_ref(&forge.release_key));
    let genuine = genuine(&world);
    bus.publish(RELEASE, &Announcement { order, release: release.clone(), mandate: None }.to_bytes(), true)
        .unwrap();
    wait_refused(&world, "pi-1", Reason::BadSignature);
    bus.publish(RELEASE, &Announcement { order: genuine.order, release, mandate: None }.to_bytes(), true)
        .unwrap();
    wait_refused(&world, "pi-1", Reason::WrongRelease);
    all_serve(&world, "1.0.0");
}

#[test]
fn who_has_a_node_lies_about_that_node_alone() {
    let (mut world, _app) = house();
    let folder = world.node("pi-2").unwrap().folder().to_owned();
    world.node("pi-2").unwrap().stop().unwrap();
    let (key, password) = (read_key(&folder.join("node.key")).unwrap(), read(&folder.join("password")));
    let mut bus = Mqtt::connect_as_node("pi-2", world.ports().0, &password).unwrap();
    // The bus takes from it what is its own, and nothing else.
    let of_others = [
        RELEASE,
        "deploybus/v1/trust",
        "deploybus/v1/node/pi-1/report",
        "deploybus/v1/node/pi-1/record",
        "deploybus/v1/node/pi-2/record",
        "deploybus/v1/node/pi-1/command",
        "deploybus/v1/rollout/canary/web",
        "deploybus/v1/enroll/request/0123456789abcdef",
    ];
    let retained = |world: &World| world.raw_publisher().unwrap().retained("deploybus/v1/#", QUIET).unwrap();
    let before = retained(&world);
    for topic in of_others {
        bus.publish(topic, b"mine", true).unwrap();
    }
    let after = retained(&world);
    for topic in of_others {
        assert_eq!(after.get(topic), before.get(topic), "{topic}");
    }
    let report = Report { seq: Seq(u64::MAX), ..report_of(&world, "pi-2") };
    let lie = Signed::seal(&report, std::slice::from_ref(&key)).to_bytes();
    bus.publish("deploybus/v1/node/pi-2/report", &lie, true).unwrap();
    // With the publisher's password, too, it speaks for no other node.
    let as_other = Report { node: "pi-1".parse().unwrap(), ..report };
    let as_other = Signed::seal(&as_other, std::slice::from_ref(&key)).to_bytes();
    world.raw_publisher().unwrap().publish("deploybus/v1/node/pi-1/report", &as_other, true).unwrap();
    assert_ne!(retained(&world)["deploybus/v1/node/pi-1/report"], as_other);
    let believed = status(&world);
    assert!(of_node(&believed, "pi-1")["not_believed"].is_null(), "{believed}");
    assert!(of_node(&believed, "pi-2")["not_believed"].is_null(), "its own lies are its own: {believed}");
    all_but(&world, "pi-2", "1.0.0");
}

#[test]
fn who_has_a_watchers_password_changes_nothing() {
    let (world, _app) = house();
    let password = read(&world.home().join("watcher.password"));
    let mut bus = Mqtt::connect(world.ports().0, Some(("watcher", &password))).unwrap();
    let before = bus.retained("deploybus/v1/#", QUIET).unwrap();
    for topic in before.keys() {
        bus.publish(topic, b"", true).unwrap();
        bus.publish(topic, b"x", true).unwrap();
    }
    // Figures of health come and go.
    let lasting = |topics: e2e::Retained| topics.into_iter().filter(|(topic, _)| !topic.ends_with("/health"));
    let after = bus.retained("deploybus/v1/#", QUIET).unwrap();
    assert!(lasting(before).eq(lasting(after)));
}

#[test]
fn a_store_of_others_gives_neither_other_bytes_nor_bytes_without_end() {
    for evil in [endless as fn(&mut dyn std::io::Write), short_lies] {
        let (mut world, app) = World::serving().unwrap();
        world.node("pi-1").unwrap().stop().unwrap();
        app.commit("1.1.0").unwrap();
        world.announce_only(&app, "canary").unwrap();
        let settings = world.node("pi-1").unwrap().folder().join("pi-worker.toml");
        let good = read(&settings);
        let port = serve(evil);
        let http = world.ports().1;
        let wrong = good.replace(&format!("127.0.0.1:{http}"), &format!("127.0.0.1:{port}"));
        assert_ne!(wrong, good);
        fs::write(&settings, wrong).unwrap();
        world.node("pi-1").unwrap().start().unwrap();
        let outcome = world.wait_outcome("pi-1", "1.1.0").unwrap();
        assert_eq!(outcome.verdict, Verdict::Failed, "{outcome:?}");
        let honest = [Reason::DigestMismatch, Reason::TooLarge];
        assert!(honest.contains(&outcome.reason.unwrap()), "{outcome:?}");
        world.node("pi-1").unwrap().wait_serves("1.0.0").unwrap();
    }
}

/// Answers every request by what `evil` writes.
fn serve(evil: fn(&mut dyn std::io::Write)) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                evil(&mut stream);
            });
        }
    });
    port
}

/// A frame of zstd that never ends, said to be as long as it may be.
fn endless(stream: &mut dyn std::io::Write) {
    let zeros = vec![0; 1 << 20];
    let mut packed = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    packed.write_all(&zeros).unwrap();
    packed.flush().unwrap();
    let frame = packed.get_ref().clone();
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", frame.len() * 1000);
    for _ in 0..1000 {
        if stream.write_all(&frame).is_err() {
            return;
        }
    }
}

fn short_lies(stream: &mut dyn std::io::Write) {
    let lie = zstd::encode_all(&b"not what was signed"[..], 1).unwrap();
    let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", lie.len());
    let _ = stream.write_all(&lie);
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap().trim_end().to_owned()
}

fn seal<T: schemas::seal::Document>(document: &T, key: u8) -> Vec<u8> {
    Signed::seal(document, &[SecretKey::from_seed(&[key; 32])]).to_bytes()
}

fn report_of(world: &World, node: &str) -> Report {
    world.wait_report(node, "any report", |report| Some(report.clone())).unwrap()
}

fn record_of(world: &World, node: &str) -> Record {
    let bytes = fs::read(world.home().join(format!("nodes/{node}/record.cbor"))).unwrap();
    let trust = world.forge().unwrap().trust;
    Signed::<Record>::from_bytes(&bytes).unwrap().verify(&trust).unwrap().into_inner()
}

fn all_but(world: &World, name: &str, version: &str) {
    for node in world.nodes().filter(|node| node.name() != name) {
        assert_eq!(node.serves().as_deref(), Some(version));
    }
}

fn is_anywhere(folder: &Path, text: &str) -> bool {
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read(&path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
                return true;
            }
        }
    }
    false
}
