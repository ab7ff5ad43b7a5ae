//! The retained messages: what a new subscriber gets, and the log from which they come back after a crash.
//!
//! [`Retained`] is what can be seen; it changes in the moment in which a message goes out to those who are
//! subscribed, so that nobody ever gets an old value after a newer one. The log is written before.

mod format;
mod log;
mod writer;

use std::{
    collections::{BTreeMap, HashMap},
    io,
    ops::Bound,
    path::PathBuf,
    sync::Arc,
};

pub(crate) use self::log::LogError;
pub(super) use self::{
    format::Record,
    writer::{Outcome, Writer},
};
use super::{
    message::Message,
    topic::{Filter, TopicName},
};

/// How much may be retained.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quota {
    /// Most topics in all.
    pub(super) topics: usize,
    /// Most bytes of topics and payloads in all.
    pub(super) bytes: usize,
    /// Most topics of one user.
    pub(super) topics_per_user: usize,
    /// Most bytes of topics and payloads of one user.
    pub(super) bytes_per_user: usize,
}

/// Something would not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum OverQuota {
    /// See [`Quota::topics`].
    #[error("more than {0} retained topics")]
    Topics(usize),
    /// See [`Quota::bytes`].
    #[error("more than {0} bytes of retained messages")]
    Bytes(usize),
    /// See [`Quota::topics_per_user`].
    #[error("more than {0} retained topics of one user")]
    User(usize),
    /// See [`Quota::bytes_per_user`].
    #[error("more than {0} bytes of retained messages of one user")]
    UserBytes(usize),
}

/// All retained messages that can be seen, and the room that is promised to those on their way.
#[derive(Debug)]
pub(super) struct Retained {
    entries: BTreeMap<TopicName, Entry>,
    bytes: usize,
    users: HashMap<Arc<str>, Share>,
    quota: Quota,
}

/// What one user has of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Share {
    topics: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    value: Option<Arc<Message>>,
    owner: Arc<str>,
    /// What is promised: at least what `value` weighs, at most that of the messages on their way.
    weight: usize,
    on_their_way: u32,
}

/// Opens the log at `path`; `report` gets the outcomes of what is stored.
pub(super) fn open(
    path: PathBuf,
    quota: Quota,
    report: impl Fn(Vec<Outcome>) + Send + 'static,
) -> Result<(Retained, Writer), LogError> {
    let (log, loaded) = log::RetainedLog::open(path.clone())?;
    let mut retained = Retained::new(quota);
    for record in loaded.into_values() {
        retained.promise(&record.message, &record.owner);
        retained.show(&record.message);
    }
    let writer = Writer::start(log, report).map_err(|source: io::Error| LogError::Io {
        doing: "start the thread of",
        path,
        source,
    })?;
    Ok((retained, writer))
}

impl Entry {
    /// The message, unless it is of no more use.
    fn current(&self) -> Option<&Arc<Message>> {
        self.value.as_ref().filter(|message| !message.is_expired())
    }
}

impl Retained {
    /// Nothing is retained.
    pub(super) fn new(quota: Quota) -> Self {
        Self { entries: BTreeMap::new(), bytes: 0, users: HashMap::new(), quota }
    }

    /// How many topics there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Promises room for `message`; to be followed by [`Self::show`] or [`Self::withdraw`].
    pub(super) fn accept(&mut self, message: &Message, owner: &Arc<str>) -> Result<(), OverQuota> {
        if !message.payload.is_empty() {
            self.check(message, owner)?;
        }
        self.promise(message, owner);
        Ok(())
    }

    /// Whether a message for `topic` was accepted and not yet shown.
    pub(super) fn is_awaited(&self, topic: &TopicName) -> bool {
        self.entries.get(topic).is_some_and(|entry| entry.on_their_way > 0)
    }

    /// `message` takes the place of what its topic had; an empty one clears it (MQTT-3.3.1-10, -11).
    pub(super) fn show(&mut self, message: &Arc<Message>) {
        if let Some(entry) = self.entries.get_mut(&message.topic) {
            entry.value = (!message.payload.is_empty()).then(|| Arc::clone(message));
        }
        self.settle(&message.topic);
    }

    /// An accepted message on `topic` could not be stored.
    pub(super) fn withdraw(&mut self, topic: &TopicName) {
        self.settle(topic);
    }

    /// The message of `topic`.
    pub(super) fn get(&self, topic: &TopicName) -> Option<&Arc<Message>> {
        self.entries.get(topic)?.current()
    }

    /// Forgets what has expired (MQTT-3.3.2-5), and gives what clears it from the log, with its owner. A topic to which
    /// another message is on its way is left alone: that one takes the place.
    pub(super) fn drop_expired(&mut self) -> Vec<(Message, Arc<str>)> {
        let is_over = |entry: &Entry| {
            entry.on_their_way == 0 && entry.value.as_ref().is_some_and(|message| message.is_expired())
        };
        let over: Vec<TopicName> =
            self.entries.iter().filter(|(_, entry)| is_over(entry)).map(|(topic, _)| topic.clone()).collect();
        over.into_iter().filter_map(|topic| self.clear(topic)).collect()
    }

    /// The topics that have to be looked at for `filter`, from behind `after` on, in order: each with its message if that
    /// is for the filter.
    pub(super) fn look<'a>(
        &'a self,
        filter: &'a Filter,
        after: Option<&TopicName>,
    ) -> impl Iterator<Item = (&'a TopicName, Option<&'a Arc<Message>>)> + use<'a> {
        let prefix = filter.literal_prefix();
        let from = after.map_or(Bound::Included(prefix), |after| Bound::Excluded(after.as_str()));
        // The prefix is a topic by itself only where the filter is one, or is followed by `/#`.
        self.entries
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(topic, _)| topic.as_str().starts_with(prefix))
            .take(if filter.is_wild() { usize::MAX } else { 1 })
            .map(|(topic, entry)| (topic, entry.current().filter(|_| filter.takes(topic.as_str()))))
    }

    fn clear(&mut self, topic: TopicName) -> Option<(Message, Arc<str>)> {
        let entry = self.entries.get_mut(&topic)?;
        entry.value = None;
        let owner = Arc::clone(&entry.owner);
        self.settle(&topic);
        Some((Message::clearing(topic), owner))
    }

    fn check(&self, message: &Message, owner: &Arc<str>) -> Result<(), OverQuota> {
        let before = self.entries.get(&message.topic);
        let bytes =
            self.bytes + message.weight() - before.map_or(0, |entry| entry.weight.min(message.weight()));
        if bytes > self.quota.bytes {
            return Err(OverQuota::Bytes(self.quota.bytes));
        }
        if before.is_none() && self.entries.len() >= self.quota.topics {
            return Err(OverQuota::Topics(self.quota.topics));
        }
        let share = self.users.get(owner).copied().unwrap_or_default();
        let of_owner = before.filter(|entry| entry.owner == *owner);
        if of_owner.is_none() && share.topics >= self.quota.topics_per_user {
            return Err(OverQuota::User(self.quota.topics_per_user));
        }
        let weight = message.weight().max(before.map_or(0, |entry| entry.weight));
        if share.bytes + weight - of_owner.map_or(0, |entry| entry.weight) > self.quota.bytes_per_user {
            return Err(OverQuota::UserBytes(self.quota.bytes_per_user));
        }
        Ok(())
    }

    fn promise(&mut self, message: &Message, owner: &Arc<str>) {
        let entry = self.entries.entry(message.topic.clone()).or_insert_with(|| Entry {
            value: None,
            owner: Arc::clone(owner),
            weight: 0,
            on_their_way: 0,
        });
        let is_new = entry.on_their_way == 0 && entry.value.is_none();
        entry.on_their_way += 1;
        let had = entry.weight;
        entry.weight = had.max(message.weight());
        let has = entry.weight;
        let owned_by = std::mem::replace(&mut entry.owner, Arc::clone(owner));
        self.bytes += has - had;
        if !is_new {
            self.leave(&owned_by, Share { topics: 1, bytes: had });
        }
        let share = self.users.entry(Arc::clone(owner)).or_default();
        share.topics += 1;
        share.bytes += has;
    }

    /// One message fewer is on its way; with the last one, the room shrinks to what is there.
    fn settle(&mut self, topic: &TopicName) {
        let Some(entry) = self.entries.get_mut(topic) else { return };
        entry.on_their_way = entry.on_their_way.saturating_sub(1);
        if entry.on_their_way > 0 {
            return;
        }
        let weight = entry.value.as_ref().map_or(0, |message| message.weight());
        let (owner, freed) = (Arc::clone(&entry.owner), entry.weight - weight);
        self.bytes -= freed;
        entry.weight = weight;
        let is_gone = entry.value.is_none();
        if is_gone {
            self.entries.remove(topic);
        }
        self.leave(&owner, Share { topics: usize::from(is_gone), bytes: freed });
    }

    fn leave(&mut self, owner: &Arc<str>, part: Share) {
        if let Some(share) = self.users.get_mut(owner) {
            share.topics -= part.topics;
            share.bytes -= part.bytes;
            if share.topics == 0 {
                self.users.remove(owner);
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
