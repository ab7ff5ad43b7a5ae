//! `make demo` and `make demo-containers`: a fleet of real processes on this machine, and releases good and bad.
//!
//! Every step is a command that users run; this program only types them and checks what came of it.

mod containers;
mod processes;
mod terminal;

use std::process::ExitCode;

use clap::Parser;

/// Deploys releases to nodes on this machine: five to three nodes whose app is a process.
#[derive(Debug, Parser)]
struct Args {
    /// Leave everything running at the end, and print the addresses.
    #[arg(long, conflicts_with = "containers")]
    stay: bool,
    /// One node whose app is a container, with an engine of its own; needs root and Docker.
    #[arg(long)]
    containers: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let played = if args.containers { containers::play() } else { processes::play(args.stay) };
    match played {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}
