//! Keys, passwords and tokens show nowhere: not in the most talkative logs, not in `ps`, not on the screen, not on the bus.

use std::{
    fs,
    path::{Path, PathBuf},
};

use e2e::{Output, World};

const PASSPHRASE: &str = "five words that nobody says";

/// Everything that nobody else may see, as the files have it.
fn secrets(world: &World) -> Vec<(String, String)> {
    let home = world.home();
    let mut found = vec![("passphrase".to_owned(), PASSPHRASE.to_owned())];
    let mut add = |path: &Path| {
        let text = fs::read_to_string(path).unwrap().trim().to_owned();
        // Of a PEM file, what lies between its lines.
        let secret =
            text.lines().find(|line| !line.contains("-----") && !line.contains(": ")).unwrap().to_owned();
        found.push((path.display().to_string(), secret));
    };
    for name in ["keys/root.key", "keys/release.key", "keys/ops.key", "keys/ca.key", "watcher.password"] {
        add(&home.join(name));
    }
    add(&home.join("broker/tls/issuer.key"));
    for node in world.nodes() {
        add(&node.folder().join("node.key"));
        add(&node.folder().join("password"));
    }
    let settings: toml::Table = fs::read_to_string(home.join("fleet.toml")).unwrap().parse().unwrap();
    found.push(("the publisher's password".to_owned(), settings["password"].as_str().unwrap().to_owned()));
    found
}

fn no_secret_in(world: &World, what: &str, text: &[u8]) {
    for (name, secret) in secrets(world) {
        let is_there = text.windows(secret.len()).any(|bytes| bytes == secret.as_bytes());
        assert!(!is_there, "{name} shows in {what}");
    }
}

#[test]
fn secrets_show_in_no_log_list_of_processes_or_message() {
    let mut world = World::new().unwrap();
    world.stop_broker().unwrap();
    let mut broker = world.broker_command().unwrap();
    broker.env("RUST_LOG", "trace");
    world.start_broker_as(broker).unwrap();
    world.register_node("pi-1", &["canary"]).unwrap();
    let mut worker = world.node("pi-1").unwrap().command("run").unwrap();
    worker.env("RUST_LOG", "trace");
    world.node("pi-1").unwrap().start_as(worker).unwrap();
    let app = world.app().unwrap();
    let talk = |args: &[&str]| {
        let mut command = world.publisher_command(args).unwrap();
        command.env("RUST_LOG", "trace").env("DEPLOYBUS_PASSPHRASE", PASSPHRASE);
        let said = Output::of(&mut command).unwrap();
        no_secret_in(&world, &format!("the output of {args:?}"), (said.stdout + &said.stderr).as_bytes());
        said.code
    };
    let copy = world.folder().join("copy.key");
    let folder = app.folder().to_str().unwrap();
    for args in [
        &["announce", folder, "--group", "canary"][..],
        &["keys", "export", "ops", "--out", copy.to_str().unwrap(), "--passphrase"],
        &["keys", "rotate", "ops"],
        &["keys", "list"],
        &["node", "show", "pi-1"],
        &["status", "--json"],
        &["user", "list"],
    ] {
        assert_eq!(talk(args), Some(0), "{args:?}");
    }
    // A wrong word is not repeated either.
    assert_eq!(talk(&["keys", "import", "ops", world.home().join("fleet.toml").to_str().unwrap()]), Some(1));
    for pid in [world.broker().unwrap().pid(), world.node("pi-1").unwrap().process().unwrap().pid()] {
        for file in ["cmdline", "environ"] {
            // Others than root may not even look.
            let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            no_secret_in(&world, &format!("{file} of process {pid}"), &text);
        }
    }
    let messages = world
        .raw_publisher()
        .unwrap()
        .retained("deploybus/v1/#", std::time::Duration::from_millis(500))
        .unwrap();
    assert!(messages.len() > 8);
    for payload in messages.values() {
        no_secret_in(&world, "a retained message", payload);
    }
    let logs = logs_below(world.folder());
    assert!(logs.len() >= 2, "{logs:?}");
    for log in logs {
        let text = fs::read(&log).unwrap();
        assert!(text.len() > 1_000, "{} is talkative", log.display());
        no_secret_in(&world, &log.display().to_string(), &text);
    }
}

fn logs_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { logs_below(&path) } else { vec![path] })
        .filter(|path| ["broker.log", "worker.log"].iter().any(|name| path.ends_with(name)))
        .collect()
}
