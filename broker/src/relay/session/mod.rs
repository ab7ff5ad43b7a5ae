//! One client's session: what waits to be sent to it, and what it has not acknowledged.
//!
//! Shared by the hub, which puts things in, and by the client's connection, which takes them out. It outlives the
//! connection when the client asked for that. Never locked across an await.

mod queue;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU16,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use self::queue::Queue;
pub(super) use self::queue::{Missed, QueueLimits};
use super::{
    codec::{PacketId, Reason, Reply},
    message::{Delivery, Grant},
    outgoing::Outgoing,
    topic::TopicName,
};

/// Most QoS 1 messages that one client has yet to acknowledge. MQTT 3.1.1 lets the server choose; it hides a round
/// trip of 60 ms at 1,000 messages a second.
pub(super) const WINDOW: usize = 64;
/// Most publishes of one client that wait for their PUBACK; told to clients of MQTT 5, and kept to by those of 3.1.1
/// through the limit of what is on its way.
pub(super) const RECEIVE_MAXIMUM: u16 = 1024;
/// Most QoS 2 publishes that a client may leave unreleased.
const MAX_UNRELEASED: usize = 1024;

/// Why the relay ends a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Somebody connected with the same client id (MQTT-3.1.4-3, v3: MQTT-3.1.4-2).
    TakenOver,
    /// What the client published could not be stored; it must not believe that it was.
    NotStored,
    /// The user is gone, or may now do other things than before.
    NotAuthorized,
    /// The relay stops.
    Shutdown,
}

/// Numbers the connections of one session, so that a late answer does not reach a later connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) struct Attachment(pub(super) u64);

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
    queue: Queue,
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: usize,
    last_id: u16,
    /// Whether the hub has more retained messages than there was room for.
    has_more_to_come: bool,
    /// Whether the connection was told about that, or about what the client missed.
    told: bool,
    /// Publishes of this connection that wait for their PUBACK.
    unanswered: u16,
    /// Whether what was published with the id is safe.
    unreleased: BTreeMap<PacketId, bool>,
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
    /// Everything, and the hub has more: retained messages, or newer values of what the client missed.
    Lagged,
    /// There is more, but no room.
    Congested,
    /// The connection must end.
    Ended(End),
}

/// What a QoS 2 publish is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Once {
    /// The first with its id.
    New,
    /// Sent again before the first one was safe.
    Pending,
    /// Sent again after that.
    Received,
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

    /// A connection begins; what it does not know to be received is sent again (MQTT-4.4.0-1).
    pub(super) fn attach(&self, attachment: Attachment) {
        let mut state = self.lock();
        state.attached = Some(attachment);
        state.end = None;
        state.told = false;
        state.unanswered = 0;
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
        let dropped = state.queue.publish(delivery, self.limits);
        drop(state);
        self.wake.notify_one();
        dropped
    }

    /// Queues a retained message, if there is room for it.
    pub(super) fn replay(&self, delivery: Delivery) -> bool {
        let has_room = self.lock().queue.replay(delivery, self.limits);
        self.wake.notify_one();
        has_room
    }

    /// The hub has more retained messages: the connection asks for them when it has taken those that wait.
    pub(super) fn expect_more(&self) {
        self.lock().has_more_to_come = true;
        self.wake.notify_one();
    }

    /// Of what was missed, `topics` are still to be sent.
    pub(super) fn still_misses(&self, topics: BTreeSet<TopicName>) {
        self.lock().queue.missed = Missed::Topics(topics);
    }

    /// What the client missed, which is then forgotten; the hub goes on with it.
    pub(super) fn take_missed(&self) -> Missed {
        let mut state = self.lock();
        (state.told, state.has_more_to_come) = (false, false);
        std::mem::take(&mut state.queue.missed)
    }

    /// Moves into `out` what may be sent and fits.
    pub(super) fn take(&self, out: &mut Outgoing) -> Taken {
        self.lock().take(out, self.limits)
    }

    /// The client acknowledged `id`; unknown ids are ignored.
    pub(super) fn acknowledged(&self, id: PacketId) {
        let mut state = self.lock();
        let place = state.in_flight.iter().position(|message| message.id == id);
        if let Some(message) = place.and_then(|place| state.in_flight.remove(place)) {
            state.in_flight_bytes -= message.delivery.weight();
        }
    }

    /// Notes a QoS 1 publish that will be answered; false when too many wait already.
    pub(super) fn receive(&self) -> bool {
        let mut state = self.lock();
        let has_room = state.unanswered < RECEIVE_MAXIMUM;
        state.unanswered += u16::from(has_room);
        has_room
    }

    /// Notes a QoS 2 publish; `None` when the client leaves too many unreleased.
    pub(super) fn receive_once(&self, id: PacketId) -> Option<Once> {
        let mut state = self.lock();
        match state.unreleased.get(&id) {
            Some(true) => Some(Once::Received),
            Some(false) => Some(Once::Pending),
            None if state.unreleased.len() >= MAX_UNRELEASED => None,
            None => {
                state.unreleased.insert(id, false);
                Some(Once::New)
            }
        }
    }

    /// What was published with `id` is safe: whichever connection the client has now is told.
    pub(super) fn received_once(&self, id: PacketId) {
        let mut state = self.lock();
        let Some(is_safe) = state.unreleased.get_mut(&id) else { return };
        *is_safe = true;
        if state.attached.is_some() {
            state.replies.push_back(Reply::PubRec(id, Reason::Success));
            drop(state);
            self.wake.notify_one();
        }
    }

    /// What was published with `id` is lost: the next one with that id is new, and whichever connection the client has now
    /// ends, since it may have published it again.
    pub(super) fn failed_once(&self, id: PacketId, end: End) {
        let mut state = self.lock();
        state.unreleased.remove(&id);
        if state.attached.is_some() {
            state.end.get_or_insert(end);
            drop(state);
            self.wake.notify_one();
        }
    }

    /// The client releases `id`: the next publish with that id is new. False when there was none.
    pub(super) fn release(&self, id: PacketId) -> bool {
        self.lock().unreleased.remove(&id).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn take(&mut self, out: &mut Outgoing, limits: QueueLimits) -> Taken {
        while !out.is_full()
            && let Some(reply) = self.replies.pop_front()
        {
            self.unanswered = self.unanswered.saturating_sub(u16::from(matches!(reply, Reply::PubAck(..))));
            out.push_reply(&reply);
        }
        if let Some(end) = self.end {
            if end == End::Shutdown && self.take_again(out).is_none() {
                // That the service goes is among what waits, and of use only now.
                self.take_queued(out, limits);
            }
            return Taken::Ended(end);
        }
        if !self.replies.is_empty() {
            return Taken::Congested;
        }
        self.take_again(out).unwrap_or_else(|| self.take_queued(out, limits))
    }

    /// What an earlier connection sent in vain. MQTT-4.4.0-1: it comes first, "using their original Packet
    /// Identifiers"; in order (MQTT-4.6.0-1), within the window, and only what this client takes.
    fn take_again(&mut self, out: &mut Outgoing) -> Option<Taken> {
        if self.in_flight.iter().all(|message| message.sent) {
            return None;
        }
        self.in_flight.retain(|message| {
            let stays = message.sent || out.takes(&message.delivery);
            self.in_flight_bytes -= if stays { 0 } else { message.delivery.weight() };
            stays
        });
        for message in self.in_flight.iter_mut().take(out.terms().window) {
            if out.is_full() {
                return Some(Taken::Congested);
            }
            if !message.sent {
                message.sent = true;
                out.push_publish(&message.delivery, Some(message.id), true);
            }
        }
        // The rest follows as these are acknowledged.
        self.in_flight.iter().any(|message| !message.sent).then_some(Taken::All)
    }

    fn take_queued(&mut self, out: &mut Outgoing, limits: QueueLimits) -> Taken {
        while let Some(next) = self.queue.peek() {
            if out.is_full() {
                return Taken::Congested;
            }
            if next.message.is_expired() || !out.takes(next) {
                self.queue.pop();
                continue;
            }
            let is_window_full = self.in_flight.len() >= out.terms().window
                || (!self.in_flight.is_empty() && self.in_flight_bytes + next.weight() > limits.bytes);
            if next.grant == Grant::AtLeastOnce && is_window_full {
                return Taken::All;
            }
            let Some(delivery) = self.queue.pop() else { break };
            if delivery.grant == Grant::AtMostOnce {
                out.push_publish(&delivery, None, false);
                continue;
            }
            let id = self.next_id();
            out.push_publish(&delivery, Some(id), false);
            self.in_flight_bytes += delivery.weight();
            self.in_flight.push_back(InFlight { id, delivery, sent: true });
        }
        self.give_back_memory();
        let is_all = matches!(self.queue.missed, Missed::Nothing) && !self.has_more_to_come;
        if self.told || is_all {
            return Taken::All;
        }
        self.told = true;
        Taken::Lagged
    }

    /// An id that is not in flight (MQTT-2.2.1-4): they are taken in turn, and the window is far smaller than their number.
    fn next_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = PacketId(NonZeroU16::new(self.last_id).unwrap_or(NonZeroU16::MIN));
            if self.in_flight.iter().all(|message| message.id != id) {
                return id;
            }
        }
    }

    /// Thousands of idle sessions must not each keep the room of their busiest moment.
    fn give_back_memory(&mut self) {
        self.queue.give_back_memory();
        if self.replies.is_empty() && self.replies.capacity() > 16 {
            self.replies.shrink_to(0);
        }
        if self.in_flight.is_empty() {
            self.in_flight.shrink_to(0);
        }
    }
}

/// A session that the hub and a connection share.
pub(super) type SharedSession = Arc<Session>;

#[cfg(test)]
mod tests;
