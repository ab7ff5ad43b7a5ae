//! Eclipse Paho for Python. Without it these tests pass and say that they saw nothing.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::Bus;

#[test]
fn paho_finds_mqtt_3_1_1_as_it_expects() {
    run("3");
}

#[test]
fn paho_finds_mqtt_5_as_it_expects() {
    run("5");
}

/// `tests/tools` puts it there.
fn run(version: &str) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut python = Command::new("python3");
    python.env("PYTHONPATH", here.join("../target/clients")).stdin(Stdio::null());
    let is_there = { python.args(["-c", "import paho.mqtt"]) }.stderr(Stdio::null()).status();
    if !is_there.is_ok_and(|status| status.success()) {
        println!("skipped: needs paho-mqtt");
        return;
    }
    let bus = Bus::start();
    let mut script = Command::new("python3");
    script.env("PYTHONPATH", here.join("../target/clients")).stdin(Stdio::null());
    script.arg(here.join("tests/it/foreign/paho_client.py")).args([&bus.port().to_string(), version]);
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
