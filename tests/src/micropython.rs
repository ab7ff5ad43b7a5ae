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

/// The MicroPython program `script` of `tests/pico`, run by the unix port; nothing where that is not installed.
pub fn micropython_program(script: &str) -> Option<Command> {
    let program = micropython_harness(script)?;
    let path = program.get_args().next()?.to_owned();
    let mut python = Command::new(program.get_program());
    python.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    python
        .env("PICO_REPO", Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["-m", "micropython_unix"])
        .arg(path);
    Some(python)
}
