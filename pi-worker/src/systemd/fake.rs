//! A systemd with one unit, `web.service`, on a bus of its own.

#![expect(
    clippy::unused_self,
    clippy::used_underscore_binding,
    reason = "the macro needs methods with all arguments"
)]

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use zbus::{Connection, OwnedObjectPath, connection::Builder, fdo, interface, object_server::SignalEmitter};

const UNIT_PATH: &str = "/org/freedesktop/systemd1/unit/web_2eservice";
const MISSING_PATH: &str = "/org/freedesktop/systemd1/unit/nope_2eservice";

/// What the unit is and what was asked of it.
#[derive(Debug, Default)]
struct Unit {
    active: String,
    restarts: u32,
    job_result: String,
    active_after_start: String,
    calls: Vec<String>,
}

type Shared = Arc<Mutex<Unit>>;

pub(super) struct FakeSystemd {
    daemon: Child,
    address: String,
    connection: Connection,
    unit: Shared,
}

impl FakeSystemd {
    /// None where there is no `dbus-daemon`.
    pub(super) async fn run() -> Option<Self> {
        let mut daemon = Command::new("dbus-daemon");
        daemon.args(["--session", "--nofork", "--nopidfile", "--print-address=1"]).stdout(Stdio::piped());
        let Ok(mut daemon) = daemon.spawn() else {
            println!("skipped: there is no dbus-daemon");
            return None;
        };
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().unwrap()).read_line(&mut address).unwrap();
        let address = address.trim().to_owned();
        let unit = Shared::default();
        let connection = Builder::address(address.as_str())
            .serve_at("/org/freedesktop/systemd1", Manager(unit.clone()))
            .serve_at(UNIT_PATH, UnitInterface(Some(unit.clone())))
            .serve_at(UNIT_PATH, ServiceInterface(unit.clone()))
            .serve_at(MISSING_PATH, UnitInterface(None))
            .name("org.freedesktop.systemd1")
            .build()
            .await
            .unwrap();
        let systemd = Self { daemon, address, connection, unit };
        systemd.jobs_end_with("done", "active").await;
        Some(systemd)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn calls(&self) -> Vec<String> {
        self.unit.lock().unwrap().calls.clone()
    }

    /// The unit is inactive, and the next start ends so.
    pub(super) async fn jobs_end_with(&self, result: &str, active: &str) {
        {
            let mut unit = self.unit.lock().unwrap();
            (unit.job_result, unit.active_after_start) = (result.into(), active.into());
        }
        self.change("inactive", 0).await;
    }

    pub(super) async fn change(&self, active: &str, restarts: u32) {
        {
            let mut unit = self.unit.lock().unwrap();
            (unit.active, unit.restarts) = (active.into(), restarts);
        }
        let interface =
            self.connection.object_server().interface::<_, UnitInterface>(UNIT_PATH).await.unwrap();
        interface.get().await.active_state_changed(interface.signal_emitter()).await.unwrap();
    }
}

impl Drop for FakeSystemd {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

struct Manager(Shared);

#[interface(name = "org.freedesktop.systemd1.Manager")]
impl Manager {
    fn subscribe(&self) {}

    fn load_unit(&self, name: &str) -> OwnedObjectPath {
        let path = if name == "web.service" { UNIT_PATH } else { MISSING_PATH };
        path.try_into().unwrap()
    }

    fn reset_failed_unit(&self, name: &str) -> fdo::Result<()> {
        self.0.lock().unwrap().calls.push(format!("reset {name}"));
        Err(fdo::Error::Failed("unit never failed".into()))
    }

    async fn start_unit(
        &self,
        name: &str,
        _mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        let result = {
            let mut unit = self.0.lock().unwrap();
            unit.calls.push(format!("start {name}"));
            unit.active = unit.active_after_start.clone();
            unit.job_result.clone()
        };
        end_job(&emitter, name, &result).await
    }

    async fn stop_unit(
        &self,
        name: &str,
        _mode: &str,
        #[zbus(signal_emitter)] emitter: SignalEmitter<'_>,
    ) -> OwnedObjectPath {
        {
            let mut unit = self.0.lock().unwrap();
            unit.calls.push(format!("stop {name}"));
            unit.active = "inactive".into();
        }
        end_job(&emitter, name, "done").await
    }

    #[zbus(signal)]
    async fn job_removed(
        emitter: &SignalEmitter<'_>,
        id: u32,
        job: OwnedObjectPath,
        unit: &str,
        result: &str,
    ) -> zbus::Result<()>;
}

/// The worst case: the job has ended before its call is answered.
async fn end_job(emitter: &SignalEmitter<'_>, unit: &str, result: &str) -> OwnedObjectPath {
    let job: OwnedObjectPath = "/org/freedesktop/systemd1/job/7".try_into().unwrap();
    Manager::job_removed(emitter, 7, job.clone(), unit, result).await.unwrap();
    job
}

struct UnitInterface(Option<Shared>);

#[interface(name = "org.freedesktop.systemd1.Unit")]
impl UnitInterface {
    #[zbus(property)]
    fn load_state(&self) -> &str {
        if self.0.is_some() { "loaded" } else { "not-found" }
    }

    #[zbus(property)]
    fn active_state(&self) -> String {
        self.0.as_ref().map_or("inactive".into(), |unit| unit.lock().unwrap().active.clone())
    }

    #[zbus(property)]
    fn sub_state(&self) -> &'static str {
        "whatever"
    }
}

struct ServiceInterface(Shared);

#[interface(name = "org.freedesktop.systemd1.Service")]
impl ServiceInterface {
    #[zbus(property)]
    fn result(&self) -> &'static str {
        "exit-code"
    }

    #[zbus(property, name = "NRestarts")]
    fn n_restarts(&self) -> u32 {
        self.0.lock().unwrap().restarts
    }
}
