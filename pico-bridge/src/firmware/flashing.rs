//! Bringing firmware to a chip: into BOOTSEL, onto the flash, and out of it. Cut anywhere, it is begun anew: by whoever did it, when
//! the chip is back, or by the next bridge, for the Pi has written down what the chip waits for.

use std::{sync::Arc, time::Duration};

use machine::Fault;
use schemas::reason::Reason;
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep},
};
use tracing::{info, warn};
use uf2::{Chip, Firmware};

use super::keep::{Image, Keep, Known, Stage, UnderWay};
use crate::{
    bootsel,
    device::{Claim, Device},
    fault,
    flash::{FlashError, Picoboot},
    port::PortError,
    repl::ReplError,
};

/// How often the chip is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A chip that was asked into BOOTSEL is there within that time.
const BOOTSEL_WITHIN: Duration = Duration::from_secs(5);
/// A chip that is in neither mode for so long was unplugged. An emulated one takes 12 s on a busy machine.
const GONE_AFTER: Duration = Duration::from_secs(30);
/// One chip at a time: those on one hub share what it carries.
static TURN: Semaphore = Semaphore::const_new(1);
/// What is cut again and again is begun anew after pauses that are doubled so often: 26 s then.
const MOST_DOUBLED: u32 = 7;
/// So often a Pico is asked into BOOTSEL.
const MOST_ASKED: u32 = 3;

/// What is brought to one Pico.
#[derive(Debug)]
pub(crate) struct Flashing {
    device: Arc<Device>,
    keep: Keep,
}

impl Flashing {
    pub(crate) fn new(device: Arc<Device>, keep: Keep) -> Self {
        Self { device, keep }
    }

    /// Brings the firmware to the chip, which boots it then. It takes as long as it takes: a chip that is away is waited for.
    ///
    /// # Errors
    /// When the chip cannot be brought into BOOTSEL, or does not take it.
    pub(crate) async fn bring(&self, image: &Image, before: Image) -> Result<(), Fault> {
        let firmware = self.keep.firmware(image)?;
        let mut known = self.keep.load();
        let is_silent = known.under_way.as_ref().is_some_and(|on_way| on_way.stage == Stage::Flashed);
        let is_known = known.under_way.as_ref().is_some_and(|on_way| on_way.image == *image);
        if !is_known || is_silent {
            // Half of something is on the chip until another is there as a whole.
            let is_half = known.under_way.as_ref().is_some_and(|on_way| on_way.stage == Stage::Begun);
            let stage = if is_half { Stage::Begun } else { Stage::Wanted };
            known.under_way = Some(UnderWay { image: image.clone(), before, stage });
            self.keep.store(&known)?;
        }
        let mut claim = self.device.hold().await;
        let mut cuts = 0;
        loop {
            let chip = self.to_bootsel(&mut claim, &mut known, is_silent).await?;
            if chip != firmware.chip() {
                let text = format!("it is for an {}, and this is an {chip}", firmware.chip());
                return Err(fault::permanent(Reason::BadFirmware, text));
            }
            // Nobody closes it.
            let _turn = TURN.acquire().await;
            if self.in_bootsel(&known) != Some(chip) {
                continue;
            }
            let began = Instant::now();
            match self.flash(&firmware, &mut known).await? {
                Ok(()) => {
                    let took_ms = began.elapsed().as_millis();
                    info!(
                        serial = known.serial,
                        bytes = firmware.image().len(),
                        took_ms,
                        "Firmware is on the chip"
                    );
                    self.leaves_bootsel(&known).await;
                    return Ok(());
                }
                Err(error) if matches!(error, FlashError::Gone { .. }) => {
                    info!(
                        serial = known.serial,
                        "Chip is away in the middle of its firmware: {:#}",
                        anyhow::Error::from(error)
                    );
                    sleep(LOOK_EVERY * 2_u32.pow(cuts)).await;
                    cuts = (cuts + 1).min(MOST_DOUBLED);
                }
                Err(error) => return Err(fault::permanent(Reason::DeviceFault, error.to_string())),
            }
        }
    }

    /// Goes on with what a chip in BOOTSEL waits for; whether there was something.
    ///
    /// # Errors
    /// As of [`Flashing::bring`].
    pub(crate) async fn resume(&self) -> Result<bool, Fault> {
        let mut known = self.keep.load();
        let Some(UnderWay { image, before, stage }) = known.under_way.clone() else { return Ok(false) };
        if bootsel::at(self.device.ports(), &known.usb_path).is_none() {
            return Ok(false);
        }
        let to = match stage {
            Stage::Wanted | Stage::Begun if self.keep.firmware(&image).is_ok() => image,
            // Its file is damaged on the Pi's disk, and half of it may be on the chip.
            Stage::Wanted | Stage::Begun => before.clone(),
            // It was flashed as a whole, and here the chip is again: it did not come up, or a person holds the button.
            Stage::Flashed => {
                if let Image::Release { tree, .. } = image {
                    known.bad = Some(tree);
                    self.keep.store(&known)?;
                }
                before.clone()
            }
        };
        info!(serial = known.serial, usb = known.usb_path, image = ?to, "Chip in BOOTSEL gets the firmware that it waits for");
        self.bring(&to, before).await.map(|()| true)
    }

    /// Says that somebody has to hold the button, where the chip waits for that; whether it does.
    pub(crate) fn remind(&self) -> bool {
        let known = self.keep.load();
        let waits = known.under_way.as_ref().is_some_and(|on_way| on_way.stage != Stage::Begun);
        if waits {
            say_button(&known);
        }
        waits
    }

    /// The chip in BOOTSEL at its port; one that is there while ours runs elsewhere is another.
    fn in_bootsel(&self, known: &Known) -> Option<Chip> {
        let ports = self.device.ports();
        let runs = ports.find(self.device.serial()).is_some();
        bootsel::at(ports, &known.usb_path).filter(|_| !runs)
    }

    /// It boots in a moment: until then it is in BOOTSEL, and not again.
    async fn leaves_bootsel(&self, known: &Known) {
        let until = Instant::now() + BOOTSEL_WITHIN;
        while bootsel::at(self.device.ports(), &known.usb_path).is_some() && Instant::now() < until {
            sleep(LOOK_EVERY).await;
        }
    }

    /// Waits until the chip is in BOOTSEL, and asks it into that when it runs.
    async fn to_bootsel(
        &self,
        claim: &mut Claim<'_>,
        known: &mut Known,
        is_silent: bool,
    ) -> Result<Chip, Fault> {
        let ports = self.device.ports();
        let (mut asked, mut asked_at, mut seen_at) = (0, None::<Instant>, Instant::now());
        let mut is_said = false;
        loop {
            if let Some(chip) = self.in_bootsel(known) {
                return Ok(chip);
            }
            let is_time = asked_at.is_none_or(|at| at.elapsed() > BOOTSEL_WITHIN);
            if let Some(plugged) = ports.find(self.device.serial()) {
                seen_at = Instant::now();
                known.usb_path = plugged.usb_path;
                self.keep.store(known)?;
                if is_time && asked == MOST_ASKED {
                    return Err(needs_button("it was asked into BOOTSEL and came back as it was"));
                }
                if is_time {
                    (asked, asked_at) = (asked + 1, Some(Instant::now()));
                    ask_into_bootsel(claim).await?;
                }
            } else if is_silent && !is_said {
                is_said = true;
                say_button(known);
            } else if !is_silent && seen_at.elapsed() > GONE_AFTER {
                // Its node ends, and with it this.
                self.device.set_flashing(false);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// One go at it. It is written down that the chip holds nothing whole before the first sector is erased, and that it does before
    /// the chip boots.
    async fn flash(&self, firmware: &Firmware, known: &mut Known) -> Result<Result<(), FlashError>, Fault> {
        let opened = match bootsel::open(self.device.ports(), &known.usb_path).await {
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
                let text = "may not use the chip's USB interface: install the rules of packaging/udev, then plug the Pico in again";
                return Err(fault::permanent(Reason::DeviceFault, text));
            }
            Err(source) => Err(FlashError::Gone { doing: "open the boot ROM", source }),
            Ok(rom) => Picoboot::open(rom).await,
        };
        let mut chip = match opened {
            Ok(chip) => chip,
            Err(error) => return Ok(Err(error)),
        };
        let needs_original = known.under_way.as_ref().is_some_and(|on_way| on_way.before == Image::Original)
            && !self.keep.has_original();
        if needs_original {
            match chip.image(firmware.image().len().next_multiple_of(uf2::SECTOR_BYTES)).await {
                // Without a boot stage there is nothing to go back to.
                Ok(image) => {
                    if let Ok(original) = Firmware::of_image(firmware.chip(), image) {
                        self.keep.keep_original(&original)?;
                    }
                }
                Err(error) => return Ok(Err(error)),
            }
        }
        known.on_chip = None;
        known.at(Stage::Begun);
        self.keep.store(known)?;
        if let Err(error) = chip.bring(firmware).await {
            return Ok(Err(error));
        }
        known.on_chip = known.under_way.as_ref().map(|on_way| on_way.image.clone());
        known.at(Stage::Flashed);
        self.keep.store(known)?;
        match chip.reboot(firmware.chip()).await {
            // It boots before it has answered, or it was cut and boots when it has power: what it holds is whole.
            Err(FlashError::Gone { .. }) => Ok(Ok(())),
            ended => Ok(ended),
        }
    }
}

async fn ask_into_bootsel(claim: &mut Claim<'_>) -> Result<(), Fault> {
    match claim.bootloader().await {
        Ok(()) => Ok(()),
        Err(error @ (ReplError::Failed(_) | ReplError::Unsupported)) => Err(needs_button(&error.to_string())),
        Err(error @ ReplError::Port(PortError::Busy(_))) => {
            Err(fault::of("bring the Pico into BOOTSEL", &error))
        }
        // It may be booting, or another program may have its port: it is asked again.
        Err(error) => {
            info!(%error, "Pico does not answer, and is asked into BOOTSEL again");
            Ok(())
        }
    }
}

fn say_button(known: &Known) {
    let (reason, hint) = (Reason::NeedsButton, Reason::NeedsButton.advice());
    warn!(serial = known.serial, %reason, usb = known.usb_path, hint, "Pico does not come up with its firmware");
}

/// What a person has to do.
pub(super) fn needs_button(why: &str) -> Fault {
    fault::permanent(Reason::NeedsButton, format!("cannot bring the Pico into BOOTSEL: {why}"))
}
