//! Clients come and go: sessions, take-over, wills.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use tracing::debug;

use super::{Ack, Attach, Attached, From, Hub, Origin, Publish, Refused};
use crate::relay::{
    registry::{Client, ClientKey, Presence},
    router::{Router, RouterError},
    session::{Attachment, End, Session},
};

/// A client that waits for the end of an earlier connection with its id.
pub(super) type Waiting = Attach;

impl<R: Router> Hub<R> {
    /// Gives a client its session, at once or when its earlier connection has ended and its will is out.
    pub(super) fn attach(&mut self, attach: Attach) {
        self.make_room(&attach);
        match self.admit(&attach) {
            Err(refused) => refuse(attach, refused),
            Ok(Some(key)) => {
                if let Some(earlier) = self.waiting.insert(key, attach) {
                    refuse(earlier, Refused::Superseded);
                }
            }
            Ok(None) => self.begin(attach),
        }
    }

    /// Ends what a connection had; publishes its will unless it ended in peace.
    pub(super) fn detach(
        &mut self,
        key: ClientKey,
        attachment: Attachment,
        in_peace: bool,
    ) -> Result<(), RouterError> {
        let Some(client) = self.registry.attached(key, attachment) else { return Ok(()) };
        client.presence = Presence::Away(Instant::now());
        client.session.detach();
        let session = Arc::clone(&client.session);
        let (will, user, clean) = (client.will.take(), Arc::clone(&client.user), client.clean);
        self.stats.connected.subtract_one();
        if let Some(message) = will.filter(|_| !in_peace && !self.stopping) {
            let origin = Origin { session, attachment, ack: Ack::None };
            self.publish(Publish { message, user, origin, permit: None })?;
        }
        if clean {
            self.forget(key);
        }
        if let Some(next) = self.waiting.remove(&key) {
            self.attach(next);
        }
        Ok(())
    }

    /// Ends a session.
    pub(super) fn forget(&mut self, key: ClientKey) {
        if let Some(client) = self.registry.remove(key) {
            for filter in client.filters.keys() {
                self.subscriptions.remove(filter, key);
            }
        }
    }

    /// Forgets the session of a client that is away when there are as many as there may be: kept sessions, which
    /// anybody can leave behind, must not lock a fleet out. A user's own go first.
    fn make_room(&mut self, attach: &Attach) {
        if self.registry.len() < self.settings.sessions || self.registry.find(&attach.id).is_some() {
            return;
        }
        let away = self.registry.iter().filter_map(|(key, client)| match client.presence {
            Presence::Away(since) => Some((client.user != attach.user, since, key)),
            Presence::Connected(_) => None,
        });
        if let Some((_, _, key)) = away.min() {
            debug!(?key, "session forgotten to make room");
            self.forget(key);
        }
    }

    /// Whether a client may come; `Some` when it first has to wait for the end of that one, which is told to go.
    fn admit(&self, attach: &Attach) -> Result<Option<ClientKey>, Refused> {
        if self.stopping {
            return Err(Refused::Stopping);
        }
        let Some(key) = self.registry.find(&attach.id) else {
            let full = self.registry.len() >= self.settings.sessions;
            return if full { Err(Refused::TooMany) } else { Ok(None) };
        };
        match self.registry.get(key) {
            Some(client) if client.user != attach.user && !attach.owns_id => Err(Refused::ForeignId),
            Some(Client { presence: Presence::Connected(earlier), session, .. }) => {
                debug!(client = %attach.id, "connection taken over");
                session.end(*earlier, End::TakenOver);
                Ok(Some(key))
            }
            _ => Ok(None),
        }
    }

    fn begin(&mut self, attach: Attach) {
        let kept = self.registry.find(&attach.id);
        let is_kept = |client: &Client| !attach.clean && client.user == attach.user;
        let (key, discarded): (Option<_>, Option<_>) = match kept {
            Some(key) if self.registry.get(key).is_some_and(is_kept) => (Some(key), None),
            other => (None, other),
        };
        if let Some(discarded) = discarded {
            // MQTT-3.1.2-6: a clean session discards an earlier one; so does the owner of the id a stranger's.
            self.forget(discarded);
        }
        self.last_attachment = Attachment(self.last_attachment.0 + 1);
        let attachment = self.last_attachment;
        let session_present = key.is_some();
        let key = key.unwrap_or_else(|| self.registry.insert(self.new_client(&attach)));
        let Some(client) = self.registry.get_mut(key) else { return };
        client.presence = Presence::Connected(attachment);
        client.will = attach.will;
        client.clean = attach.clean;
        client.session.attach(attachment);
        let session = Arc::clone(&client.session);
        self.stats.connected.add(1);
        let attached = Attached { from: From { key, attachment }, session, session_present };
        if attach.reply.send(Ok(attached)).is_err() {
            // The connection ended while it waited; it never was there, so there is no will.
            self.abandon(key, attachment);
        }
    }

    fn abandon(&mut self, key: ClientKey, attachment: Attachment) {
        if let Some(client) = self.registry.attached(key, attachment) {
            client.presence = Presence::Away(Instant::now());
            client.will = None;
            client.session.detach();
            let clean = client.clean;
            self.stats.connected.subtract_one();
            if clean {
                self.forget(key);
            }
        }
    }

    fn new_client(&self, attach: &Attach) -> Client {
        Client {
            id: attach.id.clone(),
            user: Arc::clone(&attach.user),
            session: Arc::new(Session::new(self.settings.queue)),
            clean: attach.clean,
            will: None,
            filters: BTreeMap::new(),
            presence: Presence::Away(Instant::now()),
        }
    }
}

fn refuse(attach: Attach, refused: Refused) {
    // The connection may be gone already; then there is nobody to refuse.
    let _ = attach.reply.send(Err(refused));
}
