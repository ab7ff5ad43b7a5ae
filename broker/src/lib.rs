//! The bus service: the relay (an MQTT broker with a durable memory), the store (objects over HTTP), the controller (rollouts)
//! and the deploy log.
//!
//! [`Service`] is all of them in one process; [`main`] is the program around it.

mod access;
mod advice;
mod cli;
mod clock;
mod controller;
mod discovery;
mod folder;
mod log;
mod metrics;
mod mirrors;
mod nodes;
mod notify;
mod page;
mod places;
mod relay;
mod service;
mod settings;
mod store;
mod tls;

use std::{error::Error, fmt::Write as _};

pub use self::{
    cli::main,
    controller::ControllerSettings,
    discovery::{HomeAssistantSettings, Style},
    log::{Draft, Found, Full, Log, LogError, SeenNode, observe},
    notify::{Notice, NoticeKind},
    page::PageSettings,
    relay::{InvalidTopic, Transport},
    service::Service,
    settings::{Limits, LogSettings, Settings, SettingsError, TlsSettings, WebhookSettings, WebhookUrl},
    store::Scheme,
};

/// An error with its causes, as one line.
fn chain(err: &dyn Error) -> String {
    let mut text = err.to_string();
    let mut next = err.source();
    while let Some(cause) = next {
        // Writing to a string does not fail.
        let _ = write!(text, ": {cause}");
        next = cause.source();
    }
    text
}
