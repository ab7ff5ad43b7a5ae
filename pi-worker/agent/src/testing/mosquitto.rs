//! A real broker for tests, where one is installed.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Where Debian puts it.
const PROGRAM: &str = "/usr/sbin/mosquitto";

/// A mosquitto on a port of its own; it ends when it is dropped.
pub(crate) struct Mosquitto {
    _folder: TempDir,
    process: Child,
    port: u16,
}

impl Mosquitto {
    /// None where there is no such program.
    pub(crate) fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            println!("skipped: {PROGRAM} is not installed");
            return None;
        }
        (0..10).find_map(|_| Self::try_start()).or_else(|| panic!("no port was free for mosquitto"))
    }

    pub(crate) fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    fn try_start() -> Option<Self> {
        let folder = TempDir::new().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = folder.path().join("mosquitto.conf");
        fs::write(&config, format!("listener {port} 127.0.0.1\nuser root\nallow_anonymous true\n")).unwrap();
        let mut command = Command::new(PROGRAM);
        let process =
            command.arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut broker = Self { _folder: folder, process, port };
        let started = Instant::now();
        while broker.process.try_wait().unwrap().is_none() {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(broker);
            }
            assert!(started.elapsed() < Duration::from_secs(10), "mosquitto does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        // It ended: somebody else has taken the port.
        None
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
