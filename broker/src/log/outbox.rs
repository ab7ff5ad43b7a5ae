//! Notices on their way to receivers, beside the entries that they are about: both are there or neither.

use std::collections::BTreeSet;

use rusqlite::{Connection, Transaction, params};
use schemas::deploy_log::Chained;
use tracing::info;

use super::database::{int, number};
use crate::notify::Subscriptions;

/// Most notices that are read at once.
const MAX_AT_ONCE: u32 = 16;

/// A notice for one receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parcel {
    pub(crate) number: i64,
    pub(crate) id: String,
    pub(crate) body: Vec<u8>,
    pub(crate) made_ms: u64,
    /// How often it was tried.
    pub(crate) attempts: u32,
}

/// What becomes of a parcel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was delivered or given up.
    Gone,
    /// It is tried again then.
    Later(u64),
}

/// Puts the notice about a new entry into the outbox, and says for how many receivers.
pub(super) fn put(
    transaction: &Transaction<'_>,
    subscriptions: &Subscriptions,
    link: &Chained,
) -> rusqlite::Result<u64> {
    let Some((notice, urls)) = subscriptions.parcels(link) else { return Ok(0) };
    let body =
        serde_json::to_vec(&notice).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let text = "INSERT INTO outbox (url, id, body, made_ms, due_ms, attempts) VALUES (?1, ?2, ?3, ?4, ?4, 0)";
    let made = int(link.entry.at.0).saturating_mul(1_000);
    for url in &urls {
        transaction.execute(text, params![url, notice.id, body, made])?;
    }
    Ok(urls.len() as u64)
}

/// Carries out what was decided about a parcel.
pub(super) fn settle(transaction: &Transaction<'_>, parcel: i64, fate: Fate) -> rusqlite::Result<()> {
    match fate {
        Fate::Gone => transaction.execute("DELETE FROM outbox WHERE number = ?1", [parcel])?,
        Fate::Later(due) => {
            let text = "UPDATE outbox SET due_ms = ?2, attempts = attempts + 1 WHERE number = ?1";
            transaction.execute(text, [parcel, int(due)])?
        }
    };
    Ok(())
}

/// Drops what is for receivers that nobody names any more.
pub(super) fn keep_only(transaction: &Transaction<'_>, urls: &BTreeSet<String>) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare("SELECT DISTINCT url FROM outbox")?;
    let found: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for url in found.iter().filter(|url| !urls.contains(*url)) {
        let notices = transaction.execute("DELETE FROM outbox WHERE url = ?1", [url])?;
        info!(notices, "notices dropped: their webhook is in the settings no more");
    }
    Ok(())
}

/// What is due for a receiver, oldest first.
pub(super) fn due(connection: &Connection, url: &str, now_ms: u64) -> rusqlite::Result<Vec<Parcel>> {
    let text = "SELECT number, id, body, made_ms, attempts FROM outbox
        WHERE url = ?1 AND due_ms <= ?2 ORDER BY number LIMIT ?3";
    let mut statement = connection.prepare(text)?;
    let parcels = statement.query_map(params![url, int(now_ms), MAX_AT_ONCE], |row| {
        Ok(Parcel {
            number: row.get(0)?,
            id: row.get(1)?,
            body: row.get(2)?,
            made_ms: number(row.get(3)?),
            attempts: row.get(4)?,
        })
    })?;
    parcels.collect()
}

/// When something is due for a receiver.
pub(super) fn next_due(connection: &Connection, url: &str) -> rusqlite::Result<Option<u64>> {
    let text = "SELECT min(due_ms) FROM outbox WHERE url = ?1";
    let due: Option<i64> = connection.query_row(text, [url], |row| row.get(0))?;
    Ok(due.map(number))
}
