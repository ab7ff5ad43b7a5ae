//! `[log]`: how long the deploy log remembers.

use std::time::Duration;

use serde::Deserialize;

/// How much of the deploy log is kept. What is deleted leaves its last digest behind, so the rest still verifies.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogSettings {
    /// How long an entry is kept.
    #[serde(with = "humantime_serde")]
    pub keep: Duration,
    /// How many entries are kept, however new they are.
    pub entries: u64,
}

impl Default for LogSettings {
    /// A year and a month, so that a look at the same week of the year before finds something; some 1.1 GB on the disk at most.
    fn default() -> Self {
        Self { keep: Duration::from_hours(24 * 400), entries: 2_000_000 }
    }
}
