//! All sessions by client id, connected or kept.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
    sync::Arc,
};

use tokio::time::Instant;

use super::{
    message::Message,
    session::{Attachment, SharedSession},
    subscriptions::Subscription,
    topic::{Filter, TopicName},
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
    /// For how long the session outlives the connection; 0 when it ends with it.
    pub(super) expiry_secs: u32,
    /// What is published when the connection is lost.
    pub(super) will: Option<Box<Will>>,
    /// What it is subscribed to.
    pub(super) filters: BTreeMap<Filter, Subscription>,
    /// Filters for which it has not got all that is retained, each with the last topic that was looked at.
    pub(super) replays: BTreeMap<Filter, Option<TopicName>>,
    /// Its connection, or since when there is none.
    pub(super) presence: Presence,
}

/// What is published when a connection is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Will {
    /// The message, without a time at which it expires: that begins when it is published.
    pub(super) message: Message,
    /// How long it is of use then.
    pub(super) expiry_secs: Option<u32>,
    /// How long it waits for the client to come back.
    pub(super) delay_secs: u32,
}

/// Whether a client is there.
#[derive(Debug, Clone, Copy)]
pub(super) enum Presence {
    /// It is.
    Connected(Attachment),
    /// It is not.
    Away(Away),
}

/// What becomes of a client that is away.
#[derive(Debug, Clone, Copy)]
pub(super) struct Away {
    /// Since when it is.
    pub(super) since: Instant,
    /// When its session ends.
    pub(super) session_ends: Instant,
    /// When its will is published, if one waits for that.
    pub(super) will_due: Option<Instant>,
}

/// All clients.
#[derive(Debug, Default)]
pub(super) struct Registry {
    by_id: HashMap<ClientId, ClientKey>,
    clients: Vec<Option<Client>>,
    free: Vec<ClientKey>,
    users: HashMap<Arc<str>, Account>,
}

/// What one user has.
#[derive(Debug, Default)]
struct Account {
    sessions: BTreeSet<ClientKey>,
    filter_levels: usize,
}

impl Away {
    /// When something is next to be done about the client.
    pub(super) fn next(&self) -> Instant {
        self.will_due.map_or(self.session_ends, |due| due.min(self.session_ends))
    }
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
        let (id, user) = (client.id.clone(), Arc::clone(&client.user));
        let key = self.free.pop().unwrap_or_else(|| {
            self.clients.push(None);
            ClientKey(self.clients.len() as u32 - 1)
        });
        self.clients[key.0 as usize] = Some(client);
        self.by_id.insert(id, key);
        self.users.entry(user).or_default().sessions.insert(key);
        key
    }

    /// Removes a client.
    pub(super) fn remove(&mut self, key: ClientKey) -> Option<Client> {
        let client = self.clients.get_mut(key.0 as usize)?.take()?;
        self.by_id.remove(&client.id);
        if let Some(account) = self.users.get_mut(&client.user) {
            account.sessions.remove(&key);
            let levels = client.filters.keys().map(|filter| filter.levels().count());
            account.filter_levels -= levels.sum::<usize>();
            if account.sessions.is_empty() {
                self.users.remove(&client.user);
            }
        }
        self.free.push(key);
        Some(client)
    }

    /// How many clients `user` has.
    pub(super) fn sessions(&self, user: &Arc<str>) -> usize {
        self.users.get(user).map_or(0, |account| account.sessions.len())
    }

    /// How many levels all filters of the user of `key` have.
    pub(super) fn filter_levels(&self, key: ClientKey) -> usize {
        let account = self.get(key).and_then(|client| self.users.get(&client.user));
        account.map_or(0, |account| account.filter_levels)
    }

    /// Filters of the user of `key` came or went: all have so many `levels` now.
    pub(super) fn set_filter_levels(&mut self, key: ClientKey, levels: usize) {
        let Some(Some(client)) = self.clients.get(key.0 as usize) else { return };
        if let Some(account) = self.users.get_mut(&client.user) {
            account.filter_levels = levels;
        }
    }

    /// The clients of `user`.
    pub(super) fn of_user(&self, user: &Arc<str>) -> impl Iterator<Item = (ClientKey, &Client)> {
        let keys = self.users.get(user).into_iter().flat_map(|account| &account.sessions);
        keys.filter_map(|key| Some((*key, self.get(*key)?)))
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
