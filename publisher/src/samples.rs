//! A home in a temporary folder, whose fleet is one of `rollout`'s samples.

use std::ops::Deref;

pub(crate) use rollout::samples::{NOW, ended, idle, installed, node, node_key, outcome, working};
use schemas::root::Role;

use crate::home::{
    Home,
    init::{NewFleet, init},
};

pub(crate) struct Sample {
    pub(crate) home: Home,
    fleet: rollout::samples::Sample,
    /// Deletes the home in the end.
    _dir: tempfile::TempDir,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let new = NewFleet {
            fleet: "deploybus".parse().unwrap(),
            bus: "mqtt://127.0.0.1:1883".parse().unwrap(),
            store: "http://127.0.0.1:8080".parse().unwrap(),
            names: Vec::new(),
            ca: None,
            passphrase: None,
        };
        init(&dir.path().join("home"), new, NOW).unwrap();
        let home = Home::open(&dir.path().join("home")).unwrap();
        let key = |role| home.key(role).unwrap();
        let fleet =
            rollout::samples::Sample::signed_by(home.trust.clone(), key(Role::Release), key(Role::Ops));
        Self { home, fleet, _dir: dir }
    }
}

impl Deref for Sample {
    type Target = rollout::samples::Sample;

    fn deref(&self) -> &Self::Target {
        &self.fleet
    }
}
