//! Apps that are containers: the image is built here of the release's tree, proven, and run by the node's engine.
//!
//! The tree lies in a slot, as that of every app, so that only what changed is fetched and `current` is the truth. The
//! image is named by the tree, and so is what is written on it: an image that is there and proves itself is not built
//! again. The container is made before the old one is stopped, and the old one is kept until the new one has proven
//! itself: going back needs neither build nor network.

mod build;
mod context;
mod disk;
mod engine;
mod exec;
#[cfg(test)]
mod fixture;
mod follow;
mod ignore;
mod image;
mod names;
mod pre_check;
mod prune;
mod read_back;
mod room;
mod saved;
mod spec;
mod stage;
mod strategy;
mod swap;
mod tidy;

use std::time::{Duration, Instant};

use agent::{ContainerSettings, Notices};
use bollard::models::HealthStatusEnum;
use machine::{Fault, Slot};
use schemas::{
    id::{AppId, Digest},
    manifest::Manifest,
    reason::Reason,
    release::container::Container,
};

use tokio::time::sleep;

pub(crate) use exec::Ended;

use crate::{
    fault::{OnPath as _, fault},
    slots::Slots,
    surroundings::Surroundings,
};
use engine::{Endpoint, OnEngine as _};
use follow::Followers;
use ignore::Ignore;
use swap::Swap;

/// A build that takes longer hangs: the slowest one known (a Python app with compiled dependencies on a Pi) takes half.
const BUILD_WITHIN: Duration = Duration::from_mins(45);

/// From one look at a container that starts first to the next.
const WELL_AGAIN: Duration = Duration::from_millis(100);

/// Builds, runs and proves containers.
#[derive(Debug)]
pub(crate) struct Containers {
    endpoint: Endpoint,
    settings: ContainerSettings,
    followers: Followers,
    notices: Notices,
    hanging: exec::Hanging,
    /// Held by who makes an image, and alone by who removes those that nothing needs.
    images: tokio::sync::RwLock<()>,
}

/// The container of one slot, and what there is around it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) app: &'a AppId,
    pub(crate) slot: &'a Slot,
    pub(crate) container: &'a Container,
    pub(crate) slots: &'a Slots,
    pub(crate) around: &'a Surroundings,
}

impl Containers {
    pub(crate) fn new(settings: ContainerSettings, notices: Notices) -> Self {
        let endpoint = Endpoint::new(settings.engine.as_deref());
        Self {
            endpoint,
            settings,
            followers: Followers::new(notices.clone()),
            notices,
            hanging: exec::Hanging::default(),
            images: tokio::sync::RwLock::default(),
        }
    }

    /// Starts the container, or takes over what runs of it already.
    pub(crate) async fn start(&self, wanted: &Wanted<'_>) -> Result<(), Fault> {
        wanted.around.make_folders()?;
        let docker = self.endpoint.connect_patiently().await?;
        let swap = Swap { docker: &docker, app: wanted.app };
        let spec = match wanted.spec() {
            Ok(spec) => spec,
            Err(fault) => return self.start_as_made(wanted, &swap, fault).await,
        };
        let there = swap.all().await?.into_iter().find(|known| known.launch == spec.launch);
        let known = match there {
            Some(known) if known.is_running || self.is_whole(&docker, wanted, &known).await? => known,
            // The image of a release that stands may have been removed by hand, or damaged by a power cut.
            _ => self.make_again(&docker, wanted, &spec).await?,
        };
        if !(known.is_running && known.name == names::serving(wanted.app)) {
            self.followers.end(wanted.app);
            if known.starts_first && known.name == names::next(wanted.app) {
                swap.start(&known, &known.name).await?;
                self.until_well(wanted, &known).await?;
            }
            swap.take_over(&known).await?;
        }
        self.followers.follow(wanted.app, &self.endpoint, &known.id);
        Ok(())
    }

    /// Starts what was made of the slot once, where its environment lacks by now what it would be made with.
    async fn start_as_made(&self, wanted: &Wanted<'_>, swap: &Swap<'_>, lacks: Fault) -> Result<(), Fault> {
        let tree = wanted.slot.tree().to_string();
        let names = [names::serving(wanted.app), names::previous(wanted.app)];
        let all = swap.all().await?;
        let made = all.into_iter().find(|known| known.tree == tree && names.contains(&known.name));
        let Some(known) = made else { return Err(lacks) };
        tracing::warn!(app = %wanted.app, text = lacks.text, "a container goes on with the environment that it was made with");
        if !(known.is_running && known.name == names::serving(wanted.app)) {
            self.followers.end(wanted.app);
            swap.take_over(&known).await?;
        }
        self.followers.follow(wanted.app, &self.endpoint, &known.id);
        Ok(())
    }

    /// Whether what a container would run is what was signed; else it is removed. It may have changed files of its own, so its image
    /// stays: it is judged when the container is made again.
    async fn is_whole(
        &self,
        docker: &bollard::Docker,
        wanted: &Wanted<'_>,
        known: &swap::Known,
    ) -> Result<bool, Fault> {
        let (manifest, ignore) = wanted.tree()?;
        let Some(difference) =
            read_back::read_back(docker, &known.id, wanted.container, &manifest, &ignore).await?
        else {
            return Ok(true);
        };
        tracing::warn!(app = %wanted.app, difference, "a container is not what it was and is made again");
        Swap { docker, app: wanted.app }.remove(known).await?;
        Ok(false)
    }

    /// Stops what runs of the slot; nothing that runs is fine. What is followed by one that starts first is stopped by
    /// that one.
    pub(crate) async fn stop(&self, wanted: &Wanted<'_>) -> Result<(), Fault> {
        self.followers.end(wanted.app);
        let docker = self.endpoint.connect_patiently().await?;
        let swap = Swap { docker: &docker, app: wanted.app };
        let all = swap.all().await?;
        let launch = wanted.spec().map(|spec| spec.launch).ok();
        // With another environment than it was started with, it is known by its name alone.
        let of_slot = all.iter().find(|known| Some(&known.launch) == launch.as_ref());
        let serving = || all.iter().find(|known| known.name == names::serving(wanted.app));
        let Some(known) = of_slot.or_else(serving) else { return Ok(()) };
        if all
            .iter()
            .any(|next| next.starts_first && next.id != known.id && next.name == names::next(wanted.app))
        {
            return Ok(());
        }
        swap.stop(known).await
    }

    /// Waits until a container that starts first is well; the old one serves meanwhile.
    async fn until_well(&self, wanted: &Wanted<'_>, known: &swap::Known) -> Result<(), Fault> {
        let trial = &wanted.slot.part.trial;
        let late = Instant::now() + Duration::from_millis(trial.deadline_ms);
        let mut well_since = None;
        loop {
            match self.is_well(&known.name).await {
                Ok(()) => {
                    let since: Instant = *well_since.get_or_insert_with(Instant::now);
                    if since.elapsed().as_millis() >= u128::from(trial.min_healthy_ms) {
                        return Ok(());
                    }
                }
                Err(unwell) if !unwell.runs || Instant::now() >= late => {
                    let reason = if unwell.runs { Reason::Unhealthy } else { Reason::Exited };
                    let log_tail = self.log_tail(&known.name).await;
                    return Err(Fault { log_tail, ..fault(reason, unwell.text) });
                }
                Err(_) => well_since = None,
            }
            sleep(WELL_AGAIN).await;
        }
    }

    /// Whether the container that serves is well.
    pub(crate) async fn serves_well(&self, app: &AppId) -> Result<(), String> {
        self.is_well(&names::serving(app)).await.map_err(|unwell| unwell.text)
    }

    /// Whether the container runs, and is healthy where its image says how that is found out.
    async fn is_well(&self, name: &str) -> Result<(), Unwell> {
        let sick = |text| Unwell { runs: true, text };
        let docker = self.endpoint.connect().await.map_err(|fault| sick(fault.text))?;
        let found = docker.inspect_container(name, None).await;
        let state = found.map_err(|err| sick(format!("container {name}: {err}")))?.state.unwrap_or_default();
        if state.running != Some(true) || state.restarting == Some(true) {
            let status = state.status.map(|status| status.to_string()).unwrap_or_default();
            let text = format!("container {name} is {status}, exit code {}", state.exit_code.unwrap_or(0));
            return Err(Unwell { runs: false, text });
        }
        let Some(health) = state.health else { return Ok(()) };
        match health.status {
            Some(HealthStatusEnum::STARTING) => {
                Err(sick(format!("container {name} has not passed its HEALTHCHECK yet")))
            }
            Some(HealthStatusEnum::UNHEALTHY) => {
                let last = health.log.unwrap_or_default().pop().and_then(|result| result.output);
                let last = last.unwrap_or_default();
                Err(sick(format!("HEALTHCHECK of container {name} fails: {}", last.trim())))
            }
            _ => Ok(()),
        }
    }

    /// Asks the running container what it is: what is written on it, its environment, and its files.
    pub(crate) async fn prove(&self, wanted: &Wanted<'_>) -> Result<(), Fault> {
        let docker = self.endpoint.connect().await?;
        let name = names::serving(wanted.app);
        let doing = || format!("look at container {name}");
        let found = docker.inspect_container(&name, None).await.on_engine(Reason::NoProof, doing)?;
        let config = found.config.unwrap_or_default();
        let tree = wanted.slot.tree().to_string();
        let signature = config.labels.unwrap_or_default().remove(names::SIGNATURE).unwrap_or_default();
        let stale = |text: String| fault(Reason::StaleCode, format!("container {name}: {text}"));
        if signature != tree {
            return Err(stale(format!("code signature is `{signature}`, expected `{tree}`")));
        }
        image::environment_proves(&config.env.unwrap_or_default(), wanted.slot).map_err(stale)?;
        if let Some(saved) = &wanted.container.saved {
            let image = found.image.unwrap_or_default();
            let lacks = saved::lacks_layers(&docker, &image, saved).await?;
            return lacks.map_or(Ok(()), |difference| Err(stale(difference)));
        }
        let (manifest, ignore) = wanted.tree()?;
        let id = found.id.unwrap_or_default();
        match read_back::read_back(&docker, &id, wanted.container, &manifest, &ignore).await? {
            None => Ok(()),
            Some(difference) => Err(stale(difference)),
        }
    }

    /// Runs a command of the release in the container that serves.
    ///
    /// `said` are its words as the release has them: values of the environment are not for reports.
    pub(crate) async fn exec(
        &self,
        app: &AppId,
        (words, said): (&[String], &str),
        limit: Duration,
    ) -> Result<Ended, Fault> {
        let docker = self.endpoint.connect().await?;
        exec::exec(&docker, &self.hanging, &names::serving(app), (words, said), limit).await
    }

    /// The last lines of the container that serves.
    pub(crate) async fn last_words(&self, app: &AppId) -> Vec<String> {
        self.log_tail(&names::serving(app)).await
    }

    /// What the container that serves says: its last lines, then the others, until it ends or this is dropped.
    pub(crate) async fn listen(&self, app: &AppId, lines: usize, say: impl Fn(&[u8])) {
        if let Ok(docker) = self.endpoint.connect().await {
            follow::listen(&docker, &names::serving(app), lines, say).await;
        }
    }

    async fn log_tail(&self, name: &str) -> Vec<String> {
        match self.endpoint.connect().await {
            Ok(docker) => follow::log_tail(&docker, name).await,
            Err(_) => Vec::new(),
        }
    }
}

/// Why a container is not well.
struct Unwell {
    /// It may still get well.
    runs: bool,
    text: String,
}

impl Wanted<'_> {
    fn spec(&self) -> Result<spec::Spec, Fault> {
        spec::spec(self.app, self.slot, self.container, self.around.environment())
    }

    /// The tree, and which of it is no part of the image.
    fn tree(&self) -> Result<(Manifest, Ignore), Fault> {
        let tree = self.slot.tree();
        let lost = || fault(Reason::SlotMismatch, format!("manifest {} is missing or damaged", tree.short()));
        let manifest = self.slots.manifest(tree).ok_or_else(lost)?;
        let ignore = self.ignore(tree)?;
        Ok((manifest, ignore))
    }

    fn ignore(&self, tree: Digest) -> Result<Ignore, Fault> {
        let path = self.slots.places().slot(tree).join(Ignore::NAME);
        match std::fs::read(&path) {
            Ok(text) => Ok(Ignore::parse(&String::from_utf8_lossy(&text))),
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => Ok(Ignore::default()),
            Err(err) => Err(err).on_path("read", &path),
        }
    }
}
