//! Clients that others wrote, as they are, with a real broker: in both versions of MQTT.

mod mosquitto;
mod mosquitto_tls;
mod mqttjs;
mod paho;
mod rumqttc3;
mod rumqttc5;

use tempfile::TempDir;

use crate::{
    pki::Pki,
    program::{Broker, listening_broker},
};

/// A real broker with its folder.
struct Bus {
    broker: Broker,
    _folder: TempDir,
}

impl Bus {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        Self { broker: Broker::start(folder.path()), _folder: folder }
    }

    /// One that listens for everything, with a certificate of `pki`, and lets in nobody but `users`.
    fn secured(pki: &Pki, users: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let broker = Broker::spawn(&mut listening_broker(folder.path(), &pki.settings(Some(pki)), users));
        Self { broker, _folder: folder }
    }

    fn port(&self) -> u16 {
        self.broker.mqtt().port()
    }
}
