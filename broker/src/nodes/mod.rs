//! Nodes that are let in by their signed records, and those that ask to be. The broker believes only what the fleet's keys
//! have signed; what it decides here is who may log in to it, and nothing else.

mod book;

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use schemas::{
    enroll::Request,
    id::{Digest, FleetId, KeyId, NodeId, Seq},
    root::{Root, RootError},
    seal::Signed,
    topic::{Filter, Kind, NodeTopic, Topic},
};
use tracing::{info, warn};

use self::book::{Book, Effect};
use crate::{access::User, places::network};

/// How many may wait to be let in.
const MAX_WAITING: usize = 64;
/// How many of them from one place.
const MAX_FROM_ONE_PLACE: usize = 8;
/// A node that has not asked for so long has gone: it asks every few seconds.
pub(crate) const WAITING_LIMIT: Duration = Duration::from_hours(1);

/// Why the root file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NodesError {
    /// It cannot be read.
    #[error("cannot read root file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no root document.
    #[error("cannot trust root file {path}")]
    Root {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: Box<RootError>,
    },
    /// It is another fleet's.
    #[error("root file {path} is for fleet {found}, the settings say {expected}")]
    Fleet {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        found: FleetId,
        /// Whose it should be.
        expected: FleetId,
    },
}

impl NodesError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Read { .. } | Self::Root { .. } => {
                "copy `root.cbor` of the publisher's folder here; this user must be able to read it"
            }
            Self::Fleet { .. } => "correct `fleet` in the settings, or copy `root.cbor` of that fleet here",
        }
    }
}

/// What `make` makes of the root document in the file at `path`.
pub(crate) fn read_root<T>(
    path: &Path,
    make: impl FnOnce(&Signed<Root>) -> Result<T, RootError>,
) -> Result<T, NodesError> {
    let bytes = fs::read(path).map_err(|source| NodesError::Read { path: path.to_owned(), source })?;
    let root = Signed::from_bytes(&bytes).map_err(RootError::from).and_then(|root| make(&root));
    root.map_err(|source| NodesError::Root { path: path.to_owned(), source: Box::new(source) })
}

/// What is to be done on the bus.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// This user may do other things than before.
    Changed(Arc<str>),
    /// What a node said is to be cleared, but for its record.
    Clear(Filter),
    /// This is to be retained, for as long if that is said.
    Put(Topic, Bytes, Option<Duration>),
}

/// What a node that asks to be let in is told.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It is let in: record and roots.
    Welcome(Vec<u8>),
    /// People are to decide: what the node has to know, and what is to be put where people see it, unless it is there.
    Wait(Vec<u8>, Option<Deed>),
    /// Too many wait.
    Full,
    /// It asks for what cannot be.
    Refused(String),
}

/// All nodes.
#[derive(Debug)]
pub(crate) struct Nodes {
    fleet: FleetId,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    book: Book,
    waiting: BTreeMap<KeyId, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    place: IpAddr,
    /// Since when people see it.
    since: Instant,
    wish: Wish,
}

/// What a request asks for: name, token, proof of an invitation, record that it renews.
type Wish = (NodeId, Digest, Option<Digest>, Option<Seq>);

impl Nodes {
    /// Believes the root in the file at `path`.
    pub(crate) fn open(path: &Path, fleet: &FleetId) -> Result<Self, NodesError> {
        let book = read_root(path, Book::new)?;
        if book.fleet() != fleet {
            let (path, found, expected) = (path.to_owned(), book.fleet().clone(), fleet.clone());
            return Err(NodesError::Fleet { path, found, expected });
        }
        let state = Mutex::new(State { book, waiting: BTreeMap::new() });
        Ok(Self { fleet: fleet.clone(), state })
    }

    /// What has to be watched on the bus of `fleet`, in the order in which what is retained is to be read.
    pub(crate) fn filters(fleet: &FleetId) -> [Filter; 3] {
        let trust = Filter::from(&Kind::Trust.of(fleet));
        [trust, Filter::all_nodes(fleet, &NodeTopic::Record), Filter::enrollments(fleet)]
    }

    /// A message of those topics.
    pub(crate) fn take(&self, topic: &str, payload: &Bytes) -> Vec<Deed> {
        let Ok(topic) = topic.parse::<Topic>() else { return Vec::new() };
        let mut state = self.lock();
        let (effects, refused) = match &topic.kind {
            Kind::Trust => state.book.follow(payload),
            Kind::Node(node, NodeTopic::Record) => match state.book.take(node, payload) {
                Ok(effects) => (effects, None),
                Err(refused) => (Vec::new(), Some(refused)),
            },
            Kind::Enroll(key) if payload.is_empty() => {
                state.waiting.remove(key);
                return Vec::new();
            }
            _ => return Vec::new(),
        };
        if let Some(refused) = refused {
            warn!(%topic, error = %crate::chain(&refused), "not believed");
        }
        effects.into_iter().map(|effect| deed(effect, &topic.fleet)).collect()
    }

    /// The node of this name, if its record lets it in.
    pub(crate) fn user(&self, name: &str) -> Option<Arc<User>> {
        self.lock().book.user(name)
    }

    /// Whether there is a record of a node of this name, which alone says then what it may do.
    pub(crate) fn knows(&self, name: &str) -> bool {
        self.lock().book.knows(name)
    }

    /// A node asks to be let in.
    pub(crate) fn ask(&self, bytes: &[u8], from: IpAddr) -> Answer {
        // Before the lock: whoever logs in waits for that.
        let verified = Signed::<Request>::from_bytes(bytes).and_then(|signed| signed.verify_own(&self.fleet));
        let request = match verified {
            Ok(request) => request,
            Err(err) => return Answer::Refused(crate::chain(&err)),
        };
        let mut state = self.lock();
        if let Some(welcome) = state.book.welcome(&request) {
            return Answer::Welcome(welcome.to_bytes());
        }
        state.waiting.retain(|_, waiting| waiting.since.elapsed() < WAITING_LIMIT);
        let (key, place) = (request.key.id(), network(from));
        let others = state.waiting.iter().filter(|(other, _)| **other != key);
        let (all, near) = others
            .fold((0, 0), |(all, near), (_, waiting)| (all + 1, near + usize::from(waiting.place == place)));
        if all >= MAX_WAITING || near >= MAX_FROM_ONE_PLACE {
            return Answer::Full;
        }
        let Request { node, login, proof, renews, .. } = request.into_inner();
        let waiting = Waiting { place, since: Instant::now(), wish: (node, login, proof, renews) };
        let answer = state.book.waiting_for(&waiting.wish.0, key);
        let before = state.waiting.get(&key);
        // It asks every few seconds; people need to see that once, and again before it is forgotten.
        if before
            .is_some_and(|before| before.wish == waiting.wish && before.since.elapsed() < WAITING_LIMIT / 2)
        {
            return Answer::Wait(answer.to_bytes(), None);
        }
        if before.is_none() {
            let node = &waiting.wish.0;
            info!(%node, %key, %from, "a node asks to be let in: `publisher node approve {node}`");
        }
        state.waiting.insert(key, waiting);
        let topic = Kind::Enroll(key).of(&self.fleet);
        Answer::Wait(
            answer.to_bytes(),
            Some(Deed::Put(topic, Bytes::copy_from_slice(bytes), Some(WAITING_LIMIT))),
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn deed(effect: Effect, fleet: &FleetId) -> Deed {
    match effect {
        Effect::Changed(name) => Deed::Changed(name),
        Effect::Retired(node) => {
            info!(%node, "node retired");
            Deed::Clear(Filter::of_node(fleet, &node))
        }
        Effect::Restore(node, bytes) => {
            warn!(%node, "an older record, or none, came in the place of the one that counts, which is put back");
            Deed::Put(Kind::Node(node, NodeTopic::Record).of(fleet), bytes, None)
        }
        Effect::RestoreTrust(chain) => {
            warn!(
                "an older chain of root documents, or none, came in the place of the one that counts, which is put back"
            );
            Deed::Put(Kind::Trust.of(fleet), chain, None)
        }
    }
}
