//! The way of a message: accepted, stored, routed, shown.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;
use tracing::error;

use super::{Ack, From, Hub, Observer, Origin, Publish};
use crate::relay::{
    budget::Permit,
    codec::{Protocol, Reason, Reply},
    message::{Delivery, Message},
    registry::ClientKey,
    retained::{Outcome, Record},
    router::{Frame, MAX_BYTES_INSIDE, MAX_MESSAGES_INSIDE, Router, RouterError, Ticket},
    session::End,
    topic::{Filter, TopicName},
};

/// Whom messages of the service itself count against.
const SERVICE: &str = "$service";

/// A message that is not in the router yet.
#[derive(Debug)]
pub(super) struct Accepted {
    message: Arc<Message>,
    origin: Origin,
    permit: Option<Arc<Permit>>,
}

/// What is known of a message while the router has it.
#[derive(Debug)]
pub(super) struct InRouter {
    ticket: Ticket,
    weight: usize,
    expires: Option<Instant>,
    origin: Origin,
    /// Given back when the message is out, the retained log has it, and the observers have looked at it.
    permit: Option<Arc<Permit>>,
}

impl<R: Router> Hub<R> {
    /// Takes a message on its way.
    pub(super) fn publish(&mut self, publish: Publish) -> Result<(), RouterError> {
        let Publish { message, user, origin, permit } = publish;
        self.stats.published.add(1);
        let Some(writer) = &self.writer else { return Ok(()) };
        let is_awaited = self.retained.is_awaited(&message.topic);
        if message.retain
            && let Err(over) = self.retained.accept(&message, &user)
        {
            self.denials.note(format_args!("{user} may not retain `{}`: {over}", message.topic));
            fail(&origin, Reason::QuotaExceeded);
            return Ok(());
        }
        let is_lazy = self.settings.lazy.iter().any(|filter| filter.takes(message.topic.as_str()));
        let permit = permit.map(Arc::new);
        let accepted = Accepted { message: Arc::clone(&message), origin, permit: permit.clone() };
        if message.retain && !is_lazy {
            writer.store(Record::new(message, user));
        } else {
            if message.retain {
                writer.store_lazily(Record::new(message, user), permit);
            }
            // MQTT-4.6.0-6: it must not overtake an earlier message on its topic.
            if !is_awaited {
                self.ready.push_back(accepted);
                return self.fill_router();
            }
            writer.pass();
        }
        self.in_log.push_back(accepted);
        Ok(())
    }

    /// The service itself has `message` retained.
    pub(super) fn put(&mut self, message: Message) -> Result<(), RouterError> {
        let origin = Origin { from: From::nobody(), session: Arc::clone(&self.own_session), ack: Ack::None };
        self.publish(Publish { message: Arc::new(message), user: SERVICE.into(), origin, permit: None })
    }

    /// Clears what is retained for `filter`, but for topics that end with `but`.
    pub(super) fn clear(&mut self, filter: &Filter, but: &str) -> Result<(), RouterError> {
        let found =
            self.retained.look(filter, None).filter_map(|(topic, message)| message.map(|_| topic.clone()));
        let topics: Vec<TopicName> = found.filter(|topic| !topic.as_str().ends_with(but)).collect();
        topics.into_iter().try_for_each(|topic| self.put(Message::clearing(topic)))
    }

    /// What is retained for an observer, filter by filter.
    pub(in crate::relay) fn observed(&self, filters: &[Filter]) -> Vec<Arc<Message>> {
        filters
            .iter()
            .flat_map(|filter| self.retained.look(filter, None).filter_map(|(_, message)| message.cloned()))
            .collect()
    }

    /// The retained log has done its part for the oldest messages that it was given.
    pub(super) fn stored(&mut self, outcomes: &[Outcome]) -> Result<(), RouterError> {
        for outcome in outcomes {
            let Some(accepted) = self.in_log.pop_front() else { break };
            if *outcome == Outcome::Stored {
                self.ready.push_back(accepted);
                continue;
            }
            if accepted.message.retain {
                self.retained.withdraw(&accepted.message.topic);
            }
            fail(&accepted.origin, Reason::ImplementationSpecificError);
        }
        self.fill_router()
    }

    /// A message is out of the router: now, at once, all see it.
    pub(super) fn routed(&mut self, frame: Bytes) -> Result<(), RouterError> {
        match Frame::decode(frame) {
            Some(Frame::Probe) => {
                if let Some(probe) = self.probes.pop_front() {
                    // Who asked may have given up waiting.
                    let _ = probe.send(());
                }
            }
            Some(Frame::Message(ticket, message)) => self.arrived(ticket, message),
            None => error!("the message router changed a frame"),
        }
        self.fill_router()
    }

    /// `message` goes out to everybody who is subscribed, and becomes what its topic has.
    pub(super) fn show(&mut self, message: &Arc<Message>, publisher: Option<ClientKey>) {
        if message.retain {
            self.retained.show(message);
            self.stats.retained.set(self.retained.len() as u64);
        }
        let (registry, stats) = (&self.registry, &self.stats);
        self.subscriptions.each_match(message.topic.as_str(), publisher, |key, wish| {
            if let Some(client) = registry.get(key) {
                let dropped = client.session.publish(Delivery::live(message, wish));
                stats.delivered.add(1);
                stats.dropped.add(dropped);
            }
        });
    }

    /// Forgets retained messages that are of no more use, on the disk too.
    pub(super) fn drop_expired(&mut self) {
        let Some(writer) = &self.writer else { return };
        for (cleared, owner) in self.retained.drop_expired() {
            writer.store_lazily(Record::new(Arc::new(cleared), owner), None);
        }
    }

    fn fill_router(&mut self) -> Result<(), RouterError> {
        while self.in_router.len() < MAX_MESSAGES_INSIDE {
            let weight = self.ready.front().map_or(0, |next| next.message.weight());
            if self.bytes_in_router > 0 && self.bytes_in_router + weight > MAX_BYTES_INSIDE {
                return Ok(());
            }
            let Some(Accepted { message, origin, permit }) = self.ready.pop_front() else { return Ok(()) };
            self.last_ticket = Ticket(self.last_ticket.0 + 1);
            let ticket = self.last_ticket;
            self.bytes_in_router += weight;
            let expires = message.expires;
            self.in_router.push_back(InRouter { ticket, weight, expires, origin, permit });
            self.router.send(Frame::encode(ticket, &message))?;
        }
        Ok(())
    }

    fn arrived(&mut self, ticket: Ticket, message: Message) {
        while let Some(InRouter { ticket: next, weight, expires, origin, permit }) =
            self.in_router.pop_front()
        {
            self.bytes_in_router -= weight;
            if next == ticket {
                let publisher = self.publisher(&origin);
                let message = Arc::new(Message { expires, ..message });
                self.show(&message, publisher);
                self.tell_observers(&message, permit.as_ref());
                acknowledge(&origin);
                return;
            }
            error!(?next, "the message router lost a message");
            fail(&origin, Reason::UnspecifiedError);
        }
    }

    /// Its memory is given back when they have looked at it: nobody publishes faster than that.
    fn tell_observers(&self, message: &Arc<Message>, permit: Option<&Arc<Permit>>) {
        let is_of = |observer: &&Observer| {
            (message.retain || observer.looks_at_all)
                && observer.filters.iter().any(|f| f.takes(message.topic.as_str()))
        };
        for observer in self.settings.observers.iter().filter(is_of) {
            // Nobody looks any more when the service stops.
            let _ = observer.sink.send((Arc::clone(message), permit.cloned()));
        }
    }

    /// The client that a message came from, if it still has the session in which it was published.
    fn publisher(&self, origin: &Origin) -> Option<ClientKey> {
        let client = self.registry.get(origin.from.key)?;
        Arc::ptr_eq(&client.session, &origin.session).then_some(origin.from.key)
    }
}

fn acknowledge(origin: &Origin) {
    match origin.ack {
        Ack::None => {}
        Ack::Received(id, _) => {
            origin.session.reply(origin.from.attachment, Reply::PubAck(id, Reason::Success));
        }
        Ack::ReceivedOnce(id) => origin.session.received_once(id),
    }
}

/// The client must not believe that the message is safe. MQTT 5 has a code for that; MQTT 3.1.1 has no way to say no but
/// to hang up.
fn fail(origin: &Origin, reason: Reason) {
    let to = origin.from.attachment;
    match origin.ack {
        Ack::Received(id, Protocol::V5) => return origin.session.reply(to, Reply::PubAck(id, reason)),
        Ack::ReceivedOnce(id) => return origin.session.failed_once(id, End::NotStored),
        Ack::Received(_, Protocol::V311) => {}
        // Published at most once: it may be lost.
        Ack::None => return,
    }
    origin.session.end(to, End::NotStored);
}
