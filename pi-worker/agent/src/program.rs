//! What each program of a node is around its commands: it reads its command line, logs to stderr, and shows what ended it.

use std::{
    io::{IsTerminal as _, Write as _},
    process::ExitCode,
};

use bus_client::problem;
use clap::Parser;
use tracing_subscriber::EnvFilter;

/// Exit code of a command line or of settings that make no sense.
const USAGE: u8 = 2;

/// A command line that is carried out.
pub trait Program: Parser {
    /// Does what it says.
    ///
    /// # Errors
    /// What ended it.
    fn carry_out(self) -> anyhow::Result<ExitCode>;

    /// What a person should do about an error that ended it.
    fn advice(error: &anyhow::Error) -> Option<&'static str>;

    /// Whether the settings make no sense.
    fn is_about_settings(error: &anyhow::Error) -> bool;
}

/// Runs a program from its beginning to its exit code.
pub fn main<P: Program>() -> ExitCode {
    bus_client::keep_out_of_core_dumps();
    let program = match P::try_parse() {
        Ok(program) => program,
        Err(err) => {
            // Nothing is left to do when even that cannot be printed.
            let _ = err.print();
            return if err.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    log_to_stderr();
    program.carry_out().unwrap_or_else(|err| {
        // Nothing is left to do when even that cannot be printed.
        let _ = writeln!(std::io::stderr(), "{}", problem::render(format!("{err:#}"), P::advice(&err)));
        if P::is_about_settings(&err) { ExitCode::from(USAGE) } else { ExitCode::FAILURE }
    })
}

/// Prints a line for people and scripts. That nobody reads it is no failure.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // The journal has the time of each line already.
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        log.without_time().init();
    } else {
        log.init();
    }
}
