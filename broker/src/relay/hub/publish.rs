//! The way of a message: accepted, stored, routed, shown.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tracing::{error, warn};

use super::{Ack, Hub, Origin, Publish};
use crate::relay::{
    message::{Delivery, Grant, Message},
    packet::Reply,
    retained::{Outcome, Record},
    router::{Frame, MAX_BYTES_INSIDE, MAX_MESSAGES_INSIDE, Router, RouterError, Ticket},
    session::End,
    topic::TopicName,
};

/// A message that is not in the router yet.
#[derive(Debug)]
pub(super) struct Accepted {
    message: Arc<Message>,
    origin: Origin,
    permit: Option<OwnedSemaphorePermit>,
}

/// What is known of a message while the router has it.
#[derive(Debug)]
pub(super) struct InRouter {
    ticket: Ticket,
    weight: usize,
    origin: Origin,
    /// Given back when the message is out.
    _permit: Option<OwnedSemaphorePermit>,
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
            warn!(user = %user, topic = %message.topic, reason = %over, "retained message refused");
            fail(&origin);
            return Ok(());
        }
        let is_lazy = self.settings.lazy.iter().any(|filter| filter.takes(message.topic.as_str()));
        let accepted = Accepted { message: Arc::clone(&message), origin, permit };
        if message.retain && !is_lazy {
            writer.store(Record { message, owner: user });
        } else {
            if message.retain {
                writer.store_lazily(Record { message, owner: user });
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
            fail(&accepted.origin);
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
            Some(Frame::Message(ticket, message)) => self.arrived(ticket, &message),
            None => error!("the message router changed a frame"),
        }
        self.fill_router()
    }

    /// The relay's own numbers, as mosquitto calls them.
    pub(super) fn publish_about_itself(&mut self) {
        let stats = &self.stats;
        let values = [
            ("$SYS/broker/version", concat!("deploybus ", env!("CARGO_PKG_VERSION")).to_owned()),
            ("$SYS/broker/uptime", format!("{} seconds", self.started.elapsed().as_secs())),
            ("$SYS/broker/clients/connected", stats.connected.get().to_string()),
            ("$SYS/broker/messages/received", stats.published.get().to_string()),
            ("$SYS/broker/messages/sent", stats.delivered.get().to_string()),
            ("$SYS/broker/publish/messages/dropped", stats.dropped.get().to_string()),
            ("$SYS/broker/access/denied", stats.denied.get().to_string()),
            ("$SYS/broker/retained messages/count", self.retained.len().to_string()),
        ];
        for (topic, value) in values {
            let Ok(topic) = TopicName::parse(topic) else { continue };
            if self.retained.get(&topic).is_some_and(|before| before.payload == value) {
                continue;
            }
            let payload = Bytes::from(value);
            let message = Arc::new(Message { topic, payload, grant: Grant::AtMostOnce, retain: true });
            if self.retained.accept(&message, &"$SYS".into()).is_ok() {
                self.show(&message);
            }
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
            self.in_router.push_back(InRouter { ticket, weight, origin, _permit: permit });
            self.router.send(Frame::Message(ticket, message).encode())?;
        }
        Ok(())
    }

    fn arrived(&mut self, ticket: Ticket, message: &Arc<Message>) {
        while let Some(InRouter { ticket: next, weight, origin, .. }) = self.in_router.pop_front() {
            self.bytes_in_router -= weight;
            if next == ticket {
                self.show(message);
                acknowledge(&origin);
                return;
            }
            error!(?next, "the message router lost a message");
            fail(&origin);
        }
    }

    fn show(&mut self, message: &Arc<Message>) {
        if message.retain {
            self.retained.show(message);
        }
        for (key, grant) in self.subscriptions.matching(message.topic.as_str()) {
            if let Some(client) = self.registry.get(key) {
                let dropped = client.session.publish(Delivery::new(message, grant, false));
                self.stats.delivered.add(1);
                self.stats.dropped.add(dropped);
            }
        }
    }
}

fn acknowledge(origin: &Origin) {
    let reply = match origin.ack {
        Ack::None => return,
        Ack::Received(id) => Reply::PubAck(id),
        Ack::ReceivedOnce(id) => Reply::PubRec(id),
    };
    origin.session.reply(origin.attachment, reply);
}

/// The client must send it again, so it must not be acknowledged: MQTT 3.1.1 has no way to say no but to hang up.
fn fail(origin: &Origin) {
    if let Ack::ReceivedOnce(id) = origin.ack {
        origin.session.release(id);
    }
    origin.session.end(origin.attachment, End::NotStored);
}
