//! `make bench`: figures of the release build on this machine, beside those of Mosquitto in the same run; a table on the
//! screen, JSON lines in `target/bench/`.

mod broker;
mod client;
mod containers;
mod control;
mod dashboard;
mod durable;
mod fanout;
mod figure;
mod fleet;
mod install;
mod memory;
mod nodes;
mod picos;
mod pretender;
mod simulate;
mod storm;
mod tls;
mod watcher;

use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::figure::Figures;

/// 10,000 clients, and the broker that they talk to, each need as many files.
const FILES: u64 = 65_536;

type Measure = fn(&mut Figures) -> Result<()>;

const BENCHES: [(&str, Measure); 12] = [
    ("install", install::measure),
    ("memory", memory::measure),
    ("fanout", fanout::measure),
    ("storm", storm::measure),
    ("dashboard", dashboard::measure),
    ("durable", durable::measure),
    ("tls", tls::measure),
    ("simulate", simulate::measure),
    ("control", control::measure),
    ("nodes", nodes::measure),
    ("containers", containers::measure),
    ("picos", picos::measure),
];

/// Measures Deploybus, and Mosquitto where it is installed.
#[derive(Debug, Parser)]
struct Args {
    /// Only these, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let names = BENCHES.map(|(name, _)| name);
    if let Some(unknown) = args.only.iter().find(|only| !names.contains(&only.as_str())) {
        bail!("there is no bench `{unknown}`: say some of {}", names.join(","));
    }
    raise_limit_of_files();
    let mut figures = Figures::create()?;
    for (name, measure) in BENCHES {
        if args.only.is_empty() || args.only.iter().any(|only| only == name) {
            measure(&mut figures).with_context(|| format!("bench {name}"))?;
        }
    }
    println!("written to {}", figures.path().display());
    Ok(())
}

/// The brokers inherit it. What is not allowed shows where it is missing.
fn raise_limit_of_files() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(FILES).max(FILES);
    let raised = Rlimit { current: Some(most), maximum: Some(most) };
    if setrlimit(Resource::Nofile, raised).is_err() {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}
