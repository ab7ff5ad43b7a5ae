//! Reading.

use rusqlite::{Connection, params_from_iter, types::Value};
use schemas::{
    codec,
    deploy_log::{Chained, Entry, FORMAT, MAX_PAGE, Page, Query, Row, State},
    id::Digest,
};
use serde::Serialize;

use super::{
    database::{int, number},
    insert,
};

/// An entry is at most a report's outcome with some names around it.
const MAX_ENTRY_BYTES: usize = 128 * 1024;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The entries, in the direction that was asked for.
    pub entries: Vec<Chained>,
    /// Where to go on, for [`Query::after`].
    pub next: u64,
    /// Whether there is more already.
    pub more: bool,
}

impl From<Found> for Page {
    fn from(found: Found) -> Self {
        let entries = found.entries.into_iter().map(Row::from).collect();
        Self { entries, next: found.next, more: found.more }
    }
}

/// A node that was there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SeenNode {
    /// Its name.
    pub node: String,
    /// When it was there last, as RFC 3339.
    pub last_seen: String,
}

/// The entries that are wanted.
pub(super) fn entries(connection: &Connection, query: &Query) -> rusqlite::Result<Found> {
    let limit = query.limit.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let (text, values) = statement(query, limit);
    let mut statement = connection.prepare(&text)?;
    let rows = statement.query_map(params_from_iter(values), |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut entries = Vec::new();
    for row in rows {
        let (bytes, digest): (Vec<u8>, [u8; 32]) = row?;
        entries.push(Chained { entry: decode(&bytes)?, digest: Digest(digest) });
    }
    let more = entries.len() > limit as usize;
    entries.truncate(limit as usize);
    let next = entries.last().map_or(query.after.unwrap_or_default(), |link| link.entry.seq);
    Ok(Found { entries, next, more })
}

/// One more than the limit is asked for: then there is more.
fn statement(query: &Query, limit: u32) -> (String, Vec<Value>) {
    let mut conditions = vec!["true".to_owned()];
    let mut values = Vec::new();
    let mut add = |condition: &str, value: Value| {
        values.push(value);
        conditions.push(format!("{condition} ?{}", values.len()));
    };
    let names = [
        ("node =", query.node.as_ref().map(ToString::to_string)),
        ("app =", query.app.as_ref().map(ToString::to_string)),
        ("\"group\" =", query.group.as_ref().map(ToString::to_string)),
    ];
    for (condition, name) in names {
        if let Some(name) = name {
            add(condition, name.into());
        }
    }
    let behind = if query.newest { "seq <" } else { "seq >" };
    let numbers = [
        ("at >=", query.since.map(|since| since.0)),
        ("at <", query.until.map(|until| until.0)),
        (behind, query.after.filter(|after| *after > 0 || !query.newest)),
    ];
    for (condition, bound) in numbers {
        if let Some(bound) = bound {
            add(condition, int(bound).into());
        }
    }
    if !query.what.0.is_empty() {
        // The names are this program's own.
        let names: Vec<_> = query.what.0.iter().map(|what| format!("'{what}'")).collect();
        conditions.push(format!("what IN ({})", names.join(", ")));
    }
    let (order, conditions) = (if query.newest { "DESC" } else { "ASC" }, conditions.join(" AND "));
    let text = format!(
        "SELECT entry, digest FROM entries WHERE {conditions} ORDER BY seq {order} LIMIT {}",
        limit + 1
    );
    (text, values)
}

fn decode(bytes: &[u8]) -> rusqlite::Result<Entry> {
    codec::decode(bytes, MAX_ENTRY_BYTES).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, error.into())
    })
}

/// Where the log begins and ends.
pub(super) fn state(connection: &Connection) -> rusqlite::Result<State> {
    let (head, anchor) = (insert::head(connection)?, insert::anchor(connection)?);
    Ok(State {
        format: FORMAT,
        seq: head.seq,
        digest: head.digest,
        anchor_seq: anchor.seq,
        anchor_digest: anchor.digest,
    })
}

/// When each node was there last.
pub(super) fn nodes(connection: &Connection) -> rusqlite::Result<Vec<SeenNode>> {
    let mut statement = connection.prepare("SELECT node, last_seen FROM nodes ORDER BY node")?;
    let rows = statement.query_map([], |row| {
        let last_seen = schemas::time::UnixTime(number(row.get(1)?)).to_string();
        Ok(SeenNode { node: row.get(0)?, last_seen })
    })?;
    rows.collect()
}

/// How SQLite goes about a query.
#[cfg(test)]
pub(super) fn plan(connection: &Connection, query: &Query) -> rusqlite::Result<String> {
    let (text, values) = statement(query, MAX_PAGE);
    let mut statement = connection.prepare(&format!("EXPLAIN QUERY PLAN {text}"))?;
    let steps = statement.query_map(params_from_iter(values), |row| row.get::<_, String>(3))?;
    Ok(steps.collect::<Result<Vec<_>, _>>()?.join("\n"))
}
