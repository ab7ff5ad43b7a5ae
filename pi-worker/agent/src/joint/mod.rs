//! Joint releases: a Pi and the Picos on its USB keep one together, or none of them does.
//!
//! Each is a node with a machine of its own. Before it touches what it runs, and before it keeps what it tried, it looks at how
//! far the others are, in files on the Pi's disk; the bus may be away meanwhile.
//!
//! ```text
//! <data of the Pi>/joint/<app>/<node>.cbor    which release the node is about, and how far it is
//!                              <node>.ready   locked for as long as the node runs it and finds it well
//!                              decision       locked by who looks at the others and says what follows
//! ```
//!
//! The Pi decides, and its journal is the truth: what it keeps, its Picos keep. It decides for it with all of them ready, and a
//! Pico that is well waits for that; it gives waiting up only while the Pi has not decided. A lock ends with its process, so a node
//! that died is not ready, and neither is one whose app is not well any more.

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
    report::{Outcome, Verdict},
};
use serde::{Deserialize, Serialize};

use self::rules::{Answer, Role, Stand, Step, are_gathered, may_keep, may_switch};
use crate::{
    cancel::Cancel,
    durable::{self, DurableError},
    fault::{self, cancelled},
    journal, status_file,
    work::blocking,
};

/// How often the others are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// After so long a node says what it waits for, and begins to wait anew.
const SAY_AFTER: Duration = Duration::from_secs(30);
/// What the others gave up before counts from then on: they begin a new attempt at about the same time.
const FRESH: Duration = Duration::from_secs(15);
/// A Pico that is ready waits for its Pi for so long: for the trials of all others, and for a Pi that died to come back.
const PATIENCE: Duration = Duration::from_mins(30);

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
    /// What it has said last.
    said: Option<Step>,
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
        let inner = Inner { data, pi, me, attempts: Mutex::default() };
        inner.sweep();
        Self(Arc::new(inner))
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
            let why = match self.look_before_switch(app, slot, first).await? {
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

    async fn look_before_switch(&self, app: &AppId, slot: &Slot, first: First) -> Result<Answer, Fault> {
        let (inner, app, slot) = (self.0.clone(), app.clone(), slot.clone());
        blocking(move || inner.look_before_switch(&app, &slot, first)).await
    }

    async fn say(&self, app: &AppId, release: Digest, step: Step) -> Result<(), Fault> {
        let (inner, app) = (self.0.clone(), app.clone());
        blocking(move || inner.say(&app, release, step)).await
    }
}

impl Attempt {
    fn new() -> Self {
        Self { began: Instant::now(), seen: BTreeSet::new(), ready: None, said: None }
    }

    /// Whoever gave up before this attempt may begin again.
    fn see(&mut self, others: &mut [(NodeId, Stand)]) {
        for (node, stand) in others {
            match stand {
                Stand::At(_) => drop(self.seen.insert(node.clone())),
                Stand::GaveUp(_) if !self.seen.contains(node) && self.began.elapsed() < FRESH => {
                    *stand = Stand::Away;
                }
                Stand::GaveUp(_) | Stand::Away | Stand::Unclear | Stand::Kept => {}
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

    /// Tells the others, unless it was told already.
    fn say(&self, app: &AppId, release: Digest, step: Step) -> Result<(), Fault> {
        if self.attempts().get(app).is_some_and(|attempt| attempt.said == Some(step)) {
            return Ok(());
        }
        let said = Said { release, step };
        let path = self.file(app, &self.me, "cbor");
        durable::replace(&path, &said).map_err(|error| fault::durable(&error))?;
        self.attempts().entry(app.clone()).or_insert_with(Attempt::new).said = Some(step);
        Ok(())
    }

    /// What was said before this process began counts where the journal says that the release is being tried.
    fn sweep(&self) {
        let Ok(folders) = fs::read_dir(self.data.join("joint")) else { return };
        let app = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse::<AppId>().ok();
        for app in folders.filter_map(app) {
            let saved = self.journal(&self.me, &app).ok().flatten();
            if !saved.is_some_and(|saved| matches!(saved.step, machine::Step::Trying { .. })) {
                // What cannot be removed is at most waited for.
                let _ = fs::remove_file(self.file(&app, &self.me, "cbor"));
            }
        }
    }

    fn look_before_switch(&self, app: &AppId, slot: &Slot, first: First) -> Result<Answer, Fault> {
        let mut others = self.others(app, slot)?;
        self.attempts().entry(app.clone()).or_insert_with(Attempt::new).see(&mut others);
        if self.role() == Role::Pi && are_gathered(&others) {
            self.say(app, slot.release, Step::Gathered)?;
        }
        Ok(may_switch(self.role(), first, &others))
    }

    /// This node runs the release and finds it well: whether it may keep it.
    fn decide(&self, app: &AppId, slot: &Slot) -> Result<(), Fault> {
        let since = self.be_ready(app, slot.release)?;
        let _decision = lock(&self.folder(app).join("decision"))?;
        let others = self.others(app, slot)?;
        let is_decided = others.iter().any(|(_, stand)| *stand == Stand::At(Step::Decided));
        match may_keep(self.role(), &others) {
            Answer::Go if self.role() == Role::Pi => self.say(app, slot.release, Step::Decided),
            Answer::Go => Ok(()),
            Answer::Wait(why) if self.role() == Role::Pi => {
                self.say(app, slot.release, Step::Ready)?;
                Err(apart(why, true))
            }
            Answer::Wait(why) if is_decided || since.elapsed() < PATIENCE => Err(apart(why, true)),
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
    fn others(&self, app: &AppId, slot: &Slot) -> Result<Vec<(NodeId, Stand)>, Fault> {
        let mut nodes = match self.role() {
            Role::Pico => vec![self.pi.clone()],
            Role::Pi => self.picos()?,
        };
        nodes.retain(|node| *node == self.pi || self.takes_part(node, app, slot));
        Ok(nodes.into_iter().map(|node| (node.clone(), self.stand(&node, app, slot))).collect())
    }

    /// Nobody decides alone because a folder cannot be read.
    fn picos(&self) -> Result<Vec<NodeId>, Fault> {
        let path = self.data.join("picos");
        let failed = |error| fault::disk("list the Picos in", &path, &error);
        let folders = match fs::read_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            folders => folders.map_err(failed)?,
        };
        let mut picos = Vec::new();
        for folder in folders {
            let folder = folder.map_err(failed)?;
            if folder.file_type().map_err(failed)?.is_dir() {
                picos.extend(folder.file_name().to_str().and_then(|name| name.parse().ok()));
            }
        }
        picos.sort();
        Ok(picos)
    }

    /// A Pico of the order's group is to take the release, and one that has the app must not be left behind. One that was
    /// never let in, or was retired, is in no group.
    fn takes_part(&self, pico: &NodeId, app: &AppId, slot: &Slot) -> bool {
        let Ok(groups) = status_file::groups(&self.node_folder(pico).join("status.json")) else {
            return true;
        };
        let has_app = || match self.journal(pico, app) {
            Ok(saved) => saved.is_some_and(|saved| saved.current.is_some()),
            Err(_) => true,
        };
        groups.contains(&slot.group) || (!groups.is_empty() && has_app())
    }

    fn stand(&self, node: &NodeId, app: &AppId, slot: &Slot) -> Stand {
        let said = durable::read::<Said>(&self.file(app, node, "cbor"));
        let (Ok(said), Ok(saved)) = (said, self.journal(node, app)) else { return Stand::Unclear };
        let step = said.filter(|said| said.release == slot.release).map(|said| said.step);
        let is_same = |tried: &Slot| tried.release == slot.release;
        match saved.as_ref().map(|saved| &saved.step) {
            Some(machine::Step::Trying { slot, .. }) if is_same(slot) => match step {
                Some(Step::Decided) => Stand::At(Step::Decided),
                Some(Step::Ready) if self.is_ready(app, node) => Stand::At(Step::Ready),
                _ => Stand::At(Step::Gathered),
            },
            Some(machine::Step::RollingBack { slot, reason, text, .. }) if is_same(slot) => {
                Stand::GaveUp(format!("{reason}: {text}"))
            }
            _ => match step.filter(|step| *step <= Step::Gathered) {
                _ if saved.as_ref().is_some_and(|saved| has_kept(saved, slot)) => Stand::Kept,
                Some(step) => Stand::At(step),
                None => saved.and_then(|saved| gave_up(&saved, slot)).unwrap_or(Stand::Away),
            },
        }
    }

    fn journal(&self, node: &NodeId, app: &AppId) -> Result<Option<Saved>, DurableError> {
        durable::read(&journal::path(&self.node_folder(node).join("apps").join(app.as_str())))
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

/// It has the release, or kept it by this order and went on to another.
fn has_kept(saved: &Saved, slot: &Slot) -> bool {
    let is_current = saved.current.as_ref().is_some_and(|current| current.release == slot.release);
    is_current || ended(saved, slot).is_some_and(|outcome| outcome.verdict == Verdict::Kept)
}

/// How this order ended, where that was not well.
fn gave_up(saved: &Saved, slot: &Slot) -> Option<Stand> {
    let last = ended(saved, slot)?;
    let reason = last.reason.map_or_else(|| last.verdict.name().to_owned(), |reason| reason.to_string());
    Some(Stand::GaveUp(format!("{reason}: {}", last.text)))
}

/// How the order that brings the slot ended; another order of the same release says nothing of it.
fn ended<'a>(saved: &'a Saved, slot: &Slot) -> Option<&'a Outcome> {
    let is_it = |outcome: &&Outcome| (outcome.release, outcome.revision) == (slot.release, slot.revision);
    saved.outcomes.iter().rfind(is_it)
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
