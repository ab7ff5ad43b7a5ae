//! What is said to people whose bridge does not start: what happened, where, what to do.

use std::{fmt::Write as _, fs, path::Path, process::Command};

use e2e::{Output, Process, World, binary};

fn bridge(config: &Path, command: &[&str]) -> Command {
    let mut bridge = Command::new(binary("pico-bridge").unwrap());
    bridge.arg(command[0]).arg("--config").arg(config).args(&command[1..]);
    bridge
}

#[test]
fn a_bridge_that_does_not_start_says_what_to_do() {
    let mut world = World::new().unwrap();
    let node = world.register_node("pi-1", &[]).unwrap();
    let (folder, data) = (node.folder().to_owned(), node.data().to_owned());
    let (config, names) = (folder.join("pi-worker.toml"), folder.join("picos.toml"));
    let ports = folder.join("ports");
    let mut text = String::new();
    let mut ends = |mistake: &str, config: &Path, command: &[&str]| {
        let said = Output::of(bridge(config, command).env("PYTHONPATH", "/nowhere")).unwrap();
        assert!(matches!(said.code, Some(1 | 2)), "{mistake}: {}{}", said.stdout, said.stderr);
        let [data, folder] = [&data, &folder].map(|path| path.to_str().unwrap());
        let stable = said.stderr.replace(data, "/var/lib/deploybus").replace(folder, "~");
        writeln!(text, "# {mistake}   → {}\n{stable}", said.code.unwrap()).unwrap();
    };
    ends("no settings", &folder.join("nowhere.toml"), &["list"]);
    fs::write(&names, "e6614103e7452b2f = \"Pico Desk\"\n").unwrap();
    ends("a name that is none", &config, &["list"]);
    fs::remove_file(&names).unwrap();
    ends("no MicroPython", &config, &["run", "--simulate", "1"]);
    let running = bridge(&config, &["run", "--ports", ports.to_str().unwrap()]);
    let running = Process::start(running, &folder.join("bridge.log"), "pico-bridge ready").unwrap();
    ends("a second bridge", &config, &["run"]);
    drop(running);
    fs::remove_dir_all(data.join("picos")).unwrap();
    fs::write(data.join("picos"), "").unwrap();
    ends("a file in place of the folder", &config, &["run"]);
    insta::assert_snapshot!(text);
}
