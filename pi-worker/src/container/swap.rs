//! Which container has which name. Every step may be done again after a crash at any point of it.
//!
//! ```text
//! <app>.next       made, not started yet
//! <app>            serves
//! <app>.previous   served before; a roll back starts it again
//! <app>.failed     a roll back has taken it away
//! ```

use bollard::{
    Docker,
    models::{ContainerSummary, ContainerSummaryStateEnum, ContainerUpdateBody, NetworkConnectRequest},
    query_parameters::{
        CreateContainerOptions, ListContainersOptions, RemoveContainerOptions, RenameContainerOptions,
        StartContainerOptions, StopContainerOptions,
    },
};
use machine::Fault;
use schemas::{id::AppId, reason::Reason, release::container::Restart};
use tracing::{debug, info};

use crate::fault::fault;

use super::{
    engine::{OnEngine as _, is_absent},
    names,
    spec::{Spec, restart},
};

/// A container of an app.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) launch: String,
    /// The tree that it was made of.
    pub(super) tree: String,
    /// The id of its image.
    pub(super) image: String,
    /// Names and ids of the networks that it is connected to.
    networks: Vec<String>,
    pub(super) is_running: bool,
    /// It is started before the one that serves is stopped.
    pub(super) starts_first: bool,
}

/// The containers of one app on an engine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Swap<'a> {
    pub(super) docker: &'a Docker,
    pub(super) app: &'a AppId,
}

impl Swap<'_> {
    /// All of them; not what people made of our images, which has the app's label from there.
    pub(super) async fn all(&self) -> Result<Vec<Known>, Fault> {
        let label = format!("{}={}", names::APP, self.app);
        let listed = list(self.docker, vec![label, names::LAUNCH.to_owned()]).await?;
        Ok(listed
            .into_iter()
            .filter_map(known)
            .filter(|known| names::is_role(&known.name, self.app))
            .collect())
    }

    /// Makes the container as the next one, unless it is there already under any name; and says whether it was made now.
    pub(super) async fn make(&self, spec: &Spec) -> Result<(Known, bool), Fault> {
        let all = self.all().await?;
        let next = names::next(self.app);
        for stale in all.iter().filter(|known| known.name == next && known.launch != spec.launch) {
            self.remove(stale).await?;
        }
        if let Some(there) = all.into_iter().find(|known| known.launch == spec.launch) {
            // The worker may have been killed before it was connected.
            self.connect(&there, spec).await?;
            return Ok((there, false));
        }
        let options =
            CreateContainerOptions { name: Some(next.clone()), ..CreateContainerOptions::default() };
        let made = self.docker.create_container(Some(options), spec.body.clone()).await;
        let id = made.on_engine(Reason::StartFailed, || format!("make container {next}"))?.id;
        let made = self.all().await?.into_iter().find(|known| known.id == id);
        let made = made.ok_or_else(|| {
            fault(Reason::StartFailed, format!("container {next} is gone as soon as it was made"))
        })?;
        if let Err(fault) = self.connect(&made, spec).await {
            // It must not be taken for one that is ready.
            self.remove(&made).await?;
            return Err(fault);
        }
        Ok((made, true))
    }

    /// Connects it to those networks beside its first one that it lacks.
    async fn connect(&self, made: &Known, spec: &Spec) -> Result<(), Fault> {
        for network in spec.networks.iter().filter(|network| !made.networks.contains(network)) {
            let request = NetworkConnectRequest { container: made.id.clone(), endpoint_config: None };
            let connected = self.docker.connect_network(network, request).await;
            let doing = || format!("connect container {} to {network}", made.name);
            connected.on_engine(Reason::StartFailed, doing)?;
        }
        Ok(())
    }

    /// Gives the container the name that serves, and starts it. Whatever served before is stopped and kept.
    pub(super) async fn take_over(&self, wanted: &Known) -> Result<(), Fault> {
        let serving = names::serving(self.app);
        let all = self.all().await?;
        if let Some(holder) = all.iter().find(|known| known.name == serving && known.id != wanted.id) {
            self.stop(holder).await?;
            let is_rollback = wanted.name == names::previous(self.app);
            let kept_as = if is_rollback { names::failed(self.app) } else { names::previous(self.app) };
            for older in all.iter().filter(|known| known.name == kept_as) {
                self.remove(older).await?;
            }
            self.rename(holder, &kept_as).await?;
        }
        if wanted.name != serving {
            self.rename(wanted, &serving).await?;
        }
        self.start(wanted, &serving).await
    }

    /// Stops the container for good: not even the engine's own restart brings it back.
    pub(super) async fn stop(&self, known: &Known) -> Result<(), Fault> {
        self.set_restart(known, Restart::No).await?;
        match self.docker.stop_container(&known.id, None::<StopContainerOptions>).await {
            Err(err) if is_absent(&err) => Ok(()),
            stopped => stopped.on_engine(Reason::StartFailed, || format!("stop container {}", known.name)),
        }
    }

    /// Says when the engine restarts the container by itself.
    pub(super) async fn set_restart(&self, known: &Known, policy: Restart) -> Result<(), Fault> {
        let update = ContainerUpdateBody { restart_policy: Some(restart(policy)), ..Default::default() };
        match self.docker.update_container(&known.id, update).await {
            Err(err) if is_absent(&err) => Ok(()),
            updated => updated.map(drop).on_engine(Reason::StartFailed, || {
                format!("set the restart policy of container {}", known.name)
            }),
        }
    }

    /// Removes the container, running or not, with volumes that have no name; others stay.
    pub(super) async fn remove(&self, known: &Known) -> Result<(), Fault> {
        let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        debug!(app = %self.app, container = %known.name, "container removed");
        match self.docker.remove_container(&known.id, Some(options)).await {
            Err(err) if is_absent(&err) => Ok(()),
            removed => removed.on_engine(Reason::StartFailed, || format!("remove container {}", known.name)),
        }
    }

    async fn rename(&self, known: &Known, name: &str) -> Result<(), Fault> {
        let options = RenameContainerOptions { name: name.to_owned() };
        let renamed = self.docker.rename_container(&known.id, options).await;
        renamed.on_engine(Reason::StartFailed, || format!("rename container {} to {name}", known.name))
    }

    /// Starts it under `name`; one that runs is fine.
    pub(super) async fn start(&self, known: &Known, name: &str) -> Result<(), Fault> {
        let started = self.docker.start_container(&known.id, None::<StartContainerOptions>).await;
        started.on_engine(Reason::StartFailed, || format!("start container {name}"))?;
        info!(app = %self.app, container = name, "container started");
        Ok(())
    }
}

/// Every container with all of these labels, running or not.
pub(super) async fn list(docker: &Docker, labels: Vec<String>) -> Result<Vec<ContainerSummary>, Fault> {
    let doing = || format!("list the containers with labels {}", labels.join(", "));
    let options = ListContainersOptions {
        all: true,
        filters: Some([("label".to_owned(), labels.clone())].into()),
        ..ListContainersOptions::default()
    };
    docker.list_containers(Some(options)).await.on_engine(Reason::StartFailed, doing)
}

/// A container that is ours, as the engine lists it.
pub(super) fn known(listed: ContainerSummary) -> Option<Known> {
    let names = listed.names.unwrap_or_default();
    // Links of other containers have more slashes.
    let name = names.iter().filter_map(|name| name.strip_prefix('/')).find(|name| !name.contains('/'))?;
    let mut labels = listed.labels.unwrap_or_default();
    let networks = listed.network_settings.and_then(|settings| settings.networks).unwrap_or_default();
    let networks = networks.into_iter().flat_map(|(name, there)| [Some(name), there.network_id]).flatten();
    let running = [ContainerSummaryStateEnum::RUNNING, ContainerSummaryStateEnum::RESTARTING];
    Some(Known {
        id: listed.id?,
        name: name.to_owned(),
        launch: labels.remove(names::LAUNCH).unwrap_or_default(),
        tree: labels.remove(names::SIGNATURE).unwrap_or_default(),
        image: listed.image_id.unwrap_or_default(),
        networks: networks.collect(),
        starts_first: labels.contains_key(names::STARTS_FIRST),
        is_running: listed.state.is_some_and(|state| running.contains(&state)),
    })
}
