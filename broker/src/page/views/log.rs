//! The deploy log, with filters.

use askama::{Template, filters::HtmlSafe};
use schemas::{
    deploy_log::{Chained, Entry, Query, What},
    time::UnixTime,
};
use serde::Deserialize;
use show::{amount, clean, log as words};

use super::{Frame, encoded};
use crate::log::Found;

/// Entries on a page.
const PAGE: u32 = 100;

/// What is wanted of the log: the form as it was sent.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(in crate::page) struct Wanted {
    node: String,
    app: String,
    group: String,
    what: String,
    since: String,
    /// Only what is older than this entry.
    before: String,
}

#[derive(Debug, Template)]
#[template(path = "log.html")]
pub(in crate::page) struct LogPage {
    frame: Frame,
    wanted: Wanted,
    wrong: Option<String>,
    whats: Vec<Choice>,
    entries: Option<Entries>,
    /// The page with what is older.
    older: Option<String>,
}

#[derive(Debug)]
struct Choice {
    name: &'static str,
    text: String,
    is_chosen: bool,
}

/// Entries as a table.
#[derive(Debug, Template)]
#[template(path = "entries.html")]
pub(super) struct Entries {
    rows: Vec<Row>,
}

/// Its template escapes what is in it.
impl HtmlSafe for Entries {}

/// An entry.
#[derive(Debug)]
struct Row {
    at: String,
    node: String,
    app: String,
    group: String,
    version: String,
    result: String,
    went_wrong: bool,
    took: String,
    fetched: String,
    why: String,
    log_tail: Vec<String>,
}

impl Wanted {
    /// The same as a question to the log.
    pub(in crate::page) fn query(&self) -> Result<Query, String> {
        fn optional<T: std::str::FromStr>(name: &str, text: &str) -> Result<Option<T>, String>
        where
            T::Err: std::fmt::Display,
        {
            let text = text.trim();
            if text.is_empty() {
                return Ok(None);
            }
            text.parse().map(Some).map_err(|wrong| format!("{name}: {wrong}"))
        }
        Ok(Query {
            node: optional("node", &self.node)?,
            app: optional("app", &self.app)?,
            group: optional("group", &self.group)?,
            what: optional("result", &self.what)?.unwrap_or_default(),
            since: since(&self.since)?,
            after: optional("before", &self.before)?,
            newest: true,
            limit: Some(PAGE),
            ..Query::default()
        })
    }

    fn link(&self, before: u64) -> String {
        let named = [
            ("node", &self.node),
            ("app", &self.app),
            ("group", &self.group),
            ("what", &self.what),
            ("since", &self.since),
        ];
        let named = named.into_iter().filter(|(_, text)| !text.is_empty());
        let mut pairs: Vec<String> = named.map(|(name, text)| format!("{name}={}", encoded(text))).collect();
        pairs.push(format!("before={before}"));
        format!("/log?{}", pairs.join("&"))
    }
}

/// A day, or a time as the log writes it.
fn since(text: &str) -> Result<Option<UnixTime>, String> {
    let text = text.trim();
    let whole = if text.len() == "2026-11-21".len() { format!("{text}T00:00:00Z") } else { text.to_owned() };
    if text.is_empty() {
        Ok(None)
    } else {
        whole.parse().map(Some).map_err(|wrong| format!("since: {wrong}"))
    }
}

impl LogPage {
    pub(in crate::page) fn new(frame: Frame, wanted: Wanted, found: Result<Found, String>) -> Self {
        let choice = |what: &What| Choice {
            name: what.name(),
            text: what.name().replace('_', " "),
            is_chosen: what.name() == wanted.what,
        };
        let whats = What::ALL.iter().map(choice).collect();
        let (found, wrong) = match found {
            Ok(found) => (Some(found), None),
            Err(wrong) => (None, Some(wrong)),
        };
        let older = found.as_ref().filter(|found| found.more).map(|found| wanted.link(found.next));
        let entries = found.and_then(|found| Entries::of(&found.entries));
        Self { frame, wanted, wrong, whats, entries, older }
    }
}

impl Entries {
    /// Nothing when there are none.
    pub(super) fn of(links: &[Chained]) -> Option<Self> {
        let rows: Vec<_> = links.iter().map(|link| Row::new(&link.entry)).collect();
        (!rows.is_empty()).then_some(Self { rows })
    }
}

impl Row {
    /// An entry, in the words of `publisher log`.
    fn new(entry: &Entry) -> Self {
        let text = |of: Option<String>| of.unwrap_or_default();
        Self {
            at: entry.at.to_string(),
            node: text(entry.node.as_ref().map(ToString::to_string)),
            app: text(entry.app.as_ref().map(ToString::to_string)),
            group: text(entry.group.as_ref().map(ToString::to_string)),
            version: clean(&entry.version),
            result: words::result(entry),
            went_wrong: matches!(
                entry.what,
                What::RolledBack | What::Failed | What::Refused | What::RolloutStopped
            ),
            took: if entry.took_ms == 0 { String::new() } else { amount::duration(entry.took_ms) },
            fetched: if entry.fetched_bytes == 0 {
                String::new()
            } else {
                amount::bytes(entry.fetched_bytes)
            },
            why: words::why(entry),
            log_tail: entry.log_tail.iter().map(|line| clean(line)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_a_question_to_the_log_or_says_what_is_wrong() {
        let wanted = Wanted {
            node: " pi-1".to_owned(),
            what: "rolled_back".to_owned(),
            since: "2026-11-21".to_owned(),
            ..Wanted::default()
        };
        let query = wanted.query().unwrap();
        assert_eq!((query.node.unwrap().as_str(), query.what.to_string().as_str()), ("pi-1", "rolled_back"));
        assert_eq!(query.since.unwrap().to_string(), "2026-11-21T00:00:00Z");
        assert_eq!(wanted.link(7), "/log?node=%20pi-1&what=rolled_back&since=2026-11-21&before=7");
        let wrong = |wanted: Wanted| wanted.query().unwrap_err();
        assert!(wrong(Wanted { node: "Pi 1".to_owned(), ..Wanted::default() }).starts_with("node: "));
        assert!(wrong(Wanted { since: "today".to_owned(), ..Wanted::default() }).starts_with("since: "));
        assert!(wrong(Wanted { what: "moon".to_owned(), ..Wanted::default() }).starts_with("result: "));
    }
}
