//! The time: a clock that never jumps for deadlines, and a wall clock that is never before what was signed.

use std::time::{Duration, SystemTime};

use machine::Now;
use schemas::time::UnixTime;
use tokio::time::Instant;

/// 2026-11-01 00:00:00 UTC. No node ran this version before that, so a clock that says so was never set: Pis have no
/// battery. A date in the source, moved at each release, keeps builds reproducible.
pub(crate) const BUILD_DATE: UnixTime = UnixTime(1_793_491_200);

/// A document that is signed further ahead of a clock that was set says nothing about the time: more than a day is
/// more than any time zone that somebody took for UTC.
const MAX_AHEAD_SECS: u64 = 24 * 60 * 60;

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

    /// Never says a time before `floor` again; whether that is news. A document of the far future is no news: one that
    /// was signed by a wrong clock or a stolen key would let every later order expire. `latest` is for a node whose own
    /// clock was never set.
    pub(crate) fn raise(&mut self, floor: UnixTime, latest: UnixTime) -> bool {
        let latest = if is_unset() { latest } else { latest.min(system().plus_secs(MAX_AHEAD_SECS)) };
        let is_news = floor > self.floor && floor <= latest;
        if is_news {
            self.floor = floor;
        }
        is_news
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

    const FAR: UnixTime = UnixTime(u64::MAX);

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
        let signed = system().plus_secs(3_600);
        assert!(clock.raise(signed, FAR) && !clock.raise(UnixTime(1), FAR));
        assert_eq!(clock.now().wall, signed);
    }

    #[tokio::test]
    async fn a_document_of_the_far_future_does_not_move_the_clock() {
        let mut clock = Clock::start(UnixTime(5));
        assert!(!clock.raise(system().plus_secs(2 * MAX_AHEAD_SECS), FAR));
        assert!(!clock.raise(system().plus_secs(3_600), system()), "not even with a root that ends before");
        assert!(clock.now().wall <= system());
    }

    #[test]
    fn the_build_date_is_the_first_of_november_2026() {
        assert_eq!(BUILD_DATE.to_string(), "2026-11-01T00:00:00Z");
    }
}
