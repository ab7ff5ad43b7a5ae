//! The time: a clock that never jumps for deadlines, and a wall clock that is never before what was signed.

use std::time::{Duration, SystemTime};

use machine::Now;
use schemas::time::UnixTime;
use tokio::time::Instant;

/// 2026-11-01 00:00:00 UTC. No node ran this version before that, so a clock that says so was never set: Pis have no
/// battery. A date in the source, moved at each release, keeps builds reproducible.
const BUILD_DATE: UnixTime = UnixTime(1_793_491_200);

/// The clocks of a node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    started: Instant,
    floor: UnixTime,
}

impl Clock {
    /// A clock that starts now and is never before `floor`.
    pub(crate) fn start(floor: UnixTime) -> Self {
        Self { started: Instant::now(), floor }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Now {
        let mono_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Now { mono_ms, wall: system().max(self.floor) }
    }

    /// When `mono_ms` is.
    pub(crate) fn instant(&self, mono_ms: u64) -> Instant {
        self.started + Duration::from_millis(mono_ms)
    }

    /// Never says a time before `floor` again; whether that is news.
    pub(crate) fn raise(&mut self, floor: UnixTime) -> bool {
        let higher = floor > self.floor;
        self.floor = self.floor.max(floor);
        higher
    }
}

/// Whether nobody has set the system's clock yet.
pub(crate) fn is_unset() -> bool {
    system() < BUILD_DATE
}

/// What the system's clock says; 1970 when it says less.
pub(crate) fn system() -> UnixTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(since.map_or(0, |since| since.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn deadlines_follow_the_clock_that_never_jumps() {
        let clock = Clock::start(UnixTime(0));
        tokio::time::advance(Duration::from_millis(1_500)).await;
        assert_eq!(clock.now().mono_ms, 1_500);
        assert_eq!(clock.instant(1_500), Instant::now());
    }

    #[tokio::test]
    async fn the_wall_clock_is_never_before_what_was_signed() {
        let mut clock = Clock::start(UnixTime(5));
        assert!(clock.now().wall > BUILD_DATE);
        assert!(clock.raise(UnixTime(9_000_000_000)) && !clock.raise(UnixTime(1)));
        assert_eq!(clock.now().wall, UnixTime(9_000_000_000));
    }

    #[test]
    fn the_build_date_is_the_first_of_november_2026() {
        assert_eq!(BUILD_DATE.to_string(), "2026-11-01T00:00:00Z");
    }
}
