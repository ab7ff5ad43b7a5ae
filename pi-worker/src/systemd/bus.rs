//! systemd over D-Bus (org.freedesktop.systemd1(5)).

use std::time::Duration;

use futures_util::StreamExt as _;
use zbus::{Connection, ObjectPath, OwnedObjectPath, connection::Builder, fdo, proxy::CacheProperties};

use super::UnitState;

/// systemd answers calls at once; what takes long are jobs, which are waited for apart.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

#[zbus::proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn subscribe(&self) -> zbus::Result<()>;
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn start_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn stop_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;

    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: ObjectPath<'_>, unit: &str, result: &str) -> zbus::Result<()>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait Unit {
    #[zbus(property)]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property)]
    fn sub_state(&self) -> zbus::Result<String>;
}

#[zbus::proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait Service {
    #[zbus(property)]
    fn result(&self) -> zbus::Result<String>;
    #[zbus(property, name = "NRestarts")]
    fn n_restarts(&self) -> zbus::Result<u32>;
}

/// A connection to systemd.
#[derive(Debug)]
pub(super) struct Bus(Connection);

impl Bus {
    /// Connects to the system bus, or to the bus at `address`.
    pub(super) async fn connect(address: Option<&str>) -> zbus::Result<Self> {
        let builder = address.map_or_else(Builder::system, Builder::address);
        Ok(Self(builder.method_timeout(CALL_TIMEOUT).build().await?))
    }

    /// Starts the unit and waits for the end of the job, which it gives: `done` or why not.
    pub(super) async fn start(&self, unit: &str) -> zbus::Result<String> {
        let manager = ManagerProxy::new(&self.0).await?;
        // A release that failed may have used up the starts that systemd allows; it knows no unit that never failed.
        let _ = manager.reset_failed_unit(unit).await;
        run_job(&manager, manager.start_unit(unit, "replace")).await
    }

    /// Stops the unit and waits for the end of the job, which it gives.
    pub(super) async fn stop(&self, unit: &str) -> zbus::Result<String> {
        let manager = ManagerProxy::new(&self.0).await?;
        run_job(&manager, manager.stop_unit(unit, "replace")).await
    }

    /// The state of the unit.
    pub(super) async fn state(&self, unit: &str) -> zbus::Result<UnitState> {
        // `LoadUnit` and not `GetUnit`: a stopped unit may have been unloaded.
        let path = ManagerProxy::new(&self.0).await?.load_unit(unit).await?;
        let unit =
            UnitProxy::builder(&self.0).path(&path).cache_properties(CacheProperties::No).build().await?;
        let service =
            ServiceProxy::builder(&self.0).path(&path).cache_properties(CacheProperties::No).build().await?;
        Ok(UnitState {
            load: unit.load_state().await?,
            active: unit.active_state().await?,
            sub: unit.sub_state().await?,
            // A unit that is no service has neither.
            result: service.result().await.unwrap_or_default(),
            restarts: service.n_restarts().await.unwrap_or_default(),
        })
    }

    /// Calls `look` now and after each change of the unit, until it says that it has seen enough.
    pub(super) async fn follow(
        &self,
        unit: &str,
        mut look: impl FnMut(UnitState) -> bool,
    ) -> zbus::Result<()> {
        let manager = ManagerProxy::new(&self.0).await?;
        manager.subscribe().await?;
        let path = manager.load_unit(unit).await?;
        let properties = fdo::PropertiesProxy::builder(&self.0)
            .destination("org.freedesktop.systemd1")
            .path(&path)
            .build()
            .await?;
        let mut changes = properties.receive_properties_changed().await?;
        while !look(self.state(unit).await?) {
            if changes.next().await.is_none() {
                return Err(zbus::Error::Failure("the connection to D-Bus ended".into()));
            }
        }
        Ok(())
    }
}

/// Listens before it calls, for a job may end before its call is answered.
async fn run_job(
    manager: &ManagerProxy<'_>,
    call: impl Future<Output = zbus::Result<OwnedObjectPath>>,
) -> zbus::Result<String> {
    manager.subscribe().await?;
    let mut removed = manager.receive_job_removed().await?;
    let job = call.await?;
    while let Some(signal) = removed.next().await {
        let args = signal.args()?;
        if *args.job() == *job {
            return Ok(args.result().to_string());
        }
    }
    Err(zbus::Error::Failure("the connection to D-Bus ended".into()))
}
