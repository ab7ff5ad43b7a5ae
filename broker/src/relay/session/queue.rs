//! What waits to be sent to one client.

use std::collections::{BTreeSet, VecDeque};

use crate::relay::{message::Delivery, topic::TopicName};

/// Most topics that a lagging client is remembered to have missed one by one; beyond, all its filters are replayed.
pub(super) const MAX_MISSED: usize = 1024;

/// How much may wait for one client.
#[derive(Debug, Clone, Copy)]
pub(in crate::relay) struct QueueLimits {
    /// Most messages.
    pub(in crate::relay) messages: usize,
    /// Most bytes of topics and payloads.
    pub(in crate::relay) bytes: usize,
}

/// What a lagging client did not get.
#[derive(Debug, Default)]
pub(in crate::relay) enum Missed {
    /// Nothing.
    #[default]
    Nothing,
    /// The newest values of these topics.
    Topics(BTreeSet<TopicName>),
    /// So much that everything it subscribed to must be sent again.
    Everything,
}

/// Two queues that are read as one.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Answers to subscriptions.
    replay: VecDeque<Queued>,
    replay_bytes: usize,
    /// What is published just now.
    live: VecDeque<Queued>,
    live_bytes: usize,
    /// Orders the two into one sequence.
    queued: u64,
    pub(super) missed: Missed,
}

#[derive(Debug)]
struct Queued {
    place: u64,
    delivery: Delivery,
}

impl Queue {
    /// Adds what is published just now. Returns how many messages were dropped for it.
    pub(super) fn publish(&mut self, delivery: Delivery, limits: QueueLimits) -> u64 {
        let weight = delivery.weight();
        let fits = |queue: &Self| {
            queue.live.len() < limits.messages
                && (queue.live.is_empty() || queue.live_bytes + weight <= limits.bytes)
        };
        let mut dropped = 0;
        while !fits(self) {
            dropped += 1;
            if delivery.message.retain {
                self.missed.note(delivery.message.topic.clone());
                return dropped;
            }
            self.drop_oldest();
        }
        let place = self.next_place();
        self.live_bytes += weight;
        self.live.push_back(Queued { place, delivery });
        dropped
    }

    /// Adds a retained message, if there is room: one always has.
    pub(super) fn replay(&mut self, delivery: Delivery, limits: QueueLimits) -> bool {
        let weight = delivery.weight();
        let is_full = self.replay.len() >= limits.messages || self.replay_bytes + weight > limits.bytes;
        if is_full && !self.replay.is_empty() {
            return false;
        }
        let place = self.next_place();
        self.replay_bytes += weight;
        self.replay.push_back(Queued { place, delivery });
        true
    }

    /// The next one.
    pub(super) fn peek(&self) -> Option<&Delivery> {
        let queue = if self.live_is_next() { &self.live } else { &self.replay };
        queue.front().map(|queued| &queued.delivery)
    }

    /// Takes the next one.
    pub(super) fn pop(&mut self) -> Option<Delivery> {
        if self.live_is_next() {
            let delivery = self.live.pop_front()?.delivery;
            self.live_bytes -= delivery.weight();
            Some(delivery)
        } else {
            let delivery = self.replay.pop_front()?.delivery;
            self.replay_bytes -= delivery.weight();
            Some(delivery)
        }
    }

    /// Thousands of idle sessions must not each keep the room of their busiest moment.
    pub(super) fn give_back_memory(&mut self) {
        self.replay.shrink_to(0);
        if self.live.capacity() > 16 {
            self.live.shrink_to(0);
        }
    }

    fn next_place(&mut self) -> u64 {
        self.queued += 1;
        self.queued
    }

    fn drop_oldest(&mut self) {
        if let Some(Queued { delivery, .. }) = self.live.pop_front() {
            self.live_bytes -= delivery.weight();
            if delivery.message.retain {
                self.missed.note(delivery.message.topic.clone());
            }
        }
    }

    fn live_is_next(&self) -> bool {
        match (self.replay.front(), self.live.front()) {
            (Some(replay), Some(live)) => live.place < replay.place,
            (replay, _) => replay.is_none(),
        }
    }
}

impl Missed {
    fn note(&mut self, topic: TopicName) {
        match self {
            Self::Nothing => *self = Self::Topics(BTreeSet::from([topic])),
            Self::Topics(topics) if topics.len() < MAX_MISSED => {
                topics.insert(topic);
            }
            Self::Topics(_) => *self = Self::Everything,
            Self::Everything => {}
        }
    }
}
