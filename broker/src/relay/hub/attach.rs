//! Clients come: sessions and take-over.

use std::{collections::BTreeMap, sync::Arc};

use tokio::time::Instant;
use tracing::debug;

use super::{Attach, Attached, Farewell, From, Hub, Refused};
use crate::relay::{
    registry::{Away, Client, ClientKey, Presence},
    router::{Router, RouterError},
    session::{Attachment, End, Session},
};

impl<R: Router> Hub<R> {
    /// Gives a client its session, at once or when its earlier connection has ended and its will is out.
    pub(super) fn attach(&mut self, attach: Attach) -> Result<(), RouterError> {
        self.make_room(&attach)?;
        match self.admit(&attach) {
            Err(refused) => refuse(attach, refused),
            Ok(Some(key)) => {
                if let Some(earlier) = self.waiting.insert(key, attach) {
                    refuse(earlier, Refused::Superseded);
                }
            }
            Ok(None) => self.begin(attach)?,
        }
        Ok(())
    }

    /// Forgets the session of a client that is away when there are as many as there may be: kept sessions, which
    /// anybody can leave behind, must not lock a fleet out. A user's own go first.
    fn make_room(&mut self, attach: &Attach) -> Result<(), RouterError> {
        if self.registry.find(&attach.id).is_some() {
            return Ok(());
        }
        let away = |(key, client): (ClientKey, &Client)| match client.presence {
            Presence::Away(Away { since, .. }) => Some((client.user != attach.user, since, key)),
            Presence::Connected(_) => None,
        };
        let oldest = if self.has_too_many(attach) {
            self.registry.of_user(&attach.user).filter_map(away).min()
        } else if self.is_full() {
            self.registry.iter().filter_map(away).min()
        } else {
            None
        };
        if let Some((_, _, key)) = oldest {
            debug!(?key, "session forgotten to make room");
            self.forget(key)?;
        }
        Ok(())
    }

    fn has_too_many(&self, attach: &Attach) -> bool {
        self.registry.sessions(&attach.user) >= self.settings.of_user.sessions
    }

    fn is_full(&self) -> bool {
        self.registry.len() >= self.settings.sessions
    }

    /// Whether a client may come; `Some` when it first has to wait for the end of that one, which is told to go.
    fn admit(&self, attach: &Attach) -> Result<Option<ClientKey>, Refused> {
        if self.stopping {
            return Err(Refused::Stopping);
        }
        let Some(key) = self.registry.find(&attach.id) else {
            let has_room = !self.is_full() && !self.has_too_many(attach);
            return if has_room { Ok(None) } else { Err(Refused::TooMany) };
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

    fn begin(&mut self, attach: Attach) -> Result<(), RouterError> {
        let mut kept = self.registry.find(&attach.id);
        let is_kept = |client: &Client| !attach.clean_start && client.user == attach.user;
        if let Some(key) = kept
            && !self.registry.get(key).is_some_and(is_kept)
        {
            // MQTT-3.1.2-4 (v3: MQTT-3.1.2-6): "the Client and Server MUST discard any existing Session"; so does the
            // owner of the id a stranger's.
            self.forget(key)?;
            kept = None;
        }
        self.last_attachment = Attachment(self.last_attachment.0 + 1);
        let attachment = self.last_attachment;
        let key = kept.unwrap_or_else(|| self.registry.insert(self.new_client(&attach)));
        let Some(client) = self.registry.get_mut(key) else { return Ok(()) };
        if let Presence::Away(away) = client.presence {
            self.due.remove(&(away.next(), key));
        }
        client.presence = Presence::Connected(attachment);
        // MQTT-3.1.3-9: "If a new Network Connection to this Session is made before the Will Delay Interval has passed,
        // the Server MUST NOT send the Will Message".
        client.will = attach.will;
        client.expiry_secs = attach.expiry_secs;
        client.session.attach(attachment);
        let session = Arc::clone(&client.session);
        self.stats.connected.add(1);
        let from = From { key, attachment };
        let farewell = Farewell::new(attach.events, from);
        // When the connection ended while it waited, the farewell comes back by itself.
        let _ = attach.reply.send(Ok(Attached { from, session, session_present: kept.is_some(), farewell }));
        Ok(())
    }

    fn new_client(&self, attach: &Attach) -> Client {
        let now = Instant::now();
        Client {
            id: attach.id.clone(),
            user: Arc::clone(&attach.user),
            session: Arc::new(Session::new(self.settings.queue)),
            expiry_secs: attach.expiry_secs,
            will: None,
            filters: BTreeMap::new(),
            replays: BTreeMap::new(),
            presence: Presence::Away(Away { since: now, session_ends: now, will_due: None }),
        }
    }
}

fn refuse(attach: Attach, refused: Refused) {
    // The connection may be gone already; then there is nobody to refuse.
    let _ = attach.reply.send(Err(refused));
}
