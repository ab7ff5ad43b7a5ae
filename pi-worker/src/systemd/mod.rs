//! Apps that are systemd units of this node: over D-Bus, or through `systemctl` where there is no bus.
//!
//! A connection is made for each use: uses are rare, and a bus that was restarted in between does no harm.

mod bus;
mod commands;
#[cfg(test)]
mod fake;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use agent::{Notice, Notices};
use machine::Fault;
use schemas::{id::AppId, reason::Reason};
use tokio::{
    task::AbortHandle,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use crate::{fault::fault, tail::tail};
use bus::Bus;

/// Longest wait for a start or stop. systemd itself gives up after 90 s unless the unit says otherwise.
const JOB_WITHIN: Duration = Duration::from_mins(5);
/// Longest wait for the last lines of a unit.
const TAIL_WITHIN: Duration = Duration::from_secs(3);
/// How long a lost connection to systemd is left alone.
const LINK_AGAIN: Duration = Duration::from_secs(5);

/// What systemd says of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnitState {
    load: String,
    active: String,
    sub: String,
    result: String,
    restarts: u32,
}

impl UnitState {
    /// Why it is not active since it was restarted `restarts` times, if so.
    pub(crate) fn trouble(&self, unit: &str, restarts: u32) -> Option<String> {
        if self.load == "not-found" {
            return Some(format!("unit {unit} is not installed on this node"));
        }
        if self.active != "active" && self.active != "reloading" {
            return Some(format!("unit {unit} is {self}"));
        }
        (self.restarts > restarts).then(|| format!("unit {unit} was restarted by systemd, it is {self}"))
    }

    /// How often systemd has restarted it by itself.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts
    }
}

impl fmt::Display for UnitState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}), result {}", self.active, self.sub, self.result)
    }
}

/// Starts, stops and follows units.
#[derive(Debug)]
pub(crate) struct Units {
    notices: Notices,
    /// Another bus than the system's, for tests.
    address: Option<String>,
    followed: Mutex<BTreeMap<AppId, AbortHandle>>,
}

/// The way to systemd.
enum Link {
    Bus(Bus),
    Commands,
}

impl Units {
    pub(crate) fn new(notices: Notices) -> Self {
        Self { notices, address: None, followed: Mutex::default() }
    }

    /// Starts the unit unless it is active, and tells from then on when it ends or is restarted.
    pub(crate) async fn start(&self, app: &AppId, unit: &str) -> Result<(), Fault> {
        let link = self.link().await;
        let before = link.state(unit).await?;
        if before.load == "not-found" {
            return Err(start_failed(before.trouble(unit, 0).unwrap_or_default()));
        }
        if before.active != "active" {
            let result = link.start(unit).await?;
            if result != "done" {
                return Err(self
                    .with_tail(unit, format!("start of unit {unit} ended with `{result}`"))
                    .await);
            }
            info!(%app, unit, "unit started");
        }
        let state = link.state(unit).await?;
        if let Some(trouble) = state.trouble(unit, state.restarts) {
            return Err(self.with_tail(unit, trouble).await);
        }
        self.follow(app.clone(), unit.to_owned(), state.restarts);
        Ok(())
    }

    /// Stops the unit; one that does not run or is not there is fine.
    pub(crate) async fn stop(&self, app: &AppId, unit: &str) -> Result<(), Fault> {
        if let Some(follower) = self.lock().remove(app) {
            follower.abort();
        }
        let link = self.link().await;
        let state = link.state(unit).await?;
        if state.load == "not-found" || state.active == "inactive" {
            return Ok(());
        }
        match link.stop(unit).await?.as_str() {
            "done" => Ok(()),
            result => Err(start_failed(format!("stop of unit {unit} ended with `{result}`"))),
        }
    }

    /// The state of the unit.
    pub(crate) async fn state(&self, unit: &str) -> Result<UnitState, Fault> {
        self.link().await.state(unit).await
    }

    /// The last lines that the unit logged.
    pub(crate) async fn log_tail(unit: &str) -> Vec<String> {
        tail(&timeout(TAIL_WITHIN, commands::journal_tail(unit)).await.unwrap_or_default())
    }

    async fn link(&self) -> Link {
        match Bus::connect(self.address.as_deref()).await {
            Ok(bus) => Link::Bus(bus),
            Err(err) => {
                debug!(%err, "no D-Bus, systemctl is used");
                Link::Commands
            }
        }
    }

    fn follow(&self, app: AppId, unit: String, restarts: u32) {
        let (notices, address) = (self.notices.clone(), self.address.clone());
        let units = Self { notices: notices.clone(), address, followed: Mutex::default() };
        let key = app.clone();
        let follower = tokio::spawn(async move {
            let trouble = units.trouble(&unit, restarts).await;
            let log_tail = Self::log_tail(&unit).await;
            // Nobody listens any more when the worker is about to end.
            let _ = notices.send((app, Notice::Exited(Fault { log_tail, ..fault(Reason::Exited, trouble) })));
        });
        if let Some(before) = self.lock().insert(key, follower.abort_handle()) {
            before.abort();
        }
    }

    /// Waits until the unit is not active any more or was restarted, and says so.
    async fn trouble(&self, unit: &str, restarts: u32) -> String {
        loop {
            let mut trouble = None;
            let look = |state: UnitState| {
                trouble = state.trouble(unit, restarts);
                trouble.is_some()
            };
            if let Err(fault) = self.link().await.follow(unit, look).await {
                debug!(unit, text = %fault.text, "lost sight of a unit");
            }
            match trouble {
                Some(trouble) => return trouble,
                None => sleep(LINK_AGAIN).await,
            }
        }
    }

    async fn with_tail(&self, unit: &str, text: String) -> Fault {
        Fault { log_tail: Self::log_tail(unit).await, ..start_failed(text) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AppId, AbortHandle>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        self.lock().values().for_each(AbortHandle::abort);
    }
}

impl Link {
    async fn start(&self, unit: &str) -> Result<String, Fault> {
        in_time("start", unit, async {
            match self {
                Self::Bus(bus) => bus.start(unit).await.map_err(|err| err.to_string()),
                Self::Commands => commands::start(unit).await.map_err(|err| err.to_string()),
            }
        })
        .await
    }

    async fn stop(&self, unit: &str) -> Result<String, Fault> {
        in_time("stop", unit, async {
            match self {
                Self::Bus(bus) => bus.stop(unit).await.map_err(|err| err.to_string()),
                Self::Commands => commands::stop(unit).await.map_err(|err| err.to_string()),
            }
        })
        .await
    }

    async fn state(&self, unit: &str) -> Result<UnitState, Fault> {
        in_time("look at", unit, async {
            match self {
                Self::Bus(bus) => bus.state(unit).await.map_err(|err| err.to_string()),
                Self::Commands => commands::state(unit).await.map_err(|err| err.to_string()),
            }
        })
        .await
    }

    async fn follow(&self, unit: &str, look: impl FnMut(UnitState) -> bool) -> Result<(), Fault> {
        match self {
            Self::Bus(bus) => bus.follow(unit, look).await.map_err(|err| err.to_string()),
            Self::Commands => commands::follow(unit, look).await.map_err(|err| err.to_string()),
        }
        .map_err(start_failed)
    }
}

async fn in_time<T>(
    doing: &str,
    unit: &str,
    work: impl Future<Output = Result<T, String>>,
) -> Result<T, Fault> {
    match timeout(JOB_WITHIN, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(err)) => Err(start_failed(format!("cannot {doing} unit {unit}: {err}"))),
        Err(_) => {
            let secs = JOB_WITHIN.as_secs();
            Err(start_failed(format!("cannot {doing} unit {unit}: not done within {secs} s")))
        }
    }
}

fn start_failed(text: String) -> Fault {
    fault(Reason::StartFailed, text)
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::{fake::FakeSystemd, *};

    #[tokio::test]
    async fn a_unit_is_started_followed_and_stopped() {
        let Some(systemd) = FakeSystemd::run().await else { return };
        let (units, mut notices) = units(&systemd);
        let web = app();
        units.start(&web, "web.service").await.unwrap();
        units.start(&web, "web.service").await.unwrap();
        assert_eq!(systemd.calls(), ["reset web.service", "start web.service"]);
        units.stop(&web, "web.service").await.unwrap();
        units.stop(&web, "web.service").await.unwrap();
        assert_eq!(systemd.calls()[2..], ["stop web.service"]);
        assert!(notices.try_recv().is_err(), "an end that was asked for is no news");
    }

    #[tokio::test]
    async fn a_unit_that_is_not_there_is_named_and_need_not_be_stopped() {
        let Some(systemd) = FakeSystemd::run().await else { return };
        let (units, _notices) = units(&systemd);
        let fault = units.start(&app(), "nope.service").await.unwrap_err();
        assert_eq!(fault.text, "unit nope.service is not installed on this node");
        assert_eq!(fault.reason, Reason::StartFailed);
        units.stop(&app(), "nope.service").await.unwrap();
        assert!(systemd.calls().is_empty());
    }

    #[tokio::test]
    async fn a_job_that_fails_and_one_that_leaves_nothing_running_are_failed_starts() {
        let Some(systemd) = FakeSystemd::run().await else { return };
        let (units, _notices) = units(&systemd);
        systemd.jobs_end_with("failed", "failed").await;
        let fault = units.start(&app(), "web.service").await.unwrap_err();
        assert_eq!(fault.text, "start of unit web.service ended with `failed`");
        systemd.jobs_end_with("done", "inactive").await;
        let fault = units.start(&app(), "web.service").await.unwrap_err();
        assert!(fault.text.starts_with("unit web.service is inactive ("), "{}", fault.text);
    }

    #[tokio::test]
    async fn a_restart_by_systemd_and_an_end_are_news() {
        let Some(systemd) = FakeSystemd::run().await else { return };
        let (units, mut notices) = units(&systemd);
        for (active, restarts, text) in
            [("active", 1, "was restarted by systemd"), ("failed", 1, "is failed (")]
        {
            units.start(&app(), "web.service").await.unwrap();
            systemd.change(active, restarts).await;
            let Notice::Exited(fault) = next(&mut notices).await else { panic!("no end") };
            assert!(fault.reason == Reason::Exited && fault.text.contains(text), "{}", fault.text);
        }
    }

    fn units(systemd: &FakeSystemd) -> (Units, UnboundedReceiver<(AppId, Notice)>) {
        let (sender, notices) = unbounded_channel();
        let address = Some(systemd.address().to_owned());
        (Units { notices: sender, address, followed: Mutex::default() }, notices)
    }

    fn app() -> AppId {
        "web".parse().unwrap()
    }

    async fn next(notices: &mut UnboundedReceiver<(AppId, Notice)>) -> Notice {
        timeout(Duration::from_secs(30), notices.recv()).await.unwrap().unwrap().1
    }
}
