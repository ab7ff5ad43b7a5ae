//! How Home Assistant is told what there is.

use serde::Deserialize;

/// How Home Assistant is told what there is. That needs `root`, for only nodes that the fleet has signed are announced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HomeAssistantSettings {
    /// How, or not at all.
    pub discovery: Style,
}

/// How devices are announced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Style {
    /// One message for each device, which Home Assistant understands since 2024.12.
    #[default]
    Device,
    /// One message for each entity, for older ones.
    Component,
    /// Nothing is announced, and what was is taken back.
    Off,
}
