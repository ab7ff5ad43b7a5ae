//! Watching what a Pico runs: what its guard says becomes health, proof, and the news that it went back.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent::{Joint, Notice, Notices};
use machine::{Fault, Health, Slot};
use schemas::{
    id::{AppId, Digest},
    reason::Reason,
};
use tokio::{sync::broadcast::error::RecvError, task::AbortHandle, time::timeout};

use crate::{
    device::Device,
    fault,
    guard::{Said, State},
    probe::probe,
    repl::ReplError,
    shelf::name_of,
};

/// A guard speaks as soon as it runs. What it said may be lost where nobody had the port open; after so long it is.
const SILENCE: Duration = Duration::from_secs(5);

/// Watches one Pico.
#[derive(Debug)]
pub(crate) struct Watch {
    device: Arc<Device>,
    notices: Notices,
    joint: Joint,
    task: Mutex<Option<AbortHandle>>,
}

/// What is watched.
struct Watched {
    device: Arc<Device>,
    notices: Notices,
    joint: Joint,
    app: AppId,
    tree: Digest,
    name: String,
    told: Option<bool>,
}

impl Watch {
    pub(crate) fn new(device: Arc<Device>, joint: Joint, notices: Notices) -> Self {
        Self { device, notices, joint, task: Mutex::default() }
    }

    /// Watches this release, in place of what was watched before.
    pub(crate) fn begin(&self, app: &AppId, slot: &Slot) {
        self.end();
        let watched = Watched {
            device: self.device.clone(),
            notices: self.notices.clone(),
            joint: self.joint.clone(),
            app: app.clone(),
            tree: slot.tree(),
            name: name_of(slot.tree()),
            told: None,
        };
        *self.task() = Some(tokio::spawn(watched.follow()).abort_handle());
    }

    /// Watches nothing.
    pub(crate) fn end(&self) {
        if let Some(task) = self.task().take() {
            task.abort();
        }
    }

    /// Whether the Pico says that it keeps the release.
    ///
    /// # Errors
    /// When it does not say so, or says another one.
    pub(crate) async fn prove(&self, slot: &Slot) -> Result<(), Fault> {
        let name = name_of(slot.tree());
        let Some(said) = self.device.last() else { return self.ask(&name).await };
        match (said.state, said.release) {
            (State::Run | State::Kept, Some(runs)) if runs == name => Ok(()),
            (_, Some(runs)) if runs == name => Err(not_yet(
                "its guard has not kept it yet: the app does not call deploy_guard.alive(), or not for long enough",
            )),
            (_, runs) => {
                let runs = runs.unwrap_or_else(|| "nothing".to_owned());
                Err(fault::permanent(
                    Reason::StaleCode,
                    format!("expected release {name}, the Pico runs {runs}"),
                ))
            }
        }
    }

    /// Why the guard went back from a release.
    pub(crate) async fn why_it_went_back(&self, name: &str) -> Fault {
        why_it_went_back(&self.device, name).await
    }

    /// Asks the Pico itself, where its guard was not heard. That interrupts the app.
    async fn ask(&self, name: &str) -> Result<(), Fault> {
        let asking = async {
            let claim = self.device.claim().await?;
            let probed = probe(&mut claim.enter().await?).await?;
            self.device.note_slots(probed.slots.clone());
            claim.reset().await?;
            Ok::<_, ReplError>(probed)
        };
        let probed = asking.await.map_err(|error| fault::of("ask the Pico what it runs", &error))?;
        match probed.slots.cur.as_deref() {
            Some(cur) if cur == name && probed.slots.trying.is_none() => Ok(()),
            _ => Err(not_yet("its guard has not kept it yet, and said nothing on the port")),
        }
    }

    fn task(&self) -> std::sync::MutexGuard<'_, Option<AbortHandle>> {
        self.task.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

impl Watched {
    async fn follow(mut self) {
        let mut said = self.device.said();
        if let Some(first) = self.device.last()
            && !self.judge(&first).await
        {
            return;
        }
        loop {
            let patience = if self.told.is_some() { Duration::MAX } else { SILENCE };
            let Ok(heard) = timeout(patience, said.recv()).await else {
                // The port is there; whether it is the right release is asked when it has to prove it.
                self.tell(true, "", Vec::new());
                continue;
            };
            match heard {
                Ok(said) if !self.judge(&said).await => return,
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// What follows from a line of the guard; whether there is anything left to watch.
    async fn judge(&mut self, said: &Said) -> bool {
        let is_ours = said.release.as_ref() == Some(&self.name);
        match said.state {
            State::Run | State::Trial | State::Kept if is_ours => self.tell(true, "", Vec::new()),
            State::Crash if is_ours => {
                let tail = self.device.tail();
                self.tell(false, &format!("ended with {}", said.why), tail);
            }
            State::Empty | State::Run | State::Trial | State::RolledBack
                if is_ours || self.device.slots().bad.as_ref() == Some(&self.name) =>
            {
                self.joint.is_not_ready(&self.app);
                let fault = why_it_went_back(&self.device, &self.name).await;
                // Nobody listens when the node ends.
                let _ = self.notices.send((self.app.clone(), Notice::Exited(fault)));
                return false;
            }
            State::Empty | State::Run | State::Trial => self.tell(false, "another release runs", Vec::new()),
            _ => {}
        }
        true
    }

    fn tell(&mut self, ok: bool, text: &str, log_tail: Vec<String>) {
        if self.told == Some(ok) && ok {
            return;
        }
        self.told = Some(ok);
        if !ok {
            // Before the Pi decides on what it was ready for.
            self.joint.is_not_ready(&self.app);
        }
        let health = Health { tree: self.tree, ok, text: text.to_owned(), log_tail };
        // Nobody listens when the node ends.
        let _ = self.notices.send((self.app.clone(), Notice::Health(health)));
    }
}

/// Asks the Pico for the crash that made its guard go back. It is at its prompt afterwards.
async fn why_it_went_back(device: &Device, name: &str) -> Fault {
    let asking = async {
        let claim = device.claim().await?;
        let probed = probe(&mut claim.enter().await?).await?;
        Ok::<_, ReplError>(probed)
    };
    let slots = device.slots();
    let (why, log_tail) = match asking.await {
        Ok(probed) => {
            let crash = probed.crash_of(name);
            let why = probed.slots.why.clone();
            device.note_slots(probed.slots);
            (why, crash.unwrap_or_else(|| device.tail()))
        }
        Err(_) => (slots.why, device.tail()),
    };
    let why = why.unwrap_or_else(|| "it gave no sign of life".to_owned());
    Fault { log_tail, ..fault::permanent(Reason::Exited, format!("the Pico went back by itself: {why}")) }
}

/// It may still come.
fn not_yet(text: &str) -> Fault {
    fault::permanent(Reason::NoProof, text)
}
