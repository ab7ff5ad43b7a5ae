//! The deploy log over HTTP.

use std::net::SocketAddr;

use broker::{Draft, Log, LogSettings, Settings};
use schemas::{
    deploy_log::{Chained, Entry, Page, State, What, verify},
    time::UnixTime,
};

use crate::{
    bus::Bus,
    store::{ANNA, NODE, WRONG, request},
};

/// `eve:eve-secret`, `cam:cam-secret`.
const EVE: &str = "Basic ZXZlOmV2ZS1zZWNyZXQ=";
const CAM: &str = "Basic Y2FtOmNhbS1zZWNyZXQ=";
/// When the first entry was written.
const FIRST: u64 = 1_795_000_000;

/// Puts entries into the log of a service that has not started.
fn fill(settings: &Settings, entries: u64) {
    std::fs::create_dir_all(&settings.data).unwrap();
    let log = Log::open(&settings.data, &forever()).unwrap();
    let entry = |at: u64| Entry {
        at: UnixTime(FIRST + at),
        what: if at.is_multiple_of(2) { What::Installed } else { What::RolledBack },
        node: Some(format!("pi-{}", at % 3).parse().unwrap()),
        ..Entry::default()
    };
    log.append((0..entries).map(|at| Draft { entry: entry(at), once: None }).collect()).unwrap();
    log.seen(&"pi-1".parse().unwrap(), UnixTime(FIRST));
    log.close();
}

/// What is written here is of any time.
fn forever() -> LogSettings {
    LogSettings { keep: std::time::Duration::from_secs(u64::MAX), entries: u64::MAX }
}

fn bus(entries: u64) -> Bus {
    Bus::with(|settings| {
        settings.log = forever();
        fill(settings, entries);
    })
}

fn get<T: serde::de::DeserializeOwned>(address: SocketAddr, path: &str) -> T {
    let answer = request(address, "GET", path, &[], b"");
    assert_eq!((answer.status, answer.headers["content-type"].as_str()), (200, "application/json"), "{path}");
    serde_json::from_slice(&answer.body).unwrap()
}

#[test]
fn the_whole_log_is_read_in_pages_and_verifies() {
    let bus = bus(1_203);
    let state: State = get(bus.http(), "/v1/log/head");
    assert_eq!((state.format, state.seq, state.anchor_seq), (1, 1_203, 0));
    let (mut links, mut after, mut pages) = (Vec::new(), 0, 0);
    loop {
        let page: Page = get(bus.http(), &format!("/v1/log?after={after}"));
        links.extend(page.entries.into_iter().map(|row| Chained::try_from(row).unwrap()));
        (after, pages) = (page.next, pages + 1);
        if !page.more {
            break;
        }
    }
    assert_eq!((links.len(), pages), (1_203, 3));
    assert_eq!(verify(state.anchor(), &links), Ok(state.head()));
}

#[test]
fn the_log_is_asked_for_by_node_result_and_time() {
    let bus = bus(30);
    let seqs = |query: &str| {
        let page: Page = get(bus.http(), &format!("/v1/log?{query}"));
        page.entries.iter().map(|row| row.seq).collect::<Vec<_>>()
    };
    assert_eq!(seqs("node=pi-1&what=rolled_back&limit=2&newest=true"), [26, 20]);
    let (since, until) = (UnixTime(FIRST + 7), UnixTime(FIRST + 9));
    assert_eq!(seqs(&format!("since={since}&until={until}")), [8, 9]);
    assert_eq!(seqs(&format!("since={}", since.to_string().replace(':', "%3A"))).len(), 23);
    for wrong in ["since=yesterday", "what=moon", "node=Not%20A%20Name", "limit=-1", "colour=red"] {
        let answer = request(bus.http(), "GET", &format!("/v1/log?{wrong}"), &[], b"");
        assert_eq!(answer.status, 400, "{wrong}");
        assert!(answer.body.len() > 10, "{wrong}");
    }
    let nodes: serde_json::Value = get(bus.http(), "/v1/log/nodes");
    assert_eq!(nodes[0]["last_seen"].as_str(), Some("2026-11-18T11:06:40Z"));
}

#[test]
fn only_those_who_read_the_fleet_read_the_log() {
    let users = ["anna publisher", "eve watcher", "pi-1 node groups=all", "cam guest subscribe=cam/#"];
    let bus = Bus::with_users_and(&users, |settings| fill(settings, 3));
    for path in ["/v1/log", "/v1/log/head", "/v1/log/nodes"] {
        let status = |login: &str| {
            let headers = [("Authorization", login)];
            let headers = if login.is_empty() { &[][..] } else { &headers[..] };
            request(bus.http(), "GET", path, headers, b"").status
        };
        assert_eq!([ANNA, EVE, NODE, CAM, WRONG, ""].map(status), [200, 200, 403, 403, 401, 401], "{path}");
    }
    assert_eq!(request(bus.http(), "DELETE", "/v1/log", &[("Authorization", ANNA)], b"").status, 405);
}
