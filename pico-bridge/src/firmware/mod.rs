//! The installer of firmware: what the machine's effects mean for a chip that has one slot for it. What ran before is kept on the Pi,
//! and flashed again when the new one does not prove itself.

pub(crate) mod flashing;
pub(crate) mod keep;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent::{Notice, Notices};
use machine::{Fault, Health, Slot};
use schemas::{id::AppId, reason::Reason};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};
use tracing::info;
use uf2::Firmware;

use self::{
    flashing::{Flashing, needs_button},
    keep::{Image, Keep, Known, Stage, UnderWay},
};
use crate::{
    bootsel,
    device::{Device, Presence},
    fault,
    guard::Probed,
    probe::probe,
    quarantine::Quarantine,
    repl::ReplError,
};

/// A Pico with new firmware is there within that time. It formats its files first, if their layout is another.
pub(crate) const UP_WITHIN: Duration = Duration::from_secs(15);
/// So often it is asked what it is: it may still be busy with that.
const MOST_ASKED: u32 = 5;
/// From one asking to the next.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Firmware that cannot be asked has left BOOTSEL for good when it is not back there after so long.
const LEFT_FOR: Duration = Duration::from_secs(3);

/// Installs the firmware of one Pico.
#[derive(Debug)]
pub(crate) struct FirmwareInstaller {
    device: Arc<Device>,
    keep: Keep,
    notices: Notices,
    /// What the chip answers that it is.
    says: Mutex<String>,
    can_be_asked: Mutex<bool>,
    watch: Mutex<Option<AbortHandle>>,
}

impl FirmwareInstaller {
    pub(crate) fn new(device: Arc<Device>, keep: Keep, notices: Notices, probed: &Probed) -> Self {
        Self {
            device,
            keep,
            notices,
            says: Mutex::new(probed.says.clone()),
            can_be_asked: Mutex::new(probed.bootsel),
            watch: Mutex::default(),
        }
    }

    /// The release whose firmware the chip runs: it was flashed from here, and the chip says that it is that.
    pub(crate) fn active(&self, app: &AppId) -> Option<Slot> {
        match self.on_chip()? {
            Image::Release { app: of, tree } if of == *app => self.keep.slot(app, tree),
            _ => None,
        }
    }

    /// Whether the app is firmware.
    pub(crate) fn has(&self, app: &AppId) -> bool {
        self.keep.has(app)
    }

    /// Judges what is to be flashed before the chip is touched.
    ///
    /// # Errors
    /// When it is no firmware for this chip, when nothing could replace it, or when somebody has to hold the button.
    pub(crate) fn admit(&self, app: &AppId, slot: &Slot, platform: &str) -> Result<(), Fault> {
        let image = image_of(app, slot);
        let firmware = self.keep.firmware(&image)?;
        let chip = firmware.chip();
        if chip.platform() != platform {
            let text = format!("it is for an {chip}, and the Pico is {platform}");
            return Err(fault::permanent(Reason::BadFirmware, text));
        }
        if firmware.micropython().is_none() && !slot.part.one_way {
            let text = "it has no MicroPython in it: it could not be asked back into BOOTSEL";
            return Err(fault::permanent(Reason::OneWay, text));
        }
        let other = match self.on_chip() {
            Some(Image::Release { app: of, .. }) if of != *app => Some(of),
            _ => None,
        };
        if let Some(other) = other {
            let text = format!("{other} is the firmware of this Pico");
            return Err(fault::permanent(Reason::OneAppOnly, text));
        }
        let mut known = self.keep.load();
        known.bad = None;
        let can_be_asked = *self.can_be_asked.lock().unwrap_or_else(PoisonError::into_inner);
        if can_be_asked {
            return self.keep.store(&known);
        }
        // From now on it is flashed when it is in BOOTSEL at its port.
        let before = self.before(&image, &known);
        known.under_way = Some(UnderWay { image, before, stage: Stage::Wanted });
        self.keep.store(&known)?;
        Err(Fault { transient: true, ..needs_button("its firmware has no machine.bootloader()") })
    }

    /// Brings the release's firmware to the chip, or what was there before the first one; whether there was anything to do.
    ///
    /// # Errors
    /// When the chip does not take it, or did not come up with it before.
    pub(crate) async fn switch(
        &self,
        app: &AppId,
        slot: Option<&Slot>,
        quarantine: &Quarantine,
    ) -> Result<bool, Fault> {
        let image = slot.map_or(Image::Original, |slot| image_of(app, slot));
        let known = self.keep.load();
        if !self.has_to_flash(&image, &known)? {
            return Ok(false);
        }
        let is_first = |on_way: &UnderWay| on_way.image != image;
        if let Some(slot) = slot.filter(|_| known.under_way.as_ref().is_none_or(is_first)) {
            quarantine.begin(slot.tree());
        }
        let goes_back = known.under_way.as_ref().is_some_and(|on_way| on_way.before == image);
        let before = if goes_back { image.clone() } else { self.before(&image, &known) };
        self.device.set_flashing(true);
        let flashing = Flashing::new(self.device.clone(), self.keep.clone());
        let done = tokio::select! {
            biased;
            // It is written down where to go on.
            () = self.device.over() => Err(fault::permanent(Reason::DeviceGone, "the node ends")),
            done = flashing.bring(&image, before) => done,
        };
        if done.is_err() {
            self.device.set_flashing(false);
        }
        done.map(|()| true)
    }

    fn has_to_flash(&self, image: &Image, known: &Known) -> Result<bool, Fault> {
        match image {
            _ if self.on_chip().as_ref() == Some(image) => Ok(false),
            // What was there before was flashed while no node was there to say so.
            Image::Release { tree, .. } if known.bad == Some(*tree) => {
                Err(silent("the Pico was found in BOOTSEL after that, and has what ran before"))
            }
            Image::Original if known.on_chip.is_none() && known.is_untouched() => Ok(false),
            Image::Original if !self.keep.has_original() => {
                let text = "there is nothing to go back to: what was on the chip before was no firmware that it boots";
                Err(fault::permanent(Reason::DeviceFault, text))
            }
            _ => Ok(true),
        }
    }

    /// Waits until the chip is up with what it had before the first release.
    ///
    /// # Errors
    /// When it does not come up.
    pub(crate) async fn come_back(&self) -> Result<Probed, Fault> {
        self.wait_up().await?;
        let probed = self.ask().await.map_err(|error| fault::of("ask the Pico what it is", &error))?;
        self.came_up(&probed)?;
        self.device.set_flashing(false);
        Ok(probed)
    }

    /// Waits until the chip is up with the release's firmware, and asks it what it is; nothing when that was not needed.
    ///
    /// # Errors
    /// When it does not come up, or says something else.
    pub(crate) async fn start(&self, app: &AppId, slot: &Slot) -> Result<Option<Probed>, Fault> {
        let firmware = self.keep.firmware(&image_of(app, slot))?;
        let Some(wanted) = firmware.micropython() else {
            return self.has_left_bootsel().await.map(|()| None);
        };
        let is_there = matches!(*self.device.presence().borrow(), Presence::There(_));
        if is_there && self.keep.load().is_untouched() && *self.says() == wanted {
            return Ok(None);
        }
        let probed = self.come_back().await?;
        if probed.says == wanted {
            info!(%app, release = slot.version, says = probed.says, "Pico is up with its firmware");
            return Ok(Some(probed));
        }
        Err(stale(wanted, &probed.says))
    }

    /// Watches whether the Pico is there.
    pub(crate) fn watch(&self, app: &AppId, slot: &Slot) {
        let (device, notices, app, tree) =
            (self.device.clone(), self.notices.clone(), app.clone(), slot.tree());
        let watching = tokio::spawn(async move {
            let (mut presence, mut told) = (device.presence(), None);
            loop {
                let is_there =
                    !matches!(*presence.borrow_and_update(), Presence::Away(_)) || device.is_flashing();
                let is_news = told != Some(is_there) && (is_there || !device.is_booting());
                if is_news {
                    told = Some(is_there);
                    let text = if is_there { "" } else { "the Pico is away" };
                    let health = Health { tree, ok: is_there, text: text.to_owned(), log_tail: Vec::new() };
                    // Nobody listens when the node ends.
                    let _ = notices.send((app.clone(), Notice::Health(health)));
                }
                if presence.changed().await.is_err() {
                    return;
                }
            }
        });
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = watch.replace(watching.abort_handle()) {
            before.abort();
        }
    }

    /// Whether the chip said, when it was asked last, that it is what the release's firmware says.
    ///
    /// # Errors
    /// When it did not.
    pub(crate) fn prove(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        let firmware = self.keep.firmware(&image_of(app, slot))?;
        let says = self.says();
        match firmware.micropython() {
            Some(wanted) if *says != wanted => Err(stale(wanted, &says)),
            // It was read back, and has left BOOTSEL: no more can be asked.
            _ => Ok(()),
        }
    }

    /// An order has ended: nothing waits for the button any more.
    pub(crate) fn rest(&self, app: &AppId) -> Result<(), Fault> {
        if !self.has(app) {
            return Ok(());
        }
        self.device.set_flashing(false);
        let mut known = self.keep.load();
        known.under_way = None;
        self.keep.store(&known)
    }

    /// What is on the chip, as was written down and as the chip itself says.
    fn on_chip(&self) -> Option<Image> {
        let image = self.keep.load().on_chip?;
        let firmware = self.keep.firmware(&image).ok()?;
        firmware.micropython().is_none_or(|wanted| *self.says() == wanted).then_some(image)
    }

    /// What is flashed when this one does not come up.
    fn before(&self, image: &Image, known: &Known) -> Image {
        let before = self.on_chip().unwrap_or(Image::Original);
        if before == Image::Original && *image != Image::Original && known.is_untouched() {
            // What was read off it once may be another one than it has now.
            self.keep.drop_original();
        }
        before
    }

    async fn wait_up(&self) -> Result<(), Fault> {
        // A port that somebody else has is no sign of anything.
        while self.device.wait_back(0, UP_WITHIN).await.is_err() {
            if matches!(*self.device.presence().borrow(), Presence::Away(_)) {
                return Err(silent(&format!("it is not back within {} s", UP_WITHIN.as_secs())));
            }
        }
        Ok(())
    }

    async fn ask(&self) -> Result<Probed, ReplError> {
        let mut asked = 0;
        loop {
            let asking = async {
                let claim = self.device.claim().await?;
                probe(&mut claim.enter().await?).await
            };
            match asking.await {
                Err(_) if asked < MOST_ASKED => {
                    asked += 1;
                    sleep(ASK_EVERY).await;
                }
                answer => return answer,
            }
        }
    }

    /// It is up, whatever it is.
    fn came_up(&self, probed: &Probed) -> Result<(), Fault> {
        self.says().clone_from(&probed.says);
        *self.can_be_asked.lock().unwrap_or_else(PoisonError::into_inner) = probed.bootsel;
        let mut known = self.keep.load();
        let flashed = known.under_way.as_ref().and_then(|on_way| self.keep.firmware(&on_way.image).ok());
        let is_it = |firmware: Firmware| firmware.micropython().is_none_or(|wanted| wanted == probed.says);
        // What says something else goes back to what is written down.
        if flashed.is_none_or(is_it) {
            known.came_up();
            self.keep.store(&known)?;
        }
        Ok(())
    }

    async fn has_left_bootsel(&self) -> Result<(), Fault> {
        let (ports, usb_path) = (self.device.ports(), self.keep.load().usb_path);
        let (began, mut left_at) = (Instant::now(), Instant::now());
        while left_at.elapsed() < LEFT_FOR {
            if bootsel::at(ports, &usb_path).is_some() {
                left_at = Instant::now();
            }
            if began.elapsed() > UP_WITHIN {
                return Err(silent("it is in BOOTSEL again"));
            }
            sleep(ASK_EVERY).await;
        }
        Ok(())
    }

    fn says(&self) -> MutexGuard<'_, String> {
        self.says.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for FirmwareInstaller {
    fn drop(&mut self) {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(AbortHandle::abort);
    }
}

fn image_of(app: &AppId, slot: &Slot) -> Image {
    Image::Release { app: app.clone(), tree: slot.tree() }
}

fn silent(how: &str) -> Fault {
    fault::permanent(Reason::FirmwareSilent, format!("the Pico did not come up with this firmware: {how}"))
}

fn stale(wanted: &str, says: &str) -> Fault {
    fault::permanent(Reason::StaleCode, format!("expected {wanted}, the Pico says {says}"))
}

#[cfg(test)]
mod tests;
