//! A container engine of its own: a real `dockerd` with its own data, socket and bridge, gone when dropped.
//!
//! It lives in a mount and a process namespace of its own, so that its containers and mounts end with it, whatever
//! became of the daemon. Published ports are open on the host, by Docker's own proxy.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::{disk::SmallDisk, process::Output, wait_until};

const PATIENCE: Duration = Duration::from_mins(1);
/// The image that test apps begin with: a shell and small tools, from a static binary.
pub const BASE_IMAGE: &str = "deploybus-test/base:1";
/// The static binary.
const BUSYBOX: &str = "/bin/busybox";

/// Mounts the controllers where the host has none: `docker` needs them.
const HOLD: &str = "
mountpoint -q /sys/fs/cgroup || {
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    for c in cpu cpuacct cpuset memory devices freezer blkio pids; do
        mkdir -p /sys/fs/cgroup/$c
        mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c || rmdir /sys/fs/cgroup/$c
    done
}
while :; do sleep 1; done";

/// Engines of this process get a network each.
static STARTED: AtomicU8 = AtomicU8::new(0);

/// Why no engine can be run here, if so.
pub fn engine_unavailable() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("needs root".to_owned());
    }
    let folders = ["/usr/local/bin", "/usr/bin", "/usr/sbin", "/bin", "/sbin"];
    let is_there = |name: &str| folders.iter().any(|folder| Path::new(folder).join(name).exists());
    let missing =
        ["dockerd", "docker", "ip", "unshare", "nsenter", "busybox"].into_iter().find(|name| !is_there(name));
    missing.map(|name| format!("needs {name}"))
}

/// A running engine, or one whose daemon is down for now.
#[derive(Debug)]
pub struct Engine {
    folder: PathBuf,
    name: String,
    network: String,
    /// PID 1 of its namespaces.
    holder: Child,
    /// What waits for the daemon.
    daemon: Option<Child>,
    /// Unmounted last.
    _disk: Option<SmallDisk>,
}

impl Engine {
    /// Starts one below `folder`, with [`BASE_IMAGE`].
    ///
    /// # Errors
    /// When it does not get that far.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, |_| Ok(None))
    }

    /// The same, with a disk of its own of `size` as in `64m`.
    ///
    /// # Errors
    /// When it does not get that far.
    pub fn start_on_small_disk(folder: &Path, size: &str) -> Result<Self> {
        Self::start_with(folder, |data| SmallDisk::mount(data, size))
    }

    fn start_with(folder: &Path, disk: impl FnOnce(&Path) -> Result<Option<SmallDisk>>) -> Result<Self> {
        let number = STARTED.fetch_add(1, Ordering::SeqCst);
        let pid = std::process::id();
        let name = format!("dbt{pid}x{number}");
        // Private, and rarely used by anything; the process id keeps test binaries that run at once apart.
        let network = format!("10.{}.{}", 200 + pid % 50, number);
        let folder = folder.join(format!("engine-{number}"));
        fs::create_dir_all(folder.join("data"))?;
        let disk = disk(&folder.join("data"))?;
        run(Command::new("ip").args(["link", "add", "name", &name, "type", "bridge"]))?;
        // Settings of the machine's own engine are not for this one.
        fs::write(folder.join("daemon.json"), "{}")?;
        let mut hold = Command::new("unshare");
        hold.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", HOLD]);
        hold.stdin(Stdio::null()).stderr(Stdio::null()).process_group(0);
        let holder = hold.spawn().context("cannot run unshare")?;
        let mut engine = Self { folder, name, network, holder, daemon: None, _disk: disk };
        engine.run_bridge()?;
        engine.start_daemon()?;
        engine.make_base()?;
        Ok(engine)
    }

    /// Where it listens, as the settings of a node say it.
    pub fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    /// Where it keeps images and containers.
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the daemon has said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("dockerd.log")).unwrap_or_default()
    }

    /// `docker <args>`
    ///
    /// # Errors
    /// When it fails.
    pub fn docker(&self, args: &[&str]) -> Result<String> {
        Ok(Output::of(&mut self.docker_command(args))?.expect(0)?.stdout)
    }

    /// `docker <args>`, not run yet.
    pub fn docker_command(&self, args: &[&str]) -> Command {
        let mut docker = Command::new("docker");
        docker.arg("--host").arg(self.endpoint()).args(args);
        docker
    }

    /// Starts the daemon, and waits until it answers.
    ///
    /// # Errors
    /// When it does not.
    pub fn start_daemon(&mut self) -> Result<()> {
        // Of a daemon that was killed; the next one would wait for it.
        for stale in ["docker.pid", "exec/containerd/containerd.pid"] {
            let _ = fs::remove_file(self.folder.join(stale));
        }
        let leader = wait_until("the namespaces", PATIENCE, || self.leader().ok())?;
        let log = fs::File::options().create(true).append(true).open(self.folder.join("dockerd.log"))?;
        let path = |name: &str| self.folder.join(name).display().to_string();
        let mut daemon = Command::new("nsenter");
        daemon.args(["--target", &leader.as_raw_nonzero().to_string(), "--mount", "--pid", "--", "dockerd"]);
        daemon.args([
            "--host",
            &self.endpoint(),
            "--bridge",
            &self.name,
            "--cgroup-parent",
            &format!("/{}", self.name),
        ]);
        daemon.args([
            "--data-root",
            &path("data"),
            "--exec-root",
            &path("exec"),
            "--pidfile",
            &path("docker.pid"),
        ]);
        daemon.args(["--iptables=false", "--ip-masq=false", "--config-file", &path("daemon.json")]);
        daemon.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        self.daemon = Some(daemon.spawn().context("cannot run nsenter")?);
        let answers =
            || Output::of(&mut self.docker_command(&["version"])).is_ok_and(|said| said.code == Some(0));
        wait_until("dockerd to answer", PATIENCE, || answers().then_some(())).with_context(|| self.log())
    }

    /// `kill -9` for the daemon; containers run on.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_daemon(&mut self) -> Result<()> {
        let mut daemon = self.daemon.take().context("the daemon does not run")?;
        kill_process(child_of(daemon.id())?, Signal::KILL)?;
        daemon.wait()?;
        Ok(())
    }

    /// Names of all containers, sorted.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn containers(&self) -> Result<Vec<String>> {
        self.lines(&["ps", "--all", "--format", "{{.Names}}"])
    }

    /// The images that Deploybus has built.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn images(&self) -> Result<Vec<String>> {
        self.lines(&["images", "--filter", "label=io.deploybus.app", "--format", "{{.Repository}}:{{.Tag}}"])
    }

    /// One field of a container or image, as in `{{.State.Running}}`.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn inspect(&self, name: &str, field: &str) -> Result<String> {
        Ok(self.docker(&["inspect", "--format", field, name])?.trim().to_owned())
    }

    fn lines(&self, args: &[&str]) -> Result<Vec<String>> {
        let mut lines: Vec<_> = self.docker(args)?.lines().map(str::to_owned).collect();
        lines.sort();
        Ok(lines)
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("docker.sock")
    }

    fn leader(&self) -> Result<Pid> {
        child_of(self.holder.id())
    }

    fn run_bridge(&self) -> Result<()> {
        let address = format!("{}.1/24", self.network);
        run(Command::new("ip").args(["address", "add", &address, "dev", &self.name]))?;
        run(Command::new("ip").args(["link", "set", &self.name, "up"]))
    }

    fn make_base(&self) -> Result<()> {
        let base = self.folder.join("base");
        fs::create_dir_all(base.join("bin"))?;
        fs::copy(BUSYBOX, base.join("bin/busybox"))?;
        let dockerfile =
            "FROM scratch\nCOPY bin/busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\n";
        fs::write(base.join("Dockerfile"), dockerfile)?;
        let folder = base.display().to_string();
        let mut build = self.docker_command(&["build", "--quiet", "--tag", BASE_IMAGE, &folder]);
        Output::of(build.env("DOCKER_BUILDKIT", "0"))?.expect(0).with_context(|| self.log())?;
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // Everything inside ends with PID 1 of its namespace; each step may have been done already.
        if let Ok(leader) = self.leader() {
            let _ = kill_process(leader, Signal::KILL);
        }
        let _ = self.holder.wait();
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.wait();
        }
        let _ = run(Command::new("ip").args(["link", "delete", &self.name]));
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_groups(&controller.path().join(&self.name));
        }
    }
}

/// Control groups are empty folders that hold others.
fn remove_groups(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_groups(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}

/// The only child of a process.
fn child_of(pid: u32) -> Result<Pid> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let child = children.split_whitespace().next().and_then(|pid| pid.parse().ok()).and_then(Pid::from_raw);
    child.context("it has not started yet")
}

fn run(command: &mut Command) -> Result<()> {
    Output::of(command)?.expect(0).with_context(|| format!("{command:?}")).map(drop)
}
