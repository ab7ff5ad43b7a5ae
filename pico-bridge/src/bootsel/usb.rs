//! A boot ROM on USB: the interface of PICOBOOT, beside that of its drive. Linux has no driver for it, so none is in the way.

use std::{ffi::OsStr, io};

use nusb::{
    Endpoint, Interface,
    transfer::{Buffer, Bulk, ControlIn, ControlOut, ControlType, Direction, In, Out, Recipient},
};

use super::TRANSFER_PATIENCE;
use crate::picoboot::{GET_STATUS, RESET, STATUS_BYTES};

/// The class of an interface that only its maker knows.
const VENDOR_SPECIFIC: u8 = 0xff;

/// The interface of one chip.
#[derive(Debug)]
pub(crate) struct UsbRom {
    interface: Interface,
    commands: Endpoint<Bulk, Out>,
    answers: Endpoint<Bulk, In>,
}

impl UsbRom {
    /// The interface of the chip at this port of USB.
    pub(super) async fn open(usb_path: &str) -> io::Result<Self> {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let is_there =
            |device: &nusb::DeviceInfo| device.sysfs_path().file_name() == Some(OsStr::new(usb_path));
        let device = nusb::list_devices().await?.find(is_there).ok_or_else(gone)?.open().await?;
        let configuration = device.active_configuration().map_err(|_| gone())?;
        let picoboot = configuration
            .interface_alt_settings()
            .find(|interface| interface.class() == VENDOR_SPECIFIC && interface.num_endpoints() == 2)
            .ok_or_else(gone)?;
        let address = |wanted: Direction| {
            picoboot
                .endpoints()
                .find(|endpoint| endpoint.direction() == wanted)
                .map(|endpoint| endpoint.address())
        };
        let (out, into) =
            (address(Direction::Out).ok_or_else(gone)?, address(Direction::In).ok_or_else(gone)?);
        let interface = device.claim_interface(picoboot.interface_number()).await?;
        let (commands, answers) = (interface.endpoint(out)?, interface.endpoint(into)?);
        Ok(Self { interface, commands, answers })
    }

    /// Ends whatever was under way, also where the host before has died.
    pub(super) async fn reset(&mut self) -> io::Result<()> {
        self.commands.clear_halt().await?;
        self.answers.clear_halt().await?;
        let request = ControlOut {
            control_type: ControlType::Vendor,
            recipient: Recipient::Interface,
            request: RESET,
            value: 0,
            index: u16::from(self.interface.interface_number()),
            data: &[],
        };
        Ok(self.interface.control_out(request, TRANSFER_PATIENCE).await?)
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.commands.submit(Buffer::from(bytes.to_vec()));
        Ok(self.commands.next_complete().await.status?)
    }

    pub(super) async fn receive(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let packet = self.answers.max_packet_size().max(1);
        self.answers.submit(Buffer::new(length.next_multiple_of(packet).max(packet)));
        let done = self.answers.next_complete().await;
        done.status?;
        Ok(done.buffer[..done.actual_len].to_vec())
    }

    pub(super) async fn status(&mut self) -> io::Result<Vec<u8>> {
        let request = ControlIn {
            control_type: ControlType::Vendor,
            recipient: Recipient::Interface,
            request: GET_STATUS,
            value: 0,
            index: u16::from(self.interface.interface_number()),
            length: STATUS_BYTES as u16,
        };
        Ok(self.interface.control_in(request, TRANSFER_PATIENCE).await?)
    }
}
