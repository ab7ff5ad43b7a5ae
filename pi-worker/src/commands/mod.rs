//! The command line: one file per command.

mod advice;
mod enroll;
mod guard;
mod run;
mod status;
mod stop;
mod verify;

use std::{path::PathBuf, process::ExitCode};

use agent::program::{self, Program};
use clap::{Args, Parser, Subcommand};
use schemas::id::{FleetId, NodeId};

const EXAMPLES: &str = "\
Examples:
  pi-worker run --config /etc/deploybus/pi-worker.toml      be a node of the fleet
  pi-worker enroll --node pi-shed --bus mqtts://bus.lan --store https://bus.lan:8443 --ca ca.pem
                                                            make a key, and ask to be let in
  pi-worker status --config /etc/deploybus/pi-worker.toml   what runs here, also while the worker is down
  pi-worker verify --config /etc/deploybus/pi-worker.toml   read every installed file back and compare
  pi-worker stop --config /etc/deploybus/pi-worker.toml     stop the apps, which run on without their worker
  RUST_LOG=debug pi-worker run --config pi-worker.toml      say more

`publisher node add` writes the settings file, or `enroll` does.

Exit codes: 0 all is well, 1 something failed or differs, 2 wrong usage or settings.";

/// The node on a Raspberry Pi: takes signed releases from the bus, installs, proves and reports them.
#[derive(Debug, Parser)]
#[command(name = "pi-worker", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Be a node of the fleet, until SIGTERM or SIGINT; apps run on without their worker
    Run {
        #[command(flatten)]
        config: Config,
        /// Stop the apps too when the worker is stopped
        #[arg(long)]
        stop_apps: bool,
    },
    /// Make this node's own key and ask to be let into the fleet; people compare six words
    Enroll {
        #[command(flatten)]
        config: Config,
        #[command(flatten)]
        arguments: EnrollArgs,
    },
    /// Before apps start: count the try of a release on trial, or go back when none is left; needs no network
    Guard(Config),
    /// Show what runs here and what was reported last
    Status {
        #[command(flatten)]
        config: Config,
        /// As one JSON object: {"running": …, "status": …}
        #[arg(long)]
        json: bool,
    },
    /// Stop the apps of this node while no worker runs, as before it is taken away
    Stop(Config),
    /// Read every installed file back from the disk and list what is not as it was signed
    Verify(Config),
}

/// What the settings file says, where there is none yet.
#[derive(Debug, Args)]
struct EnrollArgs {
    /// Name of the node
    #[arg(long)]
    node: Option<NodeId>,
    /// Name of the fleet
    #[arg(long, default_value = "deploybus")]
    fleet: FleetId,
    /// Where the bus is
    #[arg(long, value_name = "URL")]
    bus: Option<String>,
    /// Where the store is
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// PEM file of the only CA that bus and store are believed by
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Root document of the fleet, so that no words have to be compared
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Folder of everything that the node writes
    #[arg(long, value_name = "DIR", default_value = "/var/lib/deploybus")]
    data: PathBuf,
    /// Make the key and print a line for `publisher node approve --list`; needs no network
    #[arg(long, conflicts_with = "renew")]
    offline: bool,
    /// Ask for another token for the relay, with the key that is here
    #[arg(long)]
    renew: bool,
}

#[derive(Debug, Args)]
struct Config {
    /// Settings file of the node
    #[arg(long, value_name = "FILE", default_value = "/etc/deploybus/pi-worker.toml")]
    config: PathBuf,
}

/// The `pi-worker` program.
pub fn main() -> ExitCode {
    program::main::<Cli>()
}

impl Program for Cli {
    fn carry_out(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run { config, stop_apps } => run::run(&config.config, stop_apps),
            Command::Enroll { config, arguments } => enroll::run(&config.config, &arguments),
            Command::Guard(config) => guard::guard(&config.config),
            Command::Status { config, json } => status::status(&config.config, json),
            Command::Stop(config) => stop::stop(&config.config),
            Command::Verify(config) => verify::verify(&config.config),
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
        let lines = EXAMPLES.lines().filter(|line| line.starts_with("  pi-"));
        for line in lines {
            let words =
                line.split("   ").next().unwrap().split_whitespace().filter(|word| !word.contains('='));
            assert!(Cli::try_parse_from(words.clone()).is_ok(), "{line}");
        }
        assert!(Cli::try_parse_from(["pi-worker", "dance"]).is_err());
    }
}
