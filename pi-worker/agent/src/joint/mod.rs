//! Joint releases: a Pi and the Picos on its USB keep one together, or none of them does.
//!
//! Each is a node with a machine of its own. Before it touches what it runs, and before it keeps what it tried, it looks at how
//! far the others are, in files on the Pi's disk; the bus may be away meanwhile.
//!
//! ```text
//! <data of the Pi>/joint/<app>/<node>.cbor    which release the node is about, and how far it is
//!                              <node>.ready   locked for as long as the node runs it and finds it well
//!                              decision       locked by the Pi while it decides, by a Pico while it takes "ready" back
//! ```
//!
//! The Pi decides, and its journal is the truth: what it keeps, its Picos keep. It decides for it with all of them ready, and a
//! Pico that is ready goes back by itself only while the Pi has not decided. A lock ends with its process, so a node that died
//! is not ready.

mod rules;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use machine::{Fault, Saved, Slot};
use schemas::{
    id::{AppId, Digest, NodeId},
    reason::Reason,
    release::First,
};
use serde::{Deserialize, Serialize};

use self::rules::{Answer, Role, Stand, Step, may_keep, may_switch};
use crate::{
    cancel::Cancel,
    durable,
    fault::{self, cancelled},
    journal, status_file,
    work::blocking,
};

/// How often the others are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// After so long a node says what it waits for, and begins to wait anew.
const SAY_AFTER: Duration = Duration::from_secs(10);
/// What the others gave up before counts from then on: they begin a new attempt at about the same time.
const FRESH: Duration = Duration::from_secs(15);
/// A Pico that is ready waits for its Pi for so long; the same as an order may take to be prepared.
const PATIENCE: Duration = Duration::from_mins(15);

/// What a node knows of the others that keep a joint release with it.
#[derive(Debug, Clone)]
pub struct Joint(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Of the Pi.
    data: PathBuf,
    pi: NodeId,
    me: NodeId,
    attempts: Mutex<BTreeMap<AppId, Attempt>>,
}

/// One attempt with a release.
#[derive(Debug)]
struct Attempt {
    began: Instant,
    /// Those that were seen on their way since.
    seen: BTreeSet<NodeId>,
    /// Locked while it is ready, and since when.
    ready: Option<(File, Instant)>,
}

/// How far a node says that it is.
#[derive(Debug, Serialize, Deserialize)]
struct Said {
    release: Digest,
    step: Step,
}

impl Joint {
    /// For the Pi `me`, whose data folder is `data`.
    pub fn of_pi(data: &Path, me: &NodeId) -> Self {
        Self::new(data, me, me)
    }

    /// For the Pico `me` on the USB of `pi`, whose data folder is `data`.
    pub fn of_pico(data: &Path, pi: &NodeId, me: &NodeId) -> Self {
        Self::new(data, pi, me)
    }

    fn new(data: &Path, pi: &NodeId, me: &NodeId) -> Self {
        let (data, pi, me) = (data.to_owned(), pi.clone(), me.clone());
        Self(Arc::new(Inner { data, pi, me, attempts: Mutex::default() }))
    }

    /// Tells the others that the release comes to this node.
    ///
    /// # Errors
    /// When the disk refuses.
    pub async fn comes(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        if slot.part.joint.is_none() {
            return Ok(());
        }
        self.0.attempts().insert(app.clone(), Attempt::new());
        self.say(app, slot.release, Step::Coming).await
    }

    /// Waits until this node may touch what it runs.
    ///
    /// # Errors
    /// When it may never, when nobody waits for it any more, or, transient, for what it still waits.
    pub async fn may_switch(&self, app: &AppId, slot: &Slot, cancel: &Cancel) -> Result<(), Fault> {
        let Some(first) = slot.part.joint else { return Ok(()) };
        self.say(app, slot.release, Step::Staged).await?;
        let began = Instant::now();
        loop {
            let why = match self.ask_to_switch(app, slot, first).await {
                Answer::Go => return Ok(()),
                Answer::GiveUp(why) => return Err(apart(why, false)),
                Answer::Wait(why) => why,
            };
            if began.elapsed() >= SAY_AFTER {
                return Err(apart(why, true));
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = cancel.cancelled() => return Err(cancelled()),
            }
        }
    }

    /// Whether this node, whose own proof ended with `proven`, may keep the release.
    ///
    /// # Errors
    /// When it is not proven, when the release is not kept, or, transient, for what it still waits.
    pub async fn may_keep(&self, app: &AppId, slot: &Slot, proven: Result<(), Fault>) -> Result<(), Fault> {
        if slot.part.joint.is_none() {
            return proven;
        }
        if proven.is_err() {
            self.is_not_ready(app);
            return proven;
        }
        let (inner, app, slot) = (self.0.clone(), app.clone(), slot.clone());
        blocking(move || inner.decide(&app, &slot)).await
    }

    /// What this node runs is not what it was ready to keep.
    pub fn is_not_ready(&self, app: &AppId) {
        self.0.take_back(app);
    }

    /// Nothing is under way for the app any more.
    pub fn has_ended(&self, app: &AppId) {
        self.0.attempts().remove(app);
        // What cannot be removed counts for nothing: the journal says that nothing is under way.
        let _ = fs::remove_file(self.0.file(app, &self.0.me, "cbor"));
    }

    async fn ask_to_switch(&self, app: &AppId, slot: &Slot, first: First) -> Answer {
        let (inner, app, slot) = (self.0.clone(), app.clone(), slot.clone());
        blocking(move || {
            let mut others = inner.others(&app, &slot);
            inner.attempts().entry(app).or_insert_with(Attempt::new).see(&mut others);
            may_switch(inner.role(), first, &others)
        })
        .await
    }

    async fn say(&self, app: &AppId, release: Digest, step: Step) -> Result<(), Fault> {
        let (inner, app) = (self.0.clone(), app.clone());
        blocking(move || inner.say(&app, release, step)).await
    }
}

impl Attempt {
    fn new() -> Self {
        Self { began: Instant::now(), seen: BTreeSet::new(), ready: None }
    }

    /// Whoever gave up before this attempt may begin again.
    fn see(&mut self, others: &mut [(NodeId, Stand)]) {
        for (node, stand) in others {
            match stand {
                Stand::At(_) => drop(self.seen.insert(node.clone())),
                Stand::GaveUp(_) if !self.seen.contains(node) && self.began.elapsed() < FRESH => {
                    *stand = Stand::Away;
                }
                Stand::GaveUp(_) | Stand::Away | Stand::Kept => {}
            }
        }
    }
}

impl Inner {
    fn role(&self) -> Role {
        if self.me == self.pi { Role::Pi } else { Role::Pico }
    }

    fn attempts(&self) -> MutexGuard<'_, BTreeMap<AppId, Attempt>> {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, app: &AppId, release: Digest, step: Step) -> Result<(), Fault> {
        let said = Said { release, step };
        durable::replace(&self.file(app, &self.me, "cbor"), &said).map_err(|error| fault::durable(&error))
    }

    /// This node runs the release and finds it well: whether it may keep it.
    fn decide(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        let since = self.be_ready(app, slot.release)?;
        let _decision = lock(&self.folder(app).join("decision"))?;
        let others = self.others(app, slot);
        let is_decided = others.iter().any(|(_, stand)| *stand == Stand::At(Step::Decided));
        match may_keep(self.role(), &others) {
            Answer::Go if self.role() == Role::Pi => self.say(app, slot.release, Step::Decided),
            Answer::Go => Ok(()),
            Answer::Wait(why) if is_decided || self.role() == Role::Pi || since.elapsed() < PATIENCE => {
                Err(apart(why, true))
            }
            Answer::Wait(why) | Answer::GiveUp(why) => {
                self.take_back(app);
                Err(apart(why, false))
            }
        }
    }

    /// Since when it is ready.
    fn be_ready(&self, app: &AppId, release: Digest) -> Result<Instant, Fault> {
        let now = Instant::now();
        if let Some((_, since)) = self.attempts().get(app).and_then(|attempt| attempt.ready.as_ref()) {
            return Ok(*since);
        }
        let lock = lock(&self.file(app, &self.me, "ready"))?;
        self.say(app, release, Step::Ready)?;
        let mut attempts = self.attempts();
        let attempt = attempts.entry(app.clone()).or_insert_with(Attempt::new);
        attempt.ready = Some((lock, now));
        Ok(now)
    }

    fn take_back(&self, app: &AppId) {
        if let Some(attempt) = self.attempts().get_mut(app) {
            attempt.ready = None;
        }
    }

    /// Everybody else that keeps the release with this node.
    fn others(&self, app: &AppId, slot: &Slot) -> Vec<(NodeId, Stand)> {
        let nodes = match self.role() {
            Role::Pico => vec![self.pi.clone()],
            Role::Pi => self.picos().into_iter().filter(|pico| self.takes_part(pico, app, slot)).collect(),
        };
        nodes.into_iter().map(|node| (node.clone(), self.stand(&node, app, slot.release))).collect()
    }

    fn picos(&self) -> Vec<NodeId> {
        let Ok(folders) = fs::read_dir(self.data.join("picos")) else { return Vec::new() };
        let name = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
        let mut picos: Vec<NodeId> = folders.filter_map(name).collect();
        picos.sort();
        picos
    }

    /// A Pico of the order's group is to take the release, and one that has the app must not be left behind. One that was
    /// never let in, or was retired, is in no group.
    fn takes_part(&self, pico: &NodeId, app: &AppId, slot: &Slot) -> bool {
        let groups = status_file::groups(&self.node_folder(pico).join("status.json"));
        let has_app = || self.journal(pico, app).is_some_and(|saved| saved.current.is_some());
        groups.contains(&slot.group) || (!groups.is_empty() && has_app())
    }

    fn stand(&self, node: &NodeId, app: &AppId, release: Digest) -> Stand {
        let said: Option<Said> = durable::read(&self.file(app, node, "cbor")).ok().flatten();
        let step = said.filter(|said| said.release == release).map(|said| said.step);
        let saved = self.journal(node, app);
        match saved.as_ref().map(|saved| &saved.step) {
            Some(machine::Step::Trying { slot, .. }) if slot.release == release => match step {
                Some(Step::Decided) => Stand::At(Step::Decided),
                Some(Step::Ready) if self.is_ready(app, node) => Stand::At(Step::Ready),
                _ => Stand::At(Step::Staged),
            },
            Some(machine::Step::RollingBack { slot, reason, text, .. }) if slot.release == release => {
                Stand::GaveUp(format!("{reason}: {text}"))
            }
            Some(machine::Step::Trying { .. } | machine::Step::RollingBack { .. }) => Stand::Away,
            Some(machine::Step::Idle) | None => match step.filter(|step| *step <= Step::Staged) {
                _ if saved.as_ref().is_some_and(|saved| has_kept(saved, release)) => Stand::Kept,
                Some(step) => Stand::At(step),
                None => saved.and_then(|saved| gave_up(&saved, release)).unwrap_or(Stand::Away),
            },
        }
    }

    fn journal(&self, node: &NodeId, app: &AppId) -> Option<Saved> {
        let root = self.node_folder(node).join("apps").join(app.as_str());
        durable::read(&journal::path(&root)).ok().flatten()
    }

    fn is_ready(&self, app: &AppId, node: &NodeId) -> bool {
        File::open(self.file(app, node, "ready"))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn node_folder(&self, node: &NodeId) -> PathBuf {
        if *node == self.pi { self.data.clone() } else { self.data.join("picos").join(node.as_str()) }
    }

    fn folder(&self, app: &AppId) -> PathBuf {
        self.data.join("joint").join(app.as_str())
    }

    fn file(&self, app: &AppId, node: &NodeId, suffix: &str) -> PathBuf {
        self.folder(app).join(format!("{node}.{suffix}"))
    }
}

fn has_kept(saved: &Saved, release: Digest) -> bool {
    saved.current.as_ref().is_some_and(|current| current.release == release)
}

/// How the last attempt with the release ended, where that was not well.
fn gave_up(saved: &Saved, release: Digest) -> Option<Stand> {
    let last = saved.outcomes.iter().rfind(|outcome| outcome.release == release)?;
    let reason = last.reason.map_or_else(|| format!("{:?}", last.verdict), |reason| reason.to_string());
    Some(Stand::GaveUp(format!("{reason}: {}", last.text)))
}

/// The file, for this process alone. Others hold it for no longer than they look.
fn lock(path: &Path) -> Result<File, Fault> {
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    let opened = made.and_then(|()| File::options().create(true).append(true).open(path));
    let locked = opened.and_then(|file| {
        file.lock()?;
        Ok(file)
    });
    locked.map_err(|error| fault::disk("lock", path, &error))
}

/// Not all keep it, so none does; `is_open` when that may still change.
fn apart(why: String, is_open: bool) -> Fault {
    Fault { transient: is_open, ..fault::permanent(Reason::JointApart, why) }
}

#[cfg(test)]
mod tests;
