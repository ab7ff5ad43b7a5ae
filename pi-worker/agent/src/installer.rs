//! The wall between the runtime and what really installs: trees and containers on a Pi, apps on a Pico.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    path::PathBuf,
    sync::Arc,
};

use machine::{Fault, Health, Slot, Yield};
use schemas::{
    hold::AskKind,
    id::{AppId, Digest},
    manifest::Manifest,
    release::PartKind,
    status::LogSource,
};
use tokio::sync::mpsc;

use crate::cancel::Cancel;

/// The folders of one app on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppDirs {
    /// Holds `slots/`, `current`, `work/` and `log/`; the worker's.
    pub root: PathBuf,
    /// The app's own; outside all slots, kept over releases.
    pub data: PathBuf,
    /// Where fetched objects land, named by digest, plain; on the same file system as `root`.
    pub objects: PathBuf,
}

/// What an installer tells by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The checks of the watched slot changed their mind.
    Health(Health),
    /// The app's process ended by itself.
    Exited(Fault),
    /// Its staging is so far, in thousandths.
    Progress(u16),
    /// Lines of a log.
    Said(Said),
}

/// Lines of a log, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Who says it.
    pub source: LogSource,
    /// What, safe for a terminal.
    pub lines: Vec<String>,
    /// The id of the ask that this answers, or empty.
    pub answers: String,
}

/// Where an installer tells it.
pub type Notices = mpsc::UnboundedSender<(AppId, Notice)>;

/// What a node is, for people: `node/<n>/info`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// `pi`, `pico` or `pico_w`.
    pub kind: String,
    /// Hardware model, or `unknown`.
    pub model: String,
    /// Hardware serial number, or `unknown`.
    pub serial: String,
    /// The node through which it is reached, or empty.
    pub via: String,
    /// Program and version.
    pub agent: String,
}

/// How much the engine that runs containers has on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineDisk {
    /// That images of ours take, with what builds have left.
    pub used_bytes: u64,
    /// Free where the engine keeps them, where that can be seen from here.
    pub free_bytes: Option<u64>,
}

/// What is to be removed of the engine's disk: whatever is ours and is not said to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tidying {
    /// The trees that each app of the node needs, which has nothing under way.
    pub keep: BTreeMap<AppId, Vec<Digest>>,
    /// Apps that have something under way: nothing of them is touched.
    pub busy: BTreeSet<AppId>,
    /// Nothing is removed, only looked at.
    pub dry_run: bool,
}

/// What was removed, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Names of images and containers.
    pub removed: Vec<String>,
    /// Bytes of layers that nothing of ours needs any more.
    pub freed_bytes: u64,
    /// What could not be removed, and why, for people.
    pub problems: Vec<String>,
}

/// Installs, runs and proves the parts of some kinds. Every method may be called again after a crash at any point
/// of the call before, and then ends as if that call had never begun or had ended.
pub trait Installer: Send + Sync + 'static {
    /// What parts are chosen for, as in `linux/aarch64`.
    fn platform(&self) -> &str;

    /// The kinds that it installs.
    fn kinds(&self) -> &[PartKind];

    /// What the node is now, where that is not this machine.
    fn about(&self) -> Option<About> {
        None
    }

    /// How much the engine that runs containers has on its disk; nothing where there is none, or it does not answer.
    fn engine_disk(&self) -> impl Future<Output = Option<EngineDisk>> + Send {
        async { None }
    }

    /// Removes what nothing needs any more from the disk of the engine that runs containers.
    fn tidy(&self, _wanted: Tidying) -> impl Future<Output = Tidied> + Send {
        let problems = vec!["this node runs no containers".to_owned()];
        async { Tidied { problems, ..Tidied::default() } }
    }

    /// Takes the environment that ops says for the apps of this node, above the node's own settings. What runs keeps
    /// the one that it was started with; starting it again starts it anew.
    fn set_env(&self, env: &BTreeMap<String, String>);

    /// Somebody asks for something that is not about an app. Not signed: it installs nothing.
    fn asked(&self, _what: AskKind) {}

    /// The tree to which `current` points, with what is known about it.
    fn active(&self, app: &AppId) -> Option<Slot>;

    /// Contents of `manifest` that need not be fetched, for a slot on the disk has them.
    fn present(&self, app: &AppId, manifest: &Manifest) -> BTreeMap<Digest, u64>;

    /// Builds the slot out of fetched objects and other slots, then reads it back from the disk; of a container, the
    /// image as well.
    fn stage(
        &self,
        app: &AppId,
        slot: &Slot,
        manifest: Arc<Manifest>,
        cancel: Cancel,
    ) -> impl Future<Output = Result<Yield, Fault>> + Send;

    /// Runs the release's pre-check in the slot.
    fn pre_check(
        &self,
        app: &AppId,
        slot: &Slot,
        cancel: Cancel,
    ) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Stops what runs of the slot.
    fn stop(&self, app: &AppId, slot: &Slot) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Points `current` to the slot, durably.
    fn switch(&self, app: &AppId, slot: Option<&Slot>) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Starts the slot, or takes over what runs of it already.
    fn start(&self, app: &AppId, slot: &Slot) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Begins to ask the slot's checks, in place of those asked before.
    fn watch(&self, app: &AppId, slot: &Slot);

    /// Asks the running code what it is.
    fn prove(&self, app: &AppId, slot: &Slot) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Tells the last `lines` that the app has said as the answer to `id`, and for a minute what it says; in place of what was
    /// asked for before.
    fn listen(&self, app: &AppId, slot: &Slot, lines: usize, id: String);

    /// Removes every slot but those of `keep`.
    fn prune(&self, app: &AppId, keep: &[Digest]) -> impl Future<Output = Result<(), Fault>> + Send;
}
