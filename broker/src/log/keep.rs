//! What is deleted: the oldest entries, and never one from the middle. The last digest of them stays, and so the rest verifies.

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use schemas::time::UnixTime;

use super::database::int;
use crate::settings::LogSettings;

/// Most entries that are deleted in one go: others wait for that, and a clock that is wrong for an hour does little harm.
const MAX_AT_ONCE: i64 = 2_000;
/// How many of the deleted entries of a node's app are remembered. A report has four outcomes of each app and eight
/// refusals.
const KNOWN_EACH: i64 = 32;

/// Deletes what is older than the settings say, or too much, and says how many entries that were.
pub(super) fn prune(
    connection: &mut Connection,
    settings: &LogSettings,
    now: UnixTime,
) -> rusqlite::Result<i64> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let ends = "SELECT min(seq), max(seq) FROM entries";
    let ends = transaction.query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)): (Option<i64>, Option<i64>) = ends else { return Ok(0) };
    let horizon = now.minus_secs(settings.keep.as_secs());
    let young = "SELECT seq FROM entries WHERE at >= ?1 ORDER BY seq LIMIT 1";
    let young: Option<i64> = transaction.query_row(young, [int(horizon.0)], |row| row.get(0)).optional()?;
    let few = last.saturating_add(1).saturating_sub(int(settings.entries));
    let stays = young.unwrap_or(last + 1).max(few).min(first + MAX_AT_ONCE);
    if stays <= first {
        return Ok(0);
    }
    delete_before(&transaction, stays)?;
    transaction.commit()?;
    Ok(stays - first)
}

fn delete_before(transaction: &Transaction<'_>, stays: i64) -> rusqlite::Result<()> {
    let steps = [
        "UPDATE anchor SET seq = ?1 - 1, digest = (SELECT digest FROM entries WHERE seq = ?1 - 1)",
        "INSERT INTO known SELECT once, node, app, seq FROM entries WHERE seq < ?1 AND once IS NOT NULL",
        "DELETE FROM entries WHERE seq < ?1",
    ];
    for step in steps {
        transaction.execute(step, [stays])?;
    }
    let forget = "DELETE FROM known WHERE once IN (SELECT once FROM
        (SELECT once, row_number() OVER (PARTITION BY node, app ORDER BY seq DESC) AS age FROM known)
        WHERE age > ?1)";
    transaction.execute(forget, params![KNOWN_EACH]).map(drop)
}
