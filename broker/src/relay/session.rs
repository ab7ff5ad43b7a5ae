//! One client's session: what waits to be sent to it, and what it has not acknowledged.
//!
//! Shared by the hub, which puts things in, and by the client's connection, which takes them out. It outlives the
//! connection when the client asked for that (`clean_session = 0`). Never locked across an await.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    message::{Delivery, Grant, PacketId},
    outgoing::Outgoing,
    packet::Reply,
    topic::TopicName,
};

/// Most QoS 1 messages that one client has yet to acknowledge. MQTT 3.1.1 lets the server choose; it hides a round
/// trip of 60 ms at 1,000 messages a second.
const WINDOW: usize = 64;
/// Most topics that a lagging client is remembered to have missed one by one; beyond, all its filters are replayed.
const MAX_MISSED: usize = 1024;
/// Most QoS 2 publishes that a client may leave unreleased.
const MAX_UNRELEASED: usize = 1024;

/// How much may wait for one client.
#[derive(Debug, Clone, Copy)]
pub(super) struct QueueLimits {
    /// Most messages.
    pub(super) messages: usize,
    /// Most bytes of topics and payloads.
    pub(super) bytes: usize,
}

/// Why the relay ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Somebody connected with the same client id (MQTT-3.1.4-2).
    TakenOver,
    /// What the client published could not be stored; it must not believe that it was.
    NotStored,
    /// The relay stops.
    Shutdown,
}

/// Numbers the connections of one session, so that a late answer does not reach a later connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Attachment(pub(super) u64);

/// What a lagging client did not get.
#[derive(Debug, Default)]
pub(super) enum Missed {
    /// Nothing.
    #[default]
    Nothing,
    /// The newest values of these topics.
    Topics(BTreeSet<TopicName>),
    /// So much that everything it subscribed to must be sent again.
    Everything,
}

/// A client's session.
#[derive(Debug)]
pub(super) struct Session {
    state: Mutex<State>,
    wake: Notify,
    limits: QueueLimits,
}

#[derive(Debug, Default)]
struct State {
    attached: Option<Attachment>,
    end: Option<End>,
    replies: VecDeque<Reply>,
    /// Answers to subscriptions: bounded by what is retained.
    replay: VecDeque<Queued>,
    /// What is published just now: bounded by the limits.
    live: VecDeque<Queued>,
    live_bytes: usize,
    /// Orders `replay` and `live` into one sequence.
    queued: u64,
    in_flight: VecDeque<InFlight>,
    last_id: u16,
    missed: Missed,
    /// Whether the connection was told about `missed` already.
    told: bool,
    unreleased: BTreeSet<PacketId>,
}

#[derive(Debug)]
struct Queued {
    place: u64,
    delivery: Delivery,
}

#[derive(Debug)]
struct InFlight {
    id: PacketId,
    delivery: Delivery,
    /// Whether this connection has sent it.
    sent: bool,
}

/// What a connection learns when it takes from its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Everything that may be sent was taken.
    All,
    /// Everything, and the client missed messages that the hub can now send.
    Lagged,
    /// There is more, but no room.
    Congested,
    /// The connection must end.
    Ended(End),
}

impl Session {
    /// An empty session.
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), limits }
    }

    /// Waits until there may be something to take.
    pub(super) async fn changed(&self) {
        self.wake.notified().await;
    }

    /// A connection begins; what it does not know to be received is sent again.
    pub(super) fn attach(&self, attachment: Attachment) {
        let mut state = self.lock();
        state.attached = Some(attachment);
        state.end = None;
        state.told = false;
        state.in_flight.iter_mut().for_each(|message| message.sent = false);
        drop(state);
        self.wake.notify_one();
    }

    /// The connection has ended.
    pub(super) fn detach(&self) {
        let mut state = self.lock();
        state.attached = None;
        state.replies = VecDeque::new();
    }

    /// Tells the connection `which` to end, unless it has gone.
    pub(super) fn end(&self, which: Attachment, end: End) {
        let mut state = self.lock();
        if state.attached == Some(which) {
            state.end.get_or_insert(end);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Answers the connection `to`, unless it has gone.
    pub(super) fn reply(&self, to: Attachment, reply: Reply) {
        let mut state = self.lock();
        if state.attached == Some(to) {
            state.replies.push_back(reply);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Queues what is published just now. Returns how many messages were dropped for it.
    pub(super) fn publish(&self, delivery: Delivery) -> u64 {
        let mut state = self.lock();
        if state.attached.is_none() && delivery.grant == Grant::AtMostOnce {
            return 0;
        }
        let dropped = state.enqueue(delivery, self.limits);
        drop(state);
        self.wake.notify_one();
        dropped
    }

    /// Queues retained messages; `replaces` says which of those already waiting are no longer needed.
    pub(super) fn replay(&self, messages: Vec<Delivery>, replaces: impl Fn(&Delivery) -> bool) {
        if messages.is_empty() {
            return;
        }
        let mut state = self.lock();
        if !state.replay.is_empty() {
            state.replay.retain(|queued| !replaces(&queued.delivery));
        }
        for delivery in messages {
            let place = state.next_place();
            state.replay.push_back(Queued { place, delivery });
        }
        drop(state);
        self.wake.notify_one();
    }

    /// What the client missed, which is then forgotten.
    pub(super) fn take_missed(&self) -> Missed {
        let mut state = self.lock();
        state.told = false;
        std::mem::take(&mut state.missed)
    }

    /// Moves into `out` what may be sent and fits.
    pub(super) fn take(&self, out: &mut Outgoing) -> Taken {
        self.lock().take(out)
    }

    /// The client acknowledged `id`; unknown ids are ignored.
    pub(super) fn acknowledged(&self, id: PacketId) {
        let mut state = self.lock();
        if let Some(place) = state.in_flight.iter().position(|message| message.id == id) {
            state.in_flight.remove(place);
        }
    }

    /// Notes a QoS 2 publish. `Some(true)` when it is new, `Some(false)` when it was noted before (MQTT-4.3.3-2),
    /// `None` when the client leaves too many unreleased.
    pub(super) fn receive_once(&self, id: PacketId) -> Option<bool> {
        let mut state = self.lock();
        if state.unreleased.len() >= MAX_UNRELEASED && !state.unreleased.contains(&id) {
            return None;
        }
        Some(state.unreleased.insert(id))
    }

    /// The client releases `id`, or its publish failed: the next one with that id is new.
    pub(super) fn release(&self, id: PacketId) {
        self.lock().unreleased.remove(&id);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_place(&mut self) -> u64 {
        self.queued += 1;
        self.queued
    }

    fn enqueue(&mut self, delivery: Delivery, limits: QueueLimits) -> u64 {
        let weight = delivery.message.weight();
        let fits = |state: &Self| {
            state.live.len() < limits.messages
                && (state.live.is_empty() || state.live_bytes + weight <= limits.bytes)
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

    fn drop_oldest(&mut self) {
        if let Some(Queued { delivery, .. }) = self.live.pop_front() {
            self.live_bytes -= delivery.message.weight();
            if delivery.message.retain {
                self.missed.note(delivery.message.topic.clone());
            }
        }
    }

    fn take(&mut self, out: &mut Outgoing) -> Taken {
        while !out.is_full()
            && let Some(reply) = self.replies.pop_front()
        {
            out.push_reply(&reply);
        }
        if let Some(end) = self.end {
            return Taken::Ended(end);
        }
        if !self.replies.is_empty() {
            return Taken::Congested;
        }
        for message in self.in_flight.iter_mut().filter(|message| !message.sent) {
            if out.is_full() {
                return Taken::Congested;
            }
            message.sent = true;
            out.push_publish(&message.delivery, Some(message.id), true);
        }
        self.take_queued(out)
    }

    fn take_queued(&mut self, out: &mut Outgoing) -> Taken {
        while let Some(next) = self.peek() {
            if out.is_full() {
                return Taken::Congested;
            }
            if next.grant == Grant::AtLeastOnce && self.in_flight.len() >= WINDOW {
                return Taken::All;
            }
            let Some(delivery) = self.pop() else { break };
            if delivery.grant == Grant::AtMostOnce {
                out.push_publish(&delivery, None, false);
                continue;
            }
            let id = self.next_id();
            out.push_publish(&delivery, Some(id), false);
            self.in_flight.push_back(InFlight { id, delivery, sent: true });
        }
        self.give_back_memory();
        if self.told || matches!(self.missed, Missed::Nothing) {
            return Taken::All;
        }
        self.told = true;
        Taken::Lagged
    }

    fn live_is_next(&self) -> bool {
        match (self.replay.front(), self.live.front()) {
            (Some(replay), Some(live)) => live.place < replay.place,
            (replay, _) => replay.is_none(),
        }
    }

    fn peek(&self) -> Option<&Delivery> {
        let queue = if self.live_is_next() { &self.live } else { &self.replay };
        queue.front().map(|queued| &queued.delivery)
    }

    fn pop(&mut self) -> Option<Delivery> {
        if self.live_is_next() {
            let delivery = self.live.pop_front()?.delivery;
            self.live_bytes -= delivery.message.weight();
            Some(delivery)
        } else {
            Some(self.replay.pop_front()?.delivery)
        }
    }

    /// An id that is not in flight: they are taken in turn, and the window is far smaller than their number.
    fn next_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = PacketId(self.last_id);
            if self.in_flight.iter().all(|message| message.id != id) {
                return id;
            }
        }
    }

    /// Thousands of idle sessions must not each keep the room of their busiest moment.
    fn give_back_memory(&mut self) {
        self.replay.shrink_to(0);
        if self.live.capacity() > 16 {
            self.live.shrink_to(0);
        }
        if self.replies.is_empty() && self.replies.capacity() > 16 {
            self.replies.shrink_to(0);
        }
        if self.in_flight.is_empty() {
            self.in_flight.shrink_to(0);
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

/// A session that the hub and a connection share.
pub(super) type SharedSession = Arc<Session>;

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
