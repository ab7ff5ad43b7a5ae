//! What is retained is sent in parts: a client that reads slowly holds no more than its queue, and nobody holds the hub
//! up, however much its filters take.

use std::collections::BTreeSet;

use super::{From, Hub};
use crate::relay::{
    message::{Delivery, Message},
    registry::Client,
    retained::Retained,
    router::Router,
    session::Missed,
    subscriptions::Wish,
    topic::{Filter, TopicName},
};

/// Most topics that are looked at for one client before others have their turn: a fraction of a millisecond.
const MAX_LOOKS: usize = 4096;

impl<R: Router> Hub<R> {
    /// Goes on with what a client is still to get: the newest values of what it missed, and what is retained.
    pub(super) fn catch_up(&mut self, from: From) {
        let Some(client) = self.registry.attached(from.key, from.attachment) else { return };
        match client.session.take_missed() {
            Missed::Nothing => {}
            Missed::Everything => {
                client.replays = client.filters.keys().map(|filter| (filter.clone(), None)).collect();
            }
            Missed::Topics(topics) => send_newest(&self.retained, client, topics),
        }
        replay(&self.retained, client);
    }
}

/// Sends as much of what is retained for [`Client::replays`] as there is room and time for.
pub(super) fn replay(retained: &Retained, client: &mut Client) {
    let mut looks = MAX_LOOKS;
    while let Some((filter, after)) = client.replays.pop_first() {
        if let Err(after) = replay_one(retained, client, &filter, after.as_ref(), &mut looks) {
            client.replays.insert(filter, after);
            return client.session.expect_more();
        }
    }
}

/// An error is where to go on.
fn replay_one(
    retained: &Retained,
    client: &Client,
    filter: &Filter,
    after: Option<&TopicName>,
    looks: &mut usize,
) -> Result<(), Option<TopicName>> {
    let Some(subscription) = client.filters.get(filter) else { return Ok(()) };
    let wish = Wish::of(*subscription);
    let mut last = after;
    for (topic, message) in retained.look(filter, after) {
        let has_room = |message| client.session.replay(Delivery::replayed(message, &wish));
        if *looks == 0 || !message.is_none_or(has_room) {
            return Err(last.cloned());
        }
        *looks -= 1;
        last = Some(topic);
    }
    Ok(())
}

fn send_newest(retained: &Retained, client: &Client, mut topics: BTreeSet<TopicName>) {
    while let Some(topic) = topics.pop_first() {
        let matching = client.filters.iter().filter(|(filter, _)| filter.takes(topic.as_str()));
        let Some(wish) = Wish::of_all(matching.map(|(_, subscription)| subscription)) else { continue };
        let newest = retained.get(&topic).cloned();
        // Who missed that a topic was cleared would keep an old value for ever.
        let newest = newest.unwrap_or_else(|| Message::clearing(topic.clone()).into());
        if !client.session.replay(Delivery::replayed(&newest, &wish)) {
            topics.insert(topic);
            return client.session.still_misses(topics);
        }
    }
}
