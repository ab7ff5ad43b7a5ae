//! What the bus has said about nodes, as far as it is signed. Pure: messages in, effects out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use schemas::{
    enroll::{Request, Welcome},
    id::NodeId,
    record::{Record, RecordStatus},
    root::{Root, RootChain, RootError, Trust},
    seal::{SealError, Signed, Verified},
};

use crate::access::User;

/// What is to be done about a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Effect {
    /// This node may do other things than before.
    Changed(Arc<str>),
    /// This node is out: what it said is to be cleared.
    Retired(NodeId),
    /// The topic of this node's record is to have these bytes again.
    Restore(NodeId, Bytes),
}

/// Why a message is not believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotBelieved {
    /// The chain of root documents.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A record.
    #[error(transparent)]
    Record(#[from] SealError),
    /// A record on another node's topic.
    #[error("it is about {0}")]
    WrongNode(NodeId),
}

/// The root documents that the broker believes, and by them the records of all nodes.
#[derive(Debug)]
pub(super) struct Book {
    trust: Trust,
    chain: Bytes,
    nodes: BTreeMap<NodeId, Entry>,
}

#[derive(Debug)]
struct Entry {
    bytes: Bytes,
    record: Verified<Record>,
    /// Who may log in by it.
    user: Option<Arc<User>>,
}

impl Book {
    /// Believes `root`, and knows no node.
    pub(super) fn new(root: &Signed<Root>) -> Result<Self, RootError> {
        let trust = Trust::first(root)?;
        let chain = RootChain::new(trust.version(), vec![root.clone()]).to_bytes().into();
        Ok(Self { trust, chain, nodes: BTreeMap::new() })
    }

    /// Whose nodes these are.
    pub(super) fn fleet(&self) -> &schemas::id::FleetId {
        self.trust.fleet()
    }

    /// The user that a record lets in.
    pub(super) fn user(&self, name: &str) -> Option<Arc<User>> {
        self.nodes.get(&name.parse::<NodeId>().ok()?)?.user.clone()
    }

    /// What a node that was let in as it asks has to know: its record and the roots that prove it.
    pub(super) fn welcome(&self, request: &Request) -> Option<Welcome> {
        let entry = self.nodes.get(&request.node)?;
        let Record { key, login, .. } = &*entry.record;
        let is_it = entry.user.is_some() && *key == request.key && *login == Some(request.login);
        is_it.then(|| Welcome { record: entry.bytes.to_vec(), trust: self.chain.to_vec() })
    }

    /// What a node that waits has to know: the roots alone.
    pub(super) fn roots(&self) -> Welcome {
        Welcome { record: Vec::new(), trust: self.chain.to_vec() }
    }

    /// The trust topic has this chain. Records that the new keys do not prove are forgotten.
    pub(super) fn follow(&mut self, chain: &Bytes) -> Result<Vec<Effect>, NotBelieved> {
        let roots = RootChain::from_bytes(chain)?;
        let before = self.trust.version();
        while let Some((next, _)) = self.trust.follow(&roots)? {
            self.trust = next;
        }
        self.chain = chain.clone();
        if self.trust.version() == before {
            return Ok(Vec::new());
        }
        let is_proven = |entry: &Entry| {
            Signed::<Record>::from_bytes(&entry.bytes).is_ok_and(|signed| signed.verify(&self.trust).is_ok())
        };
        let gone: BTreeSet<NodeId> =
            self.nodes.iter().filter(|(_, entry)| !is_proven(entry)).map(|(node, _)| node.clone()).collect();
        self.nodes.retain(|node, _| !gone.contains(node));
        Ok(gone.iter().map(|node| Effect::Changed(node.as_str().into())).collect())
    }

    /// The record topic of `node` has these bytes. What is older than what is known, or nothing, does not count: a retired
    /// node must not come back by an old record.
    pub(super) fn take(&mut self, node: &NodeId, bytes: &Bytes) -> Result<Vec<Effect>, NotBelieved> {
        let known = self.nodes.get_mut(node);
        let restore = |known: &Entry| vec![Effect::Restore(node.clone(), known.bytes.clone())];
        if bytes.is_empty() {
            return Ok(known.map_or_else(Vec::new, |known| restore(known)));
        }
        let record = Signed::<Record>::from_bytes(bytes)?.verify(&self.trust)?;
        if record.node != *node {
            return Err(NotBelieved::WrongNode(record.node.clone()));
        }
        if let Some(known) = known {
            if known.record.digest() == record.digest() {
                // By other signatures.
                known.bytes = bytes.clone();
                return Ok(Vec::new());
            }
            if record.seq <= known.record.seq {
                return Ok(restore(known));
            }
        }
        let mut effects = vec![Effect::Changed(node.as_str().into())];
        if record.status == RecordStatus::Revoked {
            effects.push(Effect::Retired(node.clone()));
        }
        let user = User::of_record(&record).map(Arc::new);
        self.nodes.insert(node.clone(), Entry { bytes: bytes.clone(), record, user });
        Ok(effects)
    }
}

#[cfg(test)]
mod tests {
    use schemas::{
        enroll,
        id::{Digest, Seq},
        root::{Role, RoleKeys},
        seal::{Head, SecretKey},
        time::UnixTime,
    };

    use super::*;

    fn key(n: u8) -> SecretKey {
        SecretKey::from_seed(&[n; 32])
    }

    /// A root in which key `n` has every role, signed by the key of the root before, too.
    fn root(n: u8) -> Signed<Root> {
        let id = key(n).public().id();
        let role = |role| (role, RoleKeys { keys: vec![id], threshold: 1 });
        let document = Root {
            head: Head::new("home".parse().unwrap(), UnixTime(1)),
            version: n.into(),
            keys: vec![key(n).public()],
            roles: Role::ALL.into_iter().map(role).collect(),
            reset: Vec::new(),
            expires: UnixTime(2_000_000_000),
        };
        Signed::seal(&document, &[key(n.max(2) - 1), key(n)])
    }

    fn record(seq: u64, status: RecordStatus, signers: &[SecretKey]) -> Bytes {
        let document = Record {
            head: Head::new("home".parse().unwrap(), UnixTime(1)),
            node: node(),
            seq: Seq(seq),
            key: key(9).public(),
            groups: ["all".parse().unwrap()].into(),
            labels: BTreeMap::new(),
            status,
            login: Some(Digest::of(b"token")),
        };
        Signed::seal(&document, signers).to_bytes().into()
    }

    fn request(n: u8, login: &[u8]) -> Request {
        let head = Head::new("home".parse().unwrap(), UnixTime(1));
        enroll::request(head, node(), &key(n), Digest::of(login), None)
    }

    fn node() -> NodeId {
        "pi-1".parse().unwrap()
    }

    fn changed() -> Effect {
        Effect::Changed("pi-1".into())
    }

    use RecordStatus::{Active, Revoked};

    #[test]
    fn a_record_lets_a_node_in_and_a_later_one_out_for_good() {
        let mut book = Book::new(&root(1)).unwrap();
        let (first, out) = (record(1, Active, &[key(1)]), record(2, Revoked, &[key(1)]));
        assert_eq!(book.take(&node(), &first).unwrap(), [changed()]);
        assert!(book.user("pi-1").is_some() && book.user("pi-2").is_none());
        assert!(book.welcome(&request(9, b"token")).is_some());
        assert!(
            book.welcome(&request(8, b"token")).is_none() && book.welcome(&request(9, b"other")).is_none()
        );
        assert_eq!(book.take(&node(), &out).unwrap(), [changed(), Effect::Retired(node())]);
        assert!(book.user("pi-1").is_none() && book.welcome(&request(9, b"token")).is_none());
        let restored = [Effect::Restore(node(), out)];
        assert_eq!(book.take(&node(), &first).unwrap(), restored);
        assert_eq!(book.take(&node(), &Bytes::new()).unwrap(), restored);
        assert!(book.user("pi-1").is_none());
    }

    #[test]
    fn what_is_not_signed_lets_nobody_in() {
        let mut book = Book::new(&root(1)).unwrap();
        let forged = record(1, Active, &[key(5)]);
        assert!(matches!(book.take(&node(), &forged), Err(NotBelieved::Record(_))));
        let good = record(1, Active, &[key(1)]);
        let elsewhere = book.take(&"pi-2".parse().unwrap(), &good);
        assert!(matches!(elsewhere, Err(NotBelieved::WrongNode(_))));
        assert!(matches!(book.take(&node(), &Bytes::from_static(b"junk")), Err(NotBelieved::Record(_))));
        assert!(book.user("pi-1").is_none());
    }

    #[test]
    fn a_change_of_keys_keeps_those_that_the_new_one_has_signed() {
        let chain = |n: u8| Bytes::from(RootChain::new(1, (1..=n).map(root).collect()).to_bytes());
        let mut book = Book::new(&root(1)).unwrap();
        book.take(&node(), &record(1, Active, &[key(1)])).unwrap();
        assert_eq!(book.take(&node(), &record(1, Active, &[key(1), key(2)])).unwrap(), []);
        assert_eq!(book.follow(&chain(2)).unwrap(), []);
        assert!(book.user("pi-1").is_some());
        assert_eq!(book.follow(&chain(3)).unwrap(), [changed()]);
        assert!(book.user("pi-1").is_none());
        assert!(book.follow(&chain(2)).is_err() && book.follow(&Bytes::from_static(b"junk")).is_err());
        // A number that a stolen key had used up counts no more.
        assert_eq!(book.take(&node(), &record(1, Active, &[key(3)])).unwrap(), [changed()]);
    }
}
