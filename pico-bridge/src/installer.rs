//! The installer of a Pico: MicroPython apps, which are slots there through its guard, and its firmware.

mod firmware;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent::{About, Cancel, Installer, Joint, Notices, Settings};
use machine::{Fault, Slot, Yield};
use schemas::{
    hold::AskKind,
    id::{AppId, Digest},
    manifest::Manifest,
    reason::Reason,
    release::PartKind,
};
use tokio::{task::spawn_blocking, time::Instant};
use tracing::{info, warn};

use self::firmware::is_firmware;
use crate::{
    device::{Claim, Device},
    fault,
    firmware::{FirmwareInstaller, keep::Keep},
    guard::{BACK, Guarded, Probed, quoted},
    listening::Listening,
    provision,
    quarantine::Quarantine,
    shelf::{Shelf, name_of},
    upload::{Upload, ask},
    watch::Watch,
};

/// The guard runs on whole seconds, and a trial of none would prove nothing.
const SHORTEST_TRIAL_SECS: u64 = 1;

/// How long people have a Pico's port for tools of their own.
const RELEASED_FOR: Duration = Duration::from_mins(10);

/// Installs and runs the app of one Pico.
#[derive(Debug)]
pub(crate) struct PicoInstaller {
    settings: Settings,
    device: Arc<Device>,
    about: Mutex<About>,
    platform: String,
    guarded: Arc<Mutex<Guarded>>,
    quarantine: Quarantine,
    watch: Watch,
    firmware: FirmwareInstaller,
    listening: Listening,
    /// What was brought to the Pico and is to be tried.
    staged: Mutex<Option<Digest>>,
    joint: Joint,
}

impl PicoInstaller {
    pub(crate) fn new(
        settings: Settings,
        device: Arc<Device>,
        probed: &Probed,
        about: About,
        joint: Joint,
        notices: Notices,
    ) -> Self {
        Self {
            quarantine: Quarantine::at(settings.data.join("failures.json")),
            watch: Watch::new(device.clone(), joint.clone(), notices.clone()),
            firmware: FirmwareInstaller::new(
                device.clone(),
                Keep::new(settings.clone()),
                notices.clone(),
                probed,
            ),
            listening: Listening::new(device.clone(), notices),
            platform: probed.platform().to_owned(),
            guarded: Arc::new(Mutex::new(probed.guarded())),
            staged: Mutex::default(),
            joint,
            settings,
            device,
            about: Mutex::new(about),
        }
    }

    fn shelf(&self, app: &AppId) -> Shelf {
        Shelf::new(self.settings.app_dirs(app))
    }

    /// The slot of the app that the Pico runs, or will at its next boot.
    fn on_device(&self, app: &AppId) -> Option<Slot> {
        self.device.slots().active().and_then(|name| self.shelf(app).find(name))
    }

    /// Refuses what would take the place of another app: a Pico has one.
    fn has_room_for(&self, app: &AppId) -> Result<(), Fault> {
        let slots = self.device.slots();
        let Some(runs) = slots.active() else { return Ok(()) };
        let apps = self.settings.apps().unwrap_or_default();
        match apps.iter().find(|other| *other != app && self.shelf(other).find(runs).is_some()) {
            Some(other) => {
                Err(fault::permanent(Reason::OneAppOnly, format!("{other} is installed on this Pico")))
            }
            None => Ok(()),
        }
    }

    async fn claim(&self) -> Result<Claim<'_>, Fault> {
        self.device.claim().await.map_err(|error| fault::of("use the Pico's port", &error.into()))
    }

    /// Brings a release that is on the shelf.
    async fn bring(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        let shelf = self.shelf(app);
        let Some(manifest) = shelf.manifest(slot.tree()) else {
            let text = format!("{app} {} is not on the Pi any more", slot.version);
            return Err(fault::permanent(Reason::SlotMismatch, text));
        };
        self.upload(slot, &manifest, &shelf, &Cancel::never()).await.map(drop)
    }

    /// Brings the release to the Pico; nothing that runs there is touched but interrupted.
    async fn upload(
        &self,
        slot: &Slot,
        manifest: &Manifest,
        shelf: &Shelf,
        cancel: &Cancel,
    ) -> Result<u64, Fault> {
        let (claim, release) = (self.claim().await?, name_of(slot.tree()));
        let done = async {
            let mut repl = claim.enter().await.map_err(|error| fault::of("interrupt the Pico", &error))?;
            self.see_to_guard(&mut repl).await?;
            let upload = Upload { shelf, manifest, release: &release, cancel };
            upload.run(&mut repl).await
        };
        match done.await {
            Ok((slots, sent)) => {
                self.device.note_slots(slots);
                Ok(sent)
            }
            Err(fault) => {
                // What ran before runs again, if the Pico is still there; else its watchdog sees to that.
                if let Err(error) = claim.reset().await {
                    info!(%error, "Pico is not back after an upload that was cut short");
                }
                Err(fault)
            }
        }
    }

    /// Without the guard nothing would go back by itself. A Pico with somebody's own program is left as it is.
    async fn see_to_guard(&self, repl: &mut crate::repl::Repl<'_>) -> Result<(), Fault> {
        match self.guarded() {
            Guarded::Yes => return Ok(()),
            Guarded::Foreign => {
                let text = "the Pico has a main.py of its own, which is not replaced unasked";
                return Err(fault::permanent(Reason::NotProvisioned, text));
            }
            Guarded::Blank | Guarded::Older => provision::provision(repl).await?,
        }
        *self.guarded.lock().unwrap_or_else(PoisonError::into_inner) = Guarded::Yes;
        Ok(())
    }

    /// Puts a release that is on the Pico on trial from its next boot on.
    async fn try_out(&self, slot: &Slot) -> Result<(), Fault> {
        let (claim, release) = (self.claim().await?, name_of(slot.tree()));
        let trial = slot.part.trial;
        let secs = trial.min_healthy_ms.div_ceil(1_000).max(SHORTEST_TRIAL_SECS);
        let code =
            format!("import deploy_guard\ndeploy_guard.stage({}, {}, {secs})", quoted(&release), trial.tries);
        let mut repl = claim.enter().await.map_err(|error| fault::of("interrupt the Pico", &error))?;
        ask(&mut repl, "put the release on trial", &code).await?;
        let mut slots = self.device.slots();
        (slots.bad, slots.why) = (None, None);
        slots.trying = Some(release).filter(|release| slots.cur.as_ref() != Some(release));
        self.device.note_slots(slots);
        Ok(())
    }

    /// Points the Pico to what ran before, or to nothing.
    async fn go_back(&self, slot: Option<(&AppId, &Slot)>) -> Result<(), Fault> {
        let slot_there = slot.map(|(_, slot)| slot);
        let release = slot_there.map(|slot| name_of(slot.tree()));
        let mut slots = self.device.slots();
        if slots.trying.is_none() && slots.cur == release {
            return Ok(());
        }
        if let Some((app, slot)) = slot.filter(|_| slots.cur != release && slots.prev != release) {
            // It may be that the Pico has lost it; what is there is not sent again.
            self.bring(app, slot).await?;
        }
        let claim = self.claim().await?;
        let mut repl = claim.enter().await.map_err(|error| fault::of("interrupt the Pico", &error))?;
        let to = release.as_deref().map_or("None".to_owned(), quoted);
        ask(&mut repl, "go back", &format!("{BACK}back({to}, \"did not prove itself\")")).await?;
        slots.bad = slots.active().map(str::to_owned).filter(|bad| Some(bad) != release.as_ref());
        (slots.trying, slots.cur) = (None, release);
        self.device.note_slots(slots);
        Ok(())
    }

    /// Whether the release runs, as far as the guard has said.
    fn runs(&self, slot: &Slot) -> bool {
        let name = name_of(slot.tree());
        !self.device.is_halted() && self.device.last().is_some_and(|said| said.release == Some(name))
    }

    fn guarded(&self) -> Guarded {
        *self.guarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn staged(&self) -> std::sync::MutexGuard<'_, Option<Digest>> {
        self.staged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Installer for PicoInstaller {
    fn platform(&self) -> &str {
        &self.platform
    }

    fn kinds(&self) -> &[PartKind] {
        &[PartKind::MicroPython, PartKind::Uf2]
    }

    fn about(&self) -> Option<About> {
        Some(self.about.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn asked(&self, what: AskKind) {
        match what {
            AskKind::Release => self.device.release_until(Some(Instant::now() + RELEASED_FOR)),
            AskKind::Take => self.device.release_until(None),
            AskKind::Provision => {
                let (device, guarded) = (self.device.clone(), self.guarded.clone());
                tokio::spawn(async move { provision::asked(&device, &guarded).await });
            }
            // The machine's own.
            AskKind::Install
            | AskKind::Retry
            | AskKind::Rollback
            | AskKind::Hold
            | AskKind::Logs
            | AskKind::Prune => {}
        }
    }

    fn set_env(&self, env: &BTreeMap<String, String>) {
        if !env.is_empty() {
            warn!("A Pico has no environment: what the record says of it does nothing");
        }
    }

    fn active(&self, app: &AppId) -> Option<Slot> {
        self.firmware.active(app).or_else(|| self.on_device(app))
    }

    fn present(&self, app: &AppId, manifest: &Manifest) -> BTreeMap<Digest, u64> {
        self.shelf(app).present(manifest)
    }

    async fn stage(
        &self,
        app: &AppId,
        slot: &Slot,
        manifest: Arc<Manifest>,
        cancel: Cancel,
    ) -> Result<Yield, Fault> {
        self.quarantine.admit(slot.tree())?;
        if !is_firmware(slot) {
            self.has_room_for(app)?;
        }
        self.joint.comes(app, slot).await?;
        let (shelf, of, list) = (self.shelf(app), slot.clone(), manifest.clone());
        let keeping = spawn_blocking(move || shelf.keep(&of, &list));
        keeping.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))?;
        if is_firmware(slot) {
            return self.admit_firmware(app, slot).map(|()| Yield::default());
        }
        let began = Instant::now();
        match self.upload(slot, &manifest, &self.shelf(app), &cancel).await {
            Ok(sent) => {
                let took_ms = began.elapsed().as_millis();
                info!(%app, release = slot.version, bytes = sent, took_ms, "Release is on the Pico");
                *self.staged() = Some(slot.tree());
                Ok(Yield::default())
            }
            Err(fault) => {
                if matches!(fault.reason, Reason::SlotMismatch | Reason::DeviceFault) {
                    self.quarantine.begin(slot.tree());
                }
                Err(fault)
            }
        }
    }

    async fn pre_check(&self, app: &AppId, slot: &Slot, cancel: Cancel) -> Result<(), Fault> {
        if slot.part.joint.is_some() && self.device.is_halted() {
            // What ran before goes on while the others are waited for.
            let back = self.claim().await?.reset().await;
            back.map_err(|error| fault::of("start the Pico again", &error))?;
        }
        self.joint.may_switch(app, slot, &cancel).await
    }

    async fn stop(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        self.joint.is_not_ready(app);
        if is_firmware(slot) {
            return Ok(());
        }
        // It was interrupted to bring the new release, and is stopped for good by the reset that starts that.
        self.watch.end();
        Ok(())
    }

    async fn switch(&self, app: &AppId, slot: Option<&Slot>) -> Result<(), Fault> {
        if slot.map_or_else(|| self.firmware.has(app), is_firmware) {
            return self.switch_firmware(app, slot).await;
        }
        self.has_room_for(app)?;
        let Some(slot) = slot else { return self.go_back(None).await };
        let (staged, slots, name) = (self.staged().take(), self.device.slots(), name_of(slot.tree()));
        if staged == Some(slot.tree()) {
            self.quarantine.begin(slot.tree());
            return self.try_out(slot).await;
        }
        if slots.trying.as_ref() == Some(&name) {
            return Ok(());
        }
        if slots.bad.as_ref() == Some(&name) {
            // The guard has gone back by itself while nobody listened.
            return Err(self.watch.why_it_went_back(&name).await);
        }
        self.go_back(Some((app, slot))).await
    }

    async fn start(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        if is_firmware(slot) {
            let before = self.device.slots();
            let Some(probed) = self.firmware.start(app, slot).await? else { return Ok(()) };
            return self.go_on_with(&before, &probed).await;
        }
        if self.runs(slot) {
            return Ok(());
        }
        let claim = self.claim().await?;
        claim.reset().await.map_err(|error| {
            let fault = fault::of("start the Pico again", &error);
            Fault { reason: Reason::StartFailed, ..fault }
        })
    }

    fn watch(&self, app: &AppId, slot: &Slot) {
        if is_firmware(slot) {
            return self.firmware.watch(app, slot);
        }
        self.watch.begin(app, slot);
    }

    async fn prove(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        let proven =
            if is_firmware(slot) { self.firmware.prove(app, slot) } else { self.watch.prove(slot).await };
        let kept = self.joint.may_keep(app, slot, proven).await;
        if kept.as_ref().is_err_and(|fault| fault.reason == Reason::JointApart && !fault.transient) {
            // It was no fault of what is on this Pico.
            self.quarantine.end(slot.tree());
        }
        kept
    }

    fn listen(&self, app: &AppId, _: &Slot, lines: usize, id: String) {
        self.listening.begin(app, lines, id);
    }

    async fn prune(&self, app: &AppId, keep: &[Digest]) -> Result<(), Fault> {
        self.joint.has_ended(app);
        self.firmware.rest(app)?;
        if let Some(active) = self.firmware.active(app) {
            self.quarantine.end(active.tree());
        }
        if let Some(active) = self.on_device(app).filter(|_| self.device.slots().trying.is_none()) {
            self.quarantine.end(active.tree());
        }
        let (shelf, keep) = (self.shelf(app), keep.to_vec());
        let pruning = spawn_blocking(move || shelf.prune(&keep));
        pruning.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()));
        Ok(())
    }
}
