//! The bus of a world: our own relay, or a broker of others that a user has already.

mod mosquitto;
mod nats;

use std::{path::Path, process::Command, time::Duration};

use anyhow::{Result, ensure};

pub use self::{mosquitto::Mosquitto, nats::NatsCluster};
use crate::{mqtt::Mqtt, process::Process, wait_until};

/// The longest that a broker may take until it lets somebody in; a cluster elects a leader first.
const PATIENCE: Duration = Duration::from_mins(1);

/// What a world's bus is.
#[derive(Debug, Clone, Copy)]
pub enum BusKind {
    /// Our own, in the broker.
    Relay,
    /// The same over TLS, as is the store.
    Tls,
    /// Mosquitto with the configuration of `packaging/mosquitto`.
    Mosquitto,
    /// The same as Home Assistant's add-on runs it.
    Addon,
    /// Three servers of NATS with JetStream, with the configuration of `packaging/nats`.
    Nats,
}

impl BusKind {
    /// A program that it needs and that is not here.
    pub fn missing(self) -> Option<&'static str> {
        let programs: &[&str] = match self {
            Self::Relay | Self::Tls => &[],
            Self::Mosquitto | Self::Addon => &[mosquitto::PROGRAM, "mosquitto_passwd"],
            Self::Nats => &[nats::PROGRAM],
        };
        programs.iter().copied().find(|program| Command::new(program).arg("--help").output().is_err())
    }
}

/// A broker of others.
#[derive(Debug)]
pub enum ForeignBus {
    /// See [`BusKind::Mosquitto`].
    Mosquitto(Mosquitto),
    /// See [`BusKind::Nats`].
    Nats(NatsCluster),
}

impl ForeignBus {
    /// One with its files in `folder`, which lets nobody in yet; none where our own relay is the bus.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(kind: BusKind, folder: &Path) -> Result<Option<Self>> {
        match kind {
            BusKind::Relay | BusKind::Tls => Ok(None),
            BusKind::Mosquitto => Mosquitto::start(folder).map(Self::Mosquitto).map(Some),
            BusKind::Addon => Mosquitto::start_addon(folder).map(Self::Mosquitto).map(Some),
            BusKind::Nats => NatsCluster::start(folder).map(Self::Nats).map(Some),
        }
    }

    /// Its address, as `--bus` takes it.
    pub fn url(&self) -> String {
        match self {
            Self::Mosquitto(mosquitto) => format!("mqtt://127.0.0.1:{}", mosquitto.port()),
            Self::Nats(cluster) => cluster.url(),
        }
    }

    /// A port where MQTT is spoken.
    pub fn port(&self) -> u16 {
        match self {
            Self::Mosquitto(mosquitto) => mosquitto.port(),
            Self::Nats(cluster) => cluster.port(),
        }
    }

    /// Lets a user in from now on.
    ///
    /// # Errors
    /// When the broker does not take it.
    pub fn let_in(&mut self, user: &str, password: &str) -> Result<()> {
        match self {
            Self::Mosquitto(mosquitto) => mosquitto.let_in(user, password),
            Self::Nats(cluster) => cluster.let_in(user, password),
        }
    }
}

/// Runs one of the foreign programs, with its output in `log`, until it has said something.
fn run(command: Command, log: &Path) -> Result<Process> {
    Process::start(command, log, "")
}

/// The configuration as it is shipped, with what differs on this machine.
fn configured(shipped: &str, changes: &[(&str, String)]) -> Result<String> {
    changes.iter().try_fold(shipped.to_owned(), |config, (from, to)| {
        ensure!(config.contains(from), "the shipped configuration has no `{from}`");
        Ok(config.replace(from, to))
    })
}

/// Waits until the broker lets a user in.
fn wait_let_in(port: u16, user: &str, password: &str) -> Result<()> {
    let what = format!("port {port} to let {user} in");
    wait_until(&what, PATIENCE, || Mqtt::connect(port, Some((user, password))).ok().map(drop))
}
