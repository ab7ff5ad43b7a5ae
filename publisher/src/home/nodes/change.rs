//! The environment that ops says for a node's apps: a part of its record.

use std::collections::BTreeMap;

use anyhow::Result;
use schemas::{
    id::NodeId,
    record::{Record, RecordStatus},
    root::Role,
    seal::{Document as _, Head, Signed},
    time::UnixTime,
};

use super::{Home, Kept};
use crate::problem::problem;

impl Home {
    /// Signs another record with a changed environment; none when nothing changes.
    pub(crate) fn change_env(
        &self,
        name: &NodeId,
        change: impl FnOnce(&mut BTreeMap<String, String>),
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
        let mut env = before.record.env.clone();
        change(&mut env);
        if env == before.record.env {
            return Ok(None);
        }
        let seq = before.record.seq.next(now.0);
        let head = Head::new(self.settings.fleet.clone(), now);
        let record = Record { head, seq, env, ..before.record.into_inner() };
        let signed = Signed::seal(&record, &[self.key(Role::Ops)?]);
        if signed.to_bytes().len() > Record::MAX_BYTES {
            return Err(problem(
                format!("the environment of {name} is too large for its record"),
                "put what is large into a file of the release",
            ));
        }
        self.keep_record(name, &signed).map(Some)
    }
}
