//! A node: a real `pi-worker` with a data folder and an app port of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    engine::Engine,
    net::{Answer, get},
    process::{Output, Process, binary},
    wait_until,
};

/// One node of a [`crate::World`].
#[derive(Debug)]
pub struct Node {
    name: String,
    folder: PathBuf,
    data: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl Node {
    pub(crate) fn new(name: &str, folder: PathBuf, data: PathBuf, port: u16) -> Self {
        Self { name: name.to_owned(), folder, data, port, process: None }
    }

    /// Its name on the bus.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port on which its app listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The worker's data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// The folder that `publisher node add` wrote.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The worker, while it runs.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// `pi-worker <command> --config <its settings>`
    ///
    /// # Errors
    /// When the binary cannot be built.
    pub fn command(&self, command: &str) -> Result<Command> {
        let mut worker = Command::new(binary("pi-worker")?);
        worker.arg(command).arg("--config").arg(self.folder.join("pi-worker.toml"));
        Ok(worker)
    }

    /// Has it run containers by `engine`, whose disk may be as small as that of a test.
    ///
    /// # Errors
    /// When its settings cannot be written.
    pub fn use_engine(&mut self, engine: &Engine) -> Result<()> {
        let settings = self.folder.join("pi-worker.toml");
        let text = fs::read_to_string(&settings)?;
        let engine = engine.endpoint();
        let table =
            format!("\n[container]\nengine = \"{engine}\"\nfree_disk_bytes = 1\nfree_memory_bytes = 1\n");
        Ok(fs::write(settings, text + &table)?)
    }

    /// Has it run containers by another engine than before.
    ///
    /// # Errors
    /// When its settings cannot be written.
    pub fn use_engine_instead(&mut self, engine: &Engine) -> Result<()> {
        let settings = self.folder.join("pi-worker.toml");
        let text = fs::read_to_string(&settings)?;
        let (text, _) = text.split_once("\n[container]").context("it has no engine")?;
        fs::write(&settings, text)?;
        self.use_engine(engine)
    }

    /// Starts the worker and waits until it is ready.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start(&mut self) -> Result<()> {
        let command = self.command("run")?;
        self.start_as(command)
    }

    /// Starts the worker by another command that ends up running it.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_as(&mut self, command: Command) -> Result<()> {
        let log = self.folder.join("worker.log");
        self.process = Some(Process::start(command, &log, "pi-worker ready")?);
        Ok(())
    }

    /// `kill -9`
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the worker does not run")?.kill()
    }

    /// Starts the worker so that it is killed at its `nth` call of `system_call`. False when it came through the
    /// install of `version` alive; it is stopped then.
    ///
    /// # Errors
    /// When strace cannot be run, or neither happens.
    pub fn start_to_be_killed_at(&mut self, system_call: &str, nth: u32, version: &str) -> Result<bool> {
        let worker = self.command("run")?;
        let mut strace = Command::new("strace");
        let inject = format!("inject={system_call}:signal=KILL:when={nth}");
        strace.args([
            "--follow-forks",
            "--quiet=all",
            "--output=/dev/null",
            "-e",
            &format!("trace={system_call}"),
        ]);
        strace.args(["-e", &inject]).arg(worker.get_program()).args(worker.get_args());
        // It may be killed before it is ready, too.
        if self.start_as(strace).is_err() {
            return Ok(true);
        }
        let what = format!("{system_call} {nth} to kill the worker, or {version}");
        let was_killed = wait_until(&what, Duration::from_secs(30), || {
            let status = self.status().ok()?;
            let installed = &status["status"]["apps"]["web"]["version"]["installed"];
            (status["running"] == false).then_some(true).or((installed == version).then_some(false))
        })?;
        // strace goes on as long as the app does.
        self.kill()?;
        Ok(was_killed)
    }

    /// SIGTERM, and the exit code.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        self.process.take().context("the worker does not run")?.terminate()
    }

    /// What its app answers to `GET <path>`.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask(&self, path: &str) -> Result<Answer> {
        get(self.port, path)
    }

    /// The version that its app says.
    pub fn serves(&self) -> Option<String> {
        self.ask("/version").ok()?.text("version")
    }

    /// Waits until its app says `version`.
    ///
    /// # Errors
    /// When it does not within 30 s.
    pub fn wait_serves(&self, version: &str) -> Result<()> {
        let what = format!("{} to serve {version}", self.name);
        wait_until(&what, Duration::from_secs(30), || (self.serves()? == version).then_some(()))
    }

    /// `pi-worker status --json`
    ///
    /// # Errors
    /// When it fails.
    pub fn status(&self) -> Result<Value> {
        let output = Output::of(self.command("status")?.arg("--json"))?.expect(0)?;
        Ok(serde_json::from_str(&output.stdout)?)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.process = None;
        // Apps outlive their worker on purpose; a test's apps end with it.
        let apps = fs::read_dir(self.data.join("apps")).into_iter().flatten().flatten();
        for app in apps {
            end_app(&app.path());
        }
    }
}

/// Ends the process group of an app, found by its pid file.
fn end_app(app: &Path) {
    let pid = fs::read(app.join("run/app.pid")).ok().and_then(|file| {
        let file: Value = serde_json::from_slice(&file).ok()?;
        i32::try_from(file.get("pid")?.as_i64()?).ok()
    });
    if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
        // It may have ended already.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
}
