//! What a fetch costs and how far it is.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use machine::Yield;
use tokio::time::Instant;

/// Progress is told at most so often: five times a second looks live.
const TELL_EVERY: Duration = Duration::from_millis(200);

/// Counts bytes and requests, and tells progress in thousandths.
pub(super) struct Meter<F> {
    tell: F,
    started: Instant,
    told_at_ms: AtomicU64,
    wire_bytes: AtomicU64,
    requests: AtomicU32,
    done_bytes: AtomicU64,
    total_bytes: AtomicU64,
}

impl<F: Fn(u16)> Meter<F> {
    /// A meter at zero, which tells by `tell`.
    pub(super) fn new(tell: F) -> Self {
        Self {
            tell,
            started: Instant::now(),
            told_at_ms: AtomicU64::new(0),
            wire_bytes: AtomicU64::new(0),
            requests: AtomicU32::new(0),
            done_bytes: AtomicU64::new(0),
            total_bytes: AtomicU64::new(0),
        }
    }

    /// So many plain bytes are to come.
    pub(super) fn expect(&self, total_bytes: u64) {
        self.total_bytes.store(total_bytes, Relaxed);
    }

    /// One more request.
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// So many bytes came over the wire.
    pub(super) fn received(&self, bytes: u64) {
        self.wire_bytes.fetch_add(bytes, Relaxed);
    }

    /// So many plain bytes are done, or are as good as done.
    pub(super) fn done(&self, bytes: u64) {
        let done = self.done_bytes.fetch_add(bytes, Relaxed).saturating_add(bytes);
        let elapsed_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due = self.told_at_ms.load(Relaxed) + TELL_EVERY.as_millis() as u64;
        if elapsed_ms >= due {
            self.told_at_ms.store(elapsed_ms, Relaxed);
            (self.tell)(permille(done, self.total_bytes.load(Relaxed)));
        }
    }

    /// What it cost.
    pub(super) fn cost(&self) -> Yield {
        Yield {
            fetched_bytes: self.wire_bytes.load(Relaxed),
            requests: self.requests.load(Relaxed),
            built: None,
        }
    }
}

fn permille(done: u64, total: u64) -> u16 {
    let share = u128::from(done.min(total)) * 1_000 / u128::from(total.max(1));
    u16::try_from(share).unwrap_or(1_000)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn progress_is_told_at_most_five_times_a_second() {
        let told = Mutex::new(Vec::new());
        let meter = Meter::new(|permille| told.lock().unwrap().push(permille));
        meter.expect(1_000);
        for _ in 0..100 {
            tokio::time::advance(Duration::from_millis(10)).await;
            meter.done(10);
        }
        assert_eq!(*told.lock().unwrap(), [200, 400, 600, 800, 1_000]);
    }

    #[test]
    fn thousandths_stay_in_their_range() {
        for (done, total, expected) in [(0, 0, 0), (1, 3, 333), (9, 3, 1_000), (u64::MAX, u64::MAX, 1_000)] {
            assert_eq!(permille(done, total), expected);
        }
    }
}
