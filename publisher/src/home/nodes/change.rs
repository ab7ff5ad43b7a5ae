//! What ops changes of a node's record: its groups, its labels, the environment of its apps.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use schemas::{
    id::{GroupId, NodeId},
    record::{Record, RecordStatus},
    root::Role,
    seal::{Document as _, Head, Signed},
    time::UnixTime,
};

use super::{Home, Kept};
use crate::problem::problem;

/// What can be changed of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Changeable {
    pub(crate) groups: BTreeSet<GroupId>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Environment of the node's apps.
    pub(crate) env: BTreeMap<String, String>,
}

impl Home {
    /// Signs another record with what is changed; none when nothing changes.
    pub(crate) fn change_node(
        &self,
        name: &NodeId,
        change: impl FnOnce(&mut Changeable),
        now: UnixTime,
    ) -> Result<Option<Kept>> {
        let _lock = self.lock()?;
        let known = self.nodes()?.into_iter().find(|known| known.record.node == *name);
        let Some(before) = known.filter(|known| known.record.status == RecordStatus::Active) else {
            return Err(problem(
                format!("no node {name} was added here"),
                "see the nodes with `publisher node list`",
            ));
        };
        let Record { groups, labels, env, .. } = &*before.record;
        let had = Changeable { groups: groups.clone(), labels: labels.clone(), env: env.clone() };
        let mut wanted = had.clone();
        change(&mut wanted);
        if wanted == had {
            return Ok(None);
        }
        let Changeable { groups, labels, env } = wanted;
        let seq = before.record.seq.next(now.0);
        let head = Head::new(self.settings.fleet.clone(), now);
        let record = Record { head, seq, groups, labels, env, ..before.record.into_inner() };
        let signed = Signed::seal(&record, &[self.key(Role::Ops)?]);
        if signed.to_bytes().len() > Record::MAX_BYTES {
            return Err(problem(
                format!("what is said about {name} is too large for its record"),
                "put what is large into a file of the release",
            ));
        }
        self.keep_record(name, &signed).map(Some)
    }
}
