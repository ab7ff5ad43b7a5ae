//! Following the container of an app: that it ended by itself is news.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agent::{Notice, Notices};
use bollard::{
    Docker,
    errors::Error,
    query_parameters::{LogsOptions, WaitContainerOptions},
};
use futures_util::StreamExt as _;
use schemas::{id::AppId, reason::Reason};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};
use tracing::debug;

use super::engine::{Endpoint, is_absent};
use crate::{
    fault::fault,
    tail::{ENOUGH_BYTES, tail},
};

/// How long an engine that went away is left alone.
const ENGINE_AGAIN: Duration = Duration::from_secs(1);
/// A container that lives for ever is asked about anew that often.
const ASK_ANEW: Duration = Duration::from_hours(24);

/// Follows one container per app.
#[derive(Debug)]
pub(super) struct Followers {
    notices: Notices,
    followed: Mutex<BTreeMap<AppId, AbortHandle>>,
}

impl Followers {
    pub(super) fn new(notices: Notices) -> Self {
        Self { notices, followed: Mutex::default() }
    }

    /// Tells once when the container ends, in place of what was followed before.
    pub(super) fn follow(&self, app: &AppId, endpoint: &Endpoint, id: &str) {
        let (notices, endpoint, id, of) =
            (self.notices.clone(), endpoint.clone(), id.to_owned(), app.clone());
        let follower = tokio::spawn(async move {
            let started = Instant::now();
            let how = end_of(&endpoint, &id).await;
            let text = format!("container {of} ended after {:.1} s: {how}", started.elapsed().as_secs_f64());
            let log_tail = match endpoint.connect().await {
                Ok(docker) => log_tail(&docker, &id).await,
                Err(_) => Vec::new(),
            };
            let ended = machine::Fault { log_tail, ..fault(Reason::Exited, text) };
            // Nobody listens any more when the worker is about to end.
            let _ = notices.send((of, Notice::Exited(ended)));
        });
        if let Some(before) = self.lock().insert(app.clone(), follower.abort_handle()) {
            before.abort();
        }
    }

    /// An end is no news any more.
    pub(super) fn end(&self, app: &AppId) {
        if let Some(follower) = self.lock().remove(app) {
            follower.abort();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AppId, AbortHandle>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Followers {
    fn drop(&mut self) {
        self.lock().values().for_each(AbortHandle::abort);
    }
}

/// Waits until the container does not run any more, over restarts of the engine, and says how it ended.
async fn end_of(endpoint: &Endpoint, id: &str) -> String {
    loop {
        if let Ok(docker) = endpoint.connect().await {
            match ended(&docker.with_timeout(ASK_ANEW), id).await {
                Ok(how) => return how,
                Err(err) if is_absent(&err) => return "it was removed".to_owned(),
                Err(err) => debug!(%err, "lost sight of a container"),
            }
        }
        sleep(ENGINE_AGAIN).await;
    }
}

/// Waits for the end of a container, and says how it ended.
pub(super) async fn ended(docker: &Docker, id: &str) -> Result<String, Error> {
    let options = WaitContainerOptions { condition: "not-running".to_owned() };
    let code = match Box::pin(docker.wait_container(id, Some(options))).next().await {
        Some(Ok(waited)) => waited.status_code,
        Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
        Some(Err(err)) => return Err(err),
        None => return Err(Error::RequestTimeoutError),
    };
    let state = docker.inspect_container(id, None).await?.state.unwrap_or_default();
    let is_oom = state.oom_killed == Some(true);
    Ok(format!("exit code {code}{}", if is_oom { ", killed for lack of memory" } else { "" }))
}

/// Says the last lines that a container has said, and all that come.
pub(super) async fn listen(docker: &Docker, name: &str, lines: usize, say: impl Fn(&[u8])) {
    let tail = lines.to_string();
    let options = LogsOptions { follow: true, stdout: true, stderr: true, tail, ..LogsOptions::default() };
    let mut log = Box::pin(docker.logs(name, Some(options)));
    while let Some(Ok(line)) = log.next().await {
        say(line.as_ref());
    }
}

/// The last lines that a container said.
pub(super) async fn log_tail(docker: &Docker, id: &str) -> Vec<String> {
    let options =
        LogsOptions { stdout: true, stderr: true, tail: "200".to_owned(), ..LogsOptions::default() };
    let mut log = Box::pin(docker.logs(id, Some(options)));
    let mut said: Vec<u8> = Vec::new();
    while let Some(Ok(line)) = log.next().await {
        said.extend_from_slice(line.as_ref());
        let excess = said.len().saturating_sub(ENOUGH_BYTES);
        said.drain(..excess);
    }
    tail(&said)
}
