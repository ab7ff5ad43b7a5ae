//! SIGHUP: the program reads its certificates again, and says what it makes of them.

use std::{
    fs::{self, File},
    path::PathBuf,
    thread,
    time::Instant,
};

use tempfile::TempDir;

use crate::{
    client::{Client, Hello, PATIENCE},
    pki::{Certified, Pki},
    program::{Broker, listening_broker},
    websocket,
};

const TAKEN: &str = "certificates read again";
const LEFT: &str = "the certificates stay as they were";

/// A broker with TLS, which believes what `clients` signed, and its log.
struct Site {
    pki: Pki,
    clients: Pki,
    broker: Broker,
    log: PathBuf,
    _folder: TempDir,
}

#[test]
fn sighup_shows_a_new_certificate_to_newcomers_and_keeps_connections() {
    let (site, next) = (Site::start(), Pki::new());
    let mut staying = site.connect(&site.pki);
    staying.subscribe("a", 1);
    site.pki.replace(&next);
    let said = site.hang_up(TAKEN);
    assert!(said.contains(site.pki.path_of_relay().cert.to_str().unwrap()), "{said}");
    let mut newcomer = site.connect(&next);
    newcomer.publish("a", "over TLS", 1, false);
    let wss = site.broker.address("wss");
    let mut web = websocket::tls_client(&next, wss, 99).say(&Hello::new("web")).unwrap();
    web.publish("a", "over WebSockets", 1, false);
    assert_eq!([staying.message().text(), staying.message().text()], ["a=over TLS", "a=over WebSockets"]);
    let mut old = site.pki.client(site.broker.address("mqtts"), None);
    assert!(old.try_send_bytes(b"x").is_err(), "the old CA did not sign the new certificate");
    staying.publish("a", "both ways", 1, false);
    assert!(site.broker.terminate().success());
}

#[test]
fn sighup_with_files_that_cannot_be_used_says_so_and_changes_nothing() {
    let (site, other) = (Site::start(), Pki::new());
    let mut staying = site.connect(&site.pki);
    staying.subscribe("a", 1);
    let Certified { cert, key } = site.pki.path_of_relay();
    let key_of_another = fs::read(other.of("localhost").key).unwrap();
    let half = fs::read(&cert).unwrap().split_at(100).0.to_vec();
    for (path, bad) in [
        (&cert, Some(half)),
        (&cert, Some(Vec::new())),
        (&cert, None),
        (&key, Some(b"no key".to_vec())),
        (&key, Some(key_of_another)),
        (&key, None),
        (&site.clients.ca(), Some(b"no certificate".to_vec())),
    ] {
        let good = fs::read(path).unwrap();
        match bad {
            Some(bytes) => fs::write(path, bytes).unwrap(),
            None => fs::remove_file(path).unwrap(),
        }
        let said = site.hang_up(LEFT);
        assert!(said.contains(" WARN ") && said.contains(path.to_str().unwrap()), "{said}");
        site.connect(&site.pki).publish("a", "x", 1, false);
        assert_eq!(staying.message().text(), "a=x");
        fs::write(path, good).unwrap();
        site.hang_up(TAKEN);
    }
    site.connect(&site.pki).publish("a", "x", 1, false);
    assert_eq!(staying.message().text(), "a=x");
}

#[test]
fn sighup_takes_another_ca_of_clients() {
    let (site, next) = (Site::start(), Pki::new());
    let open = |clients: &Pki| site.pki.client(site.broker.address("mqtts"), Some(&clients.of("pi-1")));
    let get_in = |clients: &Pki| open(clients).say(&Hello::new("pi-1")).unwrap().disconnect();
    let stay_out = |clients: &Pki| {
        let mut client = open(clients);
        // The client has finished its part of the handshake before the relay has judged it.
        let _ = client.try_send_bytes(&Hello::new("pi-1").bytes());
        assert_eq!(client.rest(), b"");
    };
    get_in(&site.clients);
    stay_out(&next);
    fs::copy(next.ca(), site.clients.ca()).unwrap();
    site.hang_up(TAKEN);
    get_in(&next);
    stay_out(&site.clients);
}

#[test]
fn many_signals_while_clients_come_and_go_harm_nobody() {
    let site = Site::start();
    let mut staying = site.connect(&site.pki);
    staying.subscribe("a", 0);
    for _ in 0..50 {
        site.broker.hang_up();
        site.broker.hang_up();
        site.connect(&site.pki).publish("a", "x", 1, false);
        assert_eq!(staying.message().text(), "a=x");
    }
    assert!(site.broker.terminate().success());
}

impl Site {
    fn start() -> Self {
        let (folder, pki, clients) = (TempDir::new().unwrap(), Pki::new(), Pki::new());
        let log = folder.path().join("log");
        let mut command = listening_broker(folder.path(), &pki.settings(Some(&clients)), &[]);
        let broker = Broker::spawn(command.stderr(File::create(&log).unwrap()));
        Self { pki, clients, broker, log, _folder: folder }
    }

    /// A client that believes `pki`.
    fn connect(&self, pki: &Pki) -> Client {
        pki.client(self.broker.address("mqtts"), None).say(&Hello::new("")).unwrap()
    }

    /// SIGHUP; ends when the log has a new line with `text`, and gives it.
    fn hang_up(&self, text: &str) -> String {
        let before = self.log().len();
        self.broker.hang_up();
        let begin = Instant::now();
        loop {
            let said = self.log().split_off(before);
            if let Some(line) =
                said.split_inclusive('\n').find(|line| line.contains(text) && line.ends_with('\n'))
            {
                return line.to_owned();
            }
            assert!(begin.elapsed() < PATIENCE, "no `{text}` in the log: {said}");
            thread::yield_now();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }
}
