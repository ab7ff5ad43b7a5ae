//! Subscriptions, and what they replay.

use std::{collections::BTreeMap, sync::Arc};

use super::{From, Hub, grant_code};
use crate::relay::{
    message::{Delivery, Grant, Message, PacketId},
    packet::Reply,
    registry::ClientKey,
    retained::Retained,
    router::Router,
    session::{Missed, Session},
    subscriptions::Subscriptions,
    topic::{Filter, TopicName},
};

/// Most filters of one session; far above what a dashboard needs, and a bound for the filter tree.
const MAX_FILTERS: usize = 2000;
/// Most filters that each look through what is retained on their own; a node has fewer.
const MAX_LOOKS: usize = 16;

impl<R: Router> Hub<R> {
    /// Registers first and then replays what is retained, in one step: never an old value after a newer one.
    pub(super) fn subscribe(&mut self, from: From, filters: Vec<Option<(Filter, Grant)>>, id: PacketId) {
        let Some(client) = self.registry.attached(from.key, from.attachment) else { return };
        let mut granted = BTreeMap::new();
        let mut codes = Vec::with_capacity(filters.len());
        for wanted in filters {
            let room = client.filters.len() < MAX_FILTERS;
            let wanted = wanted.filter(|(filter, _)| room || client.filters.contains_key(filter));
            codes.push(grant_code(wanted.as_ref().map(|(_, grant)| *grant)));
            let Some((filter, grant)) = wanted else { continue };
            // MQTT-3.8.4-3: a second subscription replaces the first and replays all the same.
            self.subscriptions.insert(&filter, from.key, grant);
            client.filters.insert(filter.clone(), grant);
            granted.insert(filter, grant);
        }
        let session = Arc::clone(&client.session);
        session.reply(from.attachment, Reply::SubAck(id, codes));
        replay(&self.retained, &session, &granted);
    }

    /// Ends subscriptions. Unknown filters are acknowledged all the same (MQTT-3.10.4-5).
    pub(super) fn unsubscribe(&mut self, from: From, filters: Vec<Filter>, id: PacketId) {
        let Some(client) = self.registry.attached(from.key, from.attachment) else { return };
        for filter in filters {
            if client.filters.remove(&filter).is_some() {
                self.subscriptions.remove(&filter, from.key);
            }
        }
        client.session.reply(from.attachment, Reply::UnsubAck(id));
    }

    /// Sends the newest values of what a slow client missed.
    pub(super) fn catch_up(&mut self, from: From) {
        let Some(client) = self.registry.attached(from.key, from.attachment) else { return };
        match client.session.take_missed() {
            Missed::Nothing => {}
            Missed::Everything => replay(&self.retained, &client.session, &client.filters),
            Missed::Topics(topics) => {
                let newest = |topic: TopicName| {
                    let grants = client.filters.iter().filter(|(filter, _)| filter.takes(topic.as_str()));
                    let grant = grants.map(|(_, grant)| *grant).max()?;
                    let message = self.retained.get(&topic).cloned();
                    Some(Delivery::new(&message.unwrap_or_else(|| cleared(topic)), grant, true))
                };
                client.session.replay(topics.into_iter().filter_map(newest).collect(), |_| false);
            }
        }
    }
}

/// Sends what is retained for `filters`. Each looks through it on its own, unless they are so many that one look has
/// to do for all: the hub must not be held up.
fn replay(retained: &Retained, session: &Session, filters: &BTreeMap<Filter, Grant>) {
    if filters.len() <= MAX_LOOKS {
        for (filter, grant) in filters {
            let messages = retained.matching(filter).map(|message| Delivery::new(message, *grant, true));
            session.replay(messages.collect(), |waiting| filter.takes(waiting.message.topic.as_str()));
        }
        return;
    }
    let mut tree = Subscriptions::default();
    for (filter, grant) in filters {
        tree.insert(filter, ClientKey(0), *grant);
    }
    let highest = |topic: &TopicName| Some(tree.matching(topic.as_str()).first()?.1);
    let delivery = |message: &Arc<Message>| Some(Delivery::new(message, highest(&message.topic)?, true));
    let messages = if filters.keys().any(Filter::is_wild) {
        retained.all().filter_map(delivery).collect()
    } else {
        filters.keys().flat_map(|filter| retained.matching(filter)).filter_map(delivery).collect()
    };
    session.replay(messages, |waiting| highest(&waiting.message.topic).is_some());
}

/// Stands for the message that cleared `topic`: who missed it would keep an old value for ever.
fn cleared(topic: TopicName) -> Arc<Message> {
    Arc::new(Message { topic, payload: bytes::Bytes::new(), grant: Grant::AtLeastOnce, retain: true })
}
