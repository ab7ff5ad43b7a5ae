//! The bus: MQTT 3.1.1 at QoS 1, restricted to what any broker does well.
//!
//! Messages are idempotent state, so this client promises little and keeps it: what is published reaches the broker at
//! least once, unless the client is closed before; own retained state is on the broker whenever we are connected; and
//! subscriptions are renewed on each connect and now and then in between, so that a change is missed for half an hour
//! at worst, whatever the broker forgets.
//!
//! One task ([`poll`]) owns the connection and never waits for anybody. What it decides is in pure parts: [`ledger`]
//! (what to say, and to say again), [`mailbox`] (what was heard), [`lost`] (what an error means).

mod address;
mod events;
mod ledger;
mod lost;
mod mailbox;
mod message;
mod options;
mod poll;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use schemas::topic::Filter;
use tokio::sync::{mpsc, oneshot};

pub use self::{
    address::{BusUrl, InvalidBusUrl, Server},
    events::{Event, Events},
    lost::Lost,
    message::{Delivery, Incoming, MAX_PACKET_BYTES, Message, Undelivered},
    options::{ClientId, InvalidClientId, Options},
};
use self::{
    events::Inbox,
    message::Ticket,
    poll::{Command, Courier},
};

/// A handle on the connection to the bus. Clones share it; when the last is dropped it is closed.
#[derive(Debug, Clone)]
pub struct Bus {
    commands: mpsc::UnboundedSender<Command>,
}

impl Bus {
    /// Starts the task that connects, and connects again for as long as the client is not closed. Whether it
    /// succeeds is told by the events.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn connect(options: Options) -> (Self, Events) {
        // Not bounded here: the task empties it without ever waiting, and bounds what it keeps.
        let (commands, orders) = mpsc::unbounded_channel();
        let inbox = Arc::new(Inbox::default());
        let events = Events::new(Arc::clone(&inbox), commands.downgrade());
        tokio::spawn(poll::run(Courier::new(options, inbox), orders));
        (Self { commands }, events)
    }

    /// Subscribes, now and on each connect. Asking again makes the broker say again what it keeps.
    pub fn subscribe(&self, filters: impl IntoIterator<Item = Filter>) {
        self.order(Command::Subscribe(filters.into_iter().collect()));
    }

    /// Ends subscriptions, also those that an earlier process with our client id has left with the broker.
    pub fn unsubscribe(&self, filters: impl IntoIterator<Item = Filter>) {
        self.order(Command::Unsubscribe(filters.into_iter().collect()));
    }

    /// Publishes a message, and again after each reconnect until the broker has acknowledged it.
    pub fn publish(&self, message: Message) -> Delivery {
        let (ticket, delivery) = Delivery::new(message.topic.clone());
        if let Some(ticket) = refuse_too_large(&message, ticket) {
            self.order(Command::Publish(message, ticket));
        }
        delivery
    }

    /// Sets what we say on a retained topic of our own: published now and on each connect, until it is set to
    /// something else. An empty payload clears the topic. The delivery is that of this value or of a newer one.
    pub fn set_retained(&self, message: Message) -> Delivery {
        let (ticket, delivery) = Delivery::new(message.topic.clone());
        if !message.topic.is_retained() {
            ticket.resolve(Err(Undelivered::NotRetained { topic: message.topic }));
        } else if let Some(ticket) = refuse_too_large(&message, ticket) {
            self.order(Command::SetRetained(message, ticket));
        }
        delivery
    }

    /// Gives what is not yet acknowledged five more seconds, and leaves in order, so that the will is not said.
    pub async fn close(&self) {
        let (done, is_done) = oneshot::channel();
        self.order(Command::Close(done));
        // The task says nothing when it ends; it drops its end.
        is_done.await.ok();
    }

    fn order(&self, command: Command) {
        // After the end of the task the command is dropped, and with it the ticket, which resolves the delivery.
        self.commands.send(command).ok();
    }
}

/// The ticket back, unless the message is too large for any connection.
fn refuse_too_large(message: &Message, ticket: Ticket) -> Option<Ticket> {
    let bytes = message.packet_bytes();
    if bytes <= MAX_PACKET_BYTES {
        return Some(ticket);
    }
    ticket.resolve(Err(Undelivered::TooLarge { topic: message.topic.clone(), bytes }));
    None
}
