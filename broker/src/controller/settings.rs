//! How rollouts are carried out here.

use std::path::PathBuf;

use serde::Deserialize;

/// How rollouts are carried out here. That needs `root`, for only what the fleet has signed is believed.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControllerSettings {
    /// Whether they are.
    pub enabled: bool,
    /// Who the controller is on another broker (`bus`).
    pub user: Option<String>,
    /// The file with its password there; a relative path starts at the settings file.
    pub password: Option<PathBuf>,
    /// The only CA that `bus` is believed by, as PEM; those that browsers believe when there is none.
    pub ca: Option<PathBuf>,
}

impl Default for ControllerSettings {
    fn default() -> Self {
        Self { enabled: true, user: None, password: None, ca: None }
    }
}

impl ControllerSettings {
    /// All paths that may be relative to the settings file.
    pub(crate) fn files(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.password.iter_mut().chain(&mut self.ca)
    }
}
