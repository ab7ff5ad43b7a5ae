//! The broker as a process: started, watched, and ended by its pid.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use broker::TlsSettings;
use rustix::process::{Pid, Signal, kill_process};

use crate::{
    bus::user_line,
    client::{Client, Hello},
};

/// In which the kernel tells CPU time, whatever its own clock (proc(5)).
const TICKS_PER_SECOND: u64 = 100;

/// A running broker; killed with the test.
pub(crate) struct Broker {
    child: Child,
    /// The line that says where it listens.
    ready: String,
}

impl Broker {
    /// One that lets everybody do everything, with its state in `data`.
    pub(crate) fn start(data: &Path) -> Self {
        Self::spawn(&mut open_broker(data))
    }

    /// Starts `command`, which is or becomes a broker, and waits until it is ready.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let ready = first_line(&mut child);
        assert!(ready.starts_with("broker ready "), "{ready}");
        Self { child, ready }
    }

    pub(crate) fn mqtt(&self) -> SocketAddr {
        self.address("mqtt")
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.address("http")
    }

    /// Where it listens for `kind`, as its settings call it.
    pub(crate) fn address(&self, kind: &str) -> SocketAddr {
        let words = self.ready.split_whitespace().filter_map(|word| word.split_once('='));
        let address = { words }.find_map(|(name, address)| (name == kind).then_some(address));
        address.unwrap_or_else(|| panic!("no {kind} in `{}`", self.ready)).parse().unwrap()
    }

    /// A client that is connected.
    pub(crate) fn client(&self, id: &str) -> Client {
        Client::connect(self.mqtt(), &Hello::new(id)).unwrap()
    }

    /// Fails unless a new client can still publish and subscribe.
    pub(crate) fn assert_alive(&self) {
        let mut client = self.client("still-alive");
        client.subscribe("alive/check", 1);
        client.publish("alive/check", "yes", 1, false);
        assert_eq!(client.message().text(), "alive/check=yes");
    }

    /// What it has in memory now.
    pub(crate) fn resident_mib(&self) -> u64 {
        self.status_mib("VmRSS:")
    }

    /// The most that it had in memory so far.
    pub(crate) fn peak_mib(&self) -> u64 {
        self.status_mib("VmHWM:")
    }

    fn status_mib(&self, key: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    }

    /// How long it has used a CPU so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
    }

    /// SIGHUP: reads certificates again.
    pub(crate) fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn terminate(mut self) -> ExitStatus {
        let begin = Instant::now();
        terminate(&self.child);
        let status = self.child.wait().unwrap();
        assert!(begin.elapsed() < Duration::from_secs(5));
        status
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Ended already unless the test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `broker run` with `args`.
pub(crate) fn broker(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command.arg("run").args(args).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// `broker run` that lets everybody do everything.
pub(crate) fn open_broker(data: &Path) -> Command {
    let mut command = broker(&["--open-loopback", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
    command.arg("--data").arg(data);
    command
}

/// `broker run` with all that lies in `folder`, which listens for everything that it can. With no `users`, everybody may do
/// everything; else they are as for a [`crate::bus::Bus`].
pub(crate) fn listening_broker(folder: &Path, tls: &TlsSettings, users: &[&str]) -> Command {
    let listeners = ["mqtt", "mqtts", "ws", "wss", "http"].map(|name| format!("{name} = '127.0.0.1:0'\n"));
    let access = if users.is_empty() { "open_loopback = true" } else { "users = 'users'" };
    let mut tls_files = vec![("cert", &tls.cert), ("key", &tls.key)];
    tls_files.extend(tls.client_ca.as_ref().map(|path| ("client_ca", path)));
    let tls_files: Vec<_> =
        tls_files.iter().map(|(name, path)| format!("{name} = '{}'\n", path.display())).collect();
    let settings = folder.join("broker.toml");
    fs::write(&settings, format!("{}{access}\n[tls]\n{}", listeners.concat(), tls_files.concat())).unwrap();
    let users: String = users.iter().map(|line| user_line(line)).collect();
    fs::write(folder.join("users"), users).unwrap();
    let mut command = broker(&["--config"]);
    command.arg(settings).arg("--data").arg(folder.join("data"));
    command
}

/// The line that says that a broker is ready.
pub(crate) fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.as_mut().unwrap().by_ref());
    stdout.read_line(&mut line).unwrap();
    line
}

/// SIGTERM.
pub(crate) fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}
