//! `[page]`: the web page and the JSON API.

use serde::Deserialize;

/// Whether there is a page, and who reads it without logging in.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PageSettings {
    /// Whether there is one, where the store listens.
    pub enabled: bool,
    /// People on this machine read it without logging in.
    pub open_on_loopback: bool,
}

impl Default for PageSettings {
    fn default() -> Self {
        Self { enabled: true, open_on_loopback: true }
    }
}
