//! The memory for what is on its way from clients through the hub: there is so much, and no user gets more than a part
//! of it, so that everybody else's messages wait behind little.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A user gets one of so many parts, or what one packet needs.
const PARTS: usize = 4;
/// What the smallest packet counts for: beside its bytes it costs the time of the hub.
const LEAST_WEIGHT: usize = 1024;

/// All of it.
#[derive(Debug)]
pub(super) struct Budget {
    all: Arc<Semaphore>,
    part_bytes: usize,
    parts: Mutex<HashMap<Arc<str>, Weak<Semaphore>>>,
}

/// What one user gets of it.
#[derive(Debug, Clone)]
pub(super) struct Part {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
    bytes: usize,
}

/// The memory of one packet; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    _of_all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Budget {
    /// So many bytes for packets that are no longer than that.
    pub(super) fn new(bytes: usize, packet_bytes: usize) -> Self {
        let bytes = bytes.max(packet_bytes);
        let part_bytes = (bytes / PARTS).max(packet_bytes);
        Self { all: Arc::new(Semaphore::new(bytes)), part_bytes, parts: Mutex::default() }
    }

    /// The part of `user`; the same for all its connections.
    pub(super) fn part(&self, user: Arc<str>) -> Part {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let known = parts.entry(user).or_default();
        let own = known.upgrade().unwrap_or_else(|| Arc::new(Semaphore::new(self.part_bytes)));
        *known = Arc::downgrade(&own);
        Part { own, all: Arc::clone(&self.all), bytes: self.part_bytes }
    }
}

impl Part {
    /// Waits for `weight` bytes: fast publishers are held back here. `None` never comes as long as the relay runs.
    pub(super) async fn take(&self, weight: usize) -> Option<Permit> {
        let weight = weight.max(LEAST_WEIGHT).min(self.bytes) as u32;
        let own = Arc::clone(&self.own).acquire_many_owned(weight).await.ok()?;
        let of_all = Arc::clone(&self.all).acquire_many_owned(weight).await.ok()?;
        Some(Permit { _of_all: of_all, _own: own })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn one_user_leaves_enough_for_the_others() {
        let budget = Budget::new(40_000, 10);
        let (anna, anna_again) = (budget.part("anna".into()), budget.part("anna".into()));
        let at_once = |part: &Part, weight| part.take(weight).now_or_never().flatten();
        let held = at_once(&anna, 9_000);
        assert!(held.is_some() && at_once(&anna_again, 1_001).is_none());
        assert!(at_once(&budget.part("bert".into()), 10_000).is_some());
        drop(held);
        assert!(at_once(&anna, 10_000).is_some());
    }

    #[test]
    fn the_longest_packet_gets_through_and_the_shortest_counts() {
        let budget = Budget::new(5_000, 3_000);
        let part = budget.part("anna".into());
        let whole = part.take(1 << 30).now_or_never().flatten();
        assert!(whole.is_some() && part.take(1).now_or_never().is_none());
        drop(whole);
        let small: Vec<_> = std::iter::from_fn(|| part.take(1).now_or_never().flatten()).collect();
        assert_eq!(small.len(), 2);
    }
}
