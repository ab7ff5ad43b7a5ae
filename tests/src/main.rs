//! What is done by hand with scenarios: `cargo run -p e2e -- replay FILE`, `replay --real FILE`, `search --count 1000`.

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, Result};
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
        /// With real processes, which takes a while.
        #[arg(long)]
        real: bool,
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
        Verb::Replay { file, real } => replay(&file, real),
        Verb::Search { count, first } => {
            let summary = Histories { first, count }.play()?;
            println!("{summary:#?}");
            Ok(())
        }
    }
}

fn replay(file: &PathBuf, real: bool) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let scenario = Scenario::parse(&text)?;
    if real {
        scenario.play_for_real(|line| println!("{line}"))?;
        return Ok(());
    }
    let (timeline, failed) = match scenario.play() {
        Ok(played) => (played.timeline, None),
        Err(mut failed) => (std::mem::take(&mut failed.timeline), Some(failed)),
    };
    for line in timeline {
        println!("{line}");
    }
    failed.map_or(Ok(()), |failed| Err(failed.into()))
}
