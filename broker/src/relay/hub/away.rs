//! Clients go: wills, sessions that are kept for a time, and their end.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::time::Instant;
use tracing::debug;

use super::{Ack, From, Hub, Origin, Publish};
use crate::relay::{
    message::Message,
    registry::{Away, Client, ClientKey, Presence, Will},
    router::{Router, RouterError},
    session::{Attachment, End},
};

impl<R: Router> Hub<R> {
    /// Ends what a connection had. Its will is published, soon or later, unless it ended in peace (MQTT-3.1.2-8).
    pub(super) fn detach(
        &mut self,
        from: From,
        in_peace: bool,
        expiry_secs: Option<u32>,
    ) -> Result<(), RouterError> {
        let From { key, attachment } = from;
        let Some(client) = self.registry.attached(key, attachment) else { return Ok(()) };
        client.session.detach();
        self.stats.connected.subtract_one();
        // What is to end with the connection cannot be kept after all: neither by the standard (MQTT 5, 3.14.2.2.2), nor
        // when its user was taken out meanwhile.
        if client.expiry_secs > 0 {
            client.expiry_secs = expiry_secs.unwrap_or(client.expiry_secs);
        }
        if in_peace || self.stopping {
            // MQTT-3.1.2-10: the will "MUST be removed from the stored Session State".
            client.will = None;
        }
        let since = Instant::now();
        let later = |secs: u32| since + Duration::from_secs(secs.into());
        let away = Away {
            since,
            session_ends: later(client.expiry_secs),
            will_due: client.will.as_ref().map(|will| later(will.delay_secs)),
        };
        client.presence = Presence::Away(away);
        self.settle(key, since)?;
        match self.waiting.remove(&key) {
            Some(next) => self.attach(next),
            None => Ok(()),
        }
    }

    /// Ends connections and sessions of `users`: what they are subscribed to, they may no longer be allowed.
    pub(super) fn users_changed(&mut self, users: &BTreeSet<Arc<str>>) -> Result<(), RouterError> {
        let of_them = |(key, client): (ClientKey, &Client)| users.contains(&client.user).then_some(key);
        let keys: Vec<ClientKey> = self.registry.iter().filter_map(of_them).collect();
        for key in keys {
            let Some(client) = self.registry.get_mut(key) else { continue };
            client.expiry_secs = 0;
            // Its will was permitted when it connected, and is not any more.
            client.will = None;
            match client.presence {
                Presence::Connected(attachment) => client.session.end(attachment, End::NotAuthorized),
                Presence::Away(_) => self.forget(key)?,
            }
        }
        Ok(())
    }

    /// Does what is due for clients that are away.
    pub(super) fn settle_due(&mut self, now: Instant) -> Result<(), RouterError> {
        while let Some((due, key)) = self.due.first().copied()
            && due <= now
        {
            self.due.remove(&(due, key));
            self.settle(key, now)?;
        }
        Ok(())
    }

    /// Ends a session. MQTT-3.1.2-8: its will is published at the latest now.
    pub(super) fn forget(&mut self, key: ClientKey) -> Result<(), RouterError> {
        let Some(mut client) = self.registry.remove(key) else { return Ok(()) };
        if let Presence::Away(away) = client.presence {
            self.due.remove(&(away.next(), key));
        }
        for filter in client.filters.keys() {
            self.subscriptions.remove(filter, key);
        }
        match client.will.take() {
            Some(will) => self.publish(publish_of(key, &client, *will)),
            None => Ok(()),
        }
    }

    fn settle(&mut self, key: ClientKey, now: Instant) -> Result<(), RouterError> {
        let Some(client) = self.registry.get_mut(key) else { return Ok(()) };
        let Presence::Away(away) = &mut client.presence else { return Ok(()) };
        if away.session_ends <= now {
            debug!(client = %client.id, "session ends");
            return self.forget(key);
        }
        let will = if away.will_due.is_some_and(|due| due <= now) {
            away.will_due = None;
            client.will.take()
        } else {
            None
        };
        self.due.insert((away.next(), key));
        let Some(will) = will else { return Ok(()) };
        let publish = publish_of(key, client, *will);
        self.publish(publish)
    }
}

fn publish_of(key: ClientKey, client: &Client, will: Will) -> Publish {
    let expires = will.expiry_secs.map(|secs| Instant::now() + Duration::from_secs(secs.into()));
    let origin = Origin {
        from: From { key, attachment: Attachment::default() },
        session: Arc::clone(&client.session),
        ack: Ack::None,
    };
    let message = Arc::new(Message { expires, ..will.message });
    Publish { message, user: Arc::clone(&client.user), origin, permit: None }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tempfile::TempDir;
    use tokio::sync::{mpsc, oneshot};

    use super::*;
    use crate::relay::{
        hub::{Attach, HubSettings, UserLimits},
        registry::ClientId,
        retained::{self, Quota},
        session::QueueLimits,
        stats::Stats,
    };

    /// Takes everything and gives nothing back.
    struct Silent;

    impl Router for Silent {
        fn send(&mut self, _: Bytes) -> Result<(), RouterError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn who_is_taken_out_keeps_no_session_by_a_good_bye_that_asks_for_one() {
        let folder = TempDir::new().unwrap();
        let mut hub = hub(&folder);
        let from = attach(&mut hub);
        hub.users_changed(&BTreeSet::from(["pi-1".into()])).unwrap();
        hub.detach(from, true, Some(600)).unwrap();
        assert_eq!(hub.registry.len(), 0);

        let from = attach(&mut hub);
        hub.detach(from, true, Some(600)).unwrap();
        assert_eq!(hub.registry.len(), 1);
    }

    fn hub(folder: &TempDir) -> Hub<Silent> {
        let quota = Quota { topics: 9, bytes: 999, topics_per_user: 9, bytes_per_user: 999 };
        let (retained, writer) = retained::open(folder.path().join("retained.log"), quota, |_| {}).unwrap();
        let settings = HubSettings {
            queue: QueueLimits { messages: 9, bytes: 999 },
            sessions: 9,
            of_user: UserLimits::NONE,
            lazy: Vec::new(),
            observers: Vec::new(),
        };
        Hub::new(settings, Arc::new(Stats::default()), retained, writer, Silent)
    }

    fn attach(hub: &mut Hub<Silent>) -> From {
        let (reply, mut attached) = oneshot::channel();
        let attach = Attach {
            id: ClientId("pi-1".into()),
            user: "pi-1".into(),
            owns_id: true,
            clean_start: true,
            expiry_secs: 60,
            will: None,
            events: mpsc::unbounded_channel().0,
            reply,
        };
        hub.attach(attach).unwrap();
        attached.try_recv().unwrap().unwrap().from
    }
}
