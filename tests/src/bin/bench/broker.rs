//! The brokers that are measured, each as durable as it can be set to.

use std::{fs, path::Path, process::Command, time::Duration};

use anyhow::Result;
use e2e::{Process, binary, free_port, wait_until};
use tempfile::TempDir;

use crate::figure::Samples;

const MOSQUITTO: &str = "/usr/sbin/mosquitto";

/// Whose broker it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Brand {
    /// Ours: a publish is acknowledged when it is on the disk.
    Deploybus,
    /// Debian's, which saves its whole database on every change.
    Mosquitto,
}

impl Brand {
    /// Ours, and Mosquitto where it is installed.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Deploybus];
        if Path::new(MOSQUITTO).exists() {
            all.push(Self::Mosquitto);
        }
        all
    }

    /// As figures call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deploybus => "deploybus",
            Self::Mosquitto => "mosquitto",
        }
    }
}

/// A running broker that lets everybody in.
#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) brand: Brand,
    pub(crate) port: u16,
    /// Where it speaks TLS, with the certificate that is in its folder.
    pub(crate) tls_port: u16,
    /// Where ours has its store.
    pub(crate) http_port: u16,
    process: Process,
    _folder: TempDir,
}

impl Broker {
    /// All of them, fresh.
    pub(crate) fn start_all() -> Result<Vec<Self>> {
        Brand::all().into_iter().map(|brand| Self::start(brand, None)).collect()
    }

    /// One, with this certificate and key, both PEM.
    pub(crate) fn start(brand: Brand, tls: Option<(&str, &str)>) -> Result<Self> {
        let folder = TempDir::new()?;
        if let Some((certificate, key)) = tls {
            fs::write(folder.path().join("cert.pem"), certificate)?;
            fs::write(folder.path().join("key.pem"), key)?;
        }
        Self::start_in(folder, brand, tls.is_some(), "")
    }

    /// Ours, which believes by this root document, with more settings.
    pub(crate) fn start_for(root: &[u8], settings: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        fs::write(folder.path().join("root.cbor"), root)?;
        Self::start_in(folder, Brand::Deploybus, false, settings)
    }

    fn start_in(folder: TempDir, brand: Brand, tls: bool, settings: &str) -> Result<Self> {
        let (port, tls_port, http_port) = (free_port()?, free_port()?, free_port()?);
        let with_tls = tls.then_some(tls_port);
        let (command, ready) = match brand {
            Brand::Deploybus => {
                let plain = format!("mqtt = '127.0.0.1:{port}'\nhttp = '127.0.0.1:{http_port}'\n");
                (deploybus(folder.path(), &plain, with_tls, settings)?, "broker ready")
            }
            Brand::Mosquitto => (mosquitto(folder.path(), port, with_tls)?, ""),
        };
        let process = Process::start(command, &folder.path().join("log"), ready)?;
        wait_until(brand.name(), Duration::from_secs(10), || {
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        })?;
        Ok(Self { brand, port, tls_port, http_port, process, _folder: folder })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }
}

fn deploybus(folder: &Path, plain: &str, tls_port: Option<u16>, more: &str) -> Result<Command> {
    let tls = tls_port
        .map(|port| format!("mqtts = '127.0.0.1:{port}'\n[tls]\ncert = 'cert.pem'\nkey = 'key.pem'\n"));
    let settings = format!("open_loopback = true\n{plain}{more}{}", tls.unwrap_or_default());
    let file = folder.join("broker.toml");
    fs::write(&file, settings)?;
    let mut broker = Command::new(binary("broker")?);
    broker.arg("run").arg("--config").arg(file).arg("--data").arg(folder.join("data"));
    Ok(broker)
}

fn mosquitto(folder: &Path, port: u16, tls_port: Option<u16>) -> Result<Command> {
    let folder = folder.display();
    let tls = tls_port.map(|port| {
        format!("listener {port} 127.0.0.1\ncertfile {folder}/cert.pem\nkeyfile {folder}/key.pem\n")
    });
    let plain = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n\
         autosave_on_changes true\nautosave_interval 1\nmax_connections -1\nuser root\n"
    );
    let settings = plain + &tls.unwrap_or_default();
    let file = format!("{folder}/mosquitto.conf");
    fs::write(&file, settings)?;
    let mut mosquitto = Command::new(MOSQUITTO);
    mosquitto.arg("-c").arg(file);
    Ok(mosquitto)
}

/// Measures all in turn, so often.
pub(crate) fn rounds(
    brokers: &[Broker],
    count: usize,
    measure: impl Fn(&Broker) -> Result<Duration>,
) -> Result<Vec<(Brand, Samples)>> {
    let mut samples: Vec<_> = brokers.iter().map(|broker| (broker.brand, Samples::default())).collect();
    for _ in 0..count {
        for (broker, (_, samples)) in brokers.iter().zip(&mut samples) {
            samples.push_ms(measure(broker)?);
        }
    }
    Ok(samples)
}
