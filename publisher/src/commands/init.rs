//! `publisher init`.

use std::path::Path;

use anyhow::Result;
use serde::Serialize;

use crate::{
    cli::Init,
    clock,
    exit::Exit,
    home::{
        Home,
        init::{NewFleet, init},
    },
    screen::Screen,
};

#[derive(Serialize)]
struct Made {
    home: String,
    fleet: String,
    root_fingerprint: String,
}

/// Makes a fleet and says what comes next.
pub(super) fn run(dir: &Path, is_found: bool, arguments: Init, screen: &Screen) -> Result<Exit> {
    let Init { fleet, bus, store } = arguments;
    init(dir, NewFleet { fleet, bus, store }, clock::plausible(clock::now())?)?;
    let home = Home::open(dir)?;
    if screen.is_json() {
        let made = Made {
            home: dir.display().to_string(),
            fleet: home.settings.fleet.to_string(),
            root_fingerprint: home.trust.digest().to_string(),
        };
        screen.json(&made)?;
        return Ok(Exit::Done);
    }
    screen.say(&text(dir, home.settings.fleet.as_str(), is_found));
    Ok(Exit::Done)
}

/// `is_found`: other commands find the home without being told.
fn text(dir: &Path, fleet: &str, is_found: bool) -> String {
    let broker = dir.join("broker");
    format!(
        "fleet {fleet} is in {dir}: keep a backup of its folder `keys`\n\
         \n\
         next:\n  \
           broker run --config {broker}/broker.toml --data {broker}/data\n  \
           publisher{home} node add pi-kitchen --group canary\n  \
           publisher{home} announce ./app --group canary",
        dir = dir.display(),
        broker = broker.display(),
        home = if is_found { String::new() } else { format!(" --home {}", dir.display()) },
    )
}
