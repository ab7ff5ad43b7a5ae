//! Clients that others wrote, as they are, with a real broker: in both versions of MQTT.

mod mosquitto;
mod paho;
mod rumqttc3;
mod rumqttc5;

use tempfile::TempDir;

use crate::program::Broker;

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

    fn port(&self) -> u16 {
        self.broker.mqtt().port()
    }
}
