//! All sessions by client id, connected or kept.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Instant,
};

use super::{
    message::{Grant, Message},
    session::{Attachment, SharedSession},
    topic::Filter,
};

/// Stands for a client id: small, and never two at a time the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ClientKey(pub(super) u32);

/// What a client calls itself: any UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct ClientId(pub(super) Arc<str>);

/// One client that is connected or whose session is kept.
#[derive(Debug)]
pub(super) struct Client {
    /// What it calls itself.
    pub(super) id: ClientId,
    /// Who it logged in as: nobody else gets this session.
    pub(super) user: Arc<str>,
    /// What waits for it.
    pub(super) session: SharedSession,
    /// Whether the session ends with the connection.
    pub(super) clean: bool,
    /// What is published when the connection is lost.
    pub(super) will: Option<Arc<Message>>,
    /// What it is subscribed to.
    pub(super) filters: BTreeMap<Filter, Grant>,
    /// Its connection, or since when there is none.
    pub(super) presence: Presence,
}

/// Whether a client is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Presence {
    /// It is.
    Connected(Attachment),
    /// It left then.
    Away(Instant),
}

/// All clients.
#[derive(Debug, Default)]
pub(super) struct Registry {
    by_id: HashMap<ClientId, ClientKey>,
    clients: Vec<Option<Client>>,
    free: Vec<ClientKey>,
}

impl Registry {
    /// How many there are, connected or kept.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// The key of `id`.
    pub(super) fn find(&self, id: &ClientId) -> Option<ClientKey> {
        self.by_id.get(id).copied()
    }

    /// The client of `key`.
    pub(super) fn get(&self, key: ClientKey) -> Option<&Client> {
        self.clients.get(key.0 as usize)?.as_ref()
    }

    /// The client of `key`.
    pub(super) fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        self.clients.get_mut(key.0 as usize)?.as_mut()
    }

    /// The client of `key`, if `attachment` is its present connection.
    pub(super) fn attached(&mut self, key: ClientKey, attachment: Attachment) -> Option<&mut Client> {
        self.get_mut(key)
            .filter(|client| matches!(client.presence, Presence::Connected(now) if now == attachment))
    }

    /// Adds a client whose id is not there yet.
    pub(super) fn insert(&mut self, client: Client) -> ClientKey {
        let id = client.id.clone();
        let key = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            ClientKey(self.clients.len() as u32 - 1)
        });
        self.clients[key.0 as usize] = Some(client);
        self.by_id.insert(id, key);
        key
    }

    /// Removes a client.
    pub(super) fn remove(&mut self, key: ClientKey) -> Option<Client> {
        let client = self.clients.get_mut(key.0 as usize)?.take()?;
        self.by_id.remove(&client.id);
        self.free.push(key);
        Some(client)
    }

    /// All clients.
    pub(super) fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client)> {
        (0..).map(ClientKey).zip(&self.clients).filter_map(|(key, client)| Some((key, client.as_ref()?)))
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
