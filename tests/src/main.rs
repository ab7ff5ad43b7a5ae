//! What is done by hand with scenarios: `cargo run -p e2e -- replay FILE`, `cargo run -p e2e -- search --count 1000`.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand};
use e2e::scenario::{Histories, Scenario};

/// Plays scenarios in the simulator.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Plays a scenario, and shows what happens.
    Replay {
        /// The scenario: one of `tests/scenarios/`, or a history that was saved in `target/histories/`.
        file: PathBuf,
    },
    /// Looks for histories that break a rule.
    Search {
        /// So many.
        #[arg(long, default_value_t = 1_000)]
        count: u64,
        /// From this one on.
        #[arg(long, default_value_t = 0)]
        first: u64,
    },
}

fn main() -> ExitCode {
    match run(Args::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> Result<()> {
    match verb {
        Verb::Replay { file } => replay(&file),
        Verb::Search { count, first } => {
            let summary = Histories { first, count }.play()?;
            println!("{summary:#?}");
            Ok(())
        }
    }
}

fn replay(file: &PathBuf) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let played = Scenario::parse(&text).map_err(|failed| anyhow::anyhow!("{failed}"))?.play();
    match played {
        Ok(played) => {
            played.timeline.iter().for_each(|line| println!("{line}"));
            Ok(())
        }
        Err(failed) => {
            failed.timeline.iter().for_each(|line| println!("{line}"));
            bail!("{failed}")
        }
    }
}
