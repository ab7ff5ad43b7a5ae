//! One transaction of the writer.

use std::collections::{BTreeMap, BTreeSet};

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
    outbox::{self, Fate},
};
use crate::notify::Subscriptions;

const IS_KNOWN: &str = "SELECT 1 FROM entries WHERE once = ?1 UNION ALL SELECT 1 FROM known WHERE once = ?1";
const INSERT: &str = "INSERT INTO entries VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
const PUT_NODE: &str = "INSERT INTO nodes VALUES (?1, ?2)
    ON CONFLICT (node) DO UPDATE SET last_seen = max(last_seen, excluded.last_seen)";

/// When nodes were there last.
pub(super) type Seen = BTreeMap<NodeId, UnixTime>;

/// What is to be written in one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) drafts: Vec<Draft>,
    pub(super) seen: Seen,
    /// What was decided about parcels.
    pub(super) fates: Vec<(i64, Fate)>,
    /// Whose parcels alone are kept.
    pub(super) receivers: Option<BTreeSet<String>>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.seen.is_empty() && !self.has_more_than_seen()
    }

    /// Whether there is something that does not wait.
    pub(super) fn has_more_than_seen(&self) -> bool {
        !self.drafts.is_empty() || !self.fates.is_empty() || self.receivers.is_some()
    }
}

/// Drops the drafts that are in the log already: a report says for days how its last orders ended.
pub(super) fn drop_known(connection: &Connection, drafts: &mut Vec<Draft>) -> rusqlite::Result<()> {
    if drafts.is_empty() {
        return Ok(());
    }
    let mut is_known = connection.prepare(IS_KNOWN)?;
    let known = drafts.iter().map(|draft| draft.once.map_or(Ok(false), |once| is_known.exists([once.0])));
    let mut known = known.collect::<rusqlite::Result<Vec<bool>>>()?.into_iter();
    drafts.retain(|_| known.next() != Some(true));
    Ok(())
}

/// What was written.
#[derive(Debug)]
pub(super) struct Written {
    /// The new end of the chain.
    pub(super) head: Head,
    /// So many parcels are new.
    pub(super) parcels: u64,
    /// The entries that are new, by their places in the batch.
    pub(super) entries: Vec<usize>,
}

/// Writes all of it or nothing.
pub(super) fn write(
    connection: &mut Connection,
    head: Head,
    batch: &Batch,
    subscriptions: &Subscriptions,
) -> rusqlite::Result<Written> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let written = insert_new(&transaction, head, &batch.drafts, subscriptions)?;
    let mut put_node = transaction.prepare(PUT_NODE)?;
    for (node, at) in &batch.seen {
        put_node.execute(params![node.as_str(), int(at.0)])?;
    }
    drop(put_node);
    for (parcel, fate) in &batch.fates {
        outbox::settle(&transaction, *parcel, *fate)?;
    }
    if let Some(receivers) = &batch.receivers {
        outbox::keep_only(&transaction, receivers)?;
    }
    transaction.commit()?;
    Ok(written)
}

fn insert_new(
    transaction: &Transaction<'_>,
    head: Head,
    drafts: &[Draft],
    subscriptions: &Subscriptions,
) -> rusqlite::Result<Written> {
    let (mut is_known, mut insert) = (transaction.prepare(IS_KNOWN)?, transaction.prepare(INSERT)?);
    let mut written = Written { head, parcels: 0, entries: Vec::new() };
    for (place, Draft { entry, once }) in drafts.iter().enumerate() {
        let once = once.map(|once| once.0);
        if once.is_some() && is_known.exists([once])? {
            continue;
        }
        let link = written.head.next(entry.clone());
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
        written.parcels += outbox::put(transaction, subscriptions, &link)?;
        written.head = link.head();
        written.entries.push(place);
    }
    Ok(written)
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
