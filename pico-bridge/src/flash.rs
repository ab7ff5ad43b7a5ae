//! Firmware onto a chip that is in BOOTSEL, by PICOBOOT: in an order in which a cut leaves a chip that waits for the same again.

use std::{future::Future, io};

use uf2::{Chip, FLASH_BASE, Firmware, PAGE_BYTES, SECTOR_BYTES, Step};

use crate::picoboot::{Command, STATUS_BYTES, Status};

/// The chip has so long to answer the last command before it boots.
const REBOOT_MS: u32 = 500;

/// The way to a chip's boot ROM: the interface of PICOBOOT, on USB or in a test.
pub trait UsbPipe: Send {
    /// Ends whatever is under way: whoever spoke before may have died in the middle of a command.
    fn reset(&mut self) -> impl Future<Output = io::Result<()>> + Send;

    /// One transfer to the endpoint for commands; an empty one is an empty packet.
    fn send(&mut self, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;

    /// So many bytes from the endpoint for answers; an empty packet for none.
    fn receive(&mut self, length: usize) -> impl Future<Output = io::Result<Vec<u8>>> + Send;

    /// The status of the last command, by control transfer.
    fn status(&mut self) -> impl Future<Output = io::Result<Vec<u8>>> + Send;
}

/// Why firmware is not on the chip.
#[derive(Debug, thiserror::Error)]
pub enum FlashError {
    /// The chip is gone. It is in BOOTSEL when it is back, and the same can be begun anew.
    #[error("cannot {doing}: the chip does not answer")]
    Gone {
        /// What was tried.
        doing: &'static str,
        /// What USB said.
        source: io::Error,
    },
    /// The boot ROM does not do it.
    #[error("cannot {doing}: {why}")]
    Refused {
        /// What was tried.
        doing: &'static str,
        /// What it says.
        why: String,
    },
    /// What is in flash is not what was written.
    #[error("flash at {offset:#x} is not what was written")]
    Mismatch {
        /// From the beginning of flash.
        offset: usize,
    },
}

/// A conversation with a boot ROM.
#[derive(Debug)]
pub struct Picoboot<P> {
    pipe: P,
    token: u32,
}

/// Brings the firmware onto the chip and has it boot. When this is cut, or fails, the chip comes back in BOOTSEL.
///
/// # Errors
/// When the chip is gone, refuses, or does not hold what was written.
pub async fn flash<P: UsbPipe>(pipe: P, firmware: &Firmware) -> Result<(), FlashError> {
    let mut chip = Picoboot::open(pipe).await?;
    chip.bring(firmware).await?;
    chip.reboot(firmware.chip()).await
}

impl<P: UsbPipe> Picoboot<P> {
    /// Has the chip for itself: its drive is gone, and flash is no longer what it runs from.
    ///
    /// # Errors
    /// When the chip is gone or refuses.
    pub async fn open(pipe: P) -> Result<Self, FlashError> {
        let mut chip = Self { pipe, token: 0 };
        let reset = chip.pipe.reset().await;
        reset.map_err(|source| FlashError::Gone { doing: "begin with the boot ROM", source })?;
        chip.order("have the chip alone", Command::ExclusiveAndEject, &[]).await?;
        chip.order("prepare flash", Command::ExitXip, &[]).await?;
        Ok(chip)
    }

    /// Brings the firmware onto the chip, and reads all of it back. When this is cut, or fails, the chip comes back in BOOTSEL.
    ///
    /// # Errors
    /// When the chip is gone, refuses, or does not hold what was written.
    pub async fn bring(&mut self, firmware: &Firmware) -> Result<(), FlashError> {
        for step in firmware.steps() {
            self.carry_out(step).await?;
        }
        self.compare(0, firmware.image()).await
    }

    /// What is in flash: so many bytes from its beginning.
    ///
    /// # Errors
    /// When the chip is gone or refuses.
    pub async fn image(&mut self, bytes: usize) -> Result<Vec<u8>, FlashError> {
        let mut image = Vec::with_capacity(bytes);
        while image.len() < bytes {
            image.extend(self.read(image.len(), SECTOR_BYTES.min(bytes - image.len())).await?);
        }
        Ok(image)
    }

    /// Does one step, and reads back what it wrote.
    ///
    /// # Errors
    /// When the chip is gone, refuses, or does not hold what was written.
    pub async fn carry_out(&mut self, step: Step<'_>) -> Result<(), FlashError> {
        match step {
            Step::Erase(offset) => {
                let command = Command::Erase(address(offset), SECTOR_BYTES as u32);
                self.order("erase flash", command, &[]).await
            }
            Step::Write(offset, bytes) => {
                self.order("write flash", Command::Write(address(offset), bytes.len() as u32), bytes).await?;
                self.compare(offset, bytes).await
            }
        }
    }

    /// Reads flash back.
    ///
    /// # Errors
    /// When it does not hold these bytes.
    pub async fn compare(&mut self, offset: usize, bytes: &[u8]) -> Result<(), FlashError> {
        for (number, wanted) in bytes.chunks(SECTOR_BYTES).enumerate() {
            let offset = offset + number * SECTOR_BYTES;
            let found = self.read(offset, wanted.len()).await?;
            if let Some(page) =
                wanted.chunks(PAGE_BYTES).zip(found.chunks(PAGE_BYTES)).position(|(w, f)| w != f)
            {
                return Err(FlashError::Mismatch { offset: offset + page * PAGE_BYTES });
            }
        }
        Ok(())
    }

    /// Has the chip boot what is in flash.
    ///
    /// # Errors
    /// When the chip is gone or refuses.
    pub async fn reboot(mut self, chip: Chip) -> Result<(), FlashError> {
        let command = match chip {
            Chip::Rp2040 => Command::Reboot(REBOOT_MS),
            Chip::Rp2350 => Command::Reboot2(REBOOT_MS),
        };
        self.order("have the chip boot", command, &[]).await
    }

    async fn read(&mut self, offset: usize, length: usize) -> Result<Vec<u8>, FlashError> {
        const DOING: &str = "read flash";
        let gone = |source| FlashError::Gone { doing: DOING, source };
        self.say(DOING, Command::Read(address(offset), length as u32)).await?;
        let bytes = self.pipe.receive(length).await;
        let bytes = self.unless_refused(DOING, bytes).await?;
        if bytes.len() != length {
            return Err(FlashError::Mismatch { offset });
        }
        self.pipe.send(&[]).await.map_err(gone)?;
        Ok(bytes)
    }

    /// A command whose data, if any, go to the chip; it answers with an empty packet.
    async fn order(&mut self, doing: &'static str, command: Command, data: &[u8]) -> Result<(), FlashError> {
        self.say(doing, command).await?;
        if !data.is_empty() {
            let sent = self.pipe.send(data).await;
            self.unless_refused(doing, sent).await?;
        }
        let answered = self.pipe.receive(0).await;
        self.unless_refused(doing, answered).await.map(drop)
    }

    async fn say(&mut self, doing: &'static str, command: Command) -> Result<(), FlashError> {
        self.token += 1;
        let sent = self.pipe.send(&command.encode(self.token)).await;
        sent.map_err(|source| FlashError::Gone { doing, source })
    }

    /// An endpoint that stalls says that the command cannot be done; the status says why.
    async fn unless_refused<T>(&mut self, doing: &'static str, done: io::Result<T>) -> Result<T, FlashError> {
        let source = match done {
            Ok(done) => return Ok(done),
            Err(source) => source,
        };
        let status = match self.pipe.status().await {
            Ok(bytes) if bytes.len() == STATUS_BYTES => Status::parse(&bytes),
            _ => None,
        };
        match status {
            Some(status) if status.token == self.token && status.code != 0 => {
                Err(FlashError::Refused { doing, why: status.text() })
            }
            _ => Err(FlashError::Gone { doing, source }),
        }
    }
}

fn address(offset: usize) -> u32 {
    FLASH_BASE.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX))
}
