//! What the relay counts about itself.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

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
    /// Topics that have a retained message.
    pub(super) retained: Count,
}

/// What others see of the counts.
#[derive(Debug, Clone)]
pub(crate) struct RelayCounts(pub(super) Arc<Stats>);

/// The counts at a time, each of which is said with [`Stats`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelayNumbers {
    pub(crate) connected: u64,
    pub(crate) retained: u64,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) dropped: u64,
    pub(crate) denied: u64,
}

impl RelayCounts {
    /// The counts now.
    pub(crate) fn numbers(&self) -> RelayNumbers {
        let Stats { connected, published, delivered, dropped, denied, retained } = &*self.0;
        RelayNumbers {
            connected: connected.get(),
            retained: retained.get(),
            published: published.get(),
            delivered: delivered.get(),
            dropped: dropped.get(),
            denied: denied.get(),
        }
    }
}

impl Count {
    /// Counts `more`.
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// As many as were counted elsewhere.
    pub(super) fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
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
