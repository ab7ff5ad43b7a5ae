//! `publisher init`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;
use bus_client::{Tls, bus::BusUrl, store::StoreUrl};
use schemas::time::UnixTime;
use serde::Serialize;

use crate::{
    cli::{Host, Init},
    clock,
    exit::Exit,
    home::{
        Home,
        init::{NewFleet, init, is_loopback},
        keys::Passphrase,
    },
    problem::Advise as _,
    screen::Screen,
};

/// Where the store of a new fleet listens with TLS: the usual one that needs no rights.
const HTTPS_PORT: u16 = 8443;

#[derive(Serialize)]
struct Made {
    home: String,
    fleet: String,
    root_fingerprint: String,
}

/// Makes a fleet and says what comes next.
pub(super) fn run(dir: &Path, is_found: bool, arguments: Init, screen: &Screen) -> Result<Exit> {
    init(dir, new_fleet(arguments)?, clock::plausible(clock::now())?)?;
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
    if is_loopback(home.settings.bus.first().host()) {
        screen.note("it is for this machine alone: for nodes elsewhere, remove it and say `publisher init --host ADDRESS`, as they reach this machine");
    }
    Ok(Exit::Done)
}

fn new_fleet(arguments: Init) -> Result<NewFleet> {
    let Init { fleet, host, names, bus, ca, store, passphrase } = arguments;
    let (bus, store) = match host {
        Some(Host(host)) => at(&host)?,
        None => (bus, store),
    };
    for (is_tls, host) in [(bus.is_tls(), bus.first().host()), (store.is_tls(), store.host())] {
        if !is_tls && !is_loopback(host) {
            tracing::warn!(
                "Whoever is on the network to {host} can read passwords and releases: `--host {host}` encrypts"
            );
            break;
        }
    }
    let read = |path: PathBuf| {
        let what = format!("cannot use CA file {}", path.display());
        let advice = "name a PEM file with the certificate of the CA that signed the broker's";
        let pem = fs::read_to_string(&path).advise(&what, advice)?;
        Tls::pinned(pem.as_bytes(), UnixTime(0)).advise(what, advice)?;
        anyhow::Ok(pem)
    };
    let names = names.into_iter().map(|Host(name)| name).collect();
    let passphrase = if passphrase { Some(Passphrase::choose()?) } else { None };
    Ok(NewFleet { fleet, bus, store, names, ca: ca.map(read).transpose()?, passphrase })
}

/// Bus and store on the machine `host`.
fn at(host: &str) -> Result<(BusUrl, StoreUrl)> {
    let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
    Ok((format!("mqtts://{host}").parse()?, format!("https://{host}:{HTTPS_PORT}").parse()?))
}

/// `is_found`: other commands find the home without being told.
fn text(dir: &Path, fleet: &str, is_found: bool) -> String {
    let broker = dir.join("broker");
    format!(
        "fleet {fleet} is in {dir}: keep a backup of it\n\
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
