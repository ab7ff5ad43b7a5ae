//! A Pico for one who works on it: nobody else has its port for as long.

use std::{sync::atomic::Ordering, time::Duration};

use tokio::{sync, time::sleep};

use super::{BACK_WITHIN, Device, LOOK_EVERY};
use crate::{
    port::{Port, PortError},
    repl::{Repl, ReplError},
};

/// The Pico, for one who works on it.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    device: &'a Device,
    line: Option<sync::MutexGuard<'a, Option<Port>>>,
}

impl<'a> Claim<'a> {
    /// A claim that waits for its turn.
    pub(super) fn of(device: &'a Device) -> Self {
        Self { device, line: None }
    }

    /// Its turn has come.
    pub(super) fn take(&mut self, line: sync::MutexGuard<'a, Option<Port>>) {
        self.line = Some(line);
    }

    /// Interrupts what runs. The Pico is at its prompt from then on, until it is reset.
    ///
    /// # Errors
    /// When it is gone or does not answer.
    pub(crate) async fn enter(&self) -> Result<Repl<'_>, ReplError> {
        let port = self.line.as_ref().and_then(|line| line.as_ref());
        let port = port.ok_or_else(|| PortError::Gone(std::io::ErrorKind::NotFound.into()))?;
        self.device.is_halted.store(true, Ordering::Relaxed);
        Repl::enter(port).await
    }

    /// Has it boot, and waits until it is there again.
    ///
    /// # Errors
    /// When it does not come back.
    pub(crate) async fn reset(mut self) -> Result<(), ReplError> {
        let (device, opened) = (self.device, self.device.opened());
        device.is_booting.store(true, Ordering::Relaxed);
        if let Ok(repl) = self.enter().await {
            repl.reset().await;
        }
        if let Some(line) = &mut self.line {
            **line = None;
        }
        device.is_away();
        drop(self);
        // The old port may be there for a moment.
        sleep(LOOK_EVERY).await;
        device.wait_back(opened, BACK_WITHIN).await
    }

    /// Has it go into BOOTSEL, where it has no port.
    ///
    /// # Errors
    /// When it cannot, or cannot be asked.
    pub(crate) async fn bootloader(&mut self) -> Result<(), ReplError> {
        /// The answer to this is that the port is gone.
        const PATIENCE: Duration = Duration::from_secs(2);
        if let Some(line) = &mut self.line {
            self.device.open(line)?;
        }
        let asked = self.enter().await?.run("import machine\nmachine.bootloader()", PATIENCE).await;
        if let Some(line) = &mut self.line {
            **line = None;
        }
        self.device.is_away();
        self.device.is_halted.store(false, Ordering::Relaxed);
        match asked {
            Err(error @ (ReplError::Failed(_) | ReplError::Unsupported)) => Err(error),
            _ => Ok(()),
        }
    }

    /// The port is of no use any more: what is there is opened anew.
    pub(crate) fn give_up(mut self) {
        if let Some(line) = &mut self.line {
            **line = None;
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.line = None;
        self.device.wanted.send_modify(|wanted| *wanted = wanted.saturating_sub(1));
    }
}
