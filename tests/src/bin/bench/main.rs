//! `make bench`: figures of the release build on this machine, one JSON line each, in `target/bench/` and on the screen.

mod fanout;
mod figure;
mod install;

use std::process::ExitCode;

use anyhow::Result;

use crate::figure::Figures;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut figures = Figures::create()?;
    install::measure(&mut figures)?;
    fanout::measure(&mut figures)?;
    println!("written to {}", figures.path().display());
    Ok(())
}
