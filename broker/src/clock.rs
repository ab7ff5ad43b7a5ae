//! The wall clock of this machine. A clock before 1970 says 1970.

use std::time::{Duration, SystemTime};

use schemas::time::UnixTime;

/// The time as documents and entries have it.
pub(crate) fn now() -> UnixTime {
    UnixTime(since_1970().as_secs())
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}
