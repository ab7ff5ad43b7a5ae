//! Mosquitto, configured as `packaging/mosquitto` says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;

use super::{configured, run, wait_let_in};
use crate::{net::free_port, process::Process};

/// Where Debian puts it.
pub(super) const PROGRAM: &str = "/usr/sbin/mosquitto";
const CONFIG: &str = include_str!("../../../packaging/mosquitto/deploybus.conf");
const ACL: &str = include_str!("../../../packaging/mosquitto/deploybus.acl");

/// A running Mosquitto.
#[derive(Debug)]
pub struct Mosquitto {
    process: Process,
    passwords: PathBuf,
    port: u16,
}

impl Mosquitto {
    /// Starts one with its files in `folder`, which lets nobody in yet.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(folder: &Path) -> Result<Self> {
        let folder = folder.join("mosquitto");
        fs::create_dir(&folder)?;
        let (passwords, acl, port) = (folder.join("passwords"), folder.join("acl"), free_port()?);
        fs::write(&passwords, "")?;
        fs::write(&acl, ACL)?;
        let config = configured(
            CONFIG,
            &[
                ("listener 1883", format!("listener {port} 127.0.0.1")),
                ("/etc/mosquitto/deploybus.passwords", passwords.display().to_string()),
                ("/etc/mosquitto/deploybus.acl", acl.display().to_string()),
            ],
        )?;
        let own = format!("user root\npersistence_location {}/\n", folder.display());
        fs::write(folder.join("mosquitto.conf"), config + &own)?;
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(folder.join("mosquitto.conf"));
        Ok(Self { process: run(command, &folder.join("log"))?, passwords, port })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Lets a user in from now on.
    ///
    /// # Errors
    /// When it does not take it.
    pub fn let_in(&self, user: &str, password: &str) -> Result<()> {
        let made =
            Command::new("mosquitto_passwd").arg("-b").arg(&self.passwords).args([user, password]).output();
        let made = made.context("cannot run mosquitto_passwd")?;
        ensure!(made.status.success(), "mosquitto_passwd: {}", String::from_utf8_lossy(&made.stderr));
        self.process.signal(Signal::HUP)?;
        wait_let_in(self.port, user, password)
    }
}
