//! What is found.

use super::*;

fn filled() -> Bench {
    let bench = Bench::new();
    let mut drafts: Vec<_> = (1..=600).map(|at| told("pi-1", at)).collect();
    drafts.extend((601..=610).map(|at| told("pi-2", at)));
    drafts[0].entry.app = Some("db".parse().unwrap());
    drafts[1].entry.group = Some("all".parse().unwrap());
    bench.write(drafts);
    bench
}

#[test]
fn each_filter_finds_its_own_in_both_directions() {
    let bench = filled();
    let found = |query: &str| {
        let query: Query = serde_json::from_str(query).unwrap();
        let found = bench.log.query(&query).unwrap();
        let seqs: Vec<_> = found.entries.iter().map(|link| link.entry.seq).collect();
        (seqs.len(), *seqs.first().unwrap_or(&0), *seqs.last().unwrap_or(&0), found.next, found.more)
    };
    assert_eq!(found("{}"), (500, 1, 500, 500, true));
    assert_eq!(found(r#"{"after":500}"#), (110, 501, 610, 610, false));
    assert_eq!(found(r#"{"after":610}"#), (0, 0, 0, 610, false));
    assert_eq!(found(r#"{"newest":true,"limit":3}"#), (3, 610, 608, 608, true));
    assert_eq!(found(r#"{"newest":true,"after":608,"limit":2}"#), (2, 607, 606, 606, true));
    assert_eq!(found(r#"{"newest":true,"after":2}"#), (1, 1, 1, 1, false));
    assert_eq!(found(r#"{"node":"pi-2"}"#), (10, 601, 610, 610, false));
    assert_eq!(found(r#"{"node":"pi-3","after":7}"#), (0, 0, 0, 7, false));
    assert_eq!(found(r#"{"app":"db"}"#), (1, 1, 1, 1, false));
    assert_eq!(found(r#"{"group":"all"}"#), (1, 2, 2, 2, false));
    assert_eq!(found(r#"{"node":"pi-2","what":"rolled_back"}"#), (5, 601, 609, 609, false));
    assert_eq!(found(r#"{"node":"pi-2","what":"rolled_back,installed,failed"}"#), (10, 601, 610, 610, false));
    let times = r#"{"since":"1970-01-01T00:10:05Z","until":"1970-01-01T00:10:08Z"}"#;
    assert_eq!(found(times), (3, 605, 607, 607, false));
    assert_eq!(found(r#"{"limit":999999999}"#).0, 500);
    assert_eq!(found(r#"{"limit":0}"#).0, 1);
}

#[test]
fn no_query_reads_the_whole_file() {
    let bench = filled();
    let connection = rusqlite::Connection::open(bench.log.path()).unwrap();
    for (query, index) in [
        (r#"{"node":"pi-1","newest":true}"#, "entries_node"),
        (r#"{"app":"web","newest":true}"#, "entries_app"),
        (r#"{"group":"canary","newest":true}"#, "entries_group"),
        (r#"{"what":"failed"}"#, "entries_what"),
        (r#"{"after":5}"#, "PRIMARY KEY"),
        ("{}", "SCAN entries"),
    ] {
        let query: Query = serde_json::from_str(query).unwrap();
        let plan = query::plan(&connection, &query).unwrap();
        assert!(plan.contains(index) && !plan.contains("TEMP B-TREE"), "{plan}");
    }
}
