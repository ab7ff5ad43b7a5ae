//! What the node's hardware and kernel say about themselves.

mod parse;

use std::{fs, path::Path};

use crate::installer::EngineDisk;

/// The hardware; read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hardware {
    /// As in `Raspberry Pi 4 Model B Rev 1.4`.
    pub(crate) model: String,
    /// Serial number.
    pub(crate) serial: String,
}

impl Default for Hardware {
    fn default() -> Self {
        Self { model: "unknown".into(), serial: "unknown".into() }
    }
}

/// How the node is now.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Facts {
    /// Since it booted.
    pub(crate) uptime_s: u64,
    /// Free on the file system of the data folder, for those without privileges.
    pub(crate) disk_free_bytes: u64,
    /// Of the processor, where there is a sensor.
    pub(crate) temperature_c: Option<f64>,
    /// Available memory.
    pub(crate) memory_free_bytes: u64,
    /// Of the engine that runs containers, where there is one.
    pub(crate) engine: Option<EngineDisk>,
}

/// The kernel's id of this boot, or empty: another one says that the power was off in between.
pub fn boot_id() -> String {
    text("/proc/sys/kernel/random/boot_id").trim().to_owned()
}

/// Reads what the firmware says: the device tree on a Pi, DMI on a PC.
pub(crate) fn hardware() -> Hardware {
    let first = |paths: [&str; 2]| {
        let name = paths.iter().map(|path| parse::name(&text(path))).find(|name| !name.is_empty());
        name.unwrap_or_else(|| "unknown".into())
    };
    Hardware {
        model: first(["/proc/device-tree/model", "/sys/class/dmi/id/product_name"]),
        serial: first(["/proc/device-tree/serial-number", "/sys/class/dmi/id/product_serial"]),
    }
}

/// Reads how the node is now; `data` is its data folder.
pub(crate) fn read(data: &Path) -> Facts {
    Facts {
        uptime_s: parse::uptime(&text("/proc/uptime")).unwrap_or(0),
        disk_free_bytes: free_bytes(data).unwrap_or(0),
        temperature_c: temperature_c(Path::new("/")),
        memory_free_bytes: parse::memory_available(&text("/proc/meminfo")).unwrap_or(0),
        engine: None,
    }
}

/// Temperature of the processor, where there is a sensor below `root`.
pub(crate) fn temperature_c(root: &Path) -> Option<f64> {
    parse::temperature(&text(root.join("sys/class/thermal/thermal_zone0/temp")))
}

/// Free bytes of the file system on which `path` lies, for those without privileges.
pub(crate) fn free_bytes(path: &Path) -> std::io::Result<u64> {
    let found = rustix::fs::statvfs(path)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The file's text; empty where there is none, for then the node has no such thing.
fn text(path: impl AsRef<Path>) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_facts() {
        let facts = read(Path::new("/"));
        assert!(facts.uptime_s > 0 && facts.disk_free_bytes > 0 && facts.memory_free_bytes > 0, "{facts:?}");
        assert_eq!(boot_id().len(), 36);
        assert!(!hardware().model.is_empty());
    }
}
