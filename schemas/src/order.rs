//! The order: a signed instruction to a group, and which of several orders a node obeys.

use serde::{Deserialize, Serialize};

use crate::{
    id::{AppId, Digest, GroupId, NodeId, Revision},
    root::Role,
    seal::{Document, Head, RoleDocument},
    time::UnixTime,
};

/// Clocks may differ so much before an order counts as too early or too late.
pub const CLOCK_SLACK_SECS: u64 = 600;

/// This release, for this group and audience, in this state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// What every document has in common.
    pub head: Head,
    /// The app it is about.
    pub app: AppId,
    /// Whom it is for; also the topic that it is published on.
    pub group: GroupId,
    /// Rises per fleet: the highest one that applies to a node is the one it obeys.
    pub revision: Revision,
    /// Digest of the release document.
    pub release: Digest,
    /// Which nodes of the group.
    pub audience: Audience,
    /// What is to be done.
    pub state: OrderState,
    /// How carefully.
    #[serde(default)]
    pub policy: Policy,
    /// Nodes wait for this time.
    #[serde(default)]
    pub not_before: UnixTime,
    /// Nothing new is begun from then on; what has begun goes on.
    pub expires: UnixTime,
    /// The first order of the series that this one belongs to, about the same release: what a node has ended since then
    /// is not begun again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Revision>,
}

/// Which nodes of a group an order is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Every node.
    All,
    /// These nodes.
    Nodes(Vec<NodeId>),
    /// A share of the nodes; a node's place is a digest of salt and name.
    Share {
        /// Thousandths of the group.
        permille: u16,
        /// Another salt picks other nodes.
        salt: String,
    },
}

/// Where a node has its place among all that a share may be of: the lowest places are in the smallest share.
pub fn place_in_share(salt: &str, node: &NodeId) -> Digest {
    Digest::of(format!("{salt}\0{node}").as_bytes())
}

impl Audience {
    /// Whether `node` is one of them.
    pub fn includes(&self, node: &NodeId) -> bool {
        match self {
            Self::All => true,
            Self::Nodes(nodes) => nodes.contains(node),
            Self::Share { permille, salt } => {
                let place = place_in_share(salt, node);
                u32::from(u16::from_be_bytes([place.0[0], place.0[1]])) * 1_000
                    < u32::from(*permille) * 0x1_0000
            }
        }
    }
}

/// What is to be done about the release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrderState {
    /// Run it.
    Active,
    /// Start nothing new, finish what has begun.
    Paused,
    /// Forget it; with `revert` go back to what ran before.
    Withdrawn {
        /// Go back where it was kept already.
        revert: bool,
    },
}

/// How carefully an order is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Nodes begin at a place of their own within so much time.
    #[serde(default)]
    pub jitter_ms: u64,
    /// Nodes wait neither for their maintenance window nor for consent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub urgent: bool,
}

impl Document for Order {
    const TYPE: &'static str = "order";
    const MAX_BYTES: usize = 64 * 1024;

    fn head(&self) -> &Head {
        &self.head
    }
}

impl RoleDocument for Order {
    const ROLE: Role = Role::Ops;
}

impl Order {
    /// The first order of its series, which is itself when it continues none.
    pub fn first(&self) -> Revision {
        self.continues.map_or(self.revision, |first| first.min(self.revision))
    }

    /// Whether it is too late to begin with it.
    pub fn is_expired(&self, now: UnixTime) -> bool {
        now > self.expires.plus_secs(CLOCK_SLACK_SECS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_about_so_many_nodes_and_only_adds_when_it_grows() {
        let nodes: Vec<NodeId> = (0..2_000).map(|n| format!("pi-{n}").parse().unwrap()).collect();
        let share = |permille| Audience::Share { permille, salt: "s".into() };
        let chosen = |permille: u16| nodes.iter().filter(move |n| share(permille).includes(n)).count();
        assert_eq!((chosen(0), chosen(1_000), chosen(u16::MAX)), (0, 2_000, 2_000));
        assert!((400..600).contains(&chosen(250)), "{}", chosen(250));
        assert!(nodes.iter().all(|n| !share(100).includes(n) || share(300).includes(n)));
    }
}
