//! What can be asked of the log over HTTP, and how it answers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Head, Row, UnknownWhat, What};
use crate::{
    id::{AppId, Digest, GroupId, NodeId},
    time::UnixTime,
};

/// Most entries of one answer.
pub const MAX_PAGE: u32 = 500;

/// Which entries are wanted: the parameters of `GET /v1/log`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    /// Of this node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeId>,
    /// Of this app.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    /// Of this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<GroupId>,
    /// One of these things, with commas between them; anything when there are none.
    #[serde(skip_serializing_if = "Whats::is_empty")]
    pub what: Whats,
    /// Written then or later.
    #[serde(with = "rfc3339", skip_serializing_if = "Option::is_none")]
    pub since: Option<UnixTime>,
    /// Written before.
    #[serde(with = "rfc3339", skip_serializing_if = "Option::is_none")]
    pub until: Option<UnixTime>,
    /// Behind this entry, in the direction in which they come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// So many at most; never more than [`MAX_PAGE`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// Newest first.
    #[serde(skip_serializing_if = "is_false")]
    pub newest: bool,
}

/// The answer to a [`Query`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The entries, in the direction that was asked for.
    pub entries: Vec<Row>,
    /// What `after` has to be to go on from here, now or when there is more.
    pub next: u64,
    /// Whether there is more already.
    pub more: bool,
}

/// The answer of `GET /v1/log/head`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which fields go into the digests.
    pub format: u32,
    /// The newest entry, or the last that was deleted, or 0.
    pub seq: u64,
    /// Its digest, or zeros.
    pub digest: Digest,
    /// The last entry that was deleted, or 0.
    pub anchor_seq: u64,
    /// Its digest, or zeros.
    pub anchor_digest: Digest,
}

impl State {
    /// The newest entry.
    pub fn head(&self) -> Head {
        Head { seq: self.seq, digest: self.digest }
    }

    /// What the chain begins behind.
    pub fn anchor(&self) -> Head {
        Head { seq: self.anchor_seq, digest: self.anchor_digest }
    }
}

/// A list of things that can happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Whats(pub Vec<What>);

impl Whats {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromStr for Whats {
    type Err = UnknownWhat;

    fn from_str(text: &str) -> Result<Self, UnknownWhat> {
        let names = text.split(',').filter(|name| !name.is_empty());
        names.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Whats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|what| what.name()).collect();
        f.write_str(&names.join(","))
    }
}

impl Serialize for Whats {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Whats {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// Times as people write them.
mod rfc3339 {
    use serde::{Deserialize as _, Deserializer, Serializer, de};

    use crate::time::UnixTime;

    #[expect(clippy::ref_option, reason = "serde asks for it like this")]
    pub(super) fn serialize<S: Serializer>(
        time: &Option<UnixTime>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => serializer.collect_str(time),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<UnixTime>, D::Error> {
        String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_only_what_is_asked_for_and_is_read_back() {
        assert_eq!(serde_json::to_string(&Query::default()).unwrap(), "{}");
        let query = Query {
            what: "rolled_back,failed".parse().unwrap(),
            since: Some(UnixTime(1_795_240_000)),
            after: Some(7),
            newest: true,
            ..Query::default()
        };
        let text = serde_json::to_string(&query).unwrap();
        assert_eq!(
            text,
            r#"{"what":"rolled_back,failed","since":"2026-11-21T05:46:40Z","after":7,"newest":true}"#
        );
        assert_eq!(serde_json::from_str::<Query>(&text).unwrap(), query);
        for wrong in [r#"{"what":"moon"}"#, r#"{"since":"yesterday"}"#, r#"{"colour":"red"}"#] {
            assert!(serde_json::from_str::<Query>(wrong).is_err(), "{wrong}");
        }
    }
}
