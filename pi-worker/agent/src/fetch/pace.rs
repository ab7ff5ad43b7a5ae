//! The bandwidth limit: who takes bytes learns how long to wait for them.

use std::{num::NonZeroU64, time::Duration};

use tokio::time::Instant;

/// So much may come at once after a pause, as time at the limit.
const BURST: Duration = Duration::from_millis(100);

/// A budget of bytes that refills evenly.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    bytes_per_s: NonZeroU64,
    /// When everything that was taken is paid for.
    paid_at: Instant,
}

impl Pace {
    /// So many bytes a second, from now on.
    pub(super) fn new(bytes_per_s: NonZeroU64) -> Self {
        Self { bytes_per_s, paid_at: Instant::now() }
    }

    /// Takes `bytes` at `now`; gives how long to wait before the next are taken.
    pub(super) fn take(&mut self, bytes: u64, now: Instant) -> Duration {
        let cost = Duration::from_secs_f64(bytes as f64 / self.bytes_per_s.get() as f64);
        let saved_up = now.checked_sub(BURST).unwrap_or(now);
        self.paid_at = self.paid_at.max(saved_up) + cost;
        self.paid_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_no_faster_than_allowed() {
        let mut pace = Pace::new(NonZeroU64::new(1_000_000).unwrap());
        let start = Instant::now();
        let mut now = start;
        for _ in 0..100 {
            now += pace.take(50_000, now);
        }
        let took = now - start;
        assert!((4_800..=5_001).contains(&took.as_millis()), "{took:?}");
    }

    #[test]
    fn a_pause_saves_up_only_a_short_burst() {
        let mut pace = Pace::new(NonZeroU64::new(1_000).unwrap());
        let later = Instant::now() + Duration::from_mins(1);
        assert_eq!(pace.take(100, later), Duration::ZERO);
        assert_eq!(pace.take(1_000, later), Duration::from_secs(1));
    }
}
