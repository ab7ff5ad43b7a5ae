//! The broker as a process: started, watched, and ended by its pid.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, Hello};

/// In which the kernel tells CPU time, whatever its own clock (proc(5)).
const TICKS_PER_SECOND: u64 = 100;

/// A running broker; killed with the test.
pub(crate) struct Broker {
    child: Child,
    mqtt: SocketAddr,
    http: SocketAddr,
}

impl Broker {
    /// One that lets everybody do everything, with its state in `data`.
    pub(crate) fn start(data: &Path) -> Self {
        Self::spawn(&mut open_broker(data))
    }

    /// Starts `command`, which is or becomes a broker, and waits until it is ready.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let line = first_line(&mut child);
        let address = |name: &str| {
            let word = line.split_whitespace().find_map(|word| word.strip_prefix(name));
            word.unwrap_or_else(|| panic!("no {name} in `{line}`")).parse().unwrap()
        };
        Self { mqtt: address("mqtt="), http: address("http="), child }
    }

    pub(crate) fn mqtt(&self) -> SocketAddr {
        self.mqtt
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.http
    }

    /// A client that is connected.
    pub(crate) fn client(&self, id: &str) -> Client {
        Client::connect(self.mqtt, &Hello::new(id)).unwrap()
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
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() / 1024
    }

    /// How long it has used a CPU so far.
    pub(crate) fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
        Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
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
