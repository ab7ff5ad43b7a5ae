//! The clock of this machine. Everything else gets the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use schemas::time::UnixTime;

use crate::problem::problem;

/// 2026-01-01, before the first version of this program: a clock that says less has lost its time.
const EARLIEST: UnixTime = UnixTime(1_767_225_600);

/// Seconds since 1970.
pub(crate) fn now() -> UnixTime {
    UnixTime(now_ms() / 1_000)
}

/// `now`, unless it is plainly wrong: what is signed carries the time and expires by it.
pub(crate) fn plausible(now: UnixTime) -> Result<UnixTime> {
    if now < EARLIEST {
        return Err(problem(
            format!("the clock of this machine says {now}"),
            "set it, for example with `timedatectl set-ntp true`: what is signed would have expired already",
        ));
    }
    Ok(now)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_signed_by_a_clock_that_lost_its_time() {
        let error = plausible(UnixTime(10)).unwrap_err();
        assert_eq!(error.to_string(), "the clock of this machine says 1970-01-01T00:00:10Z");
        assert_eq!(plausible(EARLIEST).unwrap(), EARLIEST);
    }
}
