//! A Pico W that is simulated: its own program, unchanged, in MicroPython's unix port, on a bus that speaks TLS.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{micropython_harness, process::Process, wait_until, world::World};

/// Longer than any step of a Pico takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A Pico W of a [`World`].
#[derive(Debug)]
pub struct PicoW {
    process: Option<Process>,
    folder: PathBuf,
    name: String,
}

impl PicoW {
    /// The kind of device that it says it is.
    pub const PLATFORM: &str = "rp2/rp2040";

    /// Adds a node for it, as people do it, and writes its flash; it has no power yet. Nothing where MicroPython is not
    /// installed.
    ///
    /// # Errors
    /// When its files cannot be made.
    pub fn new(world: &World, name: &str, group: &str) -> Result<Option<Self>> {
        if micropython_harness("node.py").is_none() {
            return Ok(None);
        }
        world.publisher(&["node", "add", name, "--no-all", "--group", group])?.expect(0)?;
        let pico = Self { process: None, folder: world.folder().to_owned(), name: name.to_owned() };
        let tree = pico.tree();
        let out = tree.to_str().context("a folder that is no text")?;
        let config = ["pico", "config", name, "--wifi-ssid", "Garden", "--wifi-open"];
        let place = ["--platform", Self::PLATFORM, "--out", out];
        world.publisher(&[&config[..], &place].concat())?.expect(0)?;
        Ok(Some(pico))
    }

    /// What people copy onto it.
    pub fn tree(&self) -> PathBuf {
        self.folder.join(format!("{}-tree", self.name))
    }

    /// What its flash holds, once it was started.
    pub fn flash(&self) -> PathBuf {
        self.folder.join(&self.name).join("flash")
    }

    /// Starts it, with what is on its flash and `env` of its surroundings changed.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn power_on(&mut self, env: &[(&str, &str)]) -> Result<()> {
        let mut harness = micropython_harness("node.py").context("MicroPython is not installed")?;
        harness.envs(env.iter().copied());
        harness.arg(self.folder.join(&self.name)).arg(self.tree());
        self.process = Some(Process::start(harness, &self.log(), "pico ready")?);
        Ok(())
    }

    /// Takes its power away.
    ///
    /// # Errors
    /// When it has none.
    pub fn power_off(&mut self) -> Result<()> {
        self.process.take().context("the Pico has no power")?.kill()
    }

    /// What it said on USB.
    pub fn said(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Waits until it has said so this many times.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_said(&self, what: &str, times: usize) -> Result<()> {
        let is_said = || (self.said().matches(what).count() >= times).then_some(());
        wait_until(&format!("the Pico to say {what}"), PATIENCE, is_said).with_context(|| self.said())
    }

    fn log(&self) -> PathBuf {
        Path::new(&self.folder).join(format!("{}.log", self.name))
    }
}
