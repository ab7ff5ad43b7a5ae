//! What firmware means for the apps of the same Pico.

use std::sync::PoisonError;

use machine::{Fault, Slot};
use schemas::{id::AppId, reason::Reason, release::PartKind};
use tracing::info;

use super::PicoInstaller;
use crate::{
    device::Presence,
    fault,
    guard::{Guarded, Probed, Slots},
};

/// Whether it is firmware, and no app.
pub(super) fn is_firmware(slot: &Slot) -> bool {
    slot.part.kind == PartKind::Uf2
}

impl PicoInstaller {
    /// Judges firmware before the chip is touched.
    pub(super) fn admit_firmware(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        if self.guarded() == Guarded::Foreign {
            let text = "the Pico has a main.py of its own, which other firmware may wipe out with all files";
            return Err(fault::permanent(Reason::NotProvisioned, text));
        }
        if matches!(*self.device.presence().borrow(), Presence::Busy | Presence::LetGo) {
            let text = "another program has the Pico's port";
            return Err(Fault { transient: true, ..fault::permanent(Reason::DeviceBusy, text) });
        }
        if self.device.slots().trying.is_some() {
            let text = "an app is on trial on the Pico, which is waited for";
            return Err(Fault { transient: true, ..fault::permanent(Reason::DeviceBusy, text) });
        }
        self.firmware.admit(app, slot, &self.platform)
    }

    /// Brings firmware to the chip.
    pub(super) async fn switch_firmware(&self, app: &AppId, slot: Option<&Slot>) -> Result<(), Fault> {
        let before = self.device.slots();
        if self.firmware.switch(app, slot, &self.quarantine).await? && slot.is_none() {
            // Nothing is started after that.
            let probed = self.firmware.come_back().await?;
            self.go_on_with(&before, &probed).await?;
        }
        Ok(())
    }

    /// The app runs again under new firmware. Where that has formatted the flash, the guard and the app come back from the Pi.
    pub(super) async fn go_on_with(&self, before: &Slots, probed: &Probed) -> Result<(), Fault> {
        self.device.note_slots(probed.slots.clone());
        *self.guarded.lock().unwrap_or_else(PoisonError::into_inner) = probed.guarded();
        self.about.lock().unwrap_or_else(PoisonError::into_inner).agent = probed.agent();
        let lost = before.active().filter(|_| probed.slots.active().is_none());
        let apps = self.settings.apps().unwrap_or_default();
        if let Some(slot) = lost
            .and_then(|name| apps.iter().find_map(|app| self.shelf(app).find(name).map(|slot| (app, slot))))
        {
            let (app, slot) = slot;
            info!(%app, release = slot.version, "Flash was formatted: the app comes back from the Pi");
            self.go_back(Some((app, &slot))).await?;
        }
        let claim = self.claim().await?;
        claim.reset().await.map_err(|error| fault::of("start the Pico again", &error))
    }
}
