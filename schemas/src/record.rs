//! The node record: what ops says about a node.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    id::{Digest, GroupId, NodeId, PublicKey, Seq},
    root::Role,
    seal::{Document, Head, RoleDocument},
};

/// Key, groups and labels of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What every document has in common.
    pub head: Head,
    /// The node.
    pub node: NodeId,
    /// Rises with every record of the node.
    pub seq: Seq,
    /// The key that signs its reports.
    pub key: PublicKey,
    /// The groups whose orders it obeys.
    pub groups: BTreeSet<GroupId>,
    /// What people say about it, as in `site=barn`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether it still belongs to the fleet.
    pub status: RecordStatus,
    /// SHA-256 of the token by which it logs in to the relay; a token has 256 random bits, so this gives nothing away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Digest>,
    /// The environment of its apps, checks and hooks: above what a release and the node's own settings say.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
}

/// Whether a node belongs to the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordStatus {
    /// It does.
    Active,
    /// It was retired.
    Revoked,
}

impl Document for Record {
    const TYPE: &'static str = "record";
    const MAX_BYTES: usize = 16 * 1024;

    fn head(&self) -> &Head {
        &self.head
    }
}

impl RoleDocument for Record {
    const ROLE: Role = Role::Ops;
}
