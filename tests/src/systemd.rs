//! A node whose PID 1 is a real systemd, in a container without a virtual machine.
//!
//! The host's own PID 1 need not be systemd, hence `--register=no --keep-unit`. The network is the host's, so the node
//! finds the broker on loopback. A crash kills the processes, not the page cache: this is no power cut.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    process::{Output, binary},
    wait_until,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// Why no such node can be run here, if so.
pub fn systemd_unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let missing = ["systemd-nspawn", "mmdebstrap", "nsenter"].into_iter().find(|command| {
        !Command::new(command)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|s| s.success())
    });
    missing.map(|command| format!("needs {command}"))
}

/// A node that boots systemd.
#[derive(Debug)]
pub struct SystemdNode {
    name: String,
    folder: PathBuf,
    container: Option<std::process::Child>,
}

impl SystemdNode {
    /// A node below `folder` with a fresh root of its own; not booted yet.
    ///
    /// # Errors
    /// When the tree cannot be made or mounted.
    pub fn create(name: &str, folder: &Path) -> Result<Self> {
        let tree = binary("broker")?
            .parent()
            .and_then(Path::parent)
            .context("no target folder")?
            .join("systemd-tree");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd-tree");
        Output::of(Command::new(script).arg(&tree))?.expect(0)?;
        let folder = folder.join(format!("{name}-systemd"));
        // An overlay's upper folder cannot lie on an overlay: it gets a file system of its own.
        fs::create_dir_all(folder.join("root"))?;
        fs::create_dir_all(folder.join("own"))?;
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs"]).arg(folder.join("own")))?;
        let node = Self { name: name.to_owned(), folder, container: None };
        let (upper, work) = (node.folder.join("own/upper"), node.folder.join("own/work"));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let options =
            format!("lowerdir={},upperdir={},workdir={}", tree.display(), upper.display(), work.display());
        run(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options]).arg(node.root()))?;
        Ok(node)
    }

    /// The node's root folder as the host sees it.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// Boots, and waits until systemd says that it is up.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn boot(&mut self) -> Result<()> {
        let log = fs::File::options().create(true).append(true).open(self.folder.join("console.log"))?;
        let mut nspawn = Command::new("systemd-nspawn");
        nspawn.args([
            "--quiet",
            "--boot",
            "--register=no",
            "--keep-unit",
            "--console=pipe",
            "--kill-signal=SIGRTMIN+3",
        ]);
        nspawn.arg("--directory").arg(self.root()).arg("--machine").arg(&self.name);
        nspawn.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.container = Some(nspawn.spawn().context("cannot run systemd-nspawn")?);
        wait_until("systemd to be up", PATIENCE, || {
            let state = self.run(&["systemctl", "is-system-running"]).ok()?.stdout;
            matches!(state.trim(), "running" | "degraded").then_some(())
        })
    }

    /// Runs a command inside.
    ///
    /// # Errors
    /// When the node does not run.
    pub fn run(&self, command: &[&str]) -> Result<Output> {
        let leader = self.leader()?.as_raw_nonzero().to_string();
        let mut nsenter = Command::new("nsenter");
        nsenter.args([
            "--target", &leader, "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--wd", "--",
        ]);
        Output::of(nsenter.args(command))
    }

    /// Kills everything inside at once, as a crash would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn crash(&mut self) -> Result<()> {
        kill_process(self.leader()?, Signal::KILL)?;
        self.container.take().context("the node does not run")?.wait()?;
        Ok(())
    }

    /// PID 1 of the node, as the host sees it.
    fn leader(&self) -> Result<Pid> {
        let container = self.container.as_ref().context("the node does not run")?.id();
        let children = fs::read_to_string(format!("/proc/{container}/task/{container}/children"))?;
        let leader =
            children.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
        leader.context("systemd has not started yet")
    }
}

impl Drop for SystemdNode {
    fn drop(&mut self) {
        // Each may be gone already.
        let _ = self.crash();
        let _ = run(Command::new("umount").arg(self.root()));
        let _ = run(Command::new("umount").arg(self.folder.join("own")));
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = Output::of(command)?;
    ensure!(output.code == Some(0), "{command:?} failed: {}", output.stderr);
    Ok(())
}
