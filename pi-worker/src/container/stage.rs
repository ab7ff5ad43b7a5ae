//! From a slot to a container that is ready to be started: strategy, build, proof. Nothing that runs is touched.

use std::time::Instant;

use agent::Cancel;
use bollard::Docker;
use machine::Fault;
use schemas::{
    build::{Built, MAX_WHY_BYTES, Strategy},
    manifest::Manifest,
    reason::Reason,
};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{
    BUILD_WITHIN, Containers, Wanted,
    build::{Build, Steps},
    ignore::Ignore,
    image, names,
    read_back::read_back,
    room, saved,
    spec::Spec,
    strategy::{Before, Choice, choose},
    swap::{Known, Swap},
};
use crate::fault::fault;

/// An image that proved itself in a container that is ready.
struct Ready {
    known: Known,
    strategy: Strategy,
    why: String,
    steps: Steps,
}

impl Containers {
    /// Builds the image unless it is hot, and makes the container that will run. On failure nothing is left of it but
    /// what the engine keeps as its cache.
    pub(crate) async fn stage(&self, wanted: &Wanted<'_>, cancel: &Cancel) -> Result<Built, Fault> {
        let staged = tokio::select! {
            staged = timeout(BUILD_WITHIN, self.stage_now(wanted)) => staged.unwrap_or_else(|_| Err(late())),
            () = cancel.cancelled() => Err(fault(Reason::Superseded, "was cancelled")),
        };
        if staged.is_err() {
            self.forget_next(wanted).await;
        }
        staged
    }

    async fn stage_now(&self, wanted: &Wanted<'_>) -> Result<Built, Fault> {
        let began = Instant::now();
        // The engine takes no folder for a volume that is not there.
        wanted.around.make_folders()?;
        let docker = self.endpoint.connect().await?;
        let (manifest, ignore) = wanted.tree()?;
        let spec = wanted.spec()?;
        let ready = self.ready(&docker, wanted, &spec, (&manifest, &ignore)).await?;
        room::sync(&docker).await;
        let name = names::image(wanted.app, wanted.slot.tree());
        let image_bytes = image::find(&docker, &name).await?.map_or(0, |image| image.size_bytes);
        let built = Built {
            strategy: ready.strategy,
            why: ready.why.chars().take(MAX_WHY_BYTES / 4).collect(),
            took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            steps: ready.steps.all,
            reused: ready.steps.reused,
            image_bytes,
        };
        info!(app = %wanted.app, strategy = built.strategy.name(), why = built.why, took_ms = built.took_ms,
            container = %ready.known.name, "container ready");
        Ok(built)
    }

    /// The image once more, for a container that must be made again; by the engine's cache where that is there still.
    pub(super) async fn make_again(
        &self,
        docker: &Docker,
        wanted: &Wanted<'_>,
        spec: &Spec,
    ) -> Result<Known, Fault> {
        let (manifest, ignore) = wanted.tree()?;
        Ok(self.ready(docker, wanted, spec, (&manifest, &ignore)).await?.known)
    }

    async fn ready(
        &self,
        docker: &Docker,
        wanted: &Wanted<'_>,
        spec: &Spec,
        (manifest, ignore): (&Manifest, &Ignore),
    ) -> Result<Ready, Fault> {
        // Until its container is there, an image is nobody's.
        let _images = self.images.read().await;
        let swap = Swap { docker, app: wanted.app };
        let mut choice = self.choose(docker, wanted, manifest, ignore).await?;
        loop {
            let steps = self.build(docker, wanted, (manifest, ignore), &choice).await?;
            let (known, is_new) = swap.make(spec).await?;
            let difference = match &wanted.container.saved {
                Some(saved) => saved::differs(docker, &known.image, saved).await?,
                None => read_back(docker, &known.id, wanted.container, manifest, ignore).await?,
            };
            let Some(difference) = difference else {
                return Ok(Ready { known, strategy: choice.strategy, why: choice.why, steps });
            };
            // What has run may have changed files of its own: that says nothing of the image.
            if !is_new && !known.is_running {
                warn!(app = %wanted.app, difference, container = %known.name, "a container is not what it was and is made again");
                swap.remove(&known).await?;
                continue;
            }
            if choice.no_cache || !is_new {
                return Err(fault(Reason::StaleCode, format!("image of {}: {difference}", wanted.app)));
            }
            warn!(app = %wanted.app, difference, "the image is not what it should be and is built without cache");
            self.discard(docker, wanted, &known).await?;
            let is_saved = wanted.container.saved.is_some();
            let strategy = if is_saved { Strategy::Loaded } else { Strategy::Full };
            choice = Choice { strategy, no_cache: true, why: difference };
        }
    }

    /// Removes a container and its image, so that the engine does not take their layers for the new ones: it knows
    /// layers by what should be in them.
    async fn discard(&self, docker: &Docker, wanted: &Wanted<'_>, known: &Known) -> Result<(), Fault> {
        Swap { docker, app: wanted.app }.remove(known).await?;
        let name = names::image(wanted.app, wanted.slot.tree());
        if let Err(fault) = image::remove(docker, &name).await {
            warn!(app = %wanted.app, text = fault.text, "the image stays, for something else needs it");
        }
        Ok(())
    }

    async fn choose(
        &self,
        docker: &Docker,
        wanted: &Wanted<'_>,
        manifest: &Manifest,
        ignore: &Ignore,
    ) -> Result<Choice, Fault> {
        let name = names::image(wanted.app, wanted.slot.tree());
        let mut stale = None;
        if let Some(image) = image::find(docker, &name).await? {
            match image.proves(wanted.slot, wanted.container.forced) {
                Ok(()) => {
                    let why = format!("image {name} is there and proves itself");
                    return Ok(Choice { strategy: Strategy::Hot, no_cache: false, why });
                }
                Err(text) => stale = Some(text),
            }
        }
        if let Some(saved) = &wanted.container.saved {
            let why = stale.unwrap_or_else(|| format!("the image of {} is not here yet", saved.file));
            return Ok(Choice { strategy: Strategy::Loaded, no_cache: false, why });
        }
        let active = wanted.slots.active();
        let before = active
            .as_ref()
            .and_then(|active| Some((wanted.slots.manifest(active.tree())?, active.part.container()?)));
        let before = before.as_ref().map(|(manifest, container)| Before { manifest, container });
        let choice = choose(before.as_ref(), manifest, wanted.container, ignore);
        // No file changed, yet it was built for something else.
        Ok(match stale {
            Some(why) if choice.strategy == Strategy::Cached => Choice { why, ..choice },
            _ => choice,
        })
    }

    async fn build(
        &self,
        docker: &Docker,
        wanted: &Wanted<'_>,
        (manifest, ignore): (&Manifest, &Ignore),
        choice: &Choice,
    ) -> Result<Steps, Fault> {
        if choice.strategy == Strategy::Hot {
            return Ok(Steps::default());
        }
        room::check(docker, &self.settings).await?;
        let Wanted { app, slot, container, slots, .. } = *wanted;
        let (folder, log) = (slots.places().slot(slot.tree()), slots.places().build_log(app));
        info!(%app, strategy = choice.strategy.name(), why = choice.why, "image is built");
        let notices = &self.notices;
        let base = match &container.saved {
            Some(saved) => Some(saved::load(docker, saved, manifest, &folder).await?),
            None => None,
        };
        let build =
            Build { app, slot, container, manifest, ignore, base: base.as_deref(), folder, log, notices };
        let built = build.run(docker, choice.no_cache).await;
        if let Some(base) = base.filter(|_| built.is_err()) {
            // With a name it is somebody's, who has loaded the same; without one nobody would ever find it.
            let found = docker.inspect_image(&base).await;
            let is_nameless = found.is_ok_and(|found| found.repo_tags.unwrap_or_default().is_empty());
            if is_nameless && let Err(fault) = image::remove(docker, &base).await {
                warn!(%app, text = fault.text, "what was loaded stays");
            }
        }
        built
    }

    /// The container that was made for a release which will not run.
    async fn forget_next(&self, wanted: &Wanted<'_>) {
        let Ok(docker) = self.endpoint.connect().await else { return };
        let swap = Swap { docker: &docker, app: wanted.app };
        let next = names::next(wanted.app);
        for known in swap.all().await.unwrap_or_default().iter().filter(|known| known.name == next) {
            if let Err(fault) = swap.remove(known).await {
                warn!(app = %wanted.app, text = fault.text, "cannot remove what was left of a container");
            }
        }
    }
}

fn late() -> Fault {
    fault(Reason::BuildTimeout, format!("build did not end within {} min", BUILD_WITHIN.as_secs() / 60))
}
