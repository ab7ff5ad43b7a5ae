//! The product as its users have it: real processes, real files, real protocols.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod attacks;
mod bridges;
mod broker_unit;
mod clusters;
mod conducting;
mod containers;
mod crashes;
mod demos;
mod faults;
mod hass;
mod holds;
mod keys;
mod mandates;
mod metrics;
mod mistakes;
mod newcomer;
mod nodes;
mod page;
mod pico_w;
mod picos;
mod rollouts;
mod secrets;
mod signers;
mod spine;
mod stolen;
mod stories;
mod systemd;
mod tls;
mod users;
mod watching;
mod workspace;
