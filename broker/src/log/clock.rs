//! The time as entries have it.

use std::time::SystemTime;

use schemas::time::UnixTime;

pub(super) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
