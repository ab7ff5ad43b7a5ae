//! The README's commands, taken out of it and run as printed, on a machine where nothing was made yet.
//!
//! Only addresses and the worker's data folder are others, and `ssh`, `scp` and `sudo` stay on this machine.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use e2e::{Output, Process, binary, free_port, wait_until};
use rustix::process::{Pid, Signal, kill_process_group};

/// Commands that stand for another machine: its home folder is `$SECOND`.
const STAND_INS: [(&str, &str); 4] = [
    ("sudo", "exec \"$@\""),
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

#[test]
fn a_newcomer_gets_a_folder_to_another_machine_by_what_the_readme_says() {
    if Command::new("mosquitto_sub").arg("--help").output().is_err() {
        println!("skipped: needs mosquitto_sub");
        return;
    }
    let machine = Machine::new();
    let readme = machine.readme();
    let commands = blocks(&readme, "sh");
    let (mut running, mut ran) = (Vec::new(), 0);
    for line in commands.iter().flat_map(|block| block.lines()) {
        let name = line.split(' ').next().unwrap();
        match name {
            // It was built before, by the test.
            "cargo" => assert!(line.starts_with("cargo build --release")),
            "broker" => running.push(machine.start(line, "broker ready")),
            "ssh" => {
                running.push(machine.start(line, "pi-worker ready"));
                machine.wait_online("pi-kitchen");
            }
            _ => {
                let output = Output::of(&mut machine.command(line)).unwrap().expect(0).unwrap();
                let wanted = match line.split(' ').nth(1) {
                    Some("announce") if line.contains("--rollout") => "web 1.0.0: completed",
                    Some("announce") => "web 1.0.0: 1 of 1 node kept it",
                    Some("status") => "kept 1.0.0",
                    _ => "",
                };
                assert!(output.stdout.contains(wanted), "{line}\n{}", output.stdout);
            }
        }
        ran += 1;
    }
    assert!(ran >= 9 && running.len() == 2, "{readme}");
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
        for name in ["bin", "home", "second", "app", "target/release"] {
            fs::create_dir_all(machine.path(name)).unwrap();
        }
        for (name, body) in STAND_INS {
            let path = machine.path("bin").join(name);
            fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        fs::copy(binary("pi-worker").unwrap(), machine.path("target/release/pi-worker")).unwrap();
        let [_, _, port] = machine.ports;
        fs::write(machine.path("app/app.py"), APP.replace("PORT", &port.to_string())).unwrap();
        let [settings] = blocks(&machine.readme(), "toml").try_into().expect("one deploybus.toml");
        fs::write(machine.path("app/deploybus.toml"), settings).unwrap();
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How a folder gets to another machine, with this machine's addresses.
    fn readme(&self) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
        let text = fs::read_to_string(path).unwrap();
        let begin = text.find("## Deploy your own folder").unwrap();
        let end = text.find("### Keep it running").unwrap();
        let [bus, store, app] = self.ports;
        text[begin..end]
            .replace("\\\n", "")
            .replace(
                "--host 192.168.1.10",
                &format!("--bus mqtts://127.0.0.1:{bus} --store https://127.0.0.1:{store}"),
            )
            .replace("-h 192.168.1.10 -p 8883", &format!("-h 127.0.0.1 -p {bus}"))
            .replace("127.0.0.1:8000", &format!("127.0.0.1:{app}"))
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
