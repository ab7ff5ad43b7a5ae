//! Webhooks, with receivers that take, refuse, stall and redirect.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use broker::{Draft, NoticeKind, WebhookSettings};
use schemas::{
    deploy_log::{Entry, What},
    time::UnixTime,
};

use crate::bus::Bus;

/// Long enough for a slow machine with some retries.
const LIMIT: Duration = Duration::from_secs(30);
const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// A request that a receiver got.
struct Delivery {
    head: String,
    body: String,
}

impl Delivery {
    fn header(&self, name: &str) -> &str {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        { lines }.find(|(found, _)| found.eq_ignore_ascii_case(name)).unwrap().1
    }

    fn notice(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn node(&self) -> String {
        self.notice()["node"].as_str().unwrap().to_owned()
    }
}

/// Answers each request as its plan says, then with 200.
struct Receiver {
    address: SocketAddr,
    deliveries: mpsc::Receiver<Delivery>,
    _held: Arc<Mutex<Vec<TcpStream>>>,
}

impl Receiver {
    /// An answer is a status line with headers; an empty one never comes.
    fn start(plan: &[&'static str]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, deliveries) = mpsc::channel();
        let (mut plan, held) = (Vec::from(plan).into_iter(), Arc::new(Mutex::new(Vec::new())));
        let holds = Arc::clone(&held);
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let Some(delivery) = read(&mut stream) else { continue };
                let answer = plan.next().unwrap_or("200 OK\r\n");
                if answer.is_empty() {
                    holds.lock().unwrap().push(stream);
                } else {
                    let length = "Content-Length: 0\r\nConnection: close\r\n";
                    // Whoever left does not hear it.
                    let _ = stream.write_all(format!("HTTP/1.1 {answer}{length}\r\n").as_bytes());
                }
                if tell.send(delivery).is_err() {
                    return;
                }
            }
        });
        Self { address, deliveries, _held: held }
    }

    fn next(&self) -> Delivery {
        self.deliveries.recv_timeout(LIMIT).expect("a delivery in time")
    }
}

fn read(stream: &mut TcpStream) -> Option<Delivery> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .to_lowercase()
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
            if body.len() >= length.unwrap_or(0) {
                return Some(Delivery { head: head.to_owned(), body: body.to_owned() });
            }
        }
        let count = stream.read(&mut piece).ok().filter(|count| *count > 0)?;
        bytes.extend_from_slice(&piece[..count]);
    }
}

fn bus(receivers: &[&Receiver]) -> Bus {
    Bus::with(|settings| {
        let secret_file = settings.data.with_file_name("secret");
        std::fs::write(&secret_file, format!("{SECRET}\n")).unwrap();
        let webhook = |receiver: &&Receiver| WebhookSettings {
            url: format!("http://{}/hook", receiver.address).parse().unwrap(),
            secret_file: secret_file.clone(),
            on: vec![NoticeKind::RolledBack],
        };
        settings.webhook = receivers.iter().map(webhook).collect();
    })
}

fn now() -> UnixTime {
    UnixTime(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

fn roll_back(bus: &Bus, node: &str) {
    let node = Some(node.parse().unwrap());
    let entry = Entry { at: now(), what: What::RolledBack, node, ..Entry::default() };
    bus.log().append(vec![Draft { entry, once: None }]).unwrap();
}

#[test]
fn a_notice_is_posted_once_with_a_signature_and_its_id() {
    let receiver = Receiver::start(&[]);
    let bus = bus(&[&receiver]);
    let installed = Entry { at: now(), what: What::Installed, ..Entry::default() };
    bus.log().append(vec![Draft { entry: installed, once: None }]).unwrap();
    roll_back(&bus, "pi-1");
    let delivery = receiver.next();
    assert!(delivery.head.starts_with("POST /hook HTTP/1.1"), "{}", delivery.head);
    assert_eq!(delivery.header("content-type"), "application/json");
    let notice = delivery.notice();
    assert_eq!(notice["kind"].as_str(), Some("rolled_back"));
    assert_eq!((notice["fleet"].as_str(), notice["node"].as_str()), (Some("deploybus"), Some("pi-1")));
    assert_eq!(notice["id"].as_str(), Some(delivery.header("deploybus-delivery")));
    let signature = delivery.header("deploybus-signature");
    let (at, signed) = signature.strip_prefix("t=").unwrap().split_once(",v1=").unwrap();
    assert!(now().0 - at.parse::<u64>().unwrap() < 60);
    assert_eq!(signed.len(), 64);
    roll_back(&bus, "pi-2");
    assert_eq!(receiver.next().node(), "pi-2", "what was taken is not sent again");
}

#[test]
fn what_is_not_taken_comes_again_and_what_never_will_be_does_not() {
    let plan = ["503 Busy\r\n", "429 Slower\r\n", "404 Gone\r\n", "301 Elsewhere\r\nLocation: /other\r\n"];
    let receiver = Receiver::start(&plan);
    let bus = bus(&[&receiver]);
    roll_back(&bus, "pi-1");
    let tries = [receiver.next(), receiver.next(), receiver.next()];
    assert!(tries.iter().all(|delivery| delivery.node() == "pi-1"));
    assert_eq!(tries[0].header("deploybus-delivery"), tries[2].header("deploybus-delivery"));
    roll_back(&bus, "pi-2");
    assert_eq!(receiver.next().node(), "pi-2", "404 is for ever");
    roll_back(&bus, "pi-3");
    assert_eq!(receiver.next().node(), "pi-3", "nobody follows a redirection");
}

#[test]
fn a_receiver_that_stalls_holds_up_nobody_else() {
    let (stalls, takes) = (Receiver::start(&[""]), Receiver::start(&[]));
    let bus = bus(&[&stalls, &takes]);
    for node in ["pi-1", "pi-2", "pi-3"] {
        roll_back(&bus, node);
    }
    assert_eq!(stalls.next().node(), "pi-1");
    assert_eq!(
        [takes.next(), takes.next(), takes.next()].map(|delivery| delivery.node()),
        ["pi-1", "pi-2", "pi-3"]
    );
    // Then it is given up for now, and the next one tried.
    assert_eq!(stalls.next().node(), "pi-2");
}

#[test]
fn what_was_not_taken_before_a_restart_comes_after_it() {
    let receiver = Receiver::start(&["500 Ill\r\n"]);
    let mut bus = bus(&[&receiver]);
    roll_back(&bus, "pi-1");
    let first = receiver.next();
    bus.restart();
    assert_eq!(receiver.next().header("deploybus-delivery"), first.header("deploybus-delivery"));
}
