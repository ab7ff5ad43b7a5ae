//! Chips in BOOTSEL, where their boot ROM takes firmware: which there are, by the port of USB that they are plugged into, and the
//! way to each. The same chip has the same port as a Pico that runs; its serial number is another one there.

mod simulated;
mod usb;

use std::{fs, io, path::Path, time::Duration};

use tokio::time::timeout;
use uf2::Chip;

use self::{simulated::SimulatedRom, usb::UsbRom};
use crate::{
    flash::UsbPipe,
    ports::{Ports, VENDOR},
};

/// The slowest transfer waits for a sector to be erased, 400 ms at worst (W25Q16JV datasheet 9.6).
const TRANSFER_PATIENCE: Duration = Duration::from_secs(10);
/// Where simulated chips are, in the folder of their ports.
const SIMULATED: &str = "bootsel";

/// The boot ROM of one chip.
#[derive(Debug)]
pub(crate) enum Rom {
    Usb(UsbRom),
    Simulated(SimulatedRom),
}

/// The chip that is in BOOTSEL at this port of USB.
pub(crate) fn at(ports: &Ports, usb_path: &str) -> Option<Chip> {
    match ports {
        Ports::Usb(folder) => chip(&folder.join(usb_path)),
        Ports::Folder(folder) => folder.join(SIMULATED).join(usb_path).exists().then_some(Chip::Rp2040),
    }
}

/// The way to the boot ROM of that chip.
///
/// # Errors
/// When it is gone, or may not be used.
pub(crate) async fn open(ports: &Ports, usb_path: &str) -> io::Result<Rom> {
    match ports {
        Ports::Usb(_) => UsbRom::open(usb_path).await.map(Rom::Usb),
        Ports::Folder(folder) => {
            SimulatedRom::open(&folder.join(SIMULATED).join(usb_path)).await.map(Rom::Simulated)
        }
    }
}

fn chip(device: &Path) -> Option<Chip> {
    let text = |name: &str| fs::read_to_string(device.join(name)).ok().map(|text| text.trim().to_owned());
    if text("idVendor")? != VENDOR {
        return None;
    }
    match text("idProduct")?.as_str() {
        "0003" => Some(Chip::Rp2040),
        "000f" => Some(Chip::Rp2350),
        _ => None,
    }
}

impl UsbPipe for Rom {
    async fn reset(&mut self) -> io::Result<()> {
        within(async {
            match self {
                Self::Usb(rom) => rom.reset().await,
                Self::Simulated(rom) => rom.reset().await,
            }
        })
        .await
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        within(async {
            match self {
                Self::Usb(rom) => rom.send(bytes).await,
                Self::Simulated(rom) => rom.send(bytes).await,
            }
        })
        .await
    }

    async fn receive(&mut self, length: usize) -> io::Result<Vec<u8>> {
        within(async {
            match self {
                Self::Usb(rom) => rom.receive(length).await,
                Self::Simulated(rom) => rom.receive(length).await,
            }
        })
        .await
    }

    async fn status(&mut self) -> io::Result<Vec<u8>> {
        within(async {
            match self {
                Self::Usb(rom) => rom.status().await,
                Self::Simulated(rom) => rom.status().await,
            }
        })
        .await
    }
}

async fn within<T>(transfer: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(TRANSFER_PATIENCE, transfer).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chip_in_bootsel_is_known_by_its_port_of_usb_and_by_its_product() {
        let sysfs = tempfile::tempdir().unwrap();
        for (path, vendor, product) in [
            ("1-1.1", "2e8a", "0003"),
            ("1-1.2", "2e8a", "000f"),
            ("1-1.3", "2e8a", "0005"),
            ("1-1.4", "0403", "0003"),
        ] {
            fs::create_dir(sysfs.path().join(path)).unwrap();
            fs::write(sysfs.path().join(path).join("idVendor"), format!("{vendor}\n")).unwrap();
            fs::write(sysfs.path().join(path).join("idProduct"), format!("{product}\n")).unwrap();
        }
        let ports = Ports::Usb(sysfs.path().to_owned());
        let found = ["1-1.1", "1-1.2", "1-1.3", "1-1.4", "1-1.5"].map(|path| at(&ports, path));
        assert_eq!(found, [Some(Chip::Rp2040), Some(Chip::Rp2350), None, None, None]);
    }
}
