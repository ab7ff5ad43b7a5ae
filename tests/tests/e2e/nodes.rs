//! Nodes come and go: retired, invited, approved, listed, with another token.

use std::{
    fs::{self, File},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use e2e::{BusKind, Mqtt, Output, World, binary};
use serde_json::Value;

const QUIET: Duration = Duration::from_millis(300);

const PATIENCE: Duration = Duration::from_secs(30);

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    e2e::wait_until(what, PATIENCE, || is_so().then_some(())).unwrap();
}

fn told(world: &World, args: &[&str]) -> Value {
    let output = world.publisher(&[args, &["--json"]].concat()).unwrap().expect(0).unwrap();
    serde_json::from_str(&output.stdout).unwrap()
}

fn password(world: &mut World, node: &str) -> String {
    fs::read_to_string(world.node(node).unwrap().folder().join("password")).unwrap().trim().to_owned()
}

fn is_let_in(world: &World, node: &str, password: &str) -> bool {
    Mqtt::connect_as_node(node, world.ports().0, password).is_ok()
}

fn of_node(world: &World, node: &str) -> Vec<String> {
    let mut bus = world.raw_publisher().unwrap();
    bus.retained(&format!("deploybus/v1/node/{node}/#"), QUIET).unwrap().into_keys().collect()
}

#[test]
fn another_environment_starts_a_process_anew_without_a_release() {
    let (mut world, _app) = World::serving().unwrap();
    let run_file = world.node("pi-1").unwrap().data().join("apps/web/run/app.pid");
    let environment = || {
        let run: Value = serde_json::from_slice(&fs::read(&run_file).ok()?).ok()?;
        let environ = fs::read(format!("/proc/{}/environ", run["pid"])).ok()?;
        Some(String::from_utf8_lossy(&environ).replace('\0', "\n"))
    };
    let has = |line: &str| environment().is_some_and(|all| all.lines().any(|set| set == line));
    told(&world, &["env", "set", "--group", "canary", "CAMPAIGN_NAME=turboship", "LOG_LEVEL=debug"]);
    wait("the variables", || has("CAMPAIGN_NAME=turboship") && has("LOG_LEVEL=debug"));
    world.node("pi-1").unwrap().wait_serves("1.0.0").unwrap();
    assert_eq!(told(&world, &["env", "list", "pi-1"])["pi-1"]["LOG_LEVEL"], "debug");
    told(&world, &["env", "unset", "pi-1", "LOG_LEVEL"]);
    wait("one of them to go", || has("CAMPAIGN_NAME=turboship") && !has("LOG_LEVEL=debug"));
    let wrong = world.publisher(&["env", "set", "pi-1", "DEPLOYBUS_APP=x"]).unwrap();
    assert!(wrong.code != Some(0) && wrong.stderr.contains("set by the worker itself"), "{}", wrong.stderr);
}

#[test]
fn a_node_changes_its_groups_and_an_order_that_was_not_meant_is_taken_back() {
    let (mut world, app) = World::serving().unwrap();
    let folder = app.folder().to_str().unwrap();
    app.commit("1.1.0").unwrap();
    let stray = world.publisher(&["announce", folder, "--group", "canaryy", "--no-wait"]).unwrap();
    stray.expect(0).unwrap();
    told(&world, &["withdraw", "--group", "canaryy"]);
    told(&world, &["node", "change", "pi-1", "--join", "canaryy", "--label", "site=farm"]);
    let listed = told(&world, &["node", "list"]);
    assert_eq!(listed[0]["groups"], serde_json::json!(["all", "canary", "canaryy"]), "{listed}");
    assert_eq!(listed[0]["labels"], serde_json::json!(["site=farm"]), "{listed}");
    // It has heard of the group, and of nothing to be done there.
    told(&world, &["announce", folder, "--group", "canaryy"]);
    world.node("pi-1").unwrap().wait_serves("1.1.0").unwrap();
    assert_eq!(told(&world, &["node", "change", "pi-1", "--leave", "canaryy"])["changed"], true);
    assert_eq!(told(&world, &["node", "change", "pi-1", "--leave", "canaryy"])["changed"], false);
    let nothing = world.publisher(&["withdraw", "--group", "kitchen"]).unwrap().expect(1).unwrap().stderr;
    assert!(nothing.contains("nothing is ordered for group kitchen"), "{nothing}");
}

#[test]
fn what_an_app_says_is_shown_while_somebody_asks_and_it_stops_without_its_worker() {
    let (mut world, _app) = World::serving().unwrap();
    let said = world.publisher(&["logs", "pi-1", "--lines", "5"]).unwrap().expect(0).unwrap().stdout;
    assert!(said.contains("listens on port") && said.lines().count() <= 5, "{said}");
    let none = world.publisher(&["logs", "pi-1", "--app", "api"]).unwrap().expect(1).unwrap().stderr;
    assert!(none.contains("pi-1 has no app api"), "{none}");
    let node = world.node("pi-1").unwrap();
    let mut stop = node.command("stop").unwrap();
    let taken = Output::of(&mut stop).unwrap().expect(1).unwrap().stderr;
    assert!(taken.contains("runs on data folder"), "{taken}");
    node.kill().unwrap();
    node.ask("/version").unwrap();
    let stopped = Output::of(&mut stop).unwrap().expect(0).unwrap().stdout;
    assert_eq!(stopped, "web is stopped\n");
    node.ask("/version").unwrap_err();
}

#[test]
fn a_retired_node_is_cut_off_and_comes_back_by_no_old_record() {
    let (mut world, app) = World::serving().unwrap();
    world.add_node("pi-2", &["canary"]).unwrap();
    world.wait_outcome("pi-2", "1.0.0").unwrap();
    let (record, stolen) = ("deploybus/v1/node/pi-2/record", password(&mut world, "pi-2"));
    let old = fs::read(world.home().join("nodes/pi-2/record.cbor")).unwrap();
    let mut thief = Mqtt::connect_as_node("pi-2", world.ports().0, &stolen).unwrap();
    assert!(of_node(&world, "pi-2").len() > 3);
    told(&world, &["node", "retire", "pi-2", "--yes"]);
    // Cut off, wherever it is connected, and what it said is gone.
    wait("the connection ends", || thief.next(Duration::from_millis(100)).is_err());
    assert!(!is_let_in(&world, "pi-2", &stolen));
    wait("its topics are cleared", || of_node(&world, "pi-2") == [record]);
    let status = told(&world, &["status"]);
    let names: Vec<&str> =
        status["nodes"].as_array().unwrap().iter().filter_map(|n| n["node"].as_str()).collect();
    assert_eq!(names, ["pi-1"]);
    assert!(!world.home().join("nodes/pi-2/node.key").exists());
    // Who has an old record and may publish, puts it back; it counts for nothing, and does not stay.
    let mut bus = world.raw_publisher().unwrap();
    bus.publish(record, &old, true).unwrap();
    let now = fs::read(world.home().join("nodes/pi-2/record.cbor")).unwrap();
    let there = || world.raw_publisher().unwrap().retained(record, QUIET).unwrap().into_values().next();
    wait("the record is put back", || there().as_ref() == Some(&now));
    world.kill_broker().unwrap();
    world.start_broker().unwrap();
    assert!(!is_let_in(&world, "pi-2", &stolen));
    // Nor does its key get it another token, though it has that key and its record.
    let copy = world.folder().join("copy");
    let folder = world.node("pi-2").unwrap().folder().to_owned();
    copy_folder(&folder, &copy);
    let mut thief = enroll(&copy, &["--renew"]);
    wait_for_request(&world, "pi-2");
    told(&world, &["node", "sync"]);
    assert_eq!(told(&world, &["node", "list"])[1]["status"], "revoked");
    let refused = world.publisher(&["node", "approve", "pi-2", "--yes"]).unwrap().expect(1).unwrap().stderr;
    assert!(refused.contains("is retired"), "{refused}");
    end(&mut thief);
    // It owes nothing to a group any more.
    app.commit("1.1.0").unwrap();
    let (code, announced) = world.announce(&app, "canary").unwrap();
    assert_eq!((code, announced["nodes"].as_array().unwrap().len()), (Some(0), 1), "{announced}");
    let listed = told(&world, &["node", "list"]);
    assert_eq!(listed[1]["status"], "revoked");
    let shown = world.publisher(&["node", "show", "pi-2"]).unwrap().expect(0).unwrap().stdout;
    assert!(shown.contains("retired since"), "{shown}");
    // A new card for the same name is another node.
    world.add_node("pi-3", &["canary"]).unwrap();
    world.wait_outcome("pi-3", "1.1.0").unwrap();
}

#[test]
fn an_invited_node_makes_its_own_key_and_its_card_is_worth_nothing_afterwards() {
    let (mut world, _app) = World::serving().unwrap();
    let mut waiting = invite(&mut world, "pi-2");
    let folder = world.node("pi-2").unwrap().folder().to_owned();
    let stolen = world.folder().join("stolen");
    copy_folder(&folder, &stolen);
    assert!(!folder.join("node.key").exists() && !folder.join("record.cbor").exists());
    world.node("pi-2").unwrap().start().unwrap();
    assert!(waiting.wait().unwrap().success());
    assert!(fs::read_to_string(world.folder().join("invite.log")).unwrap().contains("pi-2 has come"));
    world.wait_outcome("pi-2", "1.0.0").unwrap();
    assert!(!folder.join("invitation").exists() && !world.home().join("nodes/pi-2/node.key").exists());
    // Who copied the card meanwhile only waits for people, under a key of its own.
    let mut thief = enroll(&stolen, &[]);
    let asks = wait_for_request(&world, "pi-2");
    assert_eq!(told(&world, &["node", "sync"])["published"], Value::Array(Vec::new()));
    let refused = world.publisher(&["node", "approve", "pi-2", "--yes"]).unwrap().expect(1).unwrap().stderr;
    assert!(refused.contains("added before, with another key") && !asks.is_empty(), "{refused}");
    end(&mut thief);
}

#[test]
fn an_invited_node_believes_the_ca_of_its_card() {
    let (mut world, _app) = World::on(BusKind::Tls).unwrap().into_serving().unwrap();
    let mut waiting = invite(&mut world, "pi-2");
    let folder = world.node("pi-2").unwrap().folder().to_owned();
    let (good, other) = (folder.join("ca.pem"), world.folder().join("elsewhere"));
    let foreign =
        world.publisher_command(&["init", "--host", "127.0.0.1", "--home", other.to_str().unwrap()]);
    Output::of(&mut foreign.unwrap()).unwrap().expect(0).unwrap();
    let ca = fs::read(&good).unwrap();
    fs::copy(other.join("ca.pem"), &good).unwrap();
    let mut misled = enroll(&folder, &[]);
    let says = || fs::read_to_string(folder.with_extension("log")).unwrap();
    wait("the node refuses another CA's certificate", || says().contains("is signed by another CA"));
    end(&mut misled);
    fs::write(&good, ca).unwrap();
    world.node("pi-2").unwrap().start().unwrap();
    assert!(waiting.wait().unwrap().success());
    world.wait_outcome("pi-2", "1.0.0").unwrap();
}

/// `publisher node add --invite` in the background, once the card is written.
fn invite(world: &mut World, name: &str) -> Child {
    let folder = world.stranger(name).unwrap().folder().to_owned();
    let (data, card) = (world.folder().join(format!("{name}-data")), folder.to_str().unwrap());
    let env = format!("PORT={}", world.node(name).unwrap().port());
    let invite = ["node", "add", name, "--group", "canary", "--invite", "--out", card, "--env", &env];
    let mut waiting = world.publisher_command(&invite).unwrap();
    let log = world.folder().join("invite.log");
    waiting.args(["--data", data.to_str().unwrap()]).stdout(File::create(&log).unwrap());
    let waiting = waiting.stderr(Stdio::null()).spawn().unwrap();
    wait("the card is written", || fs::read_to_string(&log).unwrap().contains("is invited by"));
    waiting
}

#[test]
fn a_node_that_asks_is_let_in_when_both_sides_show_the_same_words() {
    let (mut world, _app) = World::serving().unwrap();
    let node = world.stranger("pi-2").unwrap();
    let (folder, port) = (node.folder().to_owned(), node.port());
    let (mqtt, http) = world.ports();
    let (bus, store) = (format!("mqtt://127.0.0.1:{mqtt}"), format!("http://127.0.0.1:{http}"));
    let data = world.folder().join("pi-2-data");
    let asked = ["--node", "pi-2", "--bus", &bus, "--store", &store, "--data", data.to_str().unwrap()];
    let mut asking = enroll(&folder, &asked);
    let words = wait_for_request(&world, "pi-2");
    let says = || fs::read_to_string(folder.with_extension("log")).unwrap();
    wait("the node shows its words", || says().contains(&words));
    assert_eq!(words.split(' ').count(), 6);
    let nobody = world.publisher(&["node", "approve", "pi-9"]).unwrap().expect(1).unwrap().stderr;
    assert!(nobody.contains("no node asks to be let in as pi-9"), "{nobody}");
    let unread = world.publisher(&["node", "approve", "pi-2"]).unwrap().expect(1).unwrap().stderr;
    assert!(unread.contains("say --yes when they were compared"), "{unread}");
    let approved = told(&world, &["node", "approve", "pi-2", "--group", "canary", "--yes"]);
    assert_eq!(approved["words"], words);
    assert!(asking.wait().unwrap().success());
    assert!(told(&world, &["status"])["requests"].as_array().unwrap().is_empty());
    let settings = folder.join("pi-worker.toml");
    fs::write(&settings, fs::read_to_string(&settings).unwrap() + &format!("[env]\nPORT = \"{port}\"\n"))
        .unwrap();
    world.node("pi-2").unwrap().start().unwrap();
    world.wait_outcome("pi-2", "1.0.0").unwrap();
    // Another token, by the key that the fleet knows: nobody is asked.
    let before = password(&mut world, "pi-2");
    let mut renewing = enroll(&folder, &["--renew"]);
    wait_for_request(&world, "pi-2");
    // Heard by somebody who will say it again.
    let heard = world.raw_publisher().unwrap().retained("deploybus/v1/enroll/request/+", QUIET).unwrap();
    told(&world, &["node", "sync"]);
    // The first time it does not know yet which record it renews.
    wait("the new token is asked for", || {
        told(&world, &["node", "sync"]);
        renewing.try_wait().unwrap().is_some()
    });
    assert!(renewing.wait().unwrap().success());
    let now = password(&mut world, "pi-2");
    assert!(now != before && is_let_in(&world, "pi-2", &now) && !is_let_in(&world, "pi-2", &before));
    let mut bus = world.raw_publisher().unwrap();
    for (topic, request) in heard {
        bus.publish(&topic, &request, true).unwrap();
    }
    told(&world, &["node", "sync"]);
    assert!(is_let_in(&world, "pi-2", &now), "an old request does not count again");
}

#[test]
fn the_root_behind_the_words_is_the_one_that_counts() {
    let (mut ours, thiefs) = (World::new().unwrap(), World::new().unwrap());
    let folder = ours.stranger("pi-2").unwrap().folder().to_owned();
    let url = |world: &World| format!("http://127.0.0.1:{}", world.ports().1);
    let (bus, store) = (format!("mqtt://127.0.0.1:{}", ours.ports().0), url(&ours));
    let data = ours.folder().join("pi-2-data");
    let asked = ["--node", "pi-2", "--bus", &bus, "--store", &store, "--data", data.to_str().unwrap()];
    let mut asking = enroll(&folder, &asked);
    wait_for_request(&ours, "pi-2");
    wait("the root is kept", || folder.join("root.cbor").exists());
    end(&mut asking);
    // Whoever answers now is of another fleet of that name, which lets the node in at once.
    let list = thiefs.folder().join("keys.txt");
    let listed = Output::of(enroll_command(&folder).arg("--offline")).unwrap().expect(0).unwrap().stdout;
    fs::write(&list, listed).unwrap();
    told(&thiefs, &["node", "approve", "--list", list.to_str().unwrap()]);
    let settings = folder.join("pi-worker.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, text.replace(&store, &url(&thiefs))).unwrap();
    let refused = Output::of(&mut enroll_command(&folder)).unwrap().expect(1).unwrap().stderr;
    assert!(refused.contains("is not believed"), "{refused}");
    assert!(!folder.join("record.cbor").exists());
    // Without a root there is nothing to believe, however willing the other side is.
    fs::remove_file(folder.join("root.cbor")).unwrap();
    let refused = Output::of(&mut enroll_command(&folder)).unwrap().expect(1).unwrap().stderr;
    assert!(refused.contains("--root"), "{refused}");
}

#[test]
fn a_factory_lists_keys_that_never_leave_their_nodes() {
    let (mut world, _app) = World::serving().unwrap();
    let (mqtt, http) = world.ports();
    let (bus, store) = (format!("mqtt://127.0.0.1:{mqtt}"), format!("http://127.0.0.1:{http}"));
    let mut lines = String::new();
    for name in ["pi-2", "pi-3"] {
        let folder = world.stranger(name).unwrap().folder().to_owned();
        let data = world.folder().join(format!("{name}-data"));
        let mut offline = enroll_command(&folder);
        let root = world.home().join("root.cbor");
        offline.args(["--offline", "--node", name, "--bus", &bus, "--store", &store, "--root"]).arg(root);
        let listed = Output::of(offline.arg("--data").arg(data)).unwrap().expect(0).unwrap().stdout;
        lines += &listed;
    }
    let list = world.folder().join("keys.txt");
    fs::write(&list, "# made today\n".to_owned() + &lines + "pi-4 nonsense\n").unwrap();
    let approve = ["node", "approve", "--group", "canary", "--list", list.to_str().unwrap()];
    let wrong = world.publisher(&approve).unwrap().expect(1).unwrap().stderr;
    assert!(wrong.contains("line 4") && wrong.contains("it has 2 words, not 3"), "{wrong}");
    fs::write(&list, &lines).unwrap();
    assert_eq!(told(&world, &approve)["nodes"], serde_json::json!(["pi-2", "pi-3"]));
    for name in ["pi-2", "pi-3"] {
        let folder = world.node(name).unwrap().folder().to_owned();
        assert!(enroll(&folder, &[]).wait().unwrap().success());
        let port = world.node(name).unwrap().port();
        let settings = folder.join("pi-worker.toml");
        fs::write(&settings, fs::read_to_string(&settings).unwrap() + &format!("[env]\nPORT = \"{port}\"\n"))
            .unwrap();
        world.node(name).unwrap().start().unwrap();
        world.wait_outcome(name, "1.0.0").unwrap();
    }
}

fn enroll_command(folder: &Path) -> Command {
    let mut command = Command::new(binary("pi-worker").unwrap());
    command.arg("enroll").arg("--config").arg(folder.join("pi-worker.toml"));
    command
}

/// `pi-worker enroll` in the background.
fn enroll(folder: &Path, args: &[&str]) -> Child {
    let log = File::create(folder.with_extension("log")).unwrap();
    enroll_command(folder).args(args).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn end(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The words of the node that asks under this name.
fn wait_for_request(world: &World, name: &str) -> String {
    let mut words = None;
    wait("the node asks", || {
        let status = told(world, &["status"]);
        let asks = status["requests"].as_array().unwrap().iter().find(|request| request["node"] == name);
        words = asks.map(|request| request["words"].as_str().unwrap().to_owned());
        words.is_some()
    });
    words.unwrap()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
