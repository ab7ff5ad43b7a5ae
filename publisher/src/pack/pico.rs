//! What of an app for Picos can be judged before any Pico has it.

use anyhow::Result;
use schemas::manifest::{Manifest, Node};

use crate::problem::problem;

/// What the guard imports.
const MAIN: &str = "main.py";
/// Half of what MicroPython leaves for files on a Pico W, 848 KiB: the release before stays there, too.
const ROOMY_BYTES: u64 = 424 * 1024;

/// What is better said now than by a Pico: an error, or warnings.
pub(super) fn check(manifest: &Manifest) -> Result<Vec<String>> {
    if !manifest.files().any(|(path, ..)| path == MAIN) {
        return Err(problem(
            "the folder has no main.py, which is what a Pico runs",
            "add main.py, and call deploy_guard.alive() in its loop",
        ));
    }
    let is_link = |node: &Node| matches!(node, Node::Symlink { .. });
    if let Some(link) = manifest.entries().iter().find(|entry| is_link(&entry.node)) {
        return Err(problem(
            format!("{} is a link, and a Pico has none", link.path),
            "put a copy in its place, or leave it out with `ignore` under [app]",
        ));
    }
    let size_kb = manifest.size_bytes() / 1_000;
    let is_tight = manifest.size_bytes() > ROOMY_BYTES;
    let warning = format!(
        "the app has {size_kb} KB: on a Pico W the release that ran before goes to make room for it, so that going back has to bring it anew"
    );
    Ok(is_tight.then_some(warning).into_iter().collect())
}
