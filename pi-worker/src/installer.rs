//! The installer of trees: slots on the disk, run as a process, as a systemd unit, as a container, or not at all.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent::{Cancel, DurableError, EngineDisk, Installer, Joint, Notices, Settings, Tidied, Tidying};
use machine::{Fault, Slot, Yield};
use schemas::{
    id::{AppId, Digest},
    manifest::Manifest,
    reason::Reason,
    record::loads_code,
    release::{Hook, PartKind, Run, container::Container},
};
use tokio::task::spawn_blocking;
use tracing::warn;

use crate::{
    container::{Containers, Wanted},
    fault::{chain, fault},
    listening::{Listeners, Source},
    probe::{Asker, Inside, LastWords, Prober},
    program::{self, ProgramError},
    slots::{Places, Slots, replace},
    supervisor::{Launch, Log, Supervisor},
    surroundings::Surroundings,
    systemd::Units,
};

/// Installs and runs trees.
#[derive(Debug)]
pub(crate) struct TreeInstaller {
    settings: Settings,
    platform: String,
    /// What ops says, above the settings.
    ordered_env: Mutex<BTreeMap<String, String>>,
    apps: Mutex<BTreeMap<AppId, Arc<Slots>>>,
    supervisor: Supervisor,
    units: Arc<Units>,
    containers: Arc<Containers>,
    prober: Prober,
    listeners: Listeners,
    joint: Joint,
}

impl TreeInstaller {
    pub(crate) fn new(settings: Settings, notices: Notices) -> Self {
        Self {
            platform: format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
            ordered_env: Mutex::default(),
            apps: Mutex::default(),
            supervisor: Supervisor::new(notices.clone()),
            containers: Arc::new(Containers::new(settings.container.clone(), notices.clone())),
            units: Arc::new(Units::new(notices.clone())),
            prober: Prober::new(notices.clone()),
            listeners: Listeners::new(notices),
            joint: Joint::of_pi(&settings.data, &settings.node),
            settings,
        }
    }

    /// Stops every app of the node. Gives each with what was in the way of stopping it.
    pub(crate) async fn stop_apps(&self) -> Result<Vec<(AppId, Result<(), Fault>)>, DurableError> {
        let mut ended = Vec::new();
        for app in self.settings.apps()? {
            let Some(slot) = self.active(&app) else { continue };
            let stopped = self.stop(&app, &slot).await;
            ended.push((app, stopped));
        }
        Ok(ended)
    }

    /// The slots of the app. What an earlier run of the worker left unfinished is swept away at the first use.
    fn slots(&self, app: &AppId) -> Arc<Slots> {
        let mut apps = self.lock();
        if let Some(slots) = apps.get(app) {
            return slots.clone();
        }
        let slots = Arc::new(slots_of(&self.settings, app));
        if let Err(fault) = slots.sweep() {
            warn!(%app, text = %fault.text, "cannot remove what was left unfinished");
        }
        Supervisor::sweep(slots.places());
        apps.insert(app.clone(), slots.clone());
        slots
    }

    fn surroundings(&self, app: &AppId, slot: &Slot) -> Surroundings {
        let mut env = self.settings.env.clone();
        env.extend(self.ordered_env.lock().unwrap_or_else(PoisonError::into_inner).clone());
        Surroundings::new(self.slots(app).places(), app, slot, &env)
    }

    fn asker(&self, app: &AppId, slot: &Slot) -> Asker {
        let inside =
            slot.part.container().map(|_| Inside { containers: self.containers.clone(), app: app.clone() });
        Asker { surroundings: self.surroundings(app, slot), units: self.units.clone(), inside }
    }

    /// Calls `work` with the container of a slot that is one.
    async fn contained<T>(
        &self,
        app: &AppId,
        slot: &Slot,
        container: &Container,
        work: impl AsyncFnOnce(&Containers, &Wanted<'_>) -> T,
    ) -> T {
        let (slots, around) = (self.slots(app), self.surroundings(app, slot));
        let wanted = Wanted { app, slot, container, slots: &slots, around: &around };
        work(&self.containers, &wanted).await
    }

    async fn start_process(&self, app: &AppId, slot: &Slot, words: &[String]) -> Result<(), Fault> {
        let (slots, around) = (self.slots(app), self.surroundings(app, slot));
        around.make_folders()?;
        let command = around.command(words).map_err(|err| fault(Reason::StartFailed, chain(err)))?;
        let launch = Launch { app, slot, places: slots.places(), digest: around.launch(words) };
        self.supervisor.start(&launch, command).await
    }

    async fn start_unit(&self, app: &AppId, slot: &Slot, unit: &str) -> Result<(), Fault> {
        let (slots, around) = (self.slots(app), self.surroundings(app, slot));
        around.make_folders()?;
        // The unit may name it as its EnvironmentFile.
        let environment = around.environment().as_systemd_file();
        let is_stale = in_background(move || {
            let path = slots.places().environment();
            let before = std::fs::read(&path).ok();
            replace(&path, environment.as_bytes())?;
            Ok(before.is_some_and(|before| before != environment.as_bytes()))
        })
        .await?;
        if is_stale {
            self.units.stop(app, unit).await?;
        }
        self.units.start(app, unit).await
    }

    async fn run_pre_check(
        &self,
        app: &AppId,
        slot: &Slot,
        hook: &Hook,
        cancel: &Cancel,
    ) -> Result<(), Fault> {
        if let Some(container) = slot.part.container() {
            let checking = async |containers: &Containers, wanted: &Wanted<'_>| {
                tokio::select! {
                    checked = containers.pre_check(wanted, hook) => checked,
                    () = cancel.cancelled() => Err(cancelled()),
                }
            };
            return self.contained(app, slot, container, checking).await;
        }
        let around = self.surroundings(app, slot);
        around.make_folders()?;
        tokio::select! {
            checked = pre_check(hook, &around) => checked,
            () = cancel.cancelled() => Err(cancelled()),
        }
    }

    async fn prove_alone(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        if let Some(container) = slot.part.container() {
            let proving = async |containers: &Containers, wanted: &Wanted<'_>| containers.prove(wanted).await;
            self.contained(app, slot, container, proving).await?;
        }
        self.asker(app, slot).prove(slot).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AppId, Arc<Slots>>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The slots of an app, as they are on the disk.
pub(crate) fn slots_of(settings: &Settings, app: &AppId) -> Slots {
    Slots::new(Places::new(settings.app_dirs(app)))
}

impl Installer for TreeInstaller {
    fn platform(&self) -> &str {
        &self.platform
    }

    fn kinds(&self) -> &[PartKind] {
        &[PartKind::Tree, PartKind::Container, PartKind::Image]
    }

    async fn engine_disk(&self) -> Option<EngineDisk> {
        self.containers.disk().await
    }

    async fn tidy(&self, wanted: Tidying) -> Tidied {
        self.containers.tidy(&wanted).await
    }

    fn set_env(&self, env: &BTreeMap<String, String>) {
        let mut env = env.clone();
        env.retain(|name, _| !loads_code(name));
        *self.ordered_env.lock().unwrap_or_else(PoisonError::into_inner) = env;
    }

    fn active(&self, app: &AppId) -> Option<Slot> {
        self.slots(app).active()
    }

    fn present(&self, app: &AppId, manifest: &Manifest) -> BTreeMap<Digest, u64> {
        self.slots(app).present(manifest)
    }

    async fn stage(
        &self,
        app: &AppId,
        slot: &Slot,
        manifest: Arc<Manifest>,
        cancel: Cancel,
    ) -> Result<Yield, Fault> {
        self.joint.comes(app, slot).await?;
        let (slots, of, heard) = (self.slots(app), slot.clone(), cancel.clone());
        in_background(move || {
            let checkpoint = || if heard.is_cancelled() { Err(cancelled()) } else { Ok(()) };
            slots.stage(&of, &manifest, &checkpoint)
        })
        .await?;
        let Some(container) = slot.part.container() else { return Ok(Yield::default()) };
        let staging =
            async |containers: &Containers, wanted: &Wanted<'_>| containers.stage(wanted, &cancel).await;
        let built = self.contained(app, slot, container, staging).await?;
        Ok(Yield { built: Some(Box::new(built)), ..Yield::default() })
    }

    async fn pre_check(&self, app: &AppId, slot: &Slot, cancel: Cancel) -> Result<(), Fault> {
        if let Some(hook) = &slot.part.pre_check {
            self.run_pre_check(app, slot, hook, &cancel).await?;
        }
        self.joint.may_switch(app, slot, &cancel).await
    }

    async fn stop(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        self.prober.end(app);
        self.joint.is_not_ready(app);
        if let Some(container) = slot.part.container() {
            let stopping = async |containers: &Containers, wanted: &Wanted<'_>| containers.stop(wanted).await;
            return self.contained(app, slot, container, stopping).await;
        }
        match &slot.part.run {
            Run::Process { stop_timeout_ms, .. } => {
                let patience = Duration::from_millis(*stop_timeout_ms);
                self.supervisor.stop(app, self.slots(app).places(), patience).await
            }
            Run::Systemd { unit } => self.units.stop(app, unit).await,
            Run::None => Ok(()),
        }
    }

    async fn switch(&self, app: &AppId, slot: Option<&Slot>) -> Result<(), Fault> {
        let (slots, slot) = (self.slots(app), slot.cloned());
        in_background(move || slots.switch(slot.as_ref())).await
    }

    async fn start(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        if let Some(container) = slot.part.container() {
            let starting =
                async |containers: &Containers, wanted: &Wanted<'_>| containers.start(wanted).await;
            return self.contained(app, slot, container, starting).await;
        }
        match &slot.part.run {
            Run::Process { command, .. } => self.start_process(app, slot, command).await,
            Run::Systemd { unit } => self.start_unit(app, slot, unit).await,
            Run::None => Ok(()),
        }
    }

    fn watch(&self, app: &AppId, slot: &Slot) {
        let last_words = match &slot.part.run {
            _ if slot.part.container().is_some() => Words::Container(self.containers.clone(), app.clone()),
            Run::Process { .. } => Words::Log(Log::new(self.slots(app).places().log(app))),
            Run::Systemd { unit } => Words::Unit(unit.clone()),
            Run::None => Words::None,
        };
        self.prober.watch(app, slot, self.asker(app, slot), last_words);
    }

    async fn prove(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        let proven = self.prove_alone(app, slot).await;
        self.joint.may_keep(app, slot, proven).await
    }

    fn listen(&self, app: &AppId, slot: &Slot, lines: usize, id: String) {
        let source = match &slot.part.run {
            _ if slot.part.container().is_some() => Source::Container(self.containers.clone()),
            Run::Process { .. } => Source::File(self.slots(app).places().log(app)),
            Run::Systemd { unit } => Source::Unit(unit.clone()),
            Run::None => Source::Nothing,
        };
        self.listeners.listen(app, source, lines, id);
    }

    async fn prune(&self, app: &AppId, keep: &[Digest]) -> Result<(), Fault> {
        self.joint.has_ended(app);
        let (slots, kept) = (self.slots(app), keep.to_vec());
        let (active, is_container) = (slots.active(), slots.has_container());
        in_background(move || slots.prune(&kept)).await?;
        if is_container { self.containers.prune(app, active.as_ref(), keep).await } else { Ok(()) }
    }
}

/// Where the last words of an app are.
enum Words {
    Log(Log),
    Unit(String),
    Container(Arc<Containers>, AppId),
    None,
}

impl LastWords for Words {
    async fn tail(&self) -> Vec<String> {
        match self {
            Self::Log(log) => log.tail(),
            Self::Unit(unit) => Units::log_tail(unit).await,
            Self::Container(containers, app) => containers.last_words(app).await,
            Self::None => Vec::new(),
        }
    }
}

async fn pre_check(hook: &Hook, around: &Surroundings) -> Result<(), Fault> {
    let failed = |text: String| fault(Reason::PreCheckFailed, format!("pre-check: {text}"));
    let command = around.command(&hook.command).map_err(|err| failed(chain(err)))?;
    match program::run(command, Duration::from_millis(hook.timeout_ms)).await {
        Ok(ended) if ended.status.success() => Ok(()),
        Ok(ended) => {
            Err(Fault { log_tail: ended.log_tail, ..failed(format!("ended with {}", ended.status)) })
        }
        Err(ProgramError::Timeout { limit, log_tail }) => {
            let text = format!("pre-check did not end within {} ms and was killed", limit.as_millis());
            Err(Fault { log_tail, ..fault(Reason::HookTimeout, text) })
        }
        Err(err) => Err(failed(chain(err))),
    }
}

/// Runs work that waits for the disk where it holds nobody up.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    spawn_blocking(work).await.unwrap_or_else(|err| std::panic::resume_unwind(err.into_panic()))
}

/// The answer of work that nobody waits for any more.
fn cancelled() -> Fault {
    fault(Reason::Superseded, "was cancelled")
}

#[cfg(test)]
mod tests;
