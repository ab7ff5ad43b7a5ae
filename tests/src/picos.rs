//! Picos that are simulated, real MicroPython on pseudo-terminals, and the real `pico-bridge` that has them.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    micropython_harness,
    process::{Output, Process, binary},
    wait_until,
    world::World,
};

/// Longer than any step of a Pico takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
/// The watchdog of a simulated Pico bites so many times sooner.
const HURRY: &str = "4";

/// A bridge on one Pi of a [`World`], and what is plugged in there.
#[derive(Debug)]
pub struct Bridge {
    // Dropped first: the bridge ends before its Picos go.
    process: Option<Process>,
    picos: Vec<Pico>,
    folder: PathBuf,
    config: PathBuf,
    data: PathBuf,
    blocks: u32,
}

/// What MicroPython keeps for files on a Pico W: 848 KiB.
const BLOCKS: u32 = 212;

/// A simulated Pico.
#[derive(Debug)]
pub struct Pico {
    child: Child,
    commands: ChildStdin,
    port: PathBuf,
    log: PathBuf,
}

impl Bridge {
    /// A bridge on the Pi `via`, which is not started yet, and is added where it is no node. Nothing where MicroPython is not installed.
    ///
    /// # Errors
    /// When its files cannot be made.
    pub fn new(world: &mut World, via: &str) -> Result<Option<Self>> {
        if micropython_harness("pico.py").is_none() {
            return Ok(None);
        }
        if world.node(via).is_err() {
            world.register_node(via, &[])?;
        }
        let node = world.node(via)?;
        let (config, data) = (node.folder().join("pi-worker.toml"), node.data().to_owned());
        let folder = node.folder().join("picos");
        fs::create_dir_all(folder.join("ports"))?;
        fs::create_dir_all(folder.join("code"))?;
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        fs::copy(tests.join("pico/rom.py"), folder.join("code/rom.py"))?;
        for from in [tests.join("../pico-bridge/simulator"), tests.join("pico/shim")] {
            for file in fs::read_dir(&from).with_context(|| format!("cannot read {}", from.display()))? {
                let file = file?;
                if file.file_type()?.is_file() {
                    fs::copy(file.path(), folder.join("code").join(file.file_name()))?;
                }
            }
        }
        Ok(Some(Self { process: None, picos: Vec::new(), folder, config, data, blocks: BLOCKS }))
    }

    /// Picos that are plugged in from now on have so many blocks of 4 KiB for files.
    pub fn set_flash(&mut self, blocks: u32) {
        self.blocks = blocks;
    }

    /// Where its Picos and what it says are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The bridge, while it runs.
    pub fn process(&self) -> Option<&Process> {
        self.process.as_ref()
    }

    /// Adds a node for the Pico with this serial number, as people do it, and plugs the Pico in.
    ///
    /// # Errors
    /// When that fails.
    pub fn plug_in(&mut self, world: &World, name: &str, serial: &str, groups: &[&str]) -> Result<&mut Pico> {
        let out = self.data.join("picos").join(name);
        let out = out.to_str().context("a folder that is no text")?;
        let groups = groups.iter().flat_map(|group| ["--group", *group]);
        let args: Vec<&str> =
            ["node", "add", name, "--no-all", "--out", out].into_iter().chain(groups).collect();
        world.publisher(&args)?.expect(0)?;
        let names = self.config.with_file_name("picos.toml");
        let before = fs::read_to_string(&names).unwrap_or_default();
        fs::write(&names, format!("{before}{serial} = \"{name}\"\n"))?;
        self.plug_in_stranger(serial)
    }

    /// Plugs a Pico in of which the fleet knows nothing.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn plug_in_stranger(&mut self, serial: &str) -> Result<&mut Pico> {
        let pico = Pico::start(&self.folder, serial, self.blocks)?;
        self.picos.push(pico);
        self.picos.last_mut().context("no Pico")
    }

    /// The Pico that was plugged in first.
    ///
    /// # Errors
    /// When there is none.
    pub fn pico(&mut self) -> Result<&mut Pico> {
        self.picos.first_mut().context("no Pico")
    }

    /// Starts the bridge.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start(&mut self) -> Result<()> {
        let mut bridge = Command::new(binary("pico-bridge")?);
        bridge.arg("run").arg("--config").arg(&self.config).arg("--ports").arg(self.folder.join("ports"));
        self.process = Some(Process::start(bridge, &self.folder.join("bridge.log"), "pico-bridge ready")?);
        Ok(())
    }

    /// Starts the bridge with so many Picos that it simulates by itself.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_simulating(&mut self, count: u8) -> Result<()> {
        let mut bridge = Command::new(binary("pico-bridge")?);
        bridge.arg("run").arg("--config").arg(&self.config).arg("--simulate").arg(count.to_string());
        bridge.env("PYTHONPATH", python_path()?);
        self.process = Some(Process::start(bridge, &self.folder.join("bridge.log"), "pico-bridge ready")?);
        Ok(())
    }

    /// `kill -9`
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the bridge does not run")?.kill()
    }

    /// SIGTERM, and the exit code.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        self.process.take().context("the bridge does not run")?.terminate()
    }

    /// All that it has said.
    pub fn said(&self) -> String {
        fs::read_to_string(self.folder.join("bridge.log")).unwrap_or_default()
    }

    /// Waits until it has said something so many times.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_said(&self, what: &str, times: usize) -> Result<()> {
        let is_said = || (self.said().matches(what).count() >= times).then_some(());
        wait_until(&format!("the bridge to say `{what}`"), PATIENCE, is_said)
            .with_context(|| format!("it said\n{}", self.said()))
    }
}

/// Where MicroPython and the boot ROM's emulator are, which `tests/tools` puts there.
fn python_path() -> Result<std::ffi::OsString> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    Ok(std::env::join_paths([target.join("micropython"), target.join("rom")])?)
}

impl Pico {
    fn start(folder: &Path, serial: &str, blocks: u32) -> Result<Self> {
        let (port, log) = (folder.join("ports").join(serial), folder.join(format!("{serial}.log")));
        // The same Python with the same path as that of the harness, with another script.
        let harness = micropython_harness("pico.py").context("MicroPython is not installed")?;
        let mut python = Command::new(harness.get_program());
        for (name, value) in harness.get_envs() {
            python.env(name, value.unwrap_or_default());
        }
        python.env("PYTHONPATH", python_path()?);
        python.arg(folder.join("code/pico.py")).arg(&port).arg(folder.join(serial)).arg(serial);
        python.env("PICO_HURRY", HURRY).env("PICO_AWAY_SECS", "0.3").env("PICO_BLOCKS", blocks.to_string());
        let out = fs::File::create(&log)?;
        python.stdin(Stdio::piped()).stdout(out.try_clone()?).stderr(out);
        let mut child = python.spawn().context("cannot run python3")?;
        let commands = child.stdin.take().context("no input")?;
        let pico = Self { child, commands, port, log };
        pico.wait_said("plugged", 1)?;
        Ok(pico)
    }

    /// Its port, while it is plugged in.
    pub fn port(&self) -> &Path {
        &self.port
    }

    /// Tells it something: `unplug`, `plug`, `unplug-after N`, `stall-after N`, `unplug-in-rom N`, `stall-in-rom N`, `button`.
    ///
    /// # Errors
    /// When it has ended.
    pub fn tell(&mut self, command: &str) -> Result<()> {
        writeln!(self.commands, "{command}")?;
        Ok(self.commands.flush()?)
    }

    /// How often this has happened to it.
    pub fn count_said(&self, what: &str) -> usize {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        said.lines().filter(|line| *line == what).count()
    }

    /// Waits until this has happened to it so many times.
    ///
    /// # Errors
    /// When it does not.
    pub fn wait_said(&self, what: &str, times: usize) -> Result<()> {
        let is_said = || (self.count_said(what) >= times).then_some(());
        wait_until(&format!("the Pico to say `{what}`"), PATIENCE, is_said)
            .with_context(|| format!("it said\n{}", fs::read_to_string(&self.log).unwrap_or_default()))
    }

    /// `mpremote connect <its port> <arguments>`, as it is published; nothing where it is not installed.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn mpremote(&self, arguments: &[&str]) -> Result<Option<Output>> {
        let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/mpremote");
        if !target.join("mpremote").exists() {
            return Ok(None);
        }
        let mut mpremote = Command::new("python3");
        mpremote
            .env("PYTHONPATH", target)
            .args(["-m", "mpremote", "connect"])
            .arg(&self.port)
            .args(arguments);
        Output::of(&mut mpremote).map(Some)
    }
}

impl Drop for Pico {
    fn drop(&mut self) {
        // It ends its interpreter before it ends itself.
        let _ = rustix::process::Pid::from_raw(self.child.id().cast_signed())
            .map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::TERM));
        let _ = self.child.wait();
    }
}
