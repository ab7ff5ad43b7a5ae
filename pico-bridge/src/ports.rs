//! Which Picos are plugged in, and where. A Pico is known by its USB serial number, never by the number of its port.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Raspberry Pi, as a USB vendor.
pub(crate) const VENDOR: &str = "2e8a";
/// MicroPython on a Pico; other boards of other makers may be added by people with `--ports`.
const MICROPYTHON: &str = "0005";
/// Where Linux lists USB devices.
const SYSFS: &str = "/sys/bus/usb/devices";

/// Where Picos are looked for.
#[derive(Debug, Clone)]
pub(crate) enum Ports {
    /// Among the USB devices below this folder of sysfs.
    Usb(PathBuf),
    /// In a folder of links to ports, named by the serial numbers.
    Folder(PathBuf),
}

/// A Pico that is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Plugged {
    /// Its serial number: that of its flash.
    pub(crate) serial: String,
    /// The device file of its port.
    pub(crate) port: PathBuf,
    /// The USB port that it is plugged into, as in `1-1.4`: the same in BOOTSEL mode.
    pub(crate) usb_path: String,
}

impl Ports {
    /// Those of this machine, or those in the folder.
    pub(crate) fn new(folder: Option<&Path>) -> Self {
        folder.map_or_else(|| Self::Usb(SYSFS.into()), |folder| Self::Folder(folder.to_owned()))
    }

    /// Every Pico that is there, sorted.
    pub(crate) fn list(&self) -> Vec<Plugged> {
        let folder = match self {
            Self::Usb(folder) | Self::Folder(folder) => folder,
        };
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut found: Vec<_> = match self {
            Self::Usb(_) => entries.filter_map(|entry| usb(&entry.path())).collect(),
            Self::Folder(_) => entries.filter_map(|entry| link(&entry.path())).collect(),
        };
        found.sort();
        found
    }

    /// Where the Pico with this serial number is now.
    pub(crate) fn find(&self, serial: &str) -> Option<Plugged> {
        self.list().into_iter().find(|plugged| plugged.serial == serial)
    }
}

fn link(path: &Path) -> Option<Plugged> {
    if !path.is_symlink() {
        return None;
    }
    let serial = path.file_name()?.to_str()?.to_owned();
    // A link whose port is gone is a Pico that was unplugged.
    let port = fs::canonicalize(path).ok()?;
    Some(Plugged { usb_path: serial.clone(), serial, port })
}

fn usb(path: &Path) -> Option<Plugged> {
    let text = |name: &str| fs::read_to_string(path.join(name)).ok().map(|text| text.trim().to_owned());
    if text("idVendor")? != VENDOR || text("idProduct")? != MICROPYTHON {
        return None;
    }
    let usb_path = path.file_name()?.to_str()?.to_owned();
    // Each interface is a folder below; that of the port has a folder `tty` with its name.
    let tty = fs::read_dir(path).ok()?.flatten().find_map(|interface| {
        let names = fs::read_dir(interface.path().join("tty")).ok()?;
        names.flatten().next()?.file_name().into_string().ok()
    })?;
    Some(Plugged { serial: text("serial")?, port: Path::new("/dev").join(tty), usb_path })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pico_is_found_by_its_serial_number_among_other_devices() {
        let sysfs = tempfile::tempdir().unwrap();
        device(sysfs.path(), "1-1.4", "2e8a", "0005", "e6614103e7452b2f", "ttyACM3");
        device(sysfs.path(), "1-1.2", "2e8a", "0003", "E0C91200A4A1", "none");
        device(sysfs.path(), "1-1.1", "0403", "6001", "FT1", "ttyUSB0");
        let ports = Ports::Usb(sysfs.path().to_owned());
        let found = ports.list();
        assert_eq!(found, [ports.find("e6614103e7452b2f").unwrap()]);
        assert_eq!(
            (found[0].port.as_path(), found[0].usb_path.as_str()),
            (Path::new("/dev/ttyACM3"), "1-1.4")
        );
        assert_eq!(ports.find("E0C91200A4A1"), None, "in BOOTSEL it has no port");
    }

    #[test]
    fn a_link_without_a_port_is_a_pico_that_was_unplugged() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/null", folder.path().join("one")).unwrap();
        std::os::unix::fs::symlink("/dev/no-such-port", folder.path().join("two")).unwrap();
        let serials: Vec<_> =
            Ports::new(Some(folder.path())).list().into_iter().map(|found| found.serial).collect();
        assert_eq!(serials, ["one"]);
    }

    fn device(sysfs: &Path, path: &str, vendor: &str, product: &str, serial: &str, tty: &str) {
        let folder = sysfs.join(path);
        fs::create_dir_all(folder.join(format!("{path}:1.0/tty/{tty}"))).unwrap();
        if tty == "none" {
            fs::remove_dir_all(folder.join(format!("{path}:1.0"))).unwrap();
        }
        for (name, text) in [("idVendor", vendor), ("idProduct", product), ("serial", serial)] {
            fs::write(folder.join(name), format!("{text}\n")).unwrap();
        }
    }
}
