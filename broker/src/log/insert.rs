//! One transaction of the writer.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use schemas::{
    codec,
    deploy_log::{Chained, Head},
    id::{AppId, Digest, GroupId, NodeId},
    time::UnixTime,
};

use super::{
    Draft,
    database::{int, number},
};

const IS_KNOWN: &str = "SELECT 1 FROM entries WHERE once = ?1 UNION ALL SELECT 1 FROM known WHERE once = ?1";
const INSERT: &str = "INSERT INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const PUT_NODE: &str = "INSERT INTO nodes VALUES (?1, ?2)
    ON CONFLICT (node) DO UPDATE SET last_seen = max(last_seen, excluded.last_seen)";

/// When nodes were there last.
pub(super) type Seen = BTreeMap<NodeId, UnixTime>;

/// Writes all of it or nothing, and gives the new end of the chain.
pub(super) fn write<'a>(
    connection: &mut Connection,
    head: Head,
    drafts: impl Iterator<Item = &'a Draft>,
    seen: &Seen,
) -> rusqlite::Result<Head> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let end = insert_new(&transaction, head, drafts)?;
    let mut put_node = transaction.prepare(PUT_NODE)?;
    for (node, at) in seen {
        put_node.execute(params![node.as_str(), int(at.0)])?;
    }
    drop(put_node);
    transaction.commit()?;
    Ok(end)
}

fn insert_new<'a>(
    transaction: &Transaction<'_>,
    head: Head,
    drafts: impl Iterator<Item = &'a Draft>,
) -> rusqlite::Result<Head> {
    let (mut is_known, mut insert) = (transaction.prepare(IS_KNOWN)?, transaction.prepare(INSERT)?);
    let mut end = head;
    for Draft { entry, once } in drafts {
        let once = once.map(|once| once.0);
        if once.is_some() && is_known.exists([once])? {
            continue;
        }
        let link = end.next(entry.clone());
        let Chained { entry, digest } = &link;
        insert.execute(params![
            int(entry.seq),
            int(entry.at.0),
            entry.what.name(),
            entry.node.as_ref().map(NodeId::as_str),
            entry.app.as_ref().map(AppId::as_str),
            entry.group.as_ref().map(GroupId::as_str),
            once,
            codec::encode(entry),
            digest.0,
        ])?;
        end = link.head();
    }
    Ok(end)
}

/// The last entry; the last that was deleted when there is none.
pub(super) fn head(connection: &Connection) -> rusqlite::Result<Head> {
    let text = "SELECT seq, digest FROM entries ORDER BY seq DESC LIMIT 1";
    match connection.query_row(text, [], head_of).optional()? {
        Some(head) => Ok(head),
        None => anchor(connection),
    }
}

/// The last entry that was deleted; the beginning when none was.
pub(super) fn anchor(connection: &Connection) -> rusqlite::Result<Head> {
    connection.query_row("SELECT seq, digest FROM anchor", [], head_of)
}

fn head_of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head { seq: number(row.get(0)?), digest: Digest(row.get(1)?) })
}
