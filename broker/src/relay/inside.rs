//! The service itself, on its own bus: it looks at records and root documents, and does what follows from them.

use std::sync::Arc;

use schemas::id::FleetId;
use tokio::{sync::mpsc, time::Instant};

use super::{
    hub::{Event, Events, Observed, Observer},
    message::Message,
    topic::{Filter, TopicName},
};
use crate::nodes::{Deed, Nodes};

/// What of a retired node stays.
const RECORD: &str = "/record";

/// The way of the service to the hub.
#[derive(Debug, Clone)]
pub(crate) struct Inside(pub(super) Events);

/// Messages that were retained.
pub(super) type Seen = mpsc::UnboundedReceiver<Observed>;

/// Who looks at what `Nodes` has to know.
pub(super) fn observer(fleet: &FleetId) -> (Observer, Seen) {
    let (sink, seen) = mpsc::unbounded_channel();
    let filters =
        Nodes::filters(fleet).iter().filter_map(|filter| Filter::parse(filter.as_str()).ok()).collect();
    (Observer { filters, sink }, seen)
}

impl Inside {
    /// Looks at messages until the hub is gone.
    pub(super) async fn watch(self, nodes: Arc<Nodes>, mut seen: Seen) {
        while let Some((message, _permit)) = seen.recv().await {
            self.observe(&nodes, &message);
        }
    }

    /// Looks at one.
    pub(super) fn observe(&self, nodes: &Nodes, message: &Message) {
        for deed in nodes.take(message.topic.as_str(), &message.payload) {
            self.carry_out(deed);
        }
    }

    /// Has the hub do what is to be done.
    pub(crate) fn carry_out(&self, deed: Deed) {
        let event = match deed {
            Deed::Changed(name) => Some(Event::UsersChanged([name].into())),
            Deed::Clear(filter) => {
                Filter::parse(filter.as_str()).ok().map(|filter| Event::Clear { filter, but: RECORD })
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
