//! The broker as a process: started, watched, and ended by its pid.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::client::{Client, Hello};

/// A running broker; killed with the test.
pub(crate) struct Broker {
    child: Child,
    mqtt: SocketAddr,
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
        let word = line.split_whitespace().find_map(|word| word.strip_prefix("mqtt="));
        Self { mqtt: word.unwrap().parse().unwrap(), child }
    }

    pub(crate) fn mqtt(&self) -> SocketAddr {
        self.mqtt
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
