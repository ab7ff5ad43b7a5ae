//! What the controller knows of the fleet, as far as it is measured. Pure.

use std::collections::BTreeSet;

use rollout::{Fleet, Node};
use schemas::{
    id::{AppId, GroupId, NodeId},
    record::{Record, RecordStatus},
    status::{Phase, Rollout},
    time::UnixTime,
};

use crate::mirrors::{AppMirror, Mirrors, NodeMirror};

/// Longest text of a node that becomes a label.
const MAX_LABEL_CHARS: usize = 64;

/// What is known at a time.
#[derive(Debug, Default)]
pub(crate) struct FleetFacts {
    pub(super) nodes: Vec<NodeFacts>,
    pub(super) rollouts: Vec<Rollout>,
    /// What is ordered for whom.
    pub(super) ordered: BTreeSet<(AppId, GroupId)>,
}

/// A node that belongs to the fleet.
#[derive(Debug)]
pub(super) struct NodeFacts {
    pub(super) node: NodeId,
    pub(super) kind: String,
    pub(super) via: String,
    pub(super) groups: String,
    pub(super) is_up: bool,
    pub(super) last_seen: Option<UnixTime>,
    pub(super) healthy: Option<bool>,
    pub(super) disk_free_bytes: Option<u64>,
    pub(super) engine_free_bytes: Option<u64>,
    pub(super) temperature_c: Option<f64>,
    pub(super) apps: Vec<AppFacts>,
}

/// An app on a node.
#[derive(Debug)]
pub(super) struct AppFacts {
    pub(super) app: AppId,
    pub(super) version: String,
    pub(super) group: String,
    pub(super) phase: Option<Phase>,
    pub(super) progress_ratio: Option<f64>,
}

impl FleetFacts {
    /// What `fleet` and `mirrors` know.
    pub(crate) fn of(fleet: &Fleet, mirrors: &Mirrors) -> Self {
        let nothing = NodeMirror::default();
        let nodes = fleet.nodes().iter().filter_map(|(name, node)| {
            let record = node.record().filter(|record| record.status == RecordStatus::Active)?;
            Some(NodeFacts::of(node, record, mirrors.nodes().get(name).unwrap_or(&nothing)))
        });
        let orders = fleet.believed_orders().map(|ordered| &ordered.announced.order);
        Self {
            nodes: nodes.collect(),
            rollouts: mirrors.rollouts().values().cloned().collect(),
            ordered: orders.map(|order| (order.app.clone(), order.group.clone())).collect(),
        }
    }
}

impl NodeFacts {
    fn of(node: &Node, record: &Record, mirror: &NodeMirror) -> Self {
        let groups: Vec<&str> = record.groups.iter().map(GroupId::as_str).collect();
        let reported_at = node.report().map_or(UnixTime(0), |report| report.head.issued_at);
        let info = |text: fn(&schemas::status::Info) -> &String| {
            mirror.info.as_ref().map(|info| label(text(info))).unwrap_or_default()
        };
        Self {
            node: record.node.clone(),
            kind: info(|info| &info.kind),
            via: info(|info| &info.via),
            groups: groups.join(","),
            is_up: node.online() == Some(true),
            last_seen: Some(mirror.heard_at.max(reported_at)).filter(|at| at.0 > 0),
            healthy: mirror.health.as_ref().map(|health| health.ok),
            disk_free_bytes: mirror.health.as_ref().map(|health| health.disk_free_bytes),
            engine_free_bytes: mirror.health.as_ref().and_then(|health| health.engine_free_bytes),
            temperature_c: mirror.health.as_ref().and_then(|health| health.temperature_c),
            apps: mirror.apps.iter().map(|(app, mirror)| AppFacts::of(app, mirror)).collect(),
        }
    }
}

impl AppFacts {
    fn of(app: &AppId, AppMirror { version, status }: &AppMirror) -> Self {
        let text = |text: fn(&schemas::status::Version) -> &String| {
            version.as_ref().map(|version| label(text(version))).unwrap_or_default()
        };
        Self {
            app: app.clone(),
            version: text(|version| &version.installed),
            group: text(|version| &version.group),
            phase: status.as_ref().map(|status| status.phase),
            progress_ratio: status.as_ref().map(|status| status.progress_ratio),
        }
    }
}

fn label(text: &str) -> String {
    text.chars().take(MAX_LABEL_CHARS).collect()
}
