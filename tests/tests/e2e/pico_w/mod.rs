//! What runs on a Pico, unchanged, in MicroPython's unix port.

use std::time::Duration;

use e2e::{Output, micropython_harness};

mod guard;
mod node;
mod trust;
mod world;

/// The longest that a Pico may take for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs a harness to its good end in a folder of its own, and gives back what it said; nothing where MicroPython is missing.
fn run(script: &str, arg: &str) -> Option<String> {
    let mut harness = micropython_harness(script)?;
    let folder = tempfile::tempdir().unwrap();
    Some(Output::of(harness.arg(folder.path()).arg(arg)).unwrap().expect(0).unwrap().stdout)
}
