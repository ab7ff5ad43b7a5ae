//! The container engine of the node, over its socket. A connection is made for each use: uses are rare, and an engine
//! that was restarted in between does no harm.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use bollard::{Docker, errors::Error};
use machine::Fault;
use schemas::reason::Reason;
use tokio::time::{Instant, sleep};

use crate::fault::fault;

/// Where the engine listens unless somebody says otherwise.
const DEFAULT_SOCKET: &str = "unix:///var/run/docker.sock";
/// No single request but a build takes longer; a stop may take as long as the app is given for it.
const REQUEST_WITHIN: Duration = Duration::from_mins(5);
/// An engine that is restarted was seen to take 11 s: it stops what it finds.
const BACK_WITHIN: Duration = Duration::from_secs(30);
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Where the engine of this node listens.
#[derive(Debug, Clone)]
pub(super) struct Endpoint(String);

impl Endpoint {
    /// The one of the settings, else that of `DOCKER_HOST`, else where every engine listens.
    pub(super) fn new(settings: Option<&str>) -> Self {
        let named = settings.map(str::to_owned).or_else(|| std::env::var("DOCKER_HOST").ok());
        Self(named.filter(|named| !named.is_empty()).unwrap_or_else(|| DEFAULT_SOCKET.to_owned()))
    }

    /// Connects; the engine answers.
    pub(super) async fn connect(&self) -> Result<Docker, Fault> {
        let connected = Docker::connect_with_host(&self.0).map_err(|err| self.absent(&err))?;
        let connected = connected.with_timeout(REQUEST_WITHIN);
        connected.negotiate_version().await.map_err(|err| self.absent(&err))
    }

    /// The same for steps during which nothing serves: an engine that is being restarted is waited for.
    pub(super) async fn connect_patiently(&self) -> Result<Docker, Fault> {
        let until = Instant::now() + BACK_WITHIN;
        loop {
            match self.connect().await {
                Err(fault) if fault.reason == Reason::EngineDown && Instant::now() < until => {
                    sleep(ASK_AGAIN).await;
                }
                connected => return connected,
            }
        }
    }

    fn absent(&self, err: &Error) -> Fault {
        let socket = self.0.strip_prefix("unix://").map(PathBuf::from);
        let is_there = socket.as_deref().is_none_or(Path::exists);
        if !is_there && !is_installed() {
            let text = format!("nothing listens on {}, and no dockerd is installed", self.0);
            return fault(Reason::EngineMissing, text);
        }
        let text = format!("the engine at {} does not answer: {err}", self.0);
        Fault { transient: true, ..fault(Reason::EngineDown, text) }
    }
}

fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .any(|folder| folder.join("dockerd").is_file() || folder.join("podman").is_file())
}

/// Says what was being done when the engine refused.
pub(super) trait OnEngine<T> {
    /// `doing` completes "cannot …"; `reason` is what it means when the engine itself is well.
    fn on_engine(self, reason: Reason, doing: impl FnOnce() -> String) -> Result<T, Fault>;
}

impl<T> OnEngine<T> for Result<T, Error> {
    fn on_engine(self, reason: Reason, doing: impl FnOnce() -> String) -> Result<T, Fault> {
        self.map_err(|err| engine_fault(reason, &doing(), err))
    }
}

/// What an answer, or none, of the engine means.
pub(super) fn engine_fault(reason: Reason, doing: &str, err: Error) -> Fault {
    match err {
        Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message } => {
            let message = message.trim();
            fault(known_reason(message).unwrap_or(reason), format!("cannot {doing}: {message}"))
        }
        Error::HyperLegacyError { .. }
        | Error::HyperResponseError { .. }
        | Error::IOError { .. }
        | Error::RequestTimeoutError
        | Error::SocketNotFoundError(_) => {
            let text = format!("cannot {doing}: the engine went away: {err}");
            Fault { transient: true, ..fault(Reason::EngineDown, text) }
        }
        err => fault(reason, format!("cannot {doing}: {err}")),
    }
}

/// What a sentence of the engine means, whatever it was about.
pub(super) fn known_reason(message: &str) -> Option<Reason> {
    let says = |words: &[&str]| words.iter().any(|word| message.contains(word));
    if says(&["no space left on device", "disk quota exceeded"]) {
        return Some(Reason::DiskFull);
    }
    says(&["port is already allocated", "address already in use"]).then_some(Reason::PortTaken)
}

/// Whether the engine does not know what was asked for.
pub(super) fn is_absent(err: &Error) -> bool {
    matches!(err, Error::DockerResponseServerError { status_code: 404, .. })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_that_is_not_there_is_said_to_be_so() {
        let endpoint = Endpoint::new(Some("unix:///no/such.sock"));
        let fault = endpoint.connect().await.unwrap_err();
        assert!(matches!(fault.reason, Reason::EngineDown | Reason::EngineMissing), "{fault:?}");
        assert!(fault.text.contains("/no/such.sock"), "{}", fault.text);
        assert_eq!(fault.transient, fault.reason == Reason::EngineDown);
    }

    #[test]
    fn sentences_of_the_engine_become_reasons() {
        let said = |message: &str| {
            let err = Error::DockerResponseServerError { status_code: 500, message: message.into() };
            engine_fault(Reason::StartFailed, "start container web", err).reason
        };
        assert_eq!(said("write /x: no space left on device"), Reason::DiskFull);
        assert_eq!(said("Bind for 0.0.0.0:80 failed: port is already allocated"), Reason::PortTaken);
        assert_eq!(said("listen tcp4 0.0.0.0:80: bind: address already in use"), Reason::PortTaken);
        assert_eq!(said("no such device"), Reason::StartFailed);
    }
}
