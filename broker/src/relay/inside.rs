//! The service itself, on its own bus: it looks at records and root documents, and does what follows from them.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use bytes::Bytes;
use schemas::topic::Topic;
use tokio::{sync::mpsc, time::Instant};

use super::{
    hub::{Event, Events, Observed, Observer},
    message::Message,
    topic::{Filter, TopicName},
};
use crate::nodes::{Deed, Nodes};

/// How long messages that were accepted may take through log and router, on a quick disk and on a slow one.
const CLEAR_AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// What of a retired node stays.
const RECORD: &str = "/record";

/// The way of the service to the hub.
#[derive(Debug, Clone)]
pub(crate) struct Inside(pub(super) Events);

/// Messages that somebody inside looks at.
pub(super) type Seen = mpsc::UnboundedReceiver<Observed>;

/// Somebody inside who looks at what is said for `filters`; `looks_at_all`: also at what is not retained.
pub(super) fn observer(filters: &[schemas::topic::Filter], looks_at_all: bool) -> (Observer, Seen) {
    let (sink, seen) = mpsc::unbounded_channel();
    let filters = filters.iter().filter_map(|filter| Filter::parse(filter.as_str()).ok()).collect();
    (Observer { filters, looks_at_all, sink }, seen)
}

/// What the service itself reads of its own bus: first what is retained already, then what comes.
#[derive(Debug)]
pub(crate) struct View {
    pub(super) retained: VecDeque<Arc<Message>>,
    pub(super) seen: Seen,
}

impl View {
    /// The next message that is already retained; nothing when that was all.
    pub(crate) fn retained(&mut self) -> Option<(String, Bytes)> {
        self.retained.pop_front().map(|message| (message.topic.to_string(), message.payload.clone()))
    }

    /// The next message that is said from now on; nothing when the relay is gone. May be cancelled at any time.
    pub(crate) async fn next(&mut self) -> Option<(String, Bytes)> {
        let (message, _permit) = self.seen.recv().await?;
        Some((message.topic.to_string(), message.payload.clone()))
    }
}

impl Inside {
    /// Looks at messages until the hub is gone.
    pub(super) async fn watch(self, nodes: Arc<Nodes>, mut seen: Seen) {
        while let Some((message, _permit)) = seen.recv().await {
            self.observe(&nodes, &message);
        }
    }

    /// What was on its way when somebody was cut off is retained a little later.
    fn clear_again(&self, filter: Filter) {
        let events = self.0.clone();
        tokio::spawn(async move {
            for pause in CLEAR_AGAIN {
                tokio::time::sleep(pause).await;
                // When the hub is gone, so is the relay.
                let _ = events.send(Event::Clear { filter: filter.clone(), but: RECORD });
            }
        });
    }

    /// Looks at one.
    pub(super) fn observe(&self, nodes: &Nodes, message: &Message) {
        for deed in nodes.take(message.topic.as_str(), &message.payload) {
            self.carry_out(deed);
        }
    }

    /// Publishes something of the service itself, retained where its topic is.
    pub(crate) fn publish(&self, topic: &Topic, payload: Vec<u8>) {
        if let Ok(name) = TopicName::parse(&topic.to_string()) {
            let retain = topic.is_retained();
            let message = Message { payload: payload.into(), retain, ..Message::clearing(name) };
            // When the hub is gone, so is the relay.
            let _ = self.0.send(Event::Put(message));
        }
    }

    /// Has the hub do what is to be done.
    pub(crate) fn carry_out(&self, deed: Deed) {
        let event = match deed {
            Deed::Changed(name) => Some(Event::UsersChanged([name].into())),
            Deed::Clear(filter) => {
                let Ok(filter) = Filter::parse(filter.as_str()) else { return };
                self.clear_again(filter.clone());
                Some(Event::Clear { filter, but: RECORD })
            }
            Deed::Put(topic, payload, limit) => TopicName::parse(&topic.to_string()).ok().map(|topic| {
                let expires = limit.map(|limit| Instant::now() + limit);
                Event::Put(Message { payload, expires, ..Message::clearing(topic) })
            }),
        };
        if let Some(event) = event {
            // When the hub is gone, so is the relay.
            let _ = self.0.send(event);
        }
    }
}
