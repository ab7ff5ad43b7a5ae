//! What a person would see on a terminal: what is done, the command, and what it says.

use anyhow::{Context as _, Result};
use e2e::World;

/// What comes next.
pub(crate) fn say(what: &str) {
    println!("\n## {what}");
}

/// A command that is typed.
pub(crate) fn shown(command: &str) {
    println!("   $ {command}");
}

/// Types a `publisher` command, its output on this terminal, and gives its exit code.
pub(crate) fn type_in(world: &World, args: &[&str]) -> Result<Option<i32>> {
    shown(&format!("publisher {}", args.join(" ")));
    Ok(world.publisher_command(args)?.status().context("cannot run publisher")?.code())
}
