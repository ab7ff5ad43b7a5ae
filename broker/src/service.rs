//! Relay, store and controller in one process.

use std::{
    net::SocketAddr,
    sync::{Arc, Weak},
    time::Duration,
};

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use schemas::seal::SecretKey;
use tokio::{sync::oneshot, task::JoinHandle};
use tracing::{info, warn};

use crate::{
    access::Access,
    controller::{self, Controller, Wire},
    folder::{self, Lock},
    log::Log,
    metrics::{Metrics, Questions},
    nodes::Nodes,
    notify::{Notifier, Subscriptions},
    page::{self, Lookout},
    relay::{Relay, Transport},
    settings::{Limits, Settings},
    store::{Chunks, Door, Scheme, Store},
    tls::Tls,
};

/// How often it is looked whether certificates have changed.
const CERTIFICATES_PERIOD: Duration = Duration::from_secs(5);
/// How long the controller may take to say that it goes.
const LAST_WORDS_LIMIT: Duration = Duration::from_secs(2);
/// Open files that are kept for listeners, the log and the rest, unless that is more than a quarter of all.
const FILES_FOR_OTHERS: usize = 100;
/// A request has its connection and the file that it reads or writes.
const FILES_PER_REQUEST: usize = 2;

/// A controller that runs, and how to have it end.
#[derive(Debug)]
struct Conducting {
    task: JoinHandle<()>,
    stop: oneshot::Sender<()>,
}

/// A running service.
#[derive(Debug)]
pub struct Service {
    relay: Option<Relay>,
    store: Store,
    log: Log,
    notifier: Notifier,
    tls: Option<Arc<Tls>>,
    controller: Option<Conducting>,
    /// Given back last.
    _lock: Lock,
}

impl Service {
    /// Starts what `settings` say. Both listeners are bound when this returns.
    ///
    /// # Errors
    /// Names the port, file or folder that cannot be used.
    pub async fn start(mut settings: Settings) -> anyhow::Result<Self> {
        settings.check()?;
        let lock = folder::lock(&settings.data)?;
        fit(&mut settings.limits, open_files());
        let nodes = nodes(&settings)?;
        let access = Arc::new(access(&settings, nodes.clone())?);
        let tls = settings.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
        if let Some(tls) = &tls {
            tokio::spawn(watch_certificates(Arc::downgrade(tls)));
        }
        let key = settings.follows_the_bus().then(|| controller::open_key(&settings.data)).transpose()?;
        let (lookout, window) = page::lookout();
        let window = key.as_ref().map(|_| window);
        let mut relay = match &settings.bus {
            Some(bus) => {
                info!(%bus, "relay is off, another broker is the bus");
                None
            }
            None => Some(start_relay(&settings, Arc::clone(&access), tls.clone(), nodes.as_ref())?),
        };
        let door = relay.as_ref().zip(nodes).map(|(relay, nodes)| Door { nodes, inside: relay.inside() });
        let subscriptions = Subscriptions::new(&settings.fleet, &settings.webhook);
        let log = Log::open_for(&settings.data, &settings.log, subscriptions)?;
        let notifier = Notifier::start(&settings.webhook, &log)?;
        start_chunks(&settings, relay.as_mut())?;
        let counts = relay.as_ref().map(Relay::counts);
        let (metrics, questions) = Metrics::new(log.tallies(), counts, settings.data.join("store/v1"));
        let page = page::router(&settings, Arc::clone(&access), window, log.clone())?;
        let store = Store::start(&settings, access, tls.clone(), door, log.clone(), (metrics, page)).await?;
        let seen = (questions, lookout);
        let controller =
            key.map(|key| start_controller(&settings, key, relay.as_mut(), log.clone(), seen)).transpose()?;
        Ok(Self { relay, store, log, notifier, tls, controller, _lock: lock })
    }

    /// Where the relay listens, by what is spoken there; nowhere if it does not run.
    pub fn listeners(&self) -> &[(Transport, SocketAddr)] {
        self.relay.as_ref().map_or(&[], Relay::listeners)
    }

    /// Reads the certificates again at once; they and the users' file are watched anyway. What cannot be used is said, and what was before
    /// stays.
    pub fn reload(&self) {
        if let Some(tls) = &self.tls {
            tls.reload();
        }
    }

    /// Where the store listens, by what is spoken there.
    pub fn store_listeners(&self) -> &[(Scheme, SocketAddr)] {
        self.store.listeners()
    }

    /// The deploy log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Ends when the service cannot go on, and says why.
    pub async fn failed(&mut self) -> anyhow::Error {
        let Self { relay, store, controller, .. } = self;
        let relay = async {
            match relay {
                Some(relay) => anyhow::Error::new(relay.failed().await).context("the relay cannot go on"),
                None => std::future::pending().await,
            }
        };
        let controller = async {
            match controller {
                Some(controller) => {
                    let ended = (&mut controller.task)
                        .await
                        .err()
                        .map_or_else(|| "it has ended".to_owned(), |err| err.to_string());
                    anyhow::anyhow!("the controller cannot go on: {ended}")
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            err = relay => err,
            err = store.failed() => err,
            err = controller => err,
        }
    }

    /// Whether a message goes through the relay and back within `limit`.
    pub async fn is_alive(&self, limit: Duration) -> bool {
        match &self.relay {
            Some(relay) => tokio::time::timeout(limit, relay.probe()).await.unwrap_or(false),
            None => true,
        }
    }

    /// Stops cleanly: everything that was acknowledged is stored.
    pub async fn stop(self) {
        if let Some(Conducting { mut task, stop }) = self.controller {
            // Who has ended hears nothing.
            let _ = stop.send(());
            if tokio::time::timeout(LAST_WORDS_LIMIT, &mut task).await.is_err() {
                // It may die at any moment.
                task.abort();
            }
        }
        let store = self.store.stop();
        match self.relay {
            Some(relay) => {
                tokio::join!(relay.stop(), store);
            }
            None => store.await,
        }
        self.notifier.stop().await;
        let closed = tokio::task::spawn_blocking(move || self.log.close()).await;
        if let Err(err) = closed {
            warn!(error = %err, "the deploy log ended badly");
        }
    }
}

/// Looks whether certificates have changed, or are to be renewed, for as long as they are in use.
async fn watch_certificates(tls: Weak<Tls>) {
    loop {
        tokio::time::sleep(CERTIFICATES_PERIOD).await;
        match tls.upgrade() {
            Some(tls) => tls.look(),
            None => return,
        }
    }
}

/// Where the settings name a root: without one, nodes log in by the users file alone. An open broker asks nobody.
fn nodes(settings: &Settings) -> anyhow::Result<Option<Arc<Nodes>>> {
    let root = settings.root.as_ref().filter(|_| !settings.open_loopback);
    Ok(root.map(|root| Nodes::open(root, &settings.fleet)).transpose()?.map(Arc::new))
}

fn access(settings: &Settings, nodes: Option<Arc<Nodes>>) -> anyhow::Result<Access> {
    match &settings.users {
        _ if settings.open_loopback => {
            warn!("everybody on this machine may do everything here (--open-loopback): only for trying out");
            Ok(Access::open(&settings.fleet))
        }
        Some(users) => Ok(Access::users(users.clone(), settings.fleet.clone(), nodes)?),
        None => Err(crate::SettingsError::NoUsers.into()),
    }
}

fn start_relay(
    settings: &Settings,
    access: Arc<Access>,
    tls: Option<Arc<Tls>>,
    nodes: Option<&Arc<Nodes>>,
) -> anyhow::Result<Relay> {
    let view = if settings.follows_the_bus() { controller::filters(&settings.fleet) } else { Vec::new() };
    Ok(Relay::start(settings, settings.lazy_filters()?, access, tls, nodes, &view)?)
}

/// Nodes that cannot speak HTTP ask for objects on our own bus.
fn start_chunks(settings: &Settings, relay: Option<&mut Relay>) -> anyhow::Result<()> {
    if let Some((relay, wants)) = relay.and_then(|relay| relay.take_wants().map(|wants| (relay, wants))) {
        let chunks = Chunks::new(&settings.data, settings.fleet.clone(), relay.inside())
            .with_context(|| format!("cannot make the store's folder in {}", settings.data.display()))?;
        tokio::spawn(chunks.run(wants));
    }
    Ok(())
}

fn start_controller(
    settings: &Settings,
    key: SecretKey,
    relay: Option<&mut Relay>,
    log: Log,
    (questions, lookout): (Questions, Lookout),
) -> anyhow::Result<Conducting> {
    let own = relay.and_then(|relay| Some(Wire::Inside(relay.inside(), relay.take_view()?)));
    let wire = match (own, &settings.bus) {
        (Some(own), _) => own,
        (None, Some(bus)) => Wire::connect(bus, &settings.controller, key.public().id(), &settings.fleet)?,
        (None, None) => anyhow::bail!("there is no bus to carry rollouts out on"),
    };
    let root = settings.root.as_deref().context("the settings name no root")?;
    let style = settings.home_assistant.discovery;
    let conducts = settings.controller.enabled;
    let controller = Controller::new(root, key, conducts, style, wire, log, lookout)?;
    let (stop, stopped) = oneshot::channel();
    Ok(Conducting { task: tokio::spawn(controller.run(questions, stopped)), stop })
}

/// Each connection is a file, and the usual soft limit of 1,024 would stop a fleet.
fn open_files() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(err) = setrlimit(Resource::Nofile, raised) {
        warn!(error = %err, "cannot raise the limit of open files");
    }
    getrlimit(Resource::Nofile).current.map_or(usize::MAX, |files| files as usize)
}

/// Refusing a client in time is better than running out of files, which would stop the store and the log too.
fn fit(limits: &mut Limits, files: usize) {
    let rest = files - FILES_FOR_OTHERS.min(files / 4);
    let requests = limits.http_connections.min(rest / 4 / FILES_PER_REQUEST);
    let connections = limits.connections.min(rest - requests * FILES_PER_REQUEST);
    if requests < limits.http_connections || connections < limits.connections {
        info!(
            files,
            connections,
            http_connections = requests,
            "the limit of open files allows fewer connections"
        );
    }
    (limits.http_connections, limits.connections) = (requests, connections);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_fit_into_the_open_files() {
        for (files, http, mqtt) in
            [(64, 6, 36), (1024, 115, 694), (65_536, 2_000, 20_000), (usize::MAX, 2_000, 20_000)]
        {
            let mut limits = Limits::default();
            fit(&mut limits, files);
            assert_eq!((limits.http_connections, limits.connections), (http, mqtt), "{files}");
        }
    }
}
