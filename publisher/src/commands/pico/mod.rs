//! `publisher pico`: Picos on USB, which a bridge has, and those on Wi-Fi.

mod bridge;
mod config;

use anyhow::Result;
use schemas::hold::AskKind;

use super::block_on;
use crate::{cli::PicoCommand, exit::Exit, home::Home, screen::Screen};

/// Carries out one of the commands for Picos.
pub(super) fn run(home: &Home, command: &PicoCommand, screen: &Screen) -> Result<Exit> {
    let ask = |node, what| block_on(bridge::ask(home, node, what, screen));
    match command {
        PicoCommand::List => block_on(bridge::list(home, screen)),
        PicoCommand::Release { node } => ask(node, AskKind::Release),
        PicoCommand::Take { node } => ask(node, AskKind::Take),
        PicoCommand::Provision { node } => ask(node, AskKind::Provision),
        PicoCommand::Config(arguments) => config::write(home, arguments, screen),
    }
}
