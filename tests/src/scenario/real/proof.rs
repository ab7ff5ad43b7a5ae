//! That the witness heard right: the deploy log, which the broker writes from signed reports alone, says the same.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Result, bail};
use schemas::{
    deploy_log::{Row, What},
    status::EventType,
};

use super::Real;
use crate::{
    World,
    timeline::{self, Line, Voice},
    wait_until,
};

/// The log is written by itself, behind what happens.
const PATIENCE: Duration = Duration::from_secs(20);
/// More entries than any scenario makes.
const LIMIT: &str = "10000";

/// `publisher log --json`
fn log(world: &World) -> Result<Vec<Row>> {
    let said = world.publisher(&["log", "--json", "--limit", LIMIT])?.expect(0)?.stdout;
    said.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

impl Real<'_> {
    /// Compares what was heard with what was written down, and verifies the log.
    pub(super) fn compare_with_log(&self) -> Result<()> {
        let heard =
            count(self.witness.timeline.iter().filter(|line| is_logged(line)).map(|line| line.text.clone()));
        let mut written = BTreeMap::new();
        let is_same = wait_until("the deploy log to say what was heard", PATIENCE, || {
            let rows = log(&self.cast.world).ok()?;
            written = count(rows.iter().filter(|row| row.revision > self.witness.before.0).filter_map(text));
            (written == heard).then_some(())
        });
        if is_same.is_err() {
            let only = |some: &BTreeMap<String, usize>, others: &BTreeMap<String, usize>| {
                let only = some.iter().filter(|(text, count)| others.get(*text) != Some(count));
                only.map(|(text, count)| format!("`{text}` {count} times")).collect::<Vec<_>>().join(", ")
            };
            bail!(
                "the deploy log has {}, and the bus said {}",
                only(&written, &heard),
                only(&heard, &written)
            );
        }
        self.cast.world.publisher(&["log", "verify"])?.expect(0).map(drop)
    }
}

fn count(texts: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    texts.for_each(|text| *counts.entry(text).or_default() += 1);
    counts
}

/// Whether the log has such an entry: neither orders nor waves, and only the end of what a node does.
fn is_logged(line: &Line) -> bool {
    match line.voice {
        Voice::Player | Voice::Order(_) => false,
        Voice::Rollout(..) => !line.text.starts_with("wave "),
        Voice::Node(_) => !timeline::is_begin(&line.text),
    }
}

/// The same in the words of a timeline.
fn text(row: &Row) -> Option<String> {
    let event = match row.what {
        What::Installed => EventType::Kept,
        What::RolledBack => EventType::RolledBack,
        What::Failed => EventType::Failed,
        What::Refused => EventType::Refused,
        What::Superseded => EventType::Superseded,
        What::NodeAdded | What::NodeRetired => return None,
        what => return Some(timeline::of_rollout(what.name(), &row.text)),
    };
    let node = row.node.parse().ok()?;
    Some(timeline::of_node(&node, &row.app, &row.version, event, &row.reason))
}
