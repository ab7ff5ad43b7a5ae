//! The clock of this machine. Everything else gets the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use schemas::time::UnixTime;

/// Seconds since 1970.
pub(crate) fn now() -> UnixTime {
    UnixTime(now_ms() / 1_000)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
