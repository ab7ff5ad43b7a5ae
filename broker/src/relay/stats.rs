//! What the relay counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises, or rises and falls with what it counts.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

/// All counts of one relay.
#[derive(Debug, Default)]
pub(super) struct Stats {
    /// Clients that are connected.
    pub(super) connected: Count,
    /// Messages that clients published.
    pub(super) published: Count,
    /// Messages that were put into clients' queues.
    pub(super) delivered: Count,
    /// Messages that a client was too slow for.
    pub(super) dropped: Count,
    /// Publishes, subscriptions and log-ins that were refused.
    pub(super) denied: Count,
}

impl Count {
    /// Counts `more`.
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// One fewer.
    pub(super) fn subtract_one(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
