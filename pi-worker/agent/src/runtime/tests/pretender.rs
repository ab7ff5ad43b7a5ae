//! An installer that only pretends: a slot is a file with its version, and nothing is run.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use machine::{Fault, Health, Slot, Yield};
use schemas::{
    id::{AppId, Digest},
    manifest::Manifest,
    reason::Reason,
    release::PartKind,
    status::LogSource,
};

use crate::{
    cancel::Cancel,
    installer::{Installer, Notice, Notices, Said},
};

/// The version that ends as soon as it is watched.
const BAD: &str = "bad";

pub(super) struct Pretender {
    data: PathBuf,
    notices: Notices,
    current: Mutex<Option<Slot>>,
}

impl Pretender {
    pub(super) fn new(data: PathBuf, notices: Notices) -> Self {
        Self { data, notices, current: Mutex::new(None) }
    }
}

impl Installer for Pretender {
    fn platform(&self) -> &'static str {
        "linux/test"
    }

    fn kinds(&self) -> &[PartKind] {
        &[PartKind::Tree]
    }

    fn active(&self, _: &AppId) -> Option<Slot> {
        self.current.lock().unwrap().clone()
    }

    fn present(&self, _: &AppId, _: &Manifest) -> BTreeMap<Digest, u64> {
        BTreeMap::new()
    }

    fn set_env(&self, _: &BTreeMap<String, String>) {}

    async fn stage(&self, app: &AppId, _: &Slot, manifest: Arc<Manifest>, _: Cancel) -> Result<Yield, Fault> {
        let objects = self.data.join("apps").join(app.as_str()).join("objects");
        assert!(manifest.objects().keys().all(|digest| objects.join(digest.to_string()).exists()));
        Ok(Yield::default())
    }

    async fn pre_check(&self, _: &AppId, _: &Slot, _: Cancel) -> Result<(), Fault> {
        Ok(())
    }

    /// Takes as long as there is a file `hold`.
    async fn stop(&self, _: &AppId, _: &Slot) -> Result<(), Fault> {
        while self.data.join("hold").exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        Ok(())
    }

    async fn switch(&self, _: &AppId, slot: Option<&Slot>) -> Result<(), Fault> {
        *self.current.lock().unwrap() = slot.cloned();
        Ok(())
    }

    /// Leaves the version in a file `started`.
    async fn start(&self, _: &AppId, slot: &Slot) -> Result<(), Fault> {
        fs::write(self.data.join("started"), &slot.version).unwrap();
        Ok(())
    }

    fn watch(&self, app: &AppId, slot: &Slot) {
        let notice = if slot.version == BAD {
            let (reason, text) = (Reason::Exited, "exit code 1".to_owned());
            Notice::Exited(Fault { reason, text, log_tail: vec!["last words".into()], transient: false })
        } else {
            Notice::Health(Health { tree: slot.tree(), ok: true, text: String::new(), log_tail: Vec::new() })
        };
        self.notices.send((app.clone(), notice)).ok();
    }

    async fn prove(&self, _: &AppId, _: &Slot) -> Result<(), Fault> {
        Ok(())
    }

    fn listen(&self, app: &AppId, slot: &Slot, lines: usize, answers: String) {
        let lines = (1..=lines).map(|n| format!("{} says {n}", slot.version)).collect();
        self.notices.send((app.clone(), Notice::Said(Said { source: LogSource::App, lines, answers }))).ok();
    }

    async fn prune(&self, app: &AppId, _: &[Digest]) -> Result<(), Fault> {
        assert!(fs::exists(self.data.join("apps").join(app.as_str()).join("journal.cbor")).unwrap());
        Ok(())
    }
}
