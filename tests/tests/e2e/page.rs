//! The web page in a real browser, and the JSON API by its own description.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use e2e::{World, binary};

/// Two nodes after one, each wave watched for a while.
const PLAN: &str =
    "app = \"web\"\n[[stage]]\ngroup = \"canary\"\nwaves = [\"1\", \"2\", \"100%\"]\nsoak = \"10s\"\n";

#[test]
fn somebody_at_a_browser_follows_a_rollout_and_stops_it() {
    if let Some(missing) = browser_unavailable() {
        println!("skipped: {missing}");
        return;
    }
    let (mut world, app) = World::serving().unwrap();
    for name in ["pi-2", "pi-3"] {
        world.add_node(name, &["canary"]).unwrap();
        world.wait_outcome(name, "1.0.0").unwrap();
    }
    app.commit("1.1.0").unwrap();
    let plan = world.folder().join("plan.toml");
    fs::write(&plan, PLAN).unwrap();
    let start = ["rollout", "start", text(app.folder()), "--plan", text(&plan), "--yes", "--detach"];
    world.publisher(&start).unwrap().expect(0).unwrap();

    let (user, password) = publisher_login(&world);
    let publisher = serde_json::json!([binary("publisher").unwrap(), "--home", world.home()]);
    let base = format!("http://127.0.0.1:{}", world.ports().1);
    let mut story = node(&["story.js", &base, &user, &password, text(&target().join("screens"))]);
    let told = story.env("PUBLISHER", publisher.to_string()).output().unwrap();
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{said}{}", String::from_utf8_lossy(&told.stderr));
    println!("{said}");
    assert_eq!(world.wait_outcome("pi-3", "1.1.0").unwrap().verdict.name(), "kept");
}

#[test]
fn the_api_is_as_it_is_described() {
    let clients = target().join("schemathesis");
    if !clients.join("schemathesis").is_dir() {
        println!("skipped: needs schemathesis");
        return;
    }
    let (mut world, _app) = World::serving().unwrap();
    let settings = world.home().join("broker/broker.toml");
    let closed = "[page]\nopen_on_loopback = false\n";
    fs::write(&settings, format!("{}\n{closed}", fs::read_to_string(&settings).unwrap())).unwrap();
    assert_eq!(world.stop_broker().unwrap(), Some(0));
    world.start_broker().unwrap();
    let (user, password) = publisher_login(&world);
    let base = format!("http://127.0.0.1:{}/api/v1", world.ports().1);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("page/schemathesis.toml");
    let mut check = Command::new("python3");
    check.env("PYTHONPATH", &clients).args(["-m", "schemathesis.cli"]);
    check.arg("--config-file").arg(script).args(["run", &format!("{base}/openapi.json"), "--url", &base]);
    check.args(["--auth", &format!("{user}:{password}")]).current_dir(world.folder());
    let told = check.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{said}{}", String::from_utf8_lossy(&told.stderr));
}

/// Why nobody can sit at a browser here.
fn browser_unavailable() -> Option<&'static str> {
    let works = |command: &mut Command| {
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !works(Command::new("chromium").arg("--version")) {
        return Some("needs chromium");
    }
    let has =
        works(Command::new("node").env("NODE_PATH", modules()).args(["-e", "require('playwright-core')"]));
    (!has).then_some("needs playwright-core")
}

fn node(args: &[&str]) -> Command {
    let mut node = Command::new("node");
    node.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("page"));
    node.env("NODE_PATH", modules()).stdin(Stdio::null()).args(args);
    node
}

/// `tests/tools` puts clients there.
fn modules() -> PathBuf {
    target().join("clients-js/node_modules")
}

fn target() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("target")
}

fn publisher_login(world: &World) -> (String, String) {
    let settings = fs::read_to_string(world.home().join("fleet.toml")).unwrap();
    let settings: toml::Table = settings.parse().unwrap();
    let value = |key: &str| settings[key].as_str().unwrap().to_owned();
    (value("user"), value("password"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn somebody_at_a_terminal_watches_what_happens() {
    let (world, app) = World::serving().unwrap();
    app.commit("1.1.0").unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("page/terminal.py");
    let mut terminal = Command::new("python3");
    terminal.arg(script).arg(binary("publisher").unwrap()).arg("--home").arg(world.home()).arg("watch");
    let mut terminal =
        terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let wanted = "1 of 1 nodes online\npi-1  web  online  1.1.0\nLAST\npi-1 web kept 1.1.0 after\n";
    terminal.stdin.take().unwrap().write_all(wanted.as_bytes()).unwrap();
    // Only what happens from then on is told.
    let (mut first, mut told) = (String::new(), BufReader::new(terminal.stdout.take().unwrap()));
    told.read_line(&mut first).unwrap();
    world.announce_only(&app, "canary").unwrap();
    let mut said = String::new();
    told.read_to_string(&mut said).unwrap();
    let ended = terminal.wait_with_output().unwrap();
    assert!(ended.status.success(), "{first}{said}{}", String::from_utf8_lossy(&ended.stderr));
    println!("{said}");
}
