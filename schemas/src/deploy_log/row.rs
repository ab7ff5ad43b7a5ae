//! An entry as JSON: every key is always there, nothing is null, times are RFC 3339.

use serde::{Deserialize, Serialize};

use super::{Chained, Entry, What};
use crate::{
    id::{Counter, Digest, Revision},
    reason::Reason,
    time::UnixTime,
};

/// One row of the log for people and tools. What does not apply is empty or 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Its place in the log, from 1.
    pub seq: u64,
    /// When the broker wrote it.
    pub at: String,
    /// What happened.
    pub what: What,
    /// To which node.
    pub node: String,
    /// To which app.
    pub app: String,
    /// In which group.
    pub group: String,
    /// The release's version.
    pub version: String,
    /// The release's counter.
    pub counter: u64,
    /// The commit that it was made from.
    pub commit: String,
    /// How it was installed.
    pub strategy: String,
    /// The order's revision.
    pub revision: u64,
    /// Digest of the release document.
    pub release: String,
    /// When it began.
    pub started_at: String,
    /// When it ended.
    pub ended_at: String,
    /// How long it took.
    pub took_ms: u64,
    /// Bytes that were fetched for it.
    pub fetched_bytes: u64,
    /// Requests that this took.
    pub requests: u32,
    /// Why it did not go well.
    pub reason: String,
    /// An honest bus never shows this.
    pub attack: bool,
    /// The reason for people.
    pub text: String,
    /// Last lines of the hook or the app.
    pub log_tail: Vec<String>,
    /// Digest of this entry and all before it.
    pub digest: Digest,
}

/// A row that says something that no log does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} has a wrong `{key}`")]
pub struct InvalidRow {
    /// The entry's place.
    pub seq: u64,
    /// The key whose value is wrong.
    pub key: &'static str,
}

impl From<Chained> for Row {
    fn from(Chained { entry, digest }: Chained) -> Self {
        fn text(value: Option<impl ToString>) -> String {
            value.map(|value| value.to_string()).unwrap_or_default()
        }
        Self {
            seq: entry.seq,
            at: entry.at.to_string(),
            what: entry.what,
            node: text(entry.node),
            app: text(entry.app),
            group: text(entry.group),
            version: entry.version,
            counter: entry.counter.0,
            commit: entry.commit,
            strategy: entry.strategy,
            revision: entry.revision.0,
            release: text(entry.release),
            started_at: text(entry.started_at),
            ended_at: text(entry.ended_at),
            took_ms: entry.took_ms,
            fetched_bytes: entry.fetched_bytes,
            requests: entry.requests,
            reason: text(entry.reason),
            attack: entry.attack,
            text: entry.text,
            log_tail: entry.log_tail,
            digest,
        }
    }
}

impl TryFrom<Row> for Chained {
    type Error = InvalidRow;

    fn try_from(row: Row) -> Result<Self, InvalidRow> {
        let seq = row.seq;
        let wrong = |key| InvalidRow { seq, key };
        let time = |key, text: &str| optional::<UnixTime>(text).map_err(|()| wrong(key));
        let entry = Entry {
            seq,
            at: time("at", &row.at)?.ok_or_else(|| wrong("at"))?,
            what: row.what,
            node: optional(&row.node).map_err(|()| wrong("node"))?,
            app: optional(&row.app).map_err(|()| wrong("app"))?,
            group: optional(&row.group).map_err(|()| wrong("group"))?,
            version: row.version,
            counter: Counter(row.counter),
            commit: row.commit,
            strategy: row.strategy,
            revision: Revision(row.revision),
            release: optional(&row.release).map_err(|()| wrong("release"))?,
            started_at: time("started_at", &row.started_at)?,
            ended_at: time("ended_at", &row.ended_at)?,
            took_ms: row.took_ms,
            fetched_bytes: row.fetched_bytes,
            requests: row.requests,
            reason: (!row.reason.is_empty()).then(|| reason(&row.reason)),
            attack: row.attack,
            text: row.text,
            log_tail: row.log_tail,
        };
        Ok(Self { entry, digest: row.digest })
    }
}

/// A value, unless there is none.
fn optional<T: std::str::FromStr>(text: &str) -> Result<Option<T>, ()> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(drop) }
}

/// A code of a newer version is read as unknown, as everywhere.
fn reason(code: &str) -> Reason {
    Reason::ALL.iter().copied().find(|reason| reason.code() == code).unwrap_or(Reason::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deploy_log::{Head, verify};

    fn full() -> Entry {
        Entry {
            seq: 1,
            at: UnixTime(1_795_240_003),
            what: What::RolledBack,
            node: Some("pi-1".parse().unwrap()),
            app: Some("web".parse().unwrap()),
            group: Some("canary".parse().unwrap()),
            version: "1.1.0".into(),
            counter: Counter(9),
            commit: "0123abc".into(),
            strategy: String::new(),
            revision: Revision(50),
            release: Some(Digest::of(b"release")),
            started_at: Some(UnixTime(1_795_239_990)),
            ended_at: Some(UnixTime(1_795_240_000)),
            took_ms: 9_500,
            fetched_bytes: 51_318,
            requests: 2,
            reason: Some(Reason::Unhealthy),
            attack: false,
            text: "it answered 500".into(),
            log_tail: vec!["last words".into()],
        }
    }

    #[test]
    fn json_has_every_key_for_every_entry_and_gives_the_entry_back() {
        for entry in [full(), Entry::default()] {
            let link = Head::BEGIN.next(entry);
            let json = serde_json::to_value(Row::from(link.clone())).unwrap();
            let object = json.as_object().unwrap();
            assert_eq!(object.len(), 22);
            assert!(object.values().all(|value| !value.is_null() && !value.is_object()));
            let read: Chained = serde_json::from_value::<Row>(json).unwrap().try_into().unwrap();
            assert_eq!(read, link);
            assert!(verify(Head::BEGIN, [&read]).is_ok());
        }
        let json = serde_json::to_value(Row::from(Head::BEGIN.next(full()))).unwrap();
        assert_eq!(
            (json["at"].as_str(), json["reason"].as_str()),
            (Some("2026-11-21T05:46:43Z"), Some("unhealthy"))
        );
    }

    #[test]
    fn keys_of_a_newer_version_are_no_hindrance_and_wrong_values_are_named() {
        let mut json = serde_json::to_value(Row::from(Head::BEGIN.next(full()))).unwrap();
        json["colour"] = "red".into();
        json["reason"] = "moon-phase".into();
        let read: Row = serde_json::from_value(json.clone()).unwrap();
        assert_eq!(Chained::try_from(read).unwrap().entry.reason, Some(Reason::Unknown));
        json["node"] = "Not A Name".into();
        let read: Row = serde_json::from_value(json).unwrap();
        assert_eq!(Chained::try_from(read).unwrap_err().to_string(), "entry 1 has a wrong `node`");
    }
}
