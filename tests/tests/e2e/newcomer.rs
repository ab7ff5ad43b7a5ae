//! The commands of README and docs, taken out of them and run as printed, on a machine where nothing was made yet.
//!
//! Only addresses, the worker's data folder and the root of the system's folders are others, and `ssh`, `scp` and `sudo` stay on
//! this machine. What is only named in a sentence or a table is asked for its help, so that it is there and has these options.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use e2e::{Output, Process, binary, free_port, wait_until};
use rustix::process::{Pid, Signal, kill_process_group};

/// Commands that stand for another machine: its home folder is `$SECOND`.
const STAND_INS: [(&str, &str); 6] = [
    ("sudo", "exec \"$@\""),
    ("systemctl", ":"),
    ("systemd-sysusers", ":"),
    (
        "scp",
        "shift; for last; do :; done; for file; do [ \"$file\" = \"$last\" ] || cp -r \"$file\" \"$SECOND\"; done",
    ),
    (
        "ssh",
        "shift; cd \"$SECOND\" && sed -i \"s|/var/lib/deploybus|$SECOND/data|\" */pi-worker.toml && exec \"$@\"",
    ),
    // One message is enough.
    ("mosquitto_sub", "PATH=/usr/bin exec mosquitto_sub -C 1 \"$@\""),
];

const APP: &str = "import http.server as h
class Handler(h.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
h.ThreadingHTTPServer(('127.0.0.1', PORT), Handler).serve_forever()
";

/// Read one after the other, by somebody who has done what the README says.
const DOCS: [&str; 5] = ["deploy-log.md", "rollouts.md", "listeners.md", "keys.md", "nodes.md"];

/// What the docs print and this test does not run, and why not.
const LEFT_OUT: [(&str, &str); 5] = [
    ("   publisher ", "of two people with a key each: see `signers::`"),
    ("mosquitto_pub -u hass", "its password is somebody's own"),
    ("publisher announce ./app --group all --rollout       #", "the README's, which soaks for two minutes"),
    ("publisher user add anna", "a person types the password"),
    ("sudo install pi-worker", "the README's part on another machine, whose folder is another"),
];

#[test]
fn what_readme_and_docs_say_works_as_it_is_printed() {
    if Command::new("mosquitto_sub").arg("--help").output().is_err() {
        println!("skipped: needs mosquitto_sub");
        return;
    }
    let machine = Machine::new();
    let mut newcomer = Newcomer { machine: &machine, running: Vec::new(), ran: BTreeSet::new() };
    let readme = text("README.md");
    let begin = readme.find("## Deploy your own folder").unwrap();
    newcomer.does(&readme[begin..]);
    assert!(newcomer.ran.len() >= 20 && newcomer.running.len() == 2, "{readme}");
    let settings = fs::read_to_string(machine.path("app/deploybus.toml")).unwrap();
    fs::write(machine.path("app/deploybus.toml"), settings.replace("1.0.0", "1.1.0")).unwrap();
    fs::write(machine.path("plan.toml"), "app = \"web\"\n[[stage]]\ngroup = \"all\"\n").unwrap();
    for name in DOCS {
        let before = newcomer.ran.len();
        newcomer.does(&text(&format!("docs/{name}")));
        assert!(newcomer.ran.len() > before, "nothing of {name} was run");
    }
}

/// What stands for a value in the docs, and one such value.
const VALUES: [(&str, &str); 14] = [
    ("NODE", "pi-1"),
    ("NAME", "pi-1"),
    ("GROUP", "canary"),
    ("G", "canary"),
    ("APP", "web"),
    ("VERSION", "1.0.0"),
    ("KEY", "0123456789abcdef"),
    ("N", "2"),
    ("TIME", "2h"),
    ("HOST", "bus.lan"),
    ("ROLE", "ops"),
    ("URL", "mqtt://bus.lan"),
    ("SECRET", "secret"),
    ("PUBLIC", "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
];

#[test]
fn every_command_that_readme_and_docs_name_is_there() {
    let mut named = BTreeSet::new();
    for file in documents() {
        let text = fs::read_to_string(&file).unwrap();
        let prose: String = text.split("```").step_by(2).collect();
        let spans = prose.split('`').skip(1).step_by(2).map(str::to_owned);
        let lines = blocks(&text.replace("\\\n", ""), "sh").join("\n");
        named.extend(spans.chain(lines.lines().map(str::to_owned)).filter_map(|command| sample(&command)));
    }
    assert!(named.len() > 50, "{named:?}");
    let mut unknown = Vec::new();
    for command in named {
        let (program, arguments) = command.split_first().unwrap();
        let help = |more: &[&str]| {
            let mut run = Command::new(binary(program).unwrap());
            Output::of(run.args(arguments).args(more).arg("--help")).unwrap()
        };
        let output = help(&[]);
        // A sentence may name an option without a value.
        let output = if output.stderr.contains("a value is required") { help(&["1"]) } else { output };
        if output.code != Some(0) {
            unknown.push(format!(
                "{}: {}",
                command.join(" "),
                output.stderr.lines().next().unwrap_or_default()
            ));
        }
    }
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

/// All that people read.
fn documents() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let is_text = |path: &PathBuf| path.extension().is_some_and(|of| of == "md");
    let of = |folder: &str| fs::read_dir(root.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    of(".").chain(of("docs")).filter(is_text).collect()
}

/// A command with values in the place of the words that stand for them; nothing for what is no command of ours.
fn sample(command: &str) -> Option<Vec<String>> {
    let command = command.split(" #").next()?.split("&&").next()?.split(" | ").next()?.replace("\\|", "|");
    let words: Vec<&str> = command.split_whitespace().collect();
    if !["publisher", "broker", "pi-worker"].contains(words.first()?) || words.len() < 2 {
        return None;
    }
    let value = |word: &str| {
        let word = word.trim_matches(['[', ']', '…', '\'', '"']).split('|').next().unwrap_or_default();
        let value = VALUES.iter().find(|(name, _)| *name == word);
        value.map_or(word, |(_, value)| value).to_owned()
    };
    Some(words.into_iter().map(value).filter(|word| !word.is_empty()).collect())
}

/// Somebody who does what is written.
struct Newcomer<'a> {
    machine: &'a Machine,
    running: Vec<Process>,
    /// Once is enough.
    ran: BTreeSet<String>,
}

impl Newcomer<'_> {
    fn does(&mut self, text: &str) {
        for block in blocks(&text.replace("\\\n", ""), "sh") {
            for line in block.lines() {
                let is_left_out = LEFT_OUT.iter().any(|(begin, _)| line.starts_with(begin));
                if !is_left_out && self.ran.insert(line.to_owned()) {
                    self.does_line(line);
                }
            }
        }
    }

    fn does_line(&mut self, line: &str) {
        let machine = self.machine;
        let line = &machine.here(&unattended(line));
        match line.split(' ').next().unwrap() {
            // It was built before, by the test.
            "cargo" => assert!(line.starts_with("cargo build --release")),
            "broker" => self.running.push(machine.start(line, "broker ready")),
            "ssh" => {
                self.running.push(machine.start(line, "pi-worker ready"));
                machine.wait_online("pi-kitchen");
            }
            "pi-worker" => self.running.push(machine.start(line, "waiting to be let in")),
            // It has no end; that it begins is enough.
            _ if line.contains("--follow") => drop(machine.start(line, "")),
            _ => {
                let output = Output::of(&mut machine.command(line)).unwrap().expect(0);
                let output = output.unwrap_or_else(|error| panic!("{line}: {error}"));
                assert!(output.stdout.contains(wanted(line)), "{line}\n{}", output.stdout);
            }
        }
    }
}

/// Nobody is there to answer a question, or to watch a soak of two minutes.
fn unattended(line: &str) -> String {
    let options = [("rollout start --release", "--detach"), ("node approve", "--yes")];
    match options.iter().find(|(command, _)| line.contains(command)) {
        Some((_, option)) => format!("{} {option}", line.split('#').next().unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// What has to be in the answer to a command.
fn wanted(line: &str) -> &'static str {
    match line.split(' ').nth(1) {
        Some("announce") if line.contains("--rollout") => ": completed",
        Some("announce") => ": 1 of 1 node kept it",
        Some("status") => "kept 1.0.0",
        _ => "",
    }
}

fn text(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)).unwrap()
}

/// A folder that holds two machines.
struct Machine {
    folder: tempfile::TempDir,
    ports: [u16; 3],
}

impl Machine {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("deploybus-readme-").tempdir().unwrap();
        let machine = Self { folder, ports: [(); 3].map(|()| free_port().unwrap()) };
        for name in ["bin", "home", "second", "app", "target/release", "root/usr/bin"] {
            fs::create_dir_all(machine.path(name)).unwrap();
        }
        for (name, body) in STAND_INS {
            let path = machine.path("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        for name in ["broker", "pi-worker"] {
            fs::copy(binary(name).unwrap(), machine.path("target/release").join(name)).unwrap();
        }
        let [_, _, port] = machine.ports;
        fs::write(machine.path("app/app.py"), APP.replace("PORT", &port.to_string())).unwrap();
        let [settings] = blocks(&text("README.md"), "toml").try_into().expect("one deploybus.toml");
        fs::write(machine.path("app/deploybus.toml"), machine.here(&settings)).unwrap();
        let packaging = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        std::os::unix::fs::symlink(packaging, machine.path("packaging")).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The same with this machine's addresses and folders.
    fn here(&self, text: &str) -> String {
        let [bus, store, app] = self.ports;
        let root = self.path("root").display().to_string();
        text.replace(
            "--host 192.168.1.10",
            &format!("--bus mqtts://127.0.0.1:{bus} --store https://127.0.0.1:{store}"),
        )
        .replace("-h 192.168.1.10 -p 8883", &format!("-h 127.0.0.1 -p {bus}"))
        .replace("mqtts://bus.lan", &format!("mqtts://127.0.0.1:{bus}"))
        .replace("https://bus.lan:8443", &format!("https://127.0.0.1:{store}"))
        .replace("127.0.0.1:8000", &format!("127.0.0.1:{app}"))
        .replace(" /usr/bin/", &format!(" {root}/usr/bin/"))
        .replace(" /etc/", &format!(" {root}/etc/"))
        .replace(
            "pi-worker enroll",
            &format!("pi-worker enroll --config {root}/shed/pi-worker.toml --data {root}/shed"),
        )
        .replace("--ca ca.pem", "--ca ~/.deploybus/ca.pem")
    }

    fn command(&self, line: &str) -> Command {
        let binaries = binary("broker").unwrap();
        let path = std::env::var("PATH").unwrap();
        let path = format!("{}:{}:{path}", self.path("bin").display(), binaries.parent().unwrap().display());
        let mut bash = Command::new("bash");
        bash.args(["-c", line]).current_dir(self.folder.path()).env("PATH", path);
        bash.env("HOME", self.path("home")).env("SECOND", self.path("second")).env_remove("DEPLOYBUS_HOME");
        bash
    }

    fn start(&self, line: &str, ready: &str) -> Process {
        Process::start(self.command(line), &self.path("log"), ready).unwrap()
    }

    /// Ready means that the worker runs; a person announces when it has reached the bus as well.
    fn wait_online(&self, node: &str) {
        wait_until("the node to be online", Duration::from_secs(30), || {
            let status = Output::of(&mut self.command("publisher status --json")).ok()?;
            let status: serde_json::Value = serde_json::from_str(&status.stdout).ok()?;
            let nodes = status["nodes"].as_array()?;
            nodes.iter().any(|known| known["node"] == node && known["online"] == true).then_some(())
        })
        .unwrap();
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The app outlives its worker on purpose; here it ends with the test.
        let file = fs::read(self.path("second/data/apps/web/run/app.pid")).unwrap_or_default();
        let pid =
            serde_json::from_slice::<serde_json::Value>(&file).ok().and_then(|file| file["pid"].as_i64());
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended already.
            let _ = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// The README's fenced blocks in one language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let block = |rest: &str| rest.split("```").next().unwrap_or_default().to_owned();
    text.split(&fence).skip(1).map(block).collect()
}
