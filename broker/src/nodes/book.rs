//! What the bus has said about nodes, as far as it is signed. Pure: messages in, effects out.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use schemas::{
    enroll::{Request, Welcome},
    id::{KeyId, NodeId},
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
    /// The trust topic is to have this chain again.
    RestoreTrust(Bytes),
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

    /// What a node that waits has to know: the roots, and the record that it has if it asks for another.
    pub(super) fn waiting_for(&self, node: &NodeId, key: KeyId) -> Welcome {
        let own = self.nodes.get(node).filter(|entry| entry.record.key.id() == key);
        let record = own.map(|entry| entry.bytes.to_vec()).unwrap_or_default();
        Welcome { record, trust: self.chain.to_vec() }
    }

    /// Whether there is a record of this node, which alone says then what it may do.
    pub(super) fn knows(&self, name: &str) -> bool {
        name.parse::<NodeId>().is_ok_and(|node| self.nodes.contains_key(&node))
    }

    /// The trust topic has this chain. Records that the new keys do not prove are forgotten. A chain that leads nowhere is not
    /// left there: after the next start, keys would count again that the fleet has changed.
    pub(super) fn follow(&mut self, chain: &Bytes) -> (Vec<Effect>, Option<NotBelieved>) {
        let before = self.trust.version();
        let followed = self.follow_to_the_end(chain);
        let mut effects = Vec::new();
        if self.trust.version() != before {
            let is_proven = |entry: &Entry| {
                let signed = Signed::<Record>::from_bytes(&entry.bytes);
                signed.is_ok_and(|signed| signed.verify(&self.trust).is_ok())
            };
            let gone: BTreeSet<NodeId> = self
                .nodes
                .iter()
                .filter(|(_, entry)| !is_proven(entry))
                .map(|(node, _)| node.clone())
                .collect();
            self.nodes.retain(|node, _| !gone.contains(node));
            effects.extend(gone.iter().map(|node| Effect::Changed(node.as_str().into())));
        }
        match followed {
            Ok(()) => self.chain = chain.clone(),
            // Of the first root, everybody has a file.
            Err(_) if before > 1 && *chain != self.chain => {
                effects.push(Effect::RestoreTrust(self.chain.clone()));
            }
            Err(_) => {}
        }
        (effects, followed.err())
    }

    fn follow_to_the_end(&mut self, chain: &Bytes) -> Result<(), NotBelieved> {
        let roots = RootChain::from_bytes(chain)?;
        while let Some((next, _)) = self.trust.follow(&roots)? {
            self.trust = next;
        }
        Ok(())
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
            env: BTreeMap::new(),
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
        let follow = |book: &mut Book, chain: &Bytes| {
            let (effects, refused) = book.follow(chain);
            (effects, refused.is_none())
        };
        assert_eq!(follow(&mut book, &chain(2)), (vec![], true));
        assert!(book.user("pi-1").is_some());
        // Good up to the third, and then not: what the third says counts all the same.
        let forged = Bytes::from(RootChain::new(1, vec![root(1), root(2), root(3), root(5)]).to_bytes());
        let restored = Effect::RestoreTrust(chain(2));
        assert_eq!(follow(&mut book, &forged), (vec![changed(), restored], false));
        assert!(book.user("pi-1").is_none());
        assert_eq!(follow(&mut book, &chain(3)), (vec![], true));
        // What came before, or nothing, does not stay.
        for other in [chain(2), Bytes::new(), Bytes::from_static(b"junk")] {
            assert_eq!(follow(&mut book, &other), (vec![Effect::RestoreTrust(chain(3))], false));
        }
        // A number that a stolen key had used up counts no more.
        assert_eq!(book.take(&node(), &record(1, Active, &[key(3)])).unwrap(), [changed()]);
    }
}
