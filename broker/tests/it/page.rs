//! The web page and the JSON API: who may read, who may do what, and that what the bus says is text.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use broker::Settings;
use rollout::samples::{NOW, Sample, ended, outcome, root_of};
use schemas::{
    reason::Reason,
    report::{Outcome, Verdict},
    topic::NodeTopic,
};

use crate::{
    bus::Bus,
    store::{ANNA, Answer, NODE, WRONG, request},
};

/// `eve:eve-secret`
const EVE: &str = "Basic ZXZlOmV2ZS1zZWNyZXQ=";
const USERS: [&str; 4] = ["anna publisher", "eve watcher", "pi-1 node groups=all", "bob admin"];
const EVIL: &str = "<script>alert(1)</script>\u{202e}\x1b[2J";
/// Whoever comes through a proxy is not on this machine.
const AWAY: (&str, &str) = ("X-Forwarded-For", "10.0.0.9");

fn with_root(settings: &mut Settings) {
    std::fs::create_dir_all(&settings.data).unwrap();
    let root = settings.data.with_file_name("root.cbor");
    std::fs::write(&root, root_of("deploybus").to_bytes()).unwrap();
    settings.root = Some(root);
}

fn bus() -> Bus {
    Bus::with_users_and(&USERS, with_root)
}

/// By a name that is not one of its machine, unless the headers have another.
fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    request(address, "GET", path, &named(headers), b"")
}

fn named<'a>(headers: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let has_name = headers.iter().any(|(name, _)| *name == "Host");
    headers.iter().copied().chain((!has_name).then_some(("Host", "x"))).collect()
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

/// Logs in with a password, and gives the cookie.
fn log_in(bus: &Bus, user: &str) -> String {
    let body = format!("user={user}&password={user}-secret&next=%2Flog");
    let answer = post(bus, "/login", &[("Origin", "http://x")], &body);
    assert_eq!((answer.status, answer.headers["location"].as_str()), (303, "/log"), "{}", text(&answer));
    let cookie = &answer.headers["set-cookie"];
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

fn post(bus: &Bus, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    request(bus.http(), "POST", path, &named(&[&form[..], headers].concat()), body.as_bytes())
}

/// What is in the forms of a page.
fn form(page: &str) -> String {
    page.split("name=\"form\" value=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned()
}

#[test]
fn reading_is_open_to_this_machine_and_elsewhere_takes_a_user_who_may() {
    let bus = bus();
    for path in ["/", "/log", "/node/pi-1", "/rollout/web", "/live"] {
        let away = get(bus.http(), path, &[AWAY]);
        assert_eq!((away.status, away.headers["location"].as_str()), (303, &*format!("/login?next={path}")));
    }
    // A name that leads here may be a stranger's.
    assert_eq!(get(bus.http(), "/", &[]).status, 303);
    assert_eq!(get_as(&bus, "/", "localhost").status, 200);
    assert_eq!(get_as(&bus, "/", "127.0.0.1:8080").status, 200);
    assert_eq!(get_as(&bus, "/", "evil.example").status, 303);
    for (login, status) in [(ANNA, 200), (EVE, 200), (NODE, 403), (WRONG, 401)] {
        let answer = get(bus.http(), "/api/v1/status", &[AWAY, ("Authorization", login)]);
        assert_eq!(answer.status, status, "{login}: {}", text(&answer));
    }
    assert_eq!(
        get(bus.http(), "/api/v1/status", &[AWAY]).headers["www-authenticate"].split(' ').next(),
        Some("Basic")
    );
    let cookie = log_in(&bus, "eve");
    assert_eq!(get(bus.http(), "/", &[AWAY, ("Cookie", &cookie)]).status, 200);
    let node = post(&bus, "/login", &[("Origin", "http://x")], "user=pi-1&password=pi-1-secret");
    assert_eq!((node.status, node.headers.contains_key("set-cookie")), (403, false));
}

/// By another name of the broker.
fn get_as(bus: &Bus, path: &str, host: &str) -> Answer {
    get(bus.http(), path, &[("Host", host)])
}

#[test]
fn the_page_may_be_closed_to_this_machine_or_switched_off() {
    let closed = Bus::with_users_and(&USERS, |settings| {
        with_root(settings);
        settings.page.open_on_loopback = false;
    });
    assert_eq!(get_as(&closed, "/", "localhost").status, 303);
    let off = Bus::with_users_and(&USERS, |settings| settings.page.enabled = false);
    assert_eq!(
        [get_as(&off, "/", "localhost"), get_as(&off, "/api/v1/status", "localhost")].map(|of| of.status),
        [404, 404]
    );
    assert_eq!(get_as(&off, "/healthz", "localhost").status, 200);
    let rootless = Bus::open();
    let answer = get_as(&rootless, "/", "localhost");
    assert_eq!(answer.status, 503);
    assert!(text(&answer).contains("name its root document as `root`"));
    assert_eq!(get_as(&rootless, "/", "evil.example").status, 403);
}

#[test]
fn every_answer_tells_browsers_what_they_may_not() {
    let bus = bus();
    for path in ["/", "/login", "/page.css", "/page.js", "/api/v1/status", "/nothing/api", "/log?since=x"] {
        let answer = get_as(&bus, path, "localhost");
        if path.starts_with("/nothing") {
            assert_eq!(answer.status, 404);
            continue;
        }
        let policy = &answer.headers["content-security-policy"];
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"),
            "{path}"
        );
        assert_eq!(answer.headers["x-content-type-options"], "nosniff");
        let caches = if path.starts_with("/page.") { "max-age=60" } else { "no-store" };
        assert_eq!(answer.headers["cache-control"], caches, "{path}");
    }
    let css = get_as(&bus, "/page.css", "localhost");
    let again = get(bus.http(), "/page.css", &[("If-None-Match", &css.headers["etag"])]);
    assert_eq!((again.status, again.body.len()), (304, 0));
}

#[test]
fn a_form_counts_only_from_the_page_itself_and_within_its_session() {
    let bus = bus();
    let cookie = log_in(&bus, "anna");
    let cookie = ("Cookie", cookie.as_str());
    let page = text(&get(bus.http(), "/log", &[AWAY, cookie]));
    let ours = format!("form={}", form(&page));
    let origin = ("Origin", "http://x");
    let other = log_in(&bus, "bob");
    for (headers, body, status) in [
        (&[origin][..], ours.as_str(), 401),
        (&[cookie], &ours, 403),
        (&[cookie, ("Origin", "http://evil.example")], &ours, 403),
        (&[cookie, origin, ("Sec-Fetch-Site", "cross-site")], &ours, 403),
        (&[cookie, origin], "form=", 403),
        (&[cookie, origin], "form=0000", 403),
        (&[("Cookie", &other), origin], &ours, 403),
        (&[cookie, origin], "", 422),
        // Only now is it asked whether there is such a rollout.
        (&[cookie, origin], &ours, 404),
    ] {
        let answer = post(&bus, "/rollout/web/pause", headers, body);
        assert_eq!(answer.status, status, "{headers:?} {body}: {}", text(&answer));
    }
    for headers in [&[cookie, ("Origin", "http://evil.example")][..], &[cookie]] {
        assert_eq!(post(&bus, "/login", headers, "user=anna&password=anna-secret").status, 403);
        assert_eq!(post(&bus, "/logout", headers, &ours).status, 403);
    }
    assert_eq!(post(&bus, "/logout", &[cookie, origin], &ours).status, 303);
    assert_eq!(get(bus.http(), "/log", &[AWAY, cookie]).status, 303);
}

#[test]
fn a_session_ends_with_its_user() {
    let bus = bus();
    let cookie = log_in(&bus, "eve");
    std::fs::write(bus.folder().join("users"), crate::bus::user_line("anna publisher")).unwrap();
    let read = || get(bus.http(), "/", &[AWAY, ("Cookie", &cookie)]).status;
    let until = Instant::now() + Duration::from_secs(10);
    while read() != 303 {
        assert!(Instant::now() < until, "who is gone still reads");
        std::thread::yield_now();
    }
}

#[test]
fn who_may_only_read_does_nothing_and_is_told_the_command() {
    let bus = bus();
    let json = ("Content-Type", "application/json");
    let ask = |path: &str, login: &str, body: &str| {
        request(bus.http(), "POST", path, &[json, ("Authorization", login)], body.as_bytes())
    };
    let said = ask("/api/v1/rollouts/web/pause", EVE, "{}");
    assert_eq!(said.status, 403);
    assert!(text(&said).contains("`publisher rollout pause web`"), "{}", text(&said));
    let said = ask("/api/v1/nodes/pi-1/request", EVE, r#"{"do":"install","app":"web"}"#);
    assert!(said.status == 403 && text(&said).contains("`publisher request pi-1 install --app web`"));
    assert_eq!(ask("/api/v1/rollouts/web/pause", ANNA, "{}").status, 404);
    assert_eq!(ask("/api/v1/rollouts/web/pause", ANNA, "{\"a\":1}").status, 400);
    assert_eq!(ask("/api/v1/rollouts/web/pause", "", "{}").status, 401);
    // What a browser sends for another site.
    for headers in [&[("Content-Type", "text/plain")][..], &[json, ("Origin", "http://evil.example")]] {
        let headers = [headers, &[("Authorization", ANNA)]].concat();
        let status = request(bus.http(), "POST", "/api/v1/rollouts/web/pause", &headers, b"{}").status;
        assert!([403, 415].contains(&status), "{status}");
    }
}

#[test]
fn a_token_logs_in_as_the_one_who_asked_for_it_and_once() {
    let bus = bus();
    let headers = [("Content-Type", "application/json"), ("Authorization", EVE)];
    let made = request(bus.http(), "POST", "/api/v1/web-token", &headers, b"{}");
    let made: serde_json::Value = serde_json::from_slice(&made.body).unwrap();
    let path = made["path"].as_str().unwrap();
    let asks = text(&get(bus.http(), path, &[AWAY]));
    assert!(asks.contains("<button>log in</button>") && !asks.contains("name=\"password\""));
    let body = format!("token={}", made["token"].as_str().unwrap());
    let first = post(&bus, "/login", &[("Origin", "http://x")], &body);
    let cookie = first.headers["set-cookie"].split(';').next().unwrap().to_owned();
    assert!(text(&get(bus.http(), "/log", &[AWAY, ("Cookie", &cookie)])).contains("<span>eve</span>"));
    let second = post(&bus, "/login", &[("Origin", "http://x")], &body);
    assert!(second.status == 403 && text(&second).contains("this token was used"), "{}", text(&second));
}

#[test]
fn a_session_makes_no_other() {
    let bus = bus();
    let cookie = log_in(&bus, "eve");
    let headers =
        [("Content-Type", "application/json"), ("Cookie", &*cookie), ("Origin", "http://localhost")];
    let answer = request(bus.http(), "POST", "/api/v1/web-token", &headers, b"{}");
    assert_eq!(answer.status, 403);
    assert!(text(&answer).contains("name and password"), "{}", text(&answer));
}

#[test]
fn figures_are_open_to_this_machine_and_not_to_a_stranger_s_name_for_it() {
    let bus = bus();
    assert_eq!(get_as(&bus, "/metrics", "localhost").status, 200);
    assert_eq!(get_as(&bus, "/metrics", "evil.example").status, 401);
    assert_eq!(get(bus.http(), "/metrics", &[AWAY, ("Authorization", EVE)]).status, 200);
}

#[test]
fn what_a_node_says_is_text_wherever_it_is_shown() {
    let bus = Bus::with_users_and(&USERS, with_root);
    let sample = Sample::new();
    let mut client = bus.user("bob", "bob");
    let failed = Outcome {
        version: EVIL.into(),
        reason: Some(Reason::Unhealthy),
        text: EVIL.into(),
        log_tail: vec![EVIL.into()],
        at: NOW,
        ..outcome(50, Verdict::RolledBack)
    };
    let mut say = |topic: NodeTopic, payload: &[u8]| {
        client.send_publish(&sample.topic("pi-1", topic).to_string(), payload, 1, true);
    };
    say(NodeTopic::Record, &sample.record("pi-1", &["all"]));
    say(NodeTopic::Report, &sample.report("pi-1", 1, vec![ended(failed)]));
    let info = serde_json::json!({
        "node": "pi-1", "kind": EVIL, "model": EVIL, "serial": EVIL, "via": EVIL, "groups": [], "agent": EVIL,
        "at": EVIL,
    });
    say(NodeTopic::Info, info.to_string().as_bytes());
    let page = |path: &str| text(&get_as(&bus, path, "localhost"));
    let shown = |path: &str, what: &str| {
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            let shown = page(path);
            if shown.contains(what) {
                return shown;
            }
            assert!(Instant::now() < until, "{path} shows no {what}: {shown}");
            std::thread::yield_now();
        }
    };
    assert!(!shown("/node/pi-1", "<dt>worker</dt>").contains("<script>"));
    for path in ["/", "/node/pi-1", "/log"] {
        let shown = shown(path, "alert(1)");
        assert!(!shown.contains("<script>") && !shown.contains(['\u{202e}', '\x1b']), "{path}: {shown}");
    }
    for path in ["/api/v1/status", "/api/v1/nodes/pi-1", "/api/v1/nodes/pi-1/why", "/api/v1/log"] {
        let said = shown(path, "alert(1)");
        assert!(!said.contains(['\u{202e}', '\x1b']), "{path}: {said}");
        assert!(serde_json::from_str::<serde_json::Value>(&said).is_ok(), "{path}");
    }
    let wrong = page(&format!("/log?node={}", "%3Cscript%3E"));
    assert!(wrong.contains("role=\"alert\"") && !wrong.contains("<script>"), "{wrong}");
    assert!(!page("/?find=%22%3E%3Cscript%3E").contains("<script>"));
    let next = page("/login?next=%22%3E%3Cscript%3E&token=%22%3E%3Cscript%3E");
    assert!(!next.contains("<script>"), "{next}");
}

/// A browser that listens.
struct Listener(BufReader<TcpStream>);

impl Listener {
    fn open(bus: &Bus) -> Self {
        let mut stream = TcpStream::connect(bus.http()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        Self(BufReader::new(stream))
    }

    /// Reads until a line begins like this.
    fn until(&mut self, begin: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "it ends before `{begin}`");
            if line.starts_with(begin) {
                return line;
            }
        }
    }
}

#[test]
fn pages_are_told_that_something_changed_and_only_so_many_listen() {
    const MOST: usize = 64;
    let bus = bus();
    let mut listeners: Vec<_> = (0..MOST).map(|_| Listener::open(&bus)).collect();
    for listener in &mut listeners {
        listener.until("HTTP/1.1 200");
        listener.until(": hello");
    }
    Listener::open(&bus).until("HTTP/1.1 503");
    let (sample, mut client) = (Sample::new(), bus.user("bob", "bob"));
    let record = sample.topic("pi-1", NodeTopic::Record).to_string();
    client.send_publish(&record, &sample.record("pi-1", &["all"]), 1, true);
    for listener in &mut listeners {
        listener.until("data: ");
    }
    drop(listeners);
    let until = Instant::now() + Duration::from_mins(1);
    loop {
        let mut next = Listener::open(&bus);
        if next.until("HTTP/1.1 ").contains("200") {
            break;
        }
        assert!(Instant::now() < until, "places are not given back");
        std::thread::yield_now();
    }
}
