//! A serial port of Linux: raw, locked for as long as it is open, never blocking.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
    termios::ioctl_tiocexcl,
};
use serial2_tokio::{SerialPort, Settings};
use tokio::time::timeout;

/// A port that takes nothing for so long belongs to a device that hangs.
const WRITE_PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of one read.
const READ_BYTES: usize = 4096;

/// Why a port cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PortError {
    /// Somebody else has it.
    #[error("another program has the serial port {0}")]
    Busy(String),
    /// It is not there, or no longer.
    #[error("the serial port is gone")]
    Gone(#[source] io::Error),
}

/// An open port.
#[derive(Debug)]
pub(crate) struct Port {
    serial: SerialPort,
    /// The same port: what keeps others out, for as long as it is open.
    _lock: File,
}

impl Port {
    /// Opens the port for this process alone. DTR is on from then on: without it MicroPython holds each line back for half a
    /// second.
    ///
    /// # Errors
    /// When somebody else has it, or it is not there.
    pub(crate) fn open(path: &Path) -> Result<Self, PortError> {
        let busy = || PortError::Busy(path.display().to_string());
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let lock = match OpenOptions::new().read(true).write(true).custom_flags(flags).open(path) {
            // What TIOCEXCL of somebody else gives.
            Err(error) if error.raw_os_error() == Some(Errno::BUSY.raw_os_error()) => return Err(busy()),
            open => open.map_err(PortError::Gone)?,
        };
        // As pyserial does with `exclusive`, so that mpremote and Thonny are kept out, and keep us out.
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => return Err(busy()),
            locked => locked.map_err(|error| PortError::Gone(error.into()))?,
        }
        let serial = SerialPort::open(path, set_up).map_err(PortError::Gone)?;
        // From here on nobody opens it, but for root.
        ioctl_tiocexcl(&lock).map_err(|error| PortError::Gone(error.into()))?;
        Ok(Self { serial, _lock: lock })
    }

    /// Waits for bytes.
    ///
    /// # Errors
    /// When the device is gone.
    pub(crate) async fn read(&self) -> Result<Vec<u8>, PortError> {
        let mut bytes = vec![0; READ_BYTES];
        match self.serial.read(&mut bytes).await.map_err(PortError::Gone)? {
            0 => Err(PortError::Gone(io::ErrorKind::UnexpectedEof.into())),
            len => {
                bytes.truncate(len);
                Ok(bytes)
            }
        }
    }

    /// Writes all of the bytes.
    ///
    /// # Errors
    /// When the device is gone, or takes nothing.
    pub(crate) async fn write(&self, bytes: &[u8]) -> Result<(), PortError> {
        let written = timeout(WRITE_PATIENCE, self.serial.write_all(bytes)).await;
        written.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map_err(PortError::Gone)
    }
}

/// No byte means anything to the terminal; the speed means nothing to USB.
fn set_up(mut settings: Settings) -> io::Result<Settings> {
    settings.set_raw();
    settings.set_baud_rate(115_200)?;
    Ok(settings)
}
