//! The command line: one file per command.

mod advice;
mod list;
mod run;

use std::{path::PathBuf, process::ExitCode};

use agent::program::{self, Program};
use clap::{Args, Parser, Subcommand};

const EXAMPLES: &str = "\
Examples:
  pico-bridge run --config /etc/deploybus/pi-worker.toml                be a node for each Pico on USB
  pico-bridge run --config /etc/deploybus/pi-worker.toml --simulate 2   the same with two that are simulated
  pico-bridge list --config /etc/deploybus/pi-worker.toml               which Picos are there, and which nodes they are
  RUST_LOG=debug pico-bridge run                                        say more

The settings are those of the Pi itself: `publisher node add` or `pi-worker enroll` writes them.

Exit codes: 0 all is well, 1 something failed, 2 wrong usage or settings.";

/// Nodes for the Picos on USB: takes signed releases from the bus, brings them to the Picos, and goes back when they fail.
#[derive(Debug, Parser)]
#[command(name = "pico-bridge", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be a node for each Pico that is plugged in, until SIGTERM or SIGINT; their apps run on without it
    Run {
        #[command(flatten)]
        place: Place,
        /// Plug in so many simulated Picos: real MicroPython, without hardware
        #[arg(long, value_name = "N", conflicts_with = "ports")]
        simulate: Option<u8>,
    },
    /// List the Picos that are plugged in, with the nodes that they are
    List {
        #[command(flatten)]
        place: Place,
        /// As a list of JSON objects
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct Place {
    /// Settings file of the Pi
    #[arg(long, value_name = "FILE", default_value = "/etc/deploybus/pi-worker.toml")]
    config: PathBuf,
    /// Folder of links to serial ports, named by the serial numbers of the boards on them, in place of the Picos on USB
    #[arg(long, value_name = "DIR")]
    ports: Option<PathBuf>,
}

/// The `pico-bridge` program.
pub fn main() -> ExitCode {
    program::main::<Cli>()
}

impl Program for Cli {
    fn carry_out(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run { place, simulate } => run::run(&place, simulate),
            Command::List { place, json } => list::list(&place, json),
        }
    }

    fn advice(error: &anyhow::Error) -> Option<&'static str> {
        advice::of(error)
    }

    fn is_about_settings(error: &anyhow::Error) -> bool {
        advice::is_about_settings(error)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_example_is_a_command_that_is_understood() {
        Cli::command().debug_assert();
        let lines = EXAMPLES.lines().filter(|line| line.starts_with("  pico-"));
        for line in lines {
            let words =
                line.split("   ").next().unwrap().split_whitespace().filter(|word| !word.contains('='));
            assert!(Cli::try_parse_from(words.clone()).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["pico-bridge", "dance"]).is_err());
    }
}
