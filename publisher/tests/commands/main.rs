//! The program as people run it, without a bus: what it prints and how it ends.

#![expect(clippy::unwrap_used, reason = "all of this is tests")]

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What a command printed and how it ended.
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

/// A user with an empty home folder.
struct User {
    dir: tempfile::TempDir,
}

impl User {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    /// A user who has made a fleet, with a bus at `port` of this machine.
    fn with_fleet(port: u16) -> Self {
        let user = Self::new();
        let bus = format!("mqtt://127.0.0.1:{port}");
        assert_eq!(user.run(&["init", "--bus", &bus]).code, Some(0));
        user
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_publisher"));
        command.args(arguments).current_dir(self.dir.path()).env("HOME", self.dir.path());
        command.env_remove("DEPLOYBUS_HOME").env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    /// Runs the program, with the folder's name made stable in what it prints.
    fn run(&self, arguments: &[&str]) -> Ran {
        let output = self.command(arguments).output().unwrap();
        let folder = self.dir.path().to_str().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(folder, "~");
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// What a command that must fail with exit code 1 says.
    fn error_of(&self, arguments: &[&str]) -> String {
        let ran = self.run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
        ran.stderr
    }
}

/// A port on which nobody listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn app(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("deploybus.toml"), "[app]\nname = \"web\"\nversion = \"1.0.0\"\n").unwrap();
    fs::write(folder.join("app.py"), "print('hello')\n").unwrap();
}

#[test]
fn a_newcomer_is_told_how_to_begin() {
    insta::assert_snapshot!(User::new().error_of(&["status"]), @r"
    error: there is no fleet in ~/.deploybus
    hint:  make one with `publisher init`, or say where it is with --home
    ");
}

#[test]
fn init_says_what_comes_next_and_never_overwrites() {
    let user = User::new();
    insta::assert_snapshot!(user.run(&["init"]).stdout, @r"
    fleet deploybus is in ~/.deploybus: keep a backup of it

    next:
      broker run --config ~/.deploybus/broker/broker.toml --data ~/.deploybus/broker/data
      publisher node add pi-kitchen --group canary
      publisher announce ./app --group canary
    ");
    insta::assert_snapshot!(user.error_of(&["init"]), @r"
    error: ~/.deploybus is there already
    hint:  its keys cannot be made again: move it away yourself, or choose another folder with --home
    ");
    let elsewhere = user.run(&["init", "--home", "other"]).stdout;
    assert!(elsewhere.contains("publisher --home ~/other announce"), "{elsewhere}");
}

#[test]
fn wrong_usage_ends_with_2() {
    for arguments in [
        &["fly"][..],
        &["announce", "."],
        &["node", "add", "Not A Name"],
        &["init", "--bus", "http://x"],
        &["announce", ".", "--group", "a", "--expires", "0s"],
    ] {
        let ran = User::new().run(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}: {}", ran.stderr);
    }
    assert_eq!(User::new().run(&["--help"]).code, Some(0));
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let user = User::with_fleet(closed_port());
    for arguments in [&["node", "list"][..], &["node", "list", "--json"]] {
        let mut command = user.command(arguments);
        let output = command.stdout(fs::File::create("/dev/full").unwrap()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.starts_with("error: cannot write the result to standard output: "), "{said}");
    }
}

#[test]
fn a_variable_that_is_empty_is_as_good_as_none() {
    let user = User::with_fleet(closed_port());
    let status =
        |home: &str| user.command(&["node", "list"]).env("DEPLOYBUS_HOME", home).status().unwrap().code();
    assert_eq!((status(""), status("nowhere")), (Some(0), Some(1)));
}

#[test]
fn a_key_that_others_may_read_is_said() {
    let user = User::with_fleet(closed_port());
    let key = user.path(".deploybus/keys/ops.key");
    assert!(!user.run(&["node", "add", "pi-1"]).stderr.contains("chmod"));
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let said = user.run(&["node", "add", "pi-2"]).stderr;
    assert!(said.contains("close it with `chmod 600 ~/.deploybus/keys/ops.key`"), "{said}");
}

#[test]
fn a_damaged_home_is_named_with_what_to_do() {
    let user = User::with_fleet(closed_port());
    let home = user.path(".deploybus");
    fs::remove_file(home.join("keys/ops.key")).unwrap();
    let mut errors = vec![user.error_of(&["node", "add", "pi-1"])];
    fs::write(home.join("root.cbor"), "rubbish").unwrap();
    errors.push(user.error_of(&["node", "list"]));
    fs::write(home.join("fleet.toml"), "fleet = \"a\"\nbuss = 3\n").unwrap();
    errors.push(user.error_of(&["node", "list"]));
    insta::assert_snapshot!(errors.join("\n"));
}

#[test]
fn a_bus_that_is_down_is_said_at_once() {
    let port = closed_port();
    let user = User::with_fleet(port);
    app(&user.path("app"));
    for arguments in
        [&["status"][..], &["watch"], &["node", "sync"], &["announce", "app", "--group", "canary"]]
    {
        let started = Instant::now();
        let ran = user.run(arguments);
        assert_eq!(ran.code, Some(1));
        let said = ran.stderr.replace(&port.to_string(), "<port>");
        assert!(said.contains("cannot reach the bus: no broker at mqtt://127.0.0.1:<port>"), "{said}");
        assert!(
            said.contains("hint:  start it with `broker run --config ~/.deploybus/broker/broker.toml"),
            "{said}"
        );
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[test]
fn a_bus_that_says_nothing_is_given_up_after_five_seconds() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let user = User::with_fleet(silent.local_addr().unwrap().port());
    let started = Instant::now();
    assert!(user.error_of(&["status"]).contains("cannot reach the bus"));
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn what_is_wrong_with_the_folder_is_said_before_the_bus_is_asked() {
    let user = User::with_fleet(closed_port());
    let error = user.error_of(&["announce", "nowhere", "--group", "canary"]);
    assert!(error.starts_with("error: cannot pack nowhere: No such file"), "{error}");
}

#[test]
fn a_node_is_added_once_and_anew_only_by_force() {
    let user = User::with_fleet(closed_port());
    let added =
        user.run(&["node", "add", "pi-1", "--group", "canary", "--label", "site=barn", "--env", "PORT=80"]);
    assert_eq!(added.code, Some(0));
    insta::assert_snapshot!(added.stdout);
    assert!(added.stderr.contains("its record is not on the bus yet"), "{}", added.stderr);
    let folder = user.path(".deploybus/nodes/pi-1");
    let key = fs::read(folder.join("node.key")).unwrap();
    let settings = fs::read_to_string(folder.join("pi-worker.toml")).unwrap();
    assert!(settings.ends_with("data = \"/var/lib/deploybus\"\n\n[env]\nPORT = \"80\"\n"), "{settings}");

    assert!(user.error_of(&["node", "add", "pi-1"]).contains("was added before"));
    assert!(user.error_of(&["node", "add", "watcher"]).contains("watcher is the name of a watcher"));
    let forced = user.run(&["node", "add", "pi-1", "--no-all", "--force", "--out", "card"]);
    assert_eq!(forced.code, Some(0));
    let new_key = fs::read(folder.join("node.key")).unwrap();
    assert_ne!(new_key, key);
    assert_eq!(fs::read(user.path("card/node.key")).unwrap(), new_key);
    // Its record lets it in, not the users file.
    assert!(!fs::read_to_string(user.path(".deploybus/broker/users")).unwrap().contains("pi-1"));
    let record = user.run(&["decode", ".deploybus/nodes/pi-1/record.cbor"]);
    assert!(record.stdout.contains("\"login\": \""), "{}", record.stdout);
    let listed: serde_json::Value =
        serde_json::from_str(&user.run(&["node", "list", "--json"]).stdout).unwrap();
    assert_eq!(
        (listed[0]["node"].as_str(), listed[0]["groups"].as_array().unwrap().len()),
        (Some("pi-1"), 0)
    );
    assert_eq!(fs::read_dir(user.path(".deploybus/nodes")).unwrap().count(), 1);
}

#[test]
fn pack_needs_no_fleet_and_writes_what_a_store_serves() {
    let user = User::new();
    app(&user.path("app"));
    let ran = user.run(&["pack", "app", "--out", "site", "--json"]);
    let packed: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((packed["app"].as_str(), packed["files"].as_u64()), (Some("web"), Some(1)));
    let manifest = user.path("site/v1/manifests").join(packed["tree_hash"].as_str().unwrap());
    let shown = user.run(&["decode", manifest.to_str().unwrap()]);
    assert_eq!(shown.code, Some(0));
    assert!(shown.stdout.contains("app.py"), "{}", shown.stdout);
    assert_eq!(user.run(&["pack", "app", "--out", "site"]).code, Some(0));
}

#[test]
fn decode_judges_signatures_and_refuses_rubbish() {
    let (user, other) = (User::with_fleet(closed_port()), User::with_fleet(closed_port()));
    user.run(&["node", "add", "pi-1"]);
    let record = user.path(".deploybus/nodes/pi-1/record.cbor");
    let record = record.to_str().unwrap();
    let right = user.run(&["decode", record]);
    assert_eq!(right.code, Some(0));
    assert!(right.stdout.starts_with("record\nsignatures: right\n"), "{}", right.stdout);
    let wrong = other.run(&["decode", record]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.stdout.contains("signatures: WRONG, do not believe it"), "{}", wrong.stdout);
    let unknown = User::new().run(&["decode", record]);
    assert_eq!(unknown.code, Some(0));
    assert!(unknown.stdout.contains("signatures: NOT CHECKED"), "{}", unknown.stdout);
    fs::write(user.path("rubbish"), [0xff; 100]).unwrap();
    insta::assert_snapshot!(user.error_of(&["decode", "rubbish"]), @r"
    error: cannot decode rubbish: it is none of the documents of the bus
    hint:  say what it is with --kind, or fetch it again
    ");
}
