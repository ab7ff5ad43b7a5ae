//! What is to be said to the broker, what it has acknowledged, and what must be said again. Pure.
//!
//! The MQTT client below forgets what is under way when the broker has no session of ours, so every connection starts
//! with a client that knows nothing, and this ledger says everything again: greeting, subscriptions, messages without
//! acknowledgement, own retained state. Saying it twice is harmless, for all of it is idempotent.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use schemas::topic::{Filter, Topic};

use super::message::{Incoming, Message, Ticket, Undelivered};

/// Requests that the MQTT client may hold; below its own limit, so that it takes each at once.
pub(super) const WINDOW: usize = 64;
/// Messages that may wait for the bus to come back; own retained state is not among them.
const MAX_WAITING: usize = 10_000;
/// The same in bytes: what a Pi with 512 MiB can spare.
const MAX_WAITING_BYTES: usize = 16 * 1024 * 1024;
/// Filters in one SUBSCRIBE; keeps the packet far below any broker's limit.
const FILTERS_PER_PACKET: usize = 64;

/// What the MQTT client is asked to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    Subscribe(Vec<Filter>),
    Unsubscribe(Filter),
    Publish(Message),
}

#[derive(Debug)]
enum Item {
    Subscribe(Vec<Filter>),
    Unsubscribe(Filter),
    Greeting(Message),
    Single(Single),
    Own { topic: Topic, version: u64 },
}

/// A message that is said once, and again only while it is not acknowledged.
#[derive(Debug)]
struct Single {
    number: u64,
    message: Message,
    ticket: Ticket,
    /// A later message of the same retained topic was acknowledged: saying this one again would undo that.
    is_covered: bool,
}

/// Own retained state of one topic.
#[derive(Debug, Default)]
struct Own {
    payload: Bytes,
    version: u64,
    acked: u64,
    is_queued: bool,
    awaited: Vec<(u64, Ticket)>,
}

/// The ledger of one client; lives through all its connections.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    is_online: bool,
    /// What was not acknowledged when the connection is lost is not said on the next one.
    forgets: bool,
    will: Option<Message>,
    greeting: Vec<Message>,
    filters: BTreeSet<Filter>,
    /// No longer wanted; the broker may have them in its session, perhaps since an earlier process.
    unwanted: BTreeSet<Filter>,
    own: BTreeMap<Topic, Own>,
    /// Not yet handed to the MQTT client; without a connection, singles only.
    queue: VecDeque<Item>,
    /// Handed over and without a packet id yet, in that order.
    handed: VecDeque<Item>,
    publishing: BTreeMap<u16, Item>,
    subscribing: BTreeMap<u16, Vec<Filter>>,
    last_number: u64,
    singles: usize,
    singles_bytes: usize,
}

impl Ledger {
    /// A ledger that greets on each connect. It listens to the topic of its own will, see [`Self::overhear`].
    pub(super) fn new(will: Option<Message>, greeting: Vec<Message>) -> Self {
        let filters = will.iter().map(|will| Filter::from(&will.topic)).collect();
        Self { will, greeting, filters, ..Self::default() }
    }

    /// The same, which does not say on another connection what was to be said on one that was lost, or while there was none.
    pub(super) fn that_forgets(self) -> Self {
        Self { forgets: true, ..self }
    }

    /// Subscribes, now and on each connect.
    pub(super) fn subscribe(&mut self, filters: &[Filter]) {
        for filter in filters {
            self.unwanted.remove(filter);
            self.filters.insert(filter.clone());
        }
        if self.is_online {
            self.queue.extend(subscriptions(filters));
        }
    }

    /// Ends subscriptions, now and on each connect.
    pub(super) fn unsubscribe(&mut self, filters: Vec<Filter>) {
        for filter in filters {
            self.filters.remove(&filter);
            if self.is_online {
                self.queue.push_back(Item::Unsubscribe(filter.clone()));
            }
            self.unwanted.insert(filter);
        }
    }

    /// Takes a message that is to be said once.
    pub(super) fn publish(&mut self, message: Message, ticket: Ticket) {
        let bytes = message.packet_bytes();
        if self.singles >= MAX_WAITING || self.singles_bytes + bytes > MAX_WAITING_BYTES {
            ticket.resolve(Err(Undelivered::QueueFull { topic: message.topic }));
            return;
        }
        self.singles += 1;
        self.singles_bytes += bytes;
        self.last_number += 1;
        let number = self.last_number;
        self.queue.push_back(Item::Single(Single { number, message, ticket, is_covered: false }));
    }

    /// Takes the newest value of an own retained topic.
    pub(super) fn set_retained(&mut self, message: Message, ticket: Ticket) {
        let own = self.own.entry(message.topic.clone()).or_default();
        own.payload = message.payload;
        own.version += 1;
        own.awaited.retain(|(_, ticket)| ticket.is_awaited());
        own.awaited.push((own.version, ticket));
        if self.is_online && !own.is_queued {
            own.is_queued = true;
            self.queue.push_back(Item::Own { topic: message.topic, version: own.version });
        }
    }

    /// A connection is there: everything is to be said again, whatever the broker remembers. Greeting first, so that
    /// the subscription to the will's topic shows it; own state last, so that it has the last word.
    pub(super) fn connected(&mut self) {
        self.is_online = true;
        self.forget();
        let waiting = std::mem::take(&mut self.queue);
        self.queue.extend(self.unwanted.iter().cloned().map(Item::Unsubscribe));
        self.renew();
        self.queue.extend(waiting);
        for (topic, own) in &mut self.own {
            own.is_queued = true;
            self.queue.push_back(Item::Own { topic: topic.clone(), version: own.version });
        }
    }

    /// Greets and subscribes once more.
    pub(super) fn renew(&mut self) {
        if self.is_online {
            self.greet();
            let filters: Vec<Filter> = self.filters.iter().cloned().collect();
            self.queue.extend(subscriptions(&filters));
        }
    }

    fn greet(&mut self) {
        self.queue.extend(self.greeting.iter().cloned().map(Item::Greeting));
    }

    /// The connection is gone: what was not acknowledged waits for the next one.
    pub(super) fn lost(&mut self) {
        self.is_online = false;
        self.subscribing.clear();
        let publishing = std::mem::take(&mut self.publishing);
        let handed = std::mem::take(&mut self.handed);
        let queued = std::mem::take(&mut self.queue);
        let mut singles = Vec::new();
        for item in publishing.into_values().chain(handed).chain(queued) {
            match item {
                Item::Single(single) if single.is_covered => self.settle(single, Ok(())),
                Item::Single(single) => singles.push(single),
                Item::Subscribe(_) | Item::Unsubscribe(_) | Item::Greeting(_) | Item::Own { .. } => {}
            }
        }
        singles.sort_by_key(|single| single.number);
        self.queue = singles.into_iter().map(Item::Single).collect();
        self.forget();
    }

    fn forget(&mut self) {
        let waiting = if self.forgets { std::mem::take(&mut self.queue) } else { VecDeque::new() };
        for item in waiting {
            if let Item::Single(single) = item {
                let topic = single.message.topic.clone();
                self.settle(single, Err(Undelivered::Lost { topic }));
            }
        }
    }

    /// The next request for the MQTT client, while it may hold one more.
    pub(super) fn next(&mut self) -> Option<Request> {
        while self.is_online && self.handed.len() + self.publishing.len() + self.subscribing.len() < WINDOW {
            let mut item = self.queue.pop_front()?;
            if let Some(request) = self.request(&mut item) {
                self.handed.push_back(item);
                return Some(request);
            }
        }
        None
    }

    /// What to ask for an item; nothing for own state that was forgotten in the meantime.
    fn request(&mut self, item: &mut Item) -> Option<Request> {
        Some(match item {
            Item::Subscribe(filters) => Request::Subscribe(filters.clone()),
            Item::Unsubscribe(filter) => Request::Unsubscribe(filter.clone()),
            Item::Greeting(message) => Request::Publish(message.clone()),
            Item::Single(single) => Request::Publish(single.message.clone()),
            Item::Own { topic, version } => {
                let own = self.own.get_mut(topic)?;
                own.is_queued = false;
                *version = own.version;
                Request::Publish(Message::new(topic.clone(), own.payload.clone()))
            }
        })
    }

    /// The oldest request that was handed over went out under a packet id.
    pub(super) fn sent(&mut self, packet_id: u16) {
        match self.handed.pop_front() {
            Some(Item::Subscribe(filters)) => drop(self.subscribing.insert(packet_id, filters)),
            Some(Item::Unsubscribe(_)) | None => {}
            Some(item) => drop(self.publishing.insert(packet_id, item)),
        }
    }

    /// The broker has taken responsibility for a message.
    pub(super) fn acked(&mut self, packet_id: u16) {
        match self.publishing.remove(&packet_id) {
            Some(Item::Single(single)) => {
                self.cover_before(&single);
                self.settle(single, Ok(()));
            }
            Some(Item::Own { topic, version }) => self.settle_own(&topic, version),
            Some(Item::Greeting(_) | Item::Subscribe(_) | Item::Unsubscribe(_)) | None => {}
        }
    }

    fn cover_before(&mut self, later: &Single) {
        if !later.message.topic.is_retained() {
            return;
        }
        for item in self.publishing.values_mut() {
            if let Item::Single(single) = item {
                single.is_covered |=
                    single.message.topic == later.message.topic && single.number < later.number;
            }
        }
    }

    fn settle(&mut self, single: Single, fate: Result<(), Undelivered>) {
        self.singles -= 1;
        self.singles_bytes -= single.message.packet_bytes();
        single.ticket.resolve(fate);
    }

    fn settle_own(&mut self, topic: &Topic, version: u64) {
        let Some(own) = self.own.get_mut(topic) else { return };
        own.acked = own.acked.max(version);
        let (settled, awaited) = own.awaited.drain(..).partition(|(of, _)| *of <= version);
        own.awaited = awaited;
        let is_forgotten = own.payload.is_empty() && own.acked == own.version;
        for (_, ticket) in settled {
            ticket.resolve(Ok(()));
        }
        if is_forgotten {
            self.own.remove(topic);
        }
    }

    /// The broker has answered a SUBSCRIBE: the filters, and whether each was granted.
    pub(super) fn subscribed(&mut self, packet_id: u16, granted: &[bool]) -> Vec<(Filter, bool)> {
        let filters = self.subscribing.remove(&packet_id).unwrap_or_default();
        filters.into_iter().zip(granted.iter().copied()).collect()
    }

    /// Sees what comes in: the will of an earlier connection that comes late is answered with the greeting.
    pub(super) fn overhear(&mut self, incoming: &Incoming) {
        let Some(will) = &self.will else { return };
        let says_will = will.topic == incoming.topic && will.payload == incoming.payload;
        let is_own_word = self.own.get(&incoming.topic).is_some_and(|own| own.payload == incoming.payload);
        if says_will && !is_own_word && self.is_online {
            self.greet();
        }
    }

    /// Whether the broker has acknowledged everything but greetings and subscriptions.
    pub(super) fn is_settled(&self) -> bool {
        self.singles == 0 && self.own.values().all(|own| own.acked == own.version)
    }
}

fn subscriptions(filters: &[Filter]) -> impl Iterator<Item = Item> {
    filters.chunks(FILTERS_PER_PACKET).map(|chunk| Item::Subscribe(chunk.to_vec()))
}

#[cfg(test)]
mod tests;
