//! A node with a real systemd as its PID 1, with the units as they are packaged.

use std::{fs, path::Path, process::Command, time::Duration};

use e2e::{Output, SystemdNode, World, binary, systemd_unavailable, wait_until};
use schemas::{reason::Reason, report::Verdict};

const APP_UNIT: &str = "[Unit]
After=deploybus-guard.service
[Service]
WorkingDirectory=/var/lib/deploybus/apps/web/current
EnvironmentFile=-/var/lib/deploybus/apps/web/environment
Environment=PORT=PORT_OF_THE_NODE
ExecStart=/usr/bin/python3 app.py
[Install]
WantedBy=multi-user.target
";

#[test]
fn systemd_runs_the_worker_and_the_worker_restarts_its_units() {
    if let Some(why) = systemd_unavailable() {
        println!("skipped: {why}");
        return;
    }
    let mut world = World::new().unwrap();
    let mut pi = SystemdNode::create("pi-systemd", world.folder()).unwrap();
    install(&mut world, &pi);
    pi.boot().unwrap();
    let app = world.app().unwrap();
    app.edit_file("deploybus.toml", "command = [\"python3\", \"app.py\"]", "unit = \"web.service\"").unwrap();
    app.commit("1.0.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, Some(0));
    world.node("pi-systemd").unwrap().wait_serves("1.0.0").unwrap();
    assert_eq!(pi.run(&["systemctl", "is-active", "web.service"]).unwrap().stdout.trim(), "active");

    app.edit("HEALTHY = True", "raise SystemExit('no')").unwrap();
    app.commit("1.1.0").unwrap();
    assert_eq!(world.announce(&app, "canary").unwrap().0, Some(3));
    let outcome = world.wait_outcome("pi-systemd", "1.1.0").unwrap();
    assert_eq!(outcome.verdict, Verdict::RolledBack);
    assert!(matches!(outcome.reason, Some(Reason::Exited | Reason::StartFailed)), "{:?}", outcome.reason);
    world.node("pi-systemd").unwrap().wait_serves("1.0.0").unwrap();

    // Another environment restarts the unit, without a release.
    world.publisher(&["env", "set", "pi-systemd", "CAMPAIGN_NAME=turboship"]).unwrap().expect(0).unwrap();
    let look = "tr '\\0' '\\n' </proc/$(systemctl show -P MainPID web.service)/environ";
    let environment = || Some(pi.run(&["sh", "-c", look]).ok()?.stdout);
    wait_until("the variable", Duration::from_secs(30), || {
        environment()?.contains("CAMPAIGN_NAME=turboship").then_some(())
    })
    .unwrap();
    world.node("pi-systemd").unwrap().wait_serves("1.0.0").unwrap();

    // Everything inside dies at once and boots again: the kept release runs, without the bus.
    pi.crash().unwrap();
    world.kill_broker().unwrap();
    pi.boot().unwrap();
    world.node("pi-systemd").unwrap().wait_serves("1.0.0").unwrap();
    let guard = pi
        .run(&["systemctl", "show", "deploybus-guard.service", "--property=Result,ExecMainStatus"])
        .unwrap();
    assert!(
        guard.stdout.contains("Result=success") && guard.stdout.contains("ExecMainStatus=0"),
        "{}",
        guard.stdout
    );
    let worker = || pi.run(&["systemctl", "is-active", "pi-worker.service"]).ok();
    wait_until("the worker", Duration::from_secs(30), || (worker()?.stdout.trim() == "active").then_some(()))
        .unwrap();
}

#[test]
fn the_units_are_hardened() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: needs systemd-analyze");
        return;
    }
    for (unit, at_most) in
        [("deploybus-broker.service", "25"), ("pi-worker.service", "70"), ("deploybus-guard.service", "70")]
    {
        let mut analyze = Command::new("systemd-analyze");
        analyze.args(["security", "--offline=yes", "--threshold", at_most]).arg(packaging().join(unit));
        Output::of(&mut analyze).unwrap().expect(0).unwrap();
    }
}

/// What a package would put in place, and what `publisher node add` wrote.
fn install(world: &mut World, pi: &SystemdNode) {
    let node = world.register_node("pi-systemd", &["canary"]).unwrap();
    let (port, folder, root) = (node.port(), node.folder().to_path_buf(), pi.root());
    let bin = root.join("usr/bin/pi-worker");
    fs::copy(binary("pi-worker").unwrap(), bin).unwrap();
    let etc = root.join("etc/deploybus");
    fs::create_dir_all(&etc).unwrap();
    for entry in fs::read_dir(&folder).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), etc.join(entry.file_name())).unwrap();
    }
    let settings = etc.join("pi-worker.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let data = node.data().to_str().unwrap();
    assert!(text.contains(data));
    fs::write(&settings, text.replace(data, "/var/lib/deploybus")).unwrap();

    let units = root.join("etc/systemd/system");
    for unit in ["pi-worker.service", "deploybus-guard.service"] {
        fs::copy(packaging().join(unit), units.join(unit)).unwrap();
    }
    fs::write(units.join("web.service"), APP_UNIT.replace("PORT_OF_THE_NODE", &port.to_string())).unwrap();
    let mut enable = Command::new("systemctl");
    enable.arg("--root").arg(&root).args([
        "enable",
        "pi-worker.service",
        "deploybus-guard.service",
        "web.service",
    ]);
    Output::of(&mut enable).unwrap().expect(0).unwrap();
}

fn packaging() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd")
}
