use std::{fs, path::PathBuf};

use machine::{Saved, Slot, Step};
use tempfile::TempDir;

use super::*;
use crate::slots::fixture::Fixture;

#[test]
fn a_trial_loses_a_try_at_each_boot_and_goes_back_when_none_is_left() {
    let node = Node::new();
    let [old, new] = ["1", "2"].map(|version| node.app.install(version, &[("a", version, false)]).slot);
    node.app.slots.switch(Some(&new)).unwrap();
    node.put(&trial(&old, &new, 1));
    assert_eq!(guard(&node.config).unwrap(), ExitCode::SUCCESS);
    assert_eq!(node.app.slots.active(), Some(new.clone()));
    let saved = node.journal();
    assert!(matches!(saved.step, Step::Trying { tries_left: 0, .. }));
    assert_eq!(saved.guarded, Some(boot_id()));

    // Within the same boot it counts once.
    guard(&node.config).unwrap();
    assert_eq!(node.journal(), saved);

    node.put(&Saved { guarded: Some("the boot before".into()), ..saved });
    guard(&node.config).unwrap();
    assert_eq!(node.app.slots.active(), Some(old));
    assert!(matches!(node.journal().step, Step::RollingBack { .. }));
}

#[test]
fn what_is_committed_is_left_alone_and_so_is_a_node_whose_worker_runs() {
    let node = Node::new();
    assert_eq!(guard(&node.config).unwrap(), ExitCode::SUCCESS, "a new node");
    let [old, new] = ["1", "2"].map(|version| node.app.install(version, &[("a", version, false)]).slot);
    node.app.slots.switch(Some(&new)).unwrap();
    let idle = Saved { current: Some(new.clone()), ..Saved::new(app()) };
    node.put(&idle);
    guard(&node.config).unwrap();
    assert_eq!(node.journal(), idle);

    node.put(&trial(&old, &new, 0));
    let (_, lock) = data::open(&node.config).unwrap();
    guard(&node.config).unwrap();
    assert_eq!(node.app.slots.active(), Some(new.clone()));
    drop(lock);
    guard(&node.config).unwrap();
    assert_eq!(node.app.slots.active(), Some(old));
}

#[test]
fn one_app_whose_slot_is_lost_does_not_keep_the_others_from_going_back() {
    let node = Node::new();
    let [old, new] = ["1", "2"].map(|version| node.app.install(version, &[("a", version, false)]).slot);
    node.app.slots.switch(Some(&new)).unwrap();
    node.app.slots.prune(&[]).unwrap();
    node.put(&trial(&old, &new, 0));
    assert_eq!(guard(&node.config).unwrap(), ExitCode::FAILURE);
    assert_eq!(node.app.slots.active(), Some(new), "better than nothing");
}

struct Node {
    app: Fixture,
    config: PathBuf,
    _folder: TempDir,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("pi-worker.toml");
        let text = format!(
            "node = \"pi\"\nfleet = \"f\"\nbus = \"mqtt://127.0.0.1:1\"\nstore = [\"http://127.0.0.1:1\"]\ndata = {:?}\n",
            folder.path()
        );
        fs::write(&config, text).unwrap();
        Self { app: Fixture::at(folder.path()), config, _folder: folder }
    }

    fn put(&self, saved: &Saved) {
        journal::store(&self.app.dirs, saved).unwrap();
    }

    fn journal(&self) -> Saved {
        journal::load(&self.app.dirs).unwrap().unwrap()
    }
}

fn app() -> AppId {
    "web".parse().unwrap()
}

fn trial(old: &Slot, new: &Slot, tries_left: u32) -> Saved {
    let step = Step::Trying {
        slot: Box::new(new.clone()),
        tries_left,
        spent: machine::Spent::default(),
        connected: true,
    };
    Saved { current: Some(old.clone()), step, ..Saved::new(app()) }
}
