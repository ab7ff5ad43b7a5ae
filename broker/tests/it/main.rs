//! The service as its clients see it: over sockets, with bytes of their own making.

#![expect(clippy::unwrap_used, reason = "tests")]

mod bus;
mod client;
mod conformance;
mod floods;
mod foreign;
mod hostile;
mod hostile5;
mod log;
mod machine;
mod mistakes;
mod mqtt5;
mod noise;
mod notify;
mod page;
mod permissions;
mod pki;
mod process;
mod program;
mod reload;
mod retained;
mod rules;
mod sessions;
mod soak;
mod statements;
mod store;
mod tls;
mod websocket;
