//! What was refused: all counted, one a second logged, so that a stubborn client does not fill the disk.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::warn;

use super::stats::Stats;

const PERIOD: Duration = Duration::from_secs(1);

/// Notes refusals.
#[derive(Debug)]
pub(super) struct Denials {
    stats: Arc<Stats>,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    logged: Option<Instant>,
    unsaid: u64,
}

impl Denials {
    /// Nothing was refused yet.
    pub(super) fn new(stats: Arc<Stats>) -> Self {
        Self { stats, last: Mutex::default() }
    }

    /// Something was refused: `what`.
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        self.stats.denied.add(1);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.logged.is_some_and(|logged| logged.elapsed() < PERIOD) {
            last.unsaid += 1;
            return;
        }
        let unsaid = std::mem::take(&mut last.unsaid);
        last.logged = Some(Instant::now());
        drop(last);
        // Topics and ids are the client's: none makes a line of its own.
        let what = what.to_string().replace(char::is_control, "?");
        warn!(unsaid, "denied: {what}");
    }
}
