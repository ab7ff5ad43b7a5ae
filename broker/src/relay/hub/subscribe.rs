//! Subscriptions, and what they replay.

use std::{collections::BTreeMap, sync::Arc};

use super::{Asked, From, Hub, ReplayWhen, Subscribe};
use crate::relay::{
    codec::{PacketId, Reason, Reply},
    message::{Delivery, Grant, Message},
    registry::{Client, ClientKey},
    retained::Retained,
    router::Router,
    session::{Missed, Session},
    subscriptions::{Subscription, Subscriptions, Wish},
    topic::{Filter, TopicName},
};

/// Most filters of one session; far above what a dashboard needs, and a bound for the filter tree.
const MAX_FILTERS: usize = 2000;
/// Most filters that each look through what is retained on their own; a node has fewer.
const MAX_LOOKS: usize = 16;

/// The one client of a tree that is made for one replay.
const ALONE: ClientKey = ClientKey(0);

/// Filters with how they are wanted.
type Wanted = BTreeMap<Filter, Subscription>;

impl<R: Router> Hub<R> {
    /// Registers first and then replays what is retained, in one step: never an old value after a newer one.
    pub(super) fn subscribe(&mut self, subscribe: Subscribe) {
        let Subscribe { from, filters, id, permit, done } = subscribe;
        if let Some(client) = self.registry.attached(from.key, from.attachment) {
            let mut to_replay = Wanted::new();
            let mut reasons = Vec::with_capacity(filters.len());
            for asked in filters {
                let granted = asked.and_then(|asked| {
                    grant(client, &mut self.subscriptions, from.key, asked, &mut to_replay)
                });
                reasons.push(granted.unwrap_or_else(|refused| refused));
            }
            let session = Arc::clone(&client.session);
            session.reply(from.attachment, Reply::SubAck(id, reasons.into()));
            replay(&self.retained, &session, &to_replay);
        }
        drop(permit);
        // The connection may have gone.
        let _ = done.send(());
    }

    /// Ends subscriptions. Unknown filters are acknowledged all the same (v3: MQTT-3.10.4-5).
    pub(super) fn unsubscribe(&mut self, from: From, filters: Vec<Result<Filter, Reason>>, id: PacketId) {
        let Some(client) = self.registry.attached(from.key, from.attachment) else { return };
        let mut reasons = Vec::with_capacity(filters.len());
        for filter in filters {
            reasons.push(match filter {
                Err(reason) => reason,
                Ok(filter) if client.filters.remove(&filter).is_some() => {
                    self.subscriptions.remove(&filter, from.key);
                    Reason::Success
                }
                Ok(_) => Reason::NoSubscriptionExisted,
            });
        }
        client.session.reply(from.attachment, Reply::UnsubAck(id, reasons.into()));
    }

    /// Sends the newest values of what a slow client missed.
    pub(super) fn catch_up(&mut self, from: From) {
        let Some(client) = self.registry.attached(from.key, from.attachment) else { return };
        match client.session.take_missed() {
            Missed::Nothing => {}
            Missed::Everything => replay(&self.retained, &client.session, &client.filters),
            Missed::Topics(topics) => {
                let newest = |topic: TopicName| {
                    let matching = client.filters.iter().filter(|(filter, _)| filter.takes(topic.as_str()));
                    let wish = Wish::of_all(matching.map(|(_, subscription)| subscription))?;
                    let message = self.retained.get(&topic).cloned();
                    Some(Delivery::replayed(&message.unwrap_or_else(|| cleared(topic)), &wish))
                };
                client.session.replay(topics.into_iter().filter_map(newest).collect(), |_| false);
            }
        }
    }
}

/// Gives a client a filter that it may have.
fn grant(
    client: &mut Client,
    subscriptions: &mut Subscriptions,
    key: ClientKey,
    asked: Asked,
    to_replay: &mut Wanted,
) -> Result<Reason, Reason> {
    let Asked { filter, subscription, replay } = asked;
    if client.filters.len() >= MAX_FILTERS && !client.filters.contains_key(&filter) {
        return Err(Reason::QuotaExceeded);
    }
    // MQTT-3.8.4-3: a second subscription to the same filter replaces the first, and no message is lost in between.
    subscriptions.insert(&filter, key, subscription);
    let is_new = client.filters.insert(filter.clone(), subscription).is_none();
    if replay == ReplayWhen::Always || (replay == ReplayWhen::New && is_new) {
        to_replay.insert(filter, subscription);
    }
    Ok(match subscription.grant {
        Grant::AtMostOnce => Reason::Success,
        Grant::AtLeastOnce => Reason::GrantedQos1,
    })
}

/// Sends what is retained for `filters`. Each looks through it on its own, unless they are so many that one look has
/// to do for all: the hub must not be held up.
fn replay(retained: &Retained, session: &Session, filters: &Wanted) {
    if filters.len() <= MAX_LOOKS {
        for (filter, subscription) in filters {
            let wish = Wish::of(*subscription);
            let messages = retained.matching(filter).map(|message| Delivery::replayed(message, &wish));
            session.replay(messages.collect(), |waiting| {
                waiting.subscriptions == wish.ids && filter.takes(waiting.message.topic.as_str())
            });
        }
        return;
    }
    let mut tree = Subscriptions::default();
    for (filter, subscription) in filters {
        tree.insert(filter, ALONE, *subscription);
    }
    let wish = |topic: &TopicName| {
        let mut found = None;
        tree.each_match(topic.as_str(), None, |_, wish| found = Some(wish.clone()));
        found
    };
    let delivery = |message: &Arc<Message>| Some(Delivery::replayed(message, &wish(&message.topic)?));
    let messages = if filters.keys().any(Filter::is_wild) {
        retained.all().filter_map(delivery).collect()
    } else {
        filters.keys().flat_map(|filter| retained.matching(filter)).filter_map(delivery).collect()
    };
    session.replay(messages, |waiting| wish(&waiting.message.topic).is_some());
}

/// Stands for the message that cleared `topic`: who missed it would keep an old value for ever.
fn cleared(topic: TopicName) -> Arc<Message> {
    Arc::new(Message::clearing(topic))
}
