//! A message on its way: what was published, and how a subscriber gets it.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    codec::{PacketId, PublishHeader, QoS},
    subscriptions::Wish,
    topic::TopicName,
};

/// The quality of service that the relay grants; what is published at QoS 2 is delivered at QoS 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Grant {
    /// QoS 0.
    AtMostOnce,
    /// QoS 1.
    AtLeastOnce,
}

/// A published message; shared by all who get it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    /// Where it was published.
    pub(super) topic: TopicName,
    /// What was published.
    pub(super) payload: Bytes,
    /// The quality at which it was published.
    pub(super) grant: Grant,
    /// Whether the publisher asked for it to be retained.
    pub(super) retain: bool,
    /// Properties for those who get it, as the publisher wrote them.
    pub(super) properties: Bytes,
    /// When it is of no more use.
    pub(super) expires: Option<Instant>,
}

/// A message for one subscriber.
#[derive(Debug, Clone)]
pub(super) struct Delivery {
    /// The message.
    pub(super) message: Arc<Message>,
    /// The lower of what was published and what was granted.
    pub(super) grant: Grant,
    /// The retain flag.
    pub(super) retain: bool,
    /// What the subscriber calls the subscriptions that it is for.
    pub(super) subscriptions: SubscriptionIds,
}

/// What a client calls the subscriptions that a message is for; most have no such name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum SubscriptionIds {
    /// They have no name.
    #[default]
    None,
    /// One has.
    One(NonZeroU32),
    /// Several have.
    Many(Arc<[NonZeroU32]>),
}

impl From<QoS> for Grant {
    fn from(qos: QoS) -> Self {
        if qos == QoS::AtMostOnce { Self::AtMostOnce } else { Self::AtLeastOnce }
    }
}

impl Message {
    /// What clears the retained message of `topic`.
    pub(super) fn clearing(topic: TopicName) -> Self {
        Self {
            topic,
            payload: Bytes::new(),
            grant: Grant::AtLeastOnce,
            retain: true,
            properties: Bytes::new(),
            expires: None,
        }
    }

    /// What this message costs in a queue.
    pub(super) fn weight(&self) -> usize {
        self.topic.as_str().len() + self.payload.len() + self.properties.len()
    }

    /// Whether it is of no more use: MQTT-3.3.2-5 lets nobody get it who has not got it yet.
    pub(super) fn is_expired(&self) -> bool {
        self.expires.is_some_and(|expires| expires <= Instant::now())
    }

    /// How long it is still of use. MQTT-3.3.2-6: "the received value minus the time that the Application Message has
    /// been waiting in the Server", in seconds that have begun.
    pub(super) fn expiry_secs(&self) -> Option<u32> {
        let left = self.expires?.saturating_duration_since(Instant::now());
        Some((left + Duration::from_nanos(999_999_999)).as_secs().try_into().unwrap_or(u32::MAX))
    }
}

impl Delivery {
    /// A message that was published just now, as it is for somebody with this `wish`. MQTT-3.3.1-12, -13: the retain flag
    /// is the publisher's for those who want it so, and else zero.
    pub(super) fn live(message: &Arc<Message>, wish: &Wish) -> Self {
        Self::new(message, wish, wish.retain_as_published && message.retain)
    }

    /// A message that is sent because it is retained (MQTT-3.3.1-8, v3: MQTT-3.3.1-8).
    pub(super) fn replayed(message: &Arc<Message>, wish: &Wish) -> Self {
        Self::new(message, wish, true)
    }

    fn new(message: &Arc<Message>, wish: &Wish, retain: bool) -> Self {
        let grant = message.grant.min(wish.grant);
        Self { message: Arc::clone(message), grant, retain, subscriptions: wish.ids.clone() }
    }

    /// What this delivery costs in a queue.
    pub(super) fn weight(&self) -> usize {
        self.message.weight() + size_of_val(self.subscriptions.as_slice())
    }

    /// What precedes the payload on the wire.
    pub(super) fn header(&self, id: Option<PacketId>, dup: bool) -> PublishHeader<'_> {
        PublishHeader {
            topic: self.message.topic.as_str(),
            id,
            dup,
            retain: self.retain,
            alias: None,
            expiry_secs: self.message.expiry_secs(),
            subscription_ids: self.subscriptions.as_slice(),
            passed_on: &self.message.properties,
            payload_bytes: self.message.payload.len(),
        }
    }
}

impl SubscriptionIds {
    /// The name of one subscription, if it has one.
    pub(super) fn of(id: Option<NonZeroU32>) -> Self {
        id.map_or(Self::None, Self::One)
    }

    /// Those of several subscriptions.
    pub(super) fn collect(ids: Vec<NonZeroU32>) -> Self {
        match ids[..] {
            [] => Self::None,
            [id] => Self::One(id),
            _ => Self::Many(ids.into()),
        }
    }

    fn as_slice(&self) -> &[NonZeroU32] {
        match self {
            Self::None => &[],
            Self::One(id) => std::slice::from_ref(id),
            Self::Many(ids) => ids,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_message_counts_the_seconds_that_it_waited() {
        let expires = Some(Instant::now() + Duration::from_secs(10));
        let message = Message { expires, ..sample() };
        assert_eq!((message.expiry_secs(), message.is_expired()), (Some(10), false));
        tokio::time::advance(Duration::from_millis(2500)).await;
        assert_eq!((message.expiry_secs(), message.is_expired()), (Some(8), false));
        tokio::time::advance(Duration::from_millis(7500)).await;
        assert_eq!((message.expiry_secs(), message.is_expired()), (Some(0), true));
        assert_eq!(sample().expiry_secs(), None);
    }

    fn sample() -> Message {
        Message {
            topic: TopicName::parse("a").unwrap(),
            payload: Bytes::new(),
            grant: Grant::AtMostOnce,
            retain: false,
            properties: Bytes::new(),
            expires: None,
        }
    }
}
