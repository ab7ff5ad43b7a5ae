//! Mosquitto, configured as `packaging/mosquitto` says: as the bus, or with a bridge to our own.

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
const BUS: &str = include_str!("../../../packaging/mosquitto/deploybus.conf");
const ADDON: &str = include_str!("../../../packaging/mosquitto/deploybus-addon.conf");
const ACL: &str = include_str!("../../../packaging/mosquitto/deploybus.acl");
const BRIDGE: &str = include_str!("../../../packaging/mosquitto/deploybus-bridge.conf");

/// A running Mosquitto.
#[derive(Debug)]
pub struct Mosquitto {
    process: Process,
    folder: PathBuf,
    port: u16,
}

impl Mosquitto {
    /// Starts one as the bus, with its files below `folder`, which lets nobody in yet.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start(folder: &Path) -> Result<Self> {
        Self::start_with(folder, |folder, port| {
            let listener = format!("listener {port} 127.0.0.1");
            let config = configured(BUS, &[("listener 1883", listener)])?;
            Ok(config.replace("/etc/mosquitto/", &format!("{}/", folder.display())))
        })
    }

    /// The same, as Home Assistant's add-on runs it: what is ours comes last, from a folder of its own. Passwords are asked of
    /// Home Assistant there; here they are in a file.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start_addon(folder: &Path) -> Result<Self> {
        Self::start_with(folder, |folder, port| {
            let share = folder.display();
            let ours = configured(ADDON, &[("/share/mosquitto/", format!("{share}/"))])?;
            fs::write(folder.join("share.conf"), ours)?;
            let listener = format!("persistence true\nmax_queued_messages 8192\nlistener {port} 127.0.0.1\n");
            let passwords = format!("allow_anonymous false\npassword_file {share}/deploybus.passwords\n");
            Ok(listener + &passwords + &format!("include_dir {share}\n"))
        })
    }

    /// One that belongs to somebody else, where everybody may do everything, with a bridge to the bus at `bus_port`.
    ///
    /// # Errors
    /// When it is not installed or does not start.
    pub fn start_bridge(folder: &Path, bus_port: u16, token: &str) -> Result<Self> {
        Self::start_with(folder, |_, port| {
            let bridge = [("BROKER:1883", format!("127.0.0.1:{bus_port}")), ("TOKEN", token.to_owned())];
            Ok(format!("listener {port} 127.0.0.1\nallow_anonymous true\n") + &configured(BRIDGE, &bridge)?)
        })
    }

    fn start_with(folder: &Path, config: impl FnOnce(&Path, u16) -> Result<String>) -> Result<Self> {
        let (folder, port) = (folder.join("mosquitto"), free_port()?);
        fs::create_dir(&folder)?;
        fs::write(folder.join("deploybus.passwords"), "")?;
        fs::write(folder.join("deploybus.acl"), ACL)?;
        let config = config(&folder, port)?;
        // Not `.conf`: the folder may be included.
        let main = folder.join("main");
        fs::write(&main, format!("user root\npersistence_location {}/\n{config}", folder.display()))?;
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(main);
        Ok(Self { process: run(command, &folder.join("log"))?, folder, port })
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
        let passwords = self.folder.join("deploybus.passwords");
        let made = Command::new("mosquitto_passwd").arg("-b").arg(passwords).args([user, password]).output();
        let made = made.context("cannot run mosquitto_passwd")?;
        ensure!(made.status.success(), "mosquitto_passwd: {}", String::from_utf8_lossy(&made.stderr));
        self.process.signal(Signal::HUP)?;
        wait_let_in(self.port, user, password)
    }
}
