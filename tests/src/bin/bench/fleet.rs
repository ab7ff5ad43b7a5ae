//! A fleet whose keys follow from names: what its people and its nodes sign.

use std::slice;

use anyhow::Result;
use e2e::{Forge, now};
use schemas::{
    id::{AppId, Digest, GroupId, NodeId, PublicKey, Revision, Seq},
    mandate::{Mandate, REVISIONS},
    record::{Record, RecordStatus},
    release::Release,
    report::{AppReport, Report},
    rollout::{Planned, Rollout, Wish},
    root::{Role, RoleKeys, Root, Trust},
    seal::{Head, SecretKey, Signed},
    time::UnixTime,
    topic::{Kind, NodeTopic},
};

/// The fleet, as the broker calls it unless its settings say otherwise.
const NAME: &str = "deploybus";
const DAY_SECS: u64 = 24 * 60 * 60;

/// The keys of a fleet.
pub(crate) struct Fleet {
    pub(crate) forge: Forge,
    /// The group of all nodes.
    pub(crate) group: GroupId,
    /// What they run.
    pub(crate) app: AppId,
    root: Vec<u8>,
}

impl Fleet {
    /// One key for everything.
    pub(crate) fn new() -> Result<Self> {
        let key = SecretKey::from_seed(&Digest::of(NAME.as_bytes()).0);
        let only = RoleKeys { keys: vec![key.public().id()], threshold: 1 };
        let root = Root {
            head: Head::new(NAME.parse()?, now()),
            version: 1,
            keys: vec![key.public()],
            roles: Role::ALL.map(|role| (role, only.clone())).into(),
            reset: Vec::new(),
            expires: now().plus_secs(DAY_SECS),
        };
        let root = Signed::seal(&root, slice::from_ref(&key));
        let forge = Forge { trust: Trust::first(&root)?, release_key: key.clone(), ops_key: key };
        Ok(Self { forge, group: "all".parse()?, app: "web".parse()?, root: root.to_bytes() })
    }

    /// The root document.
    pub(crate) fn root(&self) -> &[u8] {
        &self.root
    }

    /// A topic of the fleet.
    pub(crate) fn topic(&self, kind: Kind) -> String {
        kind.of(self.forge.trust.fleet()).to_string()
    }

    /// A topic of a node.
    pub(crate) fn topic_of(&self, node: &NodeId, topic: NodeTopic) -> String {
        self.topic(Kind::Node(node.clone(), topic))
    }

    /// The record of a node, which is in the group.
    pub(crate) fn record(&self, node: &NodeId) -> Vec<u8> {
        let record = Record {
            head: self.forge.head(),
            node: node.clone(),
            seq: Seq(1),
            key: key(node).public(),
            groups: [self.group.clone()].into(),
            labels: [].into(),
            status: RecordStatus::Active,
            login: None,
            env: std::collections::BTreeMap::new(),
        };
        Signed::seal(&record, slice::from_ref(&self.forge.ops_key)).to_bytes()
    }

    /// A node's report.
    pub(crate) fn report(&self, node: &NodeId, seq: u64, apps: Vec<AppReport>) -> Vec<u8> {
        let report = Report {
            head: self.forge.head(),
            node: node.clone(),
            boot: 1,
            seq: Seq(seq),
            root_version: 1,
            clock_unset: false,
            apps,
            refusals: Vec::new(),
        };
        Signed::seal(&report, &[key(node)]).to_bytes()
    }

    /// A rollout of a release, which these controllers are to carry out.
    pub(crate) fn planned(
        &self,
        stages: &str,
        release: &Release,
        first: Revision,
        keys: Vec<PublicKey>,
    ) -> Planned {
        let release = Signed::seal(release, slice::from_ref(&self.forge.release_key));
        let mandate = Mandate {
            head: self.forge.head(),
            app: self.app.clone(),
            groups: vec![self.group.clone()],
            release: release.digest(),
            keys,
            first,
            last: Revision(first.0 + REVISIONS),
            expires: now().plus_secs(DAY_SECS),
        };
        let rollout = Rollout {
            head: self.forge.head(),
            app: self.app.clone(),
            first,
            seq: Seq(1),
            plan: format!("app = \"{}\"\n{stages}", self.app),
            wish: Wish::Run,
            approved: 0,
            acknowledged: Vec::new(),
            not_before: UnixTime(0),
        };
        let ops = slice::from_ref(&self.forge.ops_key);
        Planned { rollout: Signed::seal(&rollout, ops), mandate: Signed::seal(&mandate, ops), release }
    }
}

/// The seed of a node's key.
pub(crate) fn seed(node: &NodeId) -> Digest {
    Digest::of(node.as_str().as_bytes())
}

/// The key of a node.
pub(crate) fn key(node: &NodeId) -> SecretKey {
    SecretKey::from_seed(&seed(node).0)
}
