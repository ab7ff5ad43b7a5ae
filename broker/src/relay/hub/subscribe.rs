//! Subscriptions, and what they replay.

use super::{Asked, From, Hub, ReplayWhen, Subscribe, replay::replay};
use crate::relay::{
    codec::{MAX_FILTERS, PacketId, Reason, Reply},
    message::Grant,
    registry::{Client, ClientKey},
    router::Router,
    subscriptions::Subscriptions,
    topic::Filter,
};

/// How many levels the filters of one user have, of how many that they may have.
struct Levels {
    used: usize,
    most: usize,
}

impl<R: Router> Hub<R> {
    /// Registers first and then replays what is retained: never an old value after a newer one.
    pub(super) fn subscribe(&mut self, subscribe: Subscribe) {
        let Subscribe { from, filters, id, permit, done } = subscribe;
        let used = self.registry.filter_levels(from.key);
        let mut levels = Levels { used, most: self.settings.of_user.filter_levels };
        if let Some(client) = self.registry.attached(from.key, from.attachment) {
            let mut reasons = Vec::with_capacity(filters.len());
            for asked in filters {
                let granted = asked
                    .and_then(|asked| grant(client, &mut self.subscriptions, from.key, asked, &mut levels));
                reasons.push(granted.unwrap_or_else(|refused| refused));
            }
            client.session.reply(from.attachment, Reply::SubAck(id, reasons.into()));
            replay(&self.retained, client);
            self.registry.set_filter_levels(from.key, levels.used);
        }
        drop(permit);
        // The connection may have gone.
        let _ = done.send(());
    }

    /// Ends subscriptions. Unknown filters are acknowledged all the same (v3: MQTT-3.10.4-5).
    pub(super) fn unsubscribe(&mut self, from: From, filters: Vec<Result<Filter, Reason>>, id: PacketId) {
        let Some(client) = self.registry.attached(from.key, from.attachment) else { return };
        let mut reasons = Vec::with_capacity(filters.len());
        let mut ended = 0;
        for filter in filters {
            reasons.push(match filter {
                Err(reason) => reason,
                Ok(filter) if client.filters.remove(&filter).is_some() => {
                    client.replays.remove(&filter);
                    self.subscriptions.remove(&filter, from.key);
                    ended += filter.levels().count();
                    Reason::Success
                }
                Ok(_) => Reason::NoSubscriptionExisted,
            });
        }
        client.session.reply(from.attachment, Reply::UnsubAck(id, reasons.into()));
        self.registry.set_filter_levels(from.key, self.registry.filter_levels(from.key) - ended);
    }
}

/// Gives a client a filter that it may have.
fn grant(
    client: &mut Client,
    subscriptions: &mut Subscriptions,
    key: ClientKey,
    asked: Asked,
    levels: &mut Levels,
) -> Result<Reason, Reason> {
    let Asked { filter, subscription, replay } = asked;
    if !client.filters.contains_key(&filter) {
        let more = filter.levels().count();
        if client.filters.len() >= MAX_FILTERS || levels.used + more > levels.most {
            return Err(Reason::QuotaExceeded);
        }
        levels.used += more;
    }
    // MQTT-3.8.4-3: a second subscription to the same filter replaces the first, and no message is lost in between.
    subscriptions.insert(&filter, key, subscription);
    let is_new = client.filters.insert(filter.clone(), subscription).is_none();
    if replay == ReplayWhen::Always || (replay == ReplayWhen::New && is_new) {
        client.replays.insert(filter, None);
    }
    Ok(match subscription.grant {
        Grant::AtMostOnce => Reason::Success,
        Grant::AtLeastOnce => Reason::GrantedQos1,
    })
}
