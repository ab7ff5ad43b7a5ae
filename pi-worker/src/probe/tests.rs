use std::{collections::BTreeMap, fs};

use machine::Fault;
use schemas::{
    reason::Reason,
    release::{Expect, Probe, Proof},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc::UnboundedReceiver,
    time::timeout,
};

use super::*;
use crate::{
    slots::fixture::{Fixture, TestRelease},
    surroundings::Surroundings,
    systemd::Units,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn all_checks_must_be_good_and_changes_are_told_with_the_last_words() {
    let web = Web::serve("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
    let node = Node::new(web.port);
    let tcp = Probe::Tcp { address: "127.0.0.1:${PORT}".into() };
    let mut told = node.watch(vec![check(http("/")), check(tcp)]);
    let bad = next(&mut told).await;
    assert!(!bad.ok && bad.log_tail == ["last words"] && bad.tree == node.app.slot.tree());
    assert_eq!(bad.text, format!("http://127.0.0.1:{}/ answered 503", web.port));
    web.answer("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let good = next(&mut told).await;
    assert!(good.ok && good.text.is_empty() && good.log_tail.is_empty());
    web.answer("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n");
    assert!(next(&mut told).await.text.ends_with("answered 500"));
    web.answer("HTTP/1.1 404 Where\r\nContent-Length: 0\r\n\r\n");
    assert!(next(&mut told).await.text.ends_with("answered 404"), "another text is news");
}

#[tokio::test]
async fn each_kind_of_check_says_what_is_wrong() {
    let silent = Web::serve("").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let node = Node::new(closed);
    let sh = |script: &str| Probe::Exec { command: vec!["sh".into(), "-c".into(), script.into()] };
    for (probe, text) in [
        (http("/x"), format!("http://127.0.0.1:{closed}/x: no connection: ")),
        (Probe::Http { url: "https://x/".into() }, "`https://x/` is not an http:// address".into()),
        (Probe::Http { url: "http://${NOPE}/".into() }, "`http://${NOPE}/` needs ${NOPE}, which".into()),
        (
            Probe::Http { url: format!("http://127.0.0.1:{}/", silent.port) },
            format!("http://127.0.0.1:{}/: no answer within 300 ms", silent.port),
        ),
        (Probe::Tcp { address: "127.0.0.1:${PORT}".into() }, format!("127.0.0.1:{closed}: ")),
        (sh("echo broken; exit 2"), "`sh -c echo broken; exit 2` ended with exit status: 2: broken".into()),
        (sh("sleep 614.1"), "`sh -c sleep 614.1`: did not end within 300 ms and was killed".into()),
        (Probe::Exec { command: vec!["no-such".into()] }, "program `no-such` is not in PATH".into()),
    ] {
        let asked = node.asker().ask(&probe, Duration::from_millis(300), &mut Seen::default()).await;
        let said = asked.unwrap_err();
        assert!(said.starts_with(&text), "{said}");
    }
    let good = sh("test -e a && test $DEPLOYBUS_APP = web");
    node.asker().ask(&good, PATIENCE, &mut Seen::default()).await.unwrap();
}

#[tokio::test]
async fn a_watch_that_was_ended_asks_no_more() {
    let node = Node::new(0);
    let probe =
        Probe::Exec { command: vec!["sh".into(), "-c".into(), "echo x >> $DEPLOYBUS_DATA/asked".into()] };
    let mut told = node.watch(vec![check(probe)]);
    assert!(next(&mut told).await.ok);
    node.prober.end(&node.id);
    // The task holds the sender of its notices until it is gone.
    drop(node.prober);
    assert!(timeout(PATIENCE, told.recv()).await.unwrap().is_none());
    assert!(fs::metadata(node.fixture.dirs.data.join("asked")).is_ok());
}

#[tokio::test]
async fn the_running_code_must_answer_this_release() {
    let body = |commit: &str| {
        let json = format!("{{\"commit\":\"{commit}\"}}");
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{json}", json.len())
    };
    let web = Web::serve(&body("commit-of-1")).await;
    let mut node = Node::new(web.port);
    let url = "http://127.0.0.1:${PORT}/version".to_owned();
    let pointer = "/commit".to_owned();
    node.app.slot.part.proof = Proof::Http { url, pointer, expect: Expect::Commit };
    node.prove().await.unwrap();
    web.answer(&body("commit-of-0"));
    let stale = node.prove().await.unwrap_err();
    assert_eq!(stale.reason, Reason::StaleCode);
    let asked = format!("http://127.0.0.1:{}/version answers", web.port);
    assert!(stale.text.starts_with(&asked), "{}", stale.text);
    assert!(stale.text.ends_with("`commit-of-0`, expected `commit-of-1`"), "{}", stale.text);
    for (answer, text) in [
        ("HTTP/1.1 404 Where\r\nContent-Length: 0\r\n\r\n", "answered 404"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "answers nothing at `/commit`"),
        ("SSH-2.0\r\n\r\n", "answer is not HTTP"),
    ] {
        web.answer(answer);
        let fault = node.prove().await.unwrap_err();
        assert!(fault.reason == Reason::NoProof && fault.text.contains(text), "{}", fault.text);
    }
}

#[tokio::test]
async fn a_command_may_be_the_proof() {
    let mut node = Node::new(0);
    let mut proof = |script: &str, expect| {
        let command = vec!["sh".into(), "-c".into(), script.into()];
        node.app.slot.part.proof = Proof::Exec { command, expect };
        node.app.slot.clone()
    };
    let slots = [
        (proof("echo; echo ' 1 '", Expect::Version), None),
        (proof("echo $DEPLOYBUS_TREE_HASH", Expect::TreeHash), None),
        (proof("echo 0.9", Expect::Version), Some(Reason::StaleCode)),
        (proof("echo 1; exit 1", Expect::Version), Some(Reason::NoProof)),
    ];
    for (slot, reason) in slots {
        assert_eq!(node.asker().prove(&slot).await.err().map(|fault| fault.reason), reason);
    }
}

struct Node {
    id: AppId,
    fixture: Fixture,
    app: TestRelease,
    port: u16,
    prober: Prober,
    told: std::cell::RefCell<Option<UnboundedReceiver<(AppId, Notice)>>>,
}

impl Node {
    fn new(port: u16) -> Self {
        let fixture = Fixture::new();
        let app = fixture.install("1", &[("a", "", false)]);
        fs::create_dir_all(&fixture.dirs.data).unwrap();
        let (notices, told) = unbounded_channel();
        let told = std::cell::RefCell::new(Some(told));
        Self { id: "web".parse().unwrap(), fixture, app, port, prober: Prober::new(notices), told }
    }

    fn asker(&self) -> Asker {
        let env = BTreeMap::from([("PORT".to_owned(), self.port.to_string())]);
        let surroundings = Surroundings::new(self.fixture.places(), &self.id, &self.app.slot, &env);
        Asker { surroundings, units: Arc::new(Units::new(unbounded_channel().0)), inside: None }
    }

    fn watch(&self, checks: Vec<Check>) -> UnboundedReceiver<(AppId, Notice)> {
        let mut slot = self.app.slot.clone();
        slot.part.checks = checks;
        self.prober.watch(&self.id, &slot, self.asker(), Words);
        self.told.take().unwrap()
    }

    async fn prove(&self) -> Result<(), Fault> {
        self.asker().prove(&self.app.slot).await
    }
}

struct Words;

impl LastWords for Words {
    async fn tail(&self) -> Vec<String> {
        vec!["last words".to_owned()]
    }
}

/// A web server that says the same to everybody, or nothing.
struct Web {
    port: u16,
    says: Arc<Mutex<String>>,
}

impl Web {
    async fn serve(says: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let says = Arc::new(Mutex::new(says.to_owned()));
        let shared = says.clone();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let says = shared.lock().unwrap().clone();
                tokio::spawn(async move {
                    // Read to the end of the question, so that closing sends no reset.
                    let mut question = [0; 1024];
                    while let Ok(len @ 1..) = stream.read(&mut question).await {
                        if question[..len].ends_with(b"\r\n\r\n") && !says.is_empty() {
                            break;
                        }
                    }
                    // Who asked may have gone.
                    let _ = stream.write_all(says.as_bytes()).await;
                });
            }
        });
        Self { port, says }
    }

    fn answer(&self, says: &str) {
        says.clone_into(&mut self.says.lock().unwrap());
    }
}

fn http(path: &str) -> Probe {
    Probe::Http { url: format!("http://127.0.0.1:${{PORT}}{path}") }
}

fn check(probe: Probe) -> Check {
    Check { probe, interval_ms: 20, timeout_ms: 30_000, healthy_after: 1, unhealthy_after: 1 }
}

async fn next(told: &mut UnboundedReceiver<(AppId, Notice)>) -> Health {
    match timeout(PATIENCE, told.recv()).await.unwrap() {
        Some((_, Notice::Health(health))) => health,
        other => panic!("{other:?}"),
    }
}
