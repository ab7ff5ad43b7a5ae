//! The deploy log as a table, as lines and as comma-separated values.

use schemas::deploy_log::{Chained, Entry, Row};

use super::{amount, clean, table};

/// The first line of comma-separated values: the keys of the JSON.
pub const CSV_HEADER: &str = "seq,at,what,node,app,group,version,counter,commit,strategy,revision,release,started_at,ended_at,took_ms,fetched_bytes,requests,reason,attack,text,log_tail,digest";

/// A table with the newest entry last.
pub fn text(links: &[Chained]) -> String {
    if links.is_empty() {
        return "nothing of this kind happened".to_owned();
    }
    let header = ["AT", "NODE", "APP", "GROUP", "VERSION", "RESULT", "TOOK", "FETCHED", "WHY"];
    table(&header, &links.iter().map(|link| cells(&link.entry)).collect::<Vec<_>>())
}

fn cells(entry: &Entry) -> Vec<String> {
    let took = if entry.took_ms == 0 { "-".to_owned() } else { amount::duration(entry.took_ms) };
    let fetched = if entry.fetched_bytes == 0 { "-".to_owned() } else { amount::bytes(entry.fetched_bytes) };
    vec![
        entry.at.to_string(),
        or_dash(entry.node.as_ref()),
        or_dash(entry.app.as_ref()),
        or_dash(entry.group.as_ref()),
        or_dash(Some(clean(&entry.version)).filter(|version| !version.is_empty())),
        result(entry),
        took,
        fetched,
        why(entry),
    ]
}

/// An entry as it comes: `2026-11-21T05:46:43Z pi-1 web 1.1.0 rolled back after 9.5 s: unhealthy, it answered 500`.
pub fn line(entry: &Entry) -> String {
    let names = [
        entry.node.as_ref().map(ToString::to_string),
        entry.app.as_ref().map(ToString::to_string),
        Some(clean(&entry.version)).filter(|version| !version.is_empty()),
    ];
    let mut words = vec![entry.at.to_string()];
    words.extend(names.into_iter().flatten());
    words.push(result(entry));
    if entry.took_ms > 0 {
        words.push(format!("after {}", amount::duration(entry.took_ms)));
    }
    let (text, why) = (words.join(" "), why(entry));
    if why.is_empty() { text } else { format!("{text}: {why}") }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

/// What happened, in words.
pub fn result(entry: &Entry) -> String {
    let mark = if entry.attack { " (attack?)" } else { "" };
    format!("{}{mark}", entry.what.name().replace('_', " "))
}

/// Why, in words; empty where nothing went wrong.
pub fn why(entry: &Entry) -> String {
    let reason = entry.reason.map(|reason| reason.code().to_owned());
    let text = Some(clean(&entry.text)).filter(|text| !text.is_empty());
    reason.into_iter().chain(text).collect::<Vec<_>>().join(", ")
}

/// A row as comma-separated values (RFC 4180), on one line whatever is in it: the lines of a log tail have ` | ` between them.
pub fn csv(row: &Row) -> String {
    let log_tail = row.log_tail.join(" | ");
    let numbers =
        [row.counter, row.revision, row.took_ms, row.fetched_bytes].map(|number| number.to_string());
    let [counter, revision, took_ms, fetched_bytes] = &numbers;
    let (seq, requests, digest) = (row.seq.to_string(), row.requests.to_string(), row.digest.to_string());
    let attack = if row.attack { "true" } else { "false" };
    let cells = [
        &seq,
        &row.at,
        row.what.name(),
        &row.node,
        &row.app,
        &row.group,
        &row.version,
        counter,
        &row.commit,
        &row.strategy,
        revision,
        &row.release,
        &row.started_at,
        &row.ended_at,
        took_ms,
        fetched_bytes,
        &requests,
        &row.reason,
        attack,
        &row.text,
        &log_tail,
        &digest,
    ];
    cells.map(cell).join(",")
}

/// A spreadsheet takes what begins like a formula for one, in wide letters too, and some of the texts are a stranger's: those
/// get a `'` in front.
fn cell(text: &str) -> String {
    const FORMULA: [char; 8] = ['=', '+', '-', '@', '＝', '＋', '－', '＠'];
    let text = clean(text);
    let guard = if text.trim_start().starts_with(FORMULA) { "'" } else { "" };
    if guard.is_empty() && !text.contains([',', '"']) {
        return text;
    }
    format!("\"{guard}{}\"", text.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use schemas::{
        deploy_log::{Head, What},
        reason::Reason,
        time::UnixTime,
    };

    use super::*;

    fn links() -> Vec<Chained> {
        let installed = Entry {
            at: UnixTime(1_795_240_003),
            what: What::Installed,
            node: Some("pi-kitchen".parse().unwrap()),
            app: Some("web".parse().unwrap()),
            group: Some("canary".parse().unwrap()),
            version: "1.1.0".into(),
            took_ms: 812,
            fetched_bytes: 51_318,
            ..Entry::default()
        };
        let rolled_back = Entry {
            what: What::RolledBack,
            node: Some("pi-barn".parse().unwrap()),
            reason: Some(Reason::Unhealthy),
            text: "it answered \"500\",\nthen =nothing\x1b[2J".into(),
            log_tail: vec!["=cmd|'/C calc'!A0".into(), "bye".into()],
            ..installed.clone()
        };
        let started = Entry {
            node: None,
            what: What::RolloutStarted,
            took_ms: 0,
            fetched_bytes: 0,
            ..installed.clone()
        };
        let refused = Entry {
            at: installed.at,
            what: What::Refused,
            node: Some("pi-barn".parse().unwrap()),
            reason: Some(Reason::BadSignature),
            attack: true,
            ..Entry::default()
        };
        let mut head = Head::BEGIN;
        let link = |entry| {
            let link = head.next(entry);
            head = link.head();
            link
        };
        [started, installed, rolled_back, refused].map(link).into()
    }

    #[test]
    fn a_table_and_lines_say_who_what_and_why() {
        let lines: Vec<_> = links().iter().map(|link| line(&link.entry)).collect();
        insta::assert_snapshot!(format!("{}\n\n{}\n\n{}", text(&links()), lines.join("\n"), text(&[])));
    }

    #[test]
    fn comma_separated_values_are_one_line_quoted_and_no_formulas() {
        let row = |at: usize| csv(&links()[at].clone().into());
        assert_eq!(CSV_HEADER.split(',').count(), row(1).split(',').count());
        assert!(row(1).starts_with(
            "2,2026-11-21T05:46:43Z,installed,pi-kitchen,web,canary,1.1.0,0,,,0,,,,812,51318,0,,false,,,"
        ));
        let guarded = row(2);
        assert!(
            guarded.contains("\"it answered \"\"500\"\",\u{fffd}then =nothing\u{fffd}[2J\""),
            "{guarded}"
        );
        assert!(guarded.contains(",\"'=cmd|'/C calc'!A0 | bye\","), "{guarded}");
        let formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "＝1", "\r\n=1"].map(cell);
        assert!(formulas[..7].iter().all(|cell| cell.starts_with("\"'")), "{formulas:?}");
        assert_eq!((formulas[7].as_str(), cell("a-1=b").as_str()), ("\u{fffd}\u{fffd}=1", "a-1=b"));
        let json = serde_json::to_value(schemas::deploy_log::Row::from(links()[0].clone())).unwrap();
        let keys: std::collections::BTreeSet<_> = CSV_HEADER.split(',').collect();
        assert_eq!(keys, json.as_object().unwrap().keys().map(String::as_str).collect());
    }
}
