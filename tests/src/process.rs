//! Real processes: the project's own binaries, with their output kept.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::wait_until;

/// The longest that a process may take to say that it is ready, or to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// Variables that Cargo sets for the program that it runs.
const OF_THIS_PROGRAM: [&str; 5] =
    ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];

/// The path of one of the project's binaries, built from the present source.
///
/// # Errors
/// When it cannot be built.
pub fn binary(name: &str) -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let folder = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    match folder {
        Ok(folder) => Ok(folder.join(name)),
        Err(error) => bail!("{error}"),
    }
}

/// Says to a program that a test has started that the binaries are there: with other features than tests have, it would build
/// half of them again.
pub const BUILT: &str = "DEPLOYBUS_BUILT";

/// Builds the binaries beside the running one, which Cargo does not do for another package's tests.
fn build() -> Result<PathBuf> {
    let me = std::env::current_exe()?;
    let folder = me.parent().context("the test binary has no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().context("no target folder")? } else { folder };
    if std::env::var_os(BUILT).is_some() {
        return Ok(folder.to_path_buf());
    }
    let mut cargo = Command::new("cargo");
    cargo.args([
        "build",
        "--quiet",
        "--bin",
        "broker",
        "--bin",
        "publisher",
        "--bin",
        "pi-worker",
        "--bin",
        "pico-bridge",
    ]);
    if me.parent().is_some_and(|folder| folder.ends_with("deps")) {
        // With the features that tests ask of what they share with the binaries, or half of it would be built a second time.
        cargo.args(["--bin", "demo", "--bin", "demo-picos", "--workspace", "--test", "e2e"]);
    }
    // What Cargo says of the running program is not so of others: build scripts that ask for it would run again each time.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if OF_THIS_PROGRAM.iter().any(|begin| name.starts_with(begin)) {
            cargo.env_remove(&*name);
        }
    }
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
    ensure!(cargo.status().context("cannot run cargo")?.success(), "the binaries do not build");
    Ok(folder.to_path_buf())
}

/// What a command that ended has said.
#[derive(Debug)]
pub struct Output {
    /// Exit code; none when it was killed.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Runs `command` to its end.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn of(command: &mut Command) -> Result<Self> {
        let output =
            command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
        Ok(Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// The output, when the exit code is the expected one.
    ///
    /// # Errors
    /// When it is another; with everything that was said.
    pub fn expect(self, code: i32) -> Result<Self> {
        ensure!(
            self.code == Some(code),
            "exit code {:?} instead of {code}\n{}{}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }
}

/// A process that runs until it is ended; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` with its output in the file `log`, and waits until a line of it begins with `ready`.
    ///
    /// # Errors
    /// When it ends or stays silent instead; with what it said.
    pub fn start(mut command: Command, log: &Path, ready: &str) -> Result<Self> {
        let from = fs::metadata(log).map_or(0, |meta| meta.len());
        let file = File::options().create(true).append(true).open(log)?;
        // A group of its own: what wraps a program (strace, faketime) is ended together with it.
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot run {command:?}"))?;
        let mut process = Self { child, log: log.to_path_buf() };
        let is_ready = |said: &str| said.lines().any(|line| line.starts_with(ready));
        let ended = wait_until(&format!("{command:?} to say `{ready}`"), PATIENCE, || {
            if is_ready(&said_since(log, from)) {
                return Some(None);
            }
            process.child.try_wait().ok().flatten().map(Some)
        });
        match ended {
            Ok(None) => Ok(process),
            Ok(Some(status)) => bail!("{command:?} ended with {status}\n{}", said_since(log, from)),
            Err(error) => Err(error.context(said_since(log, from))),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has said so far.
    pub fn said(&self) -> String {
        said_since(&self.log, 0)
    }

    /// SIGTERM, and the exit code that it ends with.
    ///
    /// # Errors
    /// When it does not end.
    pub fn terminate(mut self) -> Result<Option<i32>> {
        self.signal(Signal::TERM)?;
        let what = format!("process {} to end after SIGTERM", self.pid());
        let status = wait_until(&what, PATIENCE, || self.child.try_wait().ok().flatten())?;
        Ok(status.code())
    }

    /// SIGKILL, as a crash would.
    ///
    /// # Errors
    /// When it cannot be killed.
    pub fn kill(mut self) -> Result<()> {
        kill_process_group(self.group()?, Signal::KILL)?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill_process_group(self.group()?, signal)?)
    }

    fn group(&self) -> Result<Pid> {
        i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("no process id")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.signal(Signal::KILL);
        let _ = self.child.wait();
    }
}

fn said_since(log: &Path, from: u64) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let from = usize::try_from(from).unwrap_or(0).min(bytes.len());
    String::from_utf8_lossy(&bytes[from..]).into_owned()
}
