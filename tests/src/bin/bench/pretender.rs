//! An installer that succeeds at once and does nothing: what is left is what the node itself takes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use agent::{Cancel, Installer, Notice, Notices};
use machine::{Fault, Health, Slot, Yield};
use schemas::{
    id::{AppId, Digest},
    manifest::Manifest,
    reason::Reason,
    release::PartKind,
};

/// Installs in no time.
pub(crate) struct Pretender {
    notices: Notices,
    /// The version that ends as soon as it is watched.
    bad: Option<&'static str>,
    current: Mutex<Option<Slot>>,
}

impl Pretender {
    pub(crate) fn new(notices: Notices, bad: Option<&'static str>) -> Self {
        Self { notices, bad, current: Mutex::new(None) }
    }
}

impl Installer for Pretender {
    fn platform(&self) -> &'static str {
        "linux/bench"
    }

    fn kinds(&self) -> &[PartKind] {
        &[PartKind::Tree]
    }

    fn active(&self, _: &AppId) -> Option<Slot> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn present(&self, _: &AppId, _: &Manifest) -> BTreeMap<Digest, u64> {
        BTreeMap::new()
    }

    fn set_env(&self, _: &BTreeMap<String, String>) {}

    async fn stage(&self, _: &AppId, _: &Slot, _: Arc<Manifest>, _: Cancel) -> Result<Yield, Fault> {
        Ok(Yield::default())
    }

    async fn pre_check(&self, _: &AppId, _: &Slot, _: Cancel) -> Result<(), Fault> {
        Ok(())
    }

    async fn stop(&self, _: &AppId, _: &Slot) -> Result<(), Fault> {
        Ok(())
    }

    async fn switch(&self, _: &AppId, slot: Option<&Slot>) -> Result<(), Fault> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = slot.cloned();
        Ok(())
    }

    async fn start(&self, _: &AppId, _: &Slot) -> Result<(), Fault> {
        Ok(())
    }

    fn watch(&self, app: &AppId, slot: &Slot) {
        let notice = if self.bad == Some(slot.version.as_str()) {
            let text = "exit code 1".to_owned();
            Notice::Exited(Fault { reason: Reason::Exited, text, log_tail: Vec::new(), transient: false })
        } else {
            Notice::Health(Health { tree: slot.tree(), ok: true, text: String::new(), log_tail: Vec::new() })
        };
        // When nobody listens any more, the node is ending.
        self.notices.send((app.clone(), notice)).ok();
    }

    async fn prove(&self, _: &AppId, _: &Slot) -> Result<(), Fault> {
        Ok(())
    }

    fn listen(&self, _: &AppId, _: &Slot, _: usize, _: String) {}

    async fn prune(&self, _: &AppId, _: &[Digest]) -> Result<(), Fault> {
        Ok(())
    }
}
