//! MicroPython's unix port, which runs what is for Picos as it is.

use std::{
    path::Path,
    process::{Command, Stdio},
};

/// The harness `script` of `tests/pico`, for the Python that has MicroPython in it; nothing where that is not installed.
pub fn micropython_harness(script: &str) -> Option<Command> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = || {
        let mut python = Command::new("python3");
        // `tests/tools` puts it there.
        python.env("PYTHONPATH", tests.join("../target/micropython")).env("PYTHONDONTWRITEBYTECODE", "1");
        python
    };
    let is_there =
        python().args(["-c", "import micropython_run"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    if !is_there.is_ok_and(|status| status.success()) {
        return None;
    }
    let mut harness = python();
    harness.arg(tests.join("pico").join(script));
    Some(harness)
}
