//! `pico-bridge list`: what is plugged in here. It opens no port.

use std::process::ExitCode;

use agent::{Settings, program::say};
use anyhow::Context as _;
use serde_json::json;

use super::Place;
use crate::{nodes::Nodes, ports::Ports};

pub(super) fn list(place: &Place, as_json: bool) -> anyhow::Result<ExitCode> {
    let nodes = Nodes::open(Settings::load(&place.config)?, &place.config)?;
    let plugged = Ports::new(place.ports.as_deref()).list();
    let name = |serial: &str| nodes.name(serial).map(|node| node.to_string()).unwrap_or_default();
    if as_json {
        let rows: Vec<_> = plugged
            .iter()
            .map(|pico| json!({ "node": name(&pico.serial), "serial": pico.serial, "port": pico.port, "usb": pico.usb_path }))
            .collect();
        say(&serde_json::to_string(&rows).context("cannot write the list")?);
    } else if plugged.is_empty() {
        say("no Pico with MicroPython is plugged in");
    }
    for pico in plugged.iter().filter(|_| !as_json) {
        say(&format!(
            "{:<24} {:<20} {:<16} {}",
            name(&pico.serial),
            pico.serial,
            pico.port.display(),
            pico.usb_path
        ));
    }
    Ok(ExitCode::SUCCESS)
}
