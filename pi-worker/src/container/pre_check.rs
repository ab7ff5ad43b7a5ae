//! The release's pre-check: in a container of its own, of the new image, which has no ports and is gone afterwards.

use std::time::Duration;

use bollard::query_parameters::{CreateContainerOptions, StartContainerOptions};
use machine::Fault;
use schemas::{reason::Reason, release::Hook};
use tokio::time::timeout;

use super::{
    Containers, Wanted,
    engine::OnEngine as _,
    follow::{ended, log_tail},
    names,
    swap::Swap,
};
use crate::fault::fault;

impl Containers {
    /// Runs the hook; anything but exit code 0 is a no.
    pub(crate) async fn pre_check(&self, wanted: &Wanted<'_>, hook: &Hook) -> Result<(), Fault> {
        let docker = self.endpoint.connect().await?;
        let swap = Swap { docker: &docker, app: wanted.app };
        let name = names::check(wanted.app);
        // One that a crash has left, too.
        self.remove_check(&swap, &name).await?;
        let mut body = wanted.spec()?.body;
        let mut words = hook.command.iter().cloned();
        body.entrypoint = words.next().map(|program| vec![program]);
        body.cmd = Some(words.collect());
        body.exposed_ports = None;
        if let Some(host) = &mut body.host_config {
            host.port_bindings = None;
        }
        // It is ours, and no container that could serve.
        body.labels.get_or_insert_default().insert(names::LAUNCH.to_owned(), String::new());
        let options =
            CreateContainerOptions { name: Some(name.clone()), ..CreateContainerOptions::default() };
        let doing = || format!("run the pre-check in container {name}");
        let made = docker.create_container(Some(options), body).await;
        let id = made.on_engine(Reason::PreCheckFailed, doing)?.id;
        let started = docker.start_container(&id, None::<StartContainerOptions>).await;
        let checked = match started.on_engine(Reason::PreCheckFailed, doing) {
            Ok(()) => self.outcome(&docker, &id, hook).await,
            Err(fault) => Err(fault),
        };
        self.remove_check(&swap, &name).await?;
        checked
    }

    async fn outcome(&self, docker: &bollard::Docker, id: &str, hook: &Hook) -> Result<(), Fault> {
        let limit = Duration::from_millis(hook.timeout_ms);
        let ended = timeout(limit, ended(docker, id)).await;
        let log_tail = log_tail(docker, id).await;
        let no = |reason, text: String| Err(Fault { log_tail, ..fault(reason, text) });
        match ended {
            Ok(Ok(how)) if how == "exit code 0" => Ok(()),
            Ok(Ok(how)) => no(Reason::PreCheckFailed, format!("pre-check: ended with {how}")),
            Ok(Err(err)) => no(Reason::PreCheckFailed, format!("pre-check: {err}")),
            Err(_) => {
                let text = format!("pre-check did not end within {} ms and was killed", hook.timeout_ms);
                no(Reason::HookTimeout, text)
            }
        }
    }

    async fn remove_check(&self, swap: &Swap<'_>, name: &str) -> Result<(), Fault> {
        for known in swap.all().await?.iter().filter(|known| known.name == name) {
            swap.remove(known).await?;
        }
        Ok(())
    }
}
