//! MQTT.js over WebSockets. Without it these tests pass and say that they saw nothing.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use super::Bus;
use crate::pki::Pki;

#[test]
fn mqtt_js_finds_mqtt_3_1_1_over_websockets_as_it_expects() {
    run("ws", "4");
}

#[test]
fn mqtt_js_finds_mqtt_5_over_websockets_as_it_expects() {
    run("ws", "5");
}

#[test]
fn mqtt_js_finds_mqtt_3_1_1_over_websockets_with_tls_as_it_expects() {
    run("wss", "4");
}

#[test]
fn mqtt_js_finds_mqtt_5_over_websockets_with_tls_as_it_expects() {
    run("wss", "5");
}

fn run(transport: &str, version: &str) {
    let is_there = node().args(["-e", "require('mqtt')"]).stderr(Stdio::null()).status();
    if !is_there.is_ok_and(|status| status.success()) {
        println!("skipped: needs MQTT.js");
        return;
    }
    let pki = Pki::new();
    let bus = Bus::secured(&pki, &["web guest publish=web/# subscribe=web/#"]);
    let url = format!("{transport}://{}", bus.broker.address(transport));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/foreign/mqttjs_client.js");
    let output = node().arg(script).args([&url, version]).arg(pki.ca()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// `tests/tools` puts MQTT.js there.
fn node() -> Command {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/clients-js/node_modules");
    let mut node = Command::new("node");
    node.env("NODE_PATH", modules).stdin(Stdio::null());
    node
}
