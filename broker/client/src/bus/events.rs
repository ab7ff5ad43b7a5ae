//! What a client of the bus gets to know, and the end of the mailbox from which it is read.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use schemas::topic::Filter;
use tokio::sync::{Notify, mpsc};
use tracing::warn;

use super::{lost::Lost, mailbox::Mailbox, message::Incoming, poll::Command};

/// What happened on the bus.
#[derive(Debug, Clone)]
pub enum Event {
    /// The broker has let us in.
    Connected,
    /// The bus is away; said once, and again when the kind of reason changes. The client goes on trying.
    Disconnected(Lost),
    /// The broker has taken a subscription, which it does again whenever it is renewed.
    Subscribed(Filter),
    /// The broker does not permit a subscription.
    Denied(Filter),
    /// A message came in.
    Message(Incoming),
}

impl Event {
    /// Whether this is newer news than `known`, of the same subject.
    pub(super) fn is_about_the_same(&self, known: &Self) -> bool {
        match (self, known) {
            (Self::Connected | Self::Disconnected(_), Self::Connected | Self::Disconnected(_)) => true,
            (Self::Subscribed(one) | Self::Denied(one), Self::Subscribed(other) | Self::Denied(other)) => {
                one == other
            }
            _ => false,
        }
    }
}

/// Where the events of one client are read.
///
/// What waits here is bounded, and a slow reader delays nobody: of a retained topic only the newest value waits, and of
/// the others at most about a thousand messages. When some had to be dropped, all subscriptions are renewed
/// as soon as the reader has caught up, so that no retained state is missed. Dropping it discards what comes in.
#[derive(Debug)]
pub struct Events {
    inbox: Arc<Inbox>,
    commands: mpsc::WeakUnboundedSender<Command>,
}

impl Events {
    pub(super) fn new(inbox: Arc<Inbox>, commands: mpsc::WeakUnboundedSender<Command>) -> Self {
        Self { inbox, commands }
    }

    /// The next event; `None` once the client is closed and everything was read. May be cancelled at any time.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let arrived = self.inbox.arrived.notified();
            match self.inbox.take() {
                Taken::Event(event) => return Some(event),
                Taken::Ended => return None,
                Taken::Nothing { dropped: 0 } => arrived.await,
                Taken::Nothing { dropped } => {
                    warn!(dropped, "Messages were dropped while nobody read them, subscribing again");
                    self.renew();
                }
            }
        }
    }

    fn renew(&self) {
        if let Some(commands) = self.commands.upgrade() {
            // When the client has just ended there is nothing to renew.
            commands.send(Command::Renew).ok();
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.inbox.open().discard();
    }
}

/// The mailbox between the polling task and its reader.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    mailbox: Mailbox,
    is_ended: bool,
    is_discarding: bool,
}

impl State {
    fn discard(&mut self) {
        self.is_discarding = true;
        self.mailbox = Mailbox::default();
    }
}

enum Taken {
    Event(Event),
    Nothing { dropped: u64 },
    Ended,
}

impl Inbox {
    /// Adds news or a message; never waits.
    pub(super) fn put(&self, event: Event) {
        let mut state = self.open();
        if state.is_discarding {
            return;
        }
        let has_room = match event {
            Event::Message(letter) => state.mailbox.deliver(letter),
            news => {
                state.mailbox.tell(news);
                true
            }
        };
        drop(state);
        if !has_room {
            warn!("Messages from the bus are dropped, for nobody reads them");
        }
        self.arrived.notify_one();
    }

    /// Nothing more will come.
    pub(super) fn end(&self) {
        self.open().is_ended = true;
        self.arrived.notify_one();
    }

    fn take(&self) -> Taken {
        let mut state = self.open();
        match state.mailbox.take() {
            Some(event) => Taken::Event(event),
            None if state.is_ended => Taken::Ended,
            None => Taken::Nothing { dropped: state.mailbox.take_dropped() },
        }
    }

    fn open(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_not_read_before_the_end_can_still_be_read() {
        let (inbox, mut events) = inbox();
        inbox.put(Event::Connected);
        inbox.end();
        assert!(matches!(events.next().await, Some(Event::Connected)));
        assert!(events.next().await.is_none());
        assert!(events.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_is_woken_by_what_comes() {
        let (inbox, mut events) = inbox();
        let read = tokio::spawn(async move { events.next().await });
        tokio::task::yield_now().await;
        inbox.put(Event::Connected);
        assert!(matches!(read.await.unwrap(), Some(Event::Connected)));
    }

    #[test]
    fn without_a_reader_nothing_is_kept() {
        let (inbox, events) = inbox();
        inbox.put(Event::Connected);
        drop(events);
        inbox.put(Event::Connected);
        assert!(matches!(inbox.take(), Taken::Nothing { dropped: 0 }));
    }

    fn inbox() -> (Arc<Inbox>, Events) {
        let inbox = Arc::new(Inbox::default());
        let events = Events::new(Arc::clone(&inbox), mpsc::unbounded_channel().0.downgrade());
        (inbox, events)
    }
}
