//! The command line for people: makes a fleet, packs and announces apps, follows nodes to their verdicts.
//!
//! The commands are thin. What they show and decide is in pure modules: `app_file` (what an app says about itself),
//! `rollback` (where to go back to), `show`; and in the crate `rollout` (what of the bus is believed, how far each node is).

mod app_file;
mod canvas;
mod cli;
mod clock;
mod commands;
mod compose;
mod decode;
mod exit;
mod home;
mod pack;
mod problem;
mod rollback;
#[cfg(test)]
mod samples;
mod screen;
mod session;
mod show;
mod stored;
mod upload;

use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

pub use exit::Exit;

/// The `publisher` program.
pub fn main() -> ExitCode {
    bus_client::keep_out_of_core_dumps();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to do when even that cannot be printed.
            error.print().ok();
            return if error.use_stderr() { Exit::Usage } else { Exit::Done }.into();
        }
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error,publisher=warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    let screen = screen::Screen::new(cli.json);
    match commands::run(cli, &screen).and_then(|exit| screen.finish().map(|()| exit)) {
        Ok(exit) => exit.into(),
        Err(error) => {
            screen.note(&problem::render(&error));
            Exit::Failed.into()
        }
    }
}
