//! Apps that run as processes of this node: one per app, in a process group of its own.
//!
//! An app does not need its worker: it writes its log by itself, and a worker that comes back takes it over, also
//! after `kill -9`.

mod log;
mod run_file;

use std::{
    collections::BTreeMap,
    path::Path,
    process::ExitStatus,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use agent::{Notice, Notices};
use machine::{Fault, Slot};
use rustix::process::{Pid, Signal, kill_process};
use schemas::{
    id::{AppId, Digest},
    reason::Reason,
};
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::{Instant, sleep, timeout_at},
};
use tracing::{debug, info, warn};

pub(crate) use log::Log;

use crate::{
    fault::{OnPath as _, fault},
    processes::{self, Stat},
    slots::Places,
    surroundings::SLOT_VARIABLE,
};
use run_file::RunFile;

/// How often the size of a log is looked at.
const LOG_CHECK: Duration = Duration::from_secs(2);
/// How soon again when it had grown too large: an app that says the same for ever fills a disk within a minute.
const FLOOD_CHECK: Duration = Duration::from_millis(100);
/// How soon again when it cannot be made smaller.
const FAILED_CHECK: Duration = Duration::from_mins(1);
/// How long a killed process may take to be gone: longer than any write to a slow SD card that it is stuck in.
const KILLED_WITHIN: Duration = Duration::from_secs(15);
/// For whatever runs although nobody said how long it may take to stop.
const DEFAULT_STOP: Duration = Duration::from_secs(10);

/// What is to run.
#[derive(Debug)]
pub(crate) struct Launch<'a> {
    pub(crate) app: &'a AppId,
    pub(crate) slot: &'a Slot,
    pub(crate) places: &'a Places,
    /// Tells this start from one with another command or environment.
    pub(crate) digest: Digest,
}

/// Runs the processes of all apps.
#[derive(Debug)]
pub(crate) struct Supervisor {
    notices: Notices,
    running: Mutex<BTreeMap<AppId, Running>>,
}

/// A process that is watched.
#[derive(Debug, Clone)]
struct Running {
    pid: Pid,
    launch: Digest,
    /// Set before it is told to end, so that its end is no news.
    stopping: Arc<AtomicBool>,
    ended: watch::Receiver<bool>,
}

impl Supervisor {
    pub(crate) fn new(notices: Notices) -> Self {
        Self { notices, running: Mutex::default() }
    }

    /// Removes what an earlier run of the worker left unfinished.
    pub(crate) fn sweep(places: &Places) {
        RunFile::sweep(&places.run_file());
    }

    /// Starts the command, unless the app runs as it should already. Whatever else is left of the app ends before.
    pub(crate) async fn start(&self, launch: &Launch<'_>, command: Command) -> Result<(), Fault> {
        let Launch { app, slot, places, digest } = launch;
        if self.running(app).is_some_and(|running| running.launch == *digest && !*running.ended.borrow()) {
            return Ok(());
        }
        let noted = RunFile::load(&places.run_file()).filter(|noted| noted.runs(slot.tree(), *digest));
        if let Some(pid) = noted.and_then(|noted| noted.process()) {
            info!(%app, pid = %pid.as_raw_nonzero(), "app runs already and is taken over");
            self.watch(launch, pid, None);
            return Ok(());
        }
        self.stop(app, places, DEFAULT_STOP).await?;
        let child = spawn(launch, command)?;
        let Some(pid) = child.id().and_then(|id| Pid::from_raw(id.cast_signed())) else {
            return Ok(());
        };
        info!(%app, version = %slot.version, pid = %pid.as_raw_nonzero(), "app started");
        let noted = RunFile::of(pid, slot.tree(), *digest).map(|noted| noted.store(&places.run_file()));
        self.watch(launch, pid, Some(child));
        // Without the note a later worker would not find the process, or only by its environment.
        noted.unwrap_or(Ok(()))
    }

    /// Ends whatever runs of the app: SIGTERM, and SIGKILL when that takes too long.
    pub(crate) async fn stop(&self, app: &AppId, places: &Places, patience: Duration) -> Result<(), Fault> {
        let running = self.running(app);
        if let Some(running) = &running {
            running.stopping.store(true, Ordering::SeqCst);
        }
        let noted = RunFile::load(&places.run_file()).and_then(|noted| noted.process());
        let group = running.as_ref().map(|running| running.pid).or(noted);
        if let Err(fault) = end_all(app, places, group, patience).await {
            // It may still run, so that its end would be news.
            if let Some(running) = running {
                running.stopping.store(false, Ordering::SeqCst);
            }
            return Err(fault);
        }
        if let Some(mut running) = running {
            // An error means that the watching task is gone, and the process with it.
            let _ = running.ended.wait_for(|ended| *ended).await;
        }
        self.lock().remove(app);
        let run_file = places.run_file();
        match std::fs::remove_file(&run_file) {
            Err(err) if err.kind() != std::io::ErrorKind::NotFound => Err(err).on_path("remove", &run_file),
            _ => Ok(()),
        }
    }

    fn watch(&self, launch: &Launch<'_>, pid: Pid, child: Option<Child>) {
        let (ended, hear_end) = watch::channel(false);
        let stopping = Arc::new(AtomicBool::new(false));
        let running = Running { pid, launch: launch.digest, stopping: stopping.clone(), ended: hear_end };
        let (app, log) = (launch.app.clone(), Log::new(launch.places.log(launch.app)));
        self.lock().insert(app.clone(), running);
        let notices = self.notices.clone();
        tokio::spawn(async move {
            let started = Instant::now();
            let status = end_of(pid, child, &log).await;
            let text = how_it_ended(pid, status, started.elapsed());
            debug!(%app, "{text}");
            if !stopping.load(Ordering::SeqCst) {
                let fault = Fault { log_tail: log.tail(), ..fault(Reason::Exited, text) };
                // Nobody listens any more when the worker is about to end.
                let _ = notices.send((app, Notice::Exited(fault)));
            }
            ended.send_replace(true);
        });
    }

    fn running(&self, app: &AppId) -> Option<Running> {
        self.lock().get(app).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AppId, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(launch: &Launch<'_>, mut command: Command) -> Result<Child, Fault> {
    let Launch { app, slot, places, .. } = launch;
    let path = places.log(app);
    let out = Log::new(path.clone()).open(&format!("{app} {}", slot.version)).on_path("open", &path)?;
    let err = out.try_clone().on_path("open", &path)?;
    command.stdout(out).stderr(err);
    command.spawn().map_err(|err| {
        let program = command.as_std().get_program().to_string_lossy().into_owned();
        fault(Reason::StartFailed, format!("cannot start {program}: {err}"))
    })
}

/// Waits for the end of a process and keeps its log small meanwhile. Only a child tells how it ended.
async fn end_of(pid: Pid, child: Option<Child>, log: &Log) -> Option<ExitStatus> {
    let end = async {
        if let Some(mut child) = child {
            return child.wait().await.ok();
        }
        processes::ended(pid).await;
        None
    };
    tokio::pin!(end);
    let mut pause = LOG_CHECK;
    loop {
        tokio::select! {
            status = &mut end => return status,
            () = sleep(pause) => pause = keep_small(log),
        }
    }
}

/// Looks at the log; how long it may be left alone now.
fn keep_small(log: &Log) -> Duration {
    match log.rotate() {
        Ok(true) => FLOOD_CHECK,
        Ok(false) => LOG_CHECK,
        Err(err) => {
            warn!(%err, "cannot rotate the log of an app");
            FAILED_CHECK
        }
    }
}

fn how_it_ended(pid: Pid, status: Option<ExitStatus>, after: Duration) -> String {
    let pid = pid.as_raw_nonzero();
    match status {
        Some(status) => format!("process {pid} ended after {:.1} s: {status}", after.as_secs_f64()),
        None => format!(
            "process {pid} ended; it was started by an earlier run of the worker, so how is not known"
        ),
    }
}

/// Ends every process of the group and every other one that was started in a slot of this app.
async fn end_all(app: &AppId, places: &Places, group: Option<Pid>, patience: Duration) -> Result<(), Fault> {
    let group = group.map(|pid| pid.as_raw_nonzero().get());
    let slots = places.slots().join("");
    let left = || {
        let is_ours = |pid: Pid, stat: &Stat| {
            Ok(Some(stat.group) == group || processes::was_given(pid, SLOT_VARIABLE, &slots)?)
        };
        processes::alive(is_ours).on_path("list the processes in", Path::new("/proc"))
    };
    for (signal, patience) in [(Signal::TERM, patience), (Signal::KILL, KILLED_WITHIN)] {
        if end_with(signal, &left, Instant::now() + patience).await? {
            return Ok(());
        }
        debug!(%app, ?signal, "app did not end in time");
    }
    let pids: Vec<_> = left()?.iter().map(|pid| pid.as_raw_nonzero()).collect();
    Err(fault(Reason::StartFailed, format!("processes {pids:?} of {app} do not end, not even by SIGKILL")))
}

/// Sends the signal to all that are left, and to those that they still start, and waits until none is.
async fn end_with(
    signal: Signal,
    left: &impl Fn() -> Result<Vec<Pid>, Fault>,
    deadline: Instant,
) -> Result<bool, Fault> {
    let mut told = Vec::new();
    loop {
        let pids = left()?;
        let Some(first) = pids.first().copied() else { return Ok(true) };
        for pid in pids.into_iter().filter(|pid| !told.contains(pid)).collect::<Vec<_>>() {
            // It may have ended a moment ago.
            let _ = kill_process(pid, signal);
            told.push(pid);
        }
        if timeout_at(deadline, processes::ended(first)).await.is_err() {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests;
