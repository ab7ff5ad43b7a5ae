//! End-to-end scenarios with real processes: the world that they run in.
//!
//! Everything is on loopback, on ports of its own, below one temporary folder; what was started is ended by pid.

mod app;
mod bus;
mod disk;
mod engine;
mod firmware;
mod forge;
mod hass;
mod interrupt;
mod micropython;
mod mqtt;
mod net;
mod node;
mod pico_w;
mod picos;
mod process;
mod prometheus;
pub mod scenario;
pub mod simulator;
mod systemd;
mod timeline;
mod wait;
mod world;

pub use app::App;
pub use bus::{BusKind, ForeignBus, Mosquitto, NatsCluster};
pub use engine::{BASE_IMAGE, Engine, engine_unavailable};
pub use firmware::firmware;
pub use forge::{Forge, now, read_key};
pub use hass::{HomeAssistant, installed as hass_installed};
pub use interrupt::wait_for_interrupt;
pub use micropython::{micropython_harness, micropython_program};
pub use mqtt::{Mqtt, Retained};
pub use net::{Answer, free_port, get};
pub use node::Node;
pub use pico_w::PicoW;
pub use picos::{Bridge, Pico};
pub use process::{BUILT, Output, Process, binary};
pub use prometheus::{Prometheus, packaging, prometheus_missing, promtool};
pub use systemd::{SystemdNode, systemd_unavailable};
pub use wait::wait_until;
pub use world::World;
