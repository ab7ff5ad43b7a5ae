//! What is said to people who start a broker that cannot start: what happened, where, and what to do.

use std::{
    fmt::Write as _,
    fs,
    io::{Read as _, Write as _},
    net::TcpListener,
    path::PathBuf,
    process::Stdio,
};

use rusqlite::Connection;
use tempfile::TempDir;

use crate::{
    bus::user_line,
    pki::Pki,
    program::{Broker, broker, first_line},
};

/// Listeners at ports that nobody else has.
const PORTS: &str = "mqtt = '127.0.0.1:0'\nhttp = '127.0.0.1:0'\n";
/// The root document of a fleet `deploybus`.
const ROOT: &str = include_str!("../../../schemas/testdata/v1/root.hex");

/// A folder with settings, and what brokers said that were started with them.
struct Told {
    folder: TempDir,
    text: String,
}

impl Told {
    /// With one user, and a root document.
    fn new() -> Self {
        let told = Self { folder: TempDir::new().unwrap(), text: String::new() };
        told.write("users", &user_line("anna admin"));
        let digits: Vec<u8> = ROOT.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
        fs::write(told.path("root.cbor"), digits.chunks(2).map(byte).collect::<Vec<u8>>()).unwrap();
        told
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    /// Starts a broker with these arguments, and notes what it says below `mistake`.
    fn run(&mut self, mistake: &str, args: &[&str]) {
        let mut command = broker(args);
        command.current_dir(self.folder.path()).env("RUST_LOG", "error");
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let ready = first_line(&mut child);
        if !ready.is_empty() {
            child.kill().unwrap();
        }
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        let code = child.wait().unwrap().code();
        assert!(matches!(code, Some(1 | 2)), "{mistake}: {ready}");
        assert!(said.starts_with("error: ") && (said.contains("\nhint:  ") || code == Some(2)), "{said}");
        let said = said.replace(self.folder.path().to_str().unwrap(), "~");
        writeln!(self.text, "# {mistake}   → {}\n{said}", code.unwrap()).unwrap();
    }

    /// With these settings, the user, and a data folder.
    fn with(&mut self, mistake: &str, settings: &str) {
        self.write("broker.toml", settings);
        self.run(mistake, &["--config", "broker.toml"]);
    }

    /// With these settings beside those that are enough.
    fn beside(&mut self, mistake: &str, settings: &str) {
        self.with(mistake, &format!("users = 'users'\ndata = 'data'\n{PORTS}{settings}"));
    }
}

#[test]
fn wrong_settings_are_answered_with_what_to_do() {
    let mut told = Told::new();
    told.run("no settings at all", &[]);
    told.run("no such file", &["--config", "nowhere.toml"]);
    told.with("no TOML", "users = 'users'\nmqtt = ");
    told.beside("unknown key", "colour = 'red'");
    told.beside("unknown key in a section", "[tls]\ncert = 'c.pem'\nkey = 'k.pem'\nclients = 'ca.pem'");
    told.beside("wrong type", "[limits]\nconnections = 'many'");
    told.beside("bad value", "[log]\nkeep = 'long'");
    told.beside("limit that stops everything", "[limits]\npacket_bytes = 9");
    told.with("bad address", "users = 'users'\nmqtt = 'here'");
    told.with("bad name of a fleet", "users = 'users'\nfleet = 'My Fleet'");
    told.with("nobody may connect", PORTS);
    told.with("nothing listens", "users = 'users'\nmqtt = 'off'");
    told.with("no store", "users = 'users'\nhttp = 'off'");
    told.with("everybody may connect", "open_loopback = true\nmqtt = '0.0.0.0:1883'");
    told.beside("TLS without a certificate", "mqtts = '127.0.0.1:0'");
    insta::assert_snapshot!(told.text);
}

#[test]
fn wrong_files_are_answered_with_what_to_do() {
    let mut told = Told::new();
    told.with("users file missing", &format!("users = 'folk'\ndata = 'data'\n{PORTS}"));
    told.write("users", &format!("{}anna admin hunter2\n", user_line("pi-1 node")));
    told.beside("users file with a broken line", "");
    told.write("users", &user_line("anna boss"));
    told.beside("users file with an unknown role", "");
    told.write("users", "# nobody yet\n");
    told.beside("users file without users", "");
    told.write("users", &user_line("anna admin"));
    told.beside("root missing", "root = 'trust.cbor'");
    told.write("rubbish", "rubbish");
    told.beside("no root document", "root = 'rubbish'");
    told.beside("root of another fleet", "root = 'root.cbor'\nfleet = 'barn'");
    told.beside(
        "secret of a webhook missing",
        "[[webhook]]\nurl = 'https://ops.example/x'\nsecret_file = 'secret'",
    );
    told.beside(
        "secret of a webhook too short",
        "[[webhook]]\nurl = 'https://ops.example/x'\nsecret_file = 'rubbish'",
    );
    let tls = |cert: &str, key: &str| format!("mqtts = '127.0.0.1:0'\n[tls]\ncert = '{cert}'\nkey = '{key}'");
    let pki = Pki::new();
    for (name, of) in [("a", pki.of("a.lan")), ("b", pki.of("b.lan"))] {
        fs::copy(of.cert, told.path(&format!("{name}.pem"))).unwrap();
        fs::copy(of.key, told.path(&format!("{name}.key"))).unwrap();
    }
    told.beside("certificate missing", &tls("cert.pem", "a.key"));
    told.beside("no certificate", &tls("rubbish", "a.key"));
    told.beside("key missing", &tls("a.pem", "key.pem"));
    told.beside("no key", &tls("a.pem", "rubbish"));
    told.beside("key of another certificate", &tls("a.pem", "b.key"));
    told.beside(
        "certificate of a server as an issuer",
        &format!("{}\nnames = ['bus.lan']", tls("a.pem", "a.key")),
    );
    insta::assert_snapshot!(told.text);
}

#[test]
fn a_place_that_cannot_be_had_is_answered_with_what_to_do() {
    let mut told = Told::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let here = format!("127.0.0.1:{port}");
    let with_data = |mqtt: &str, http: &str| {
        format!("users = 'users'\ndata = 'data'\nmqtt = '{mqtt}'\nhttp = '{http}'\n")
    };
    told.with("MQTT port taken", &with_data(&here, "127.0.0.1:0"));
    told.with("HTTP port taken", &with_data("127.0.0.1:0", &here));
    told.with("address of another machine", &with_data("192.0.2.1:1883", "127.0.0.1:0"));
    told.with("data folder is a file", &format!("users = 'users'\ndata = 'users'\n{PORTS}"));
    told.with("data folder cannot be made", &format!("users = 'users'\ndata = 'users/data'\n{PORTS}"));
    let owner = Broker::start(&told.path("data"));
    let pid = fs::read_to_string(told.path("data/lock")).unwrap().trim().to_owned();
    told.beside("data folder of another broker", "");
    owner.kill();
    told.write("data/controller.key", "short");
    told.beside("key of the controller damaged", "root = 'root.cbor'");
    let log = Connection::open(told.path("data/log.sqlite3")).unwrap();
    log.pragma_update(None, "user_version", 99).unwrap();
    drop(log);
    told.beside("deploy log of a newer version", "");
    fs::File::create(told.path("data/retained.log")).unwrap().write_all(b"DEPLOYBUS-RETAINED-9\n").unwrap();
    told.beside("retained messages of a newer version", "");
    let text = told.text.replace(&port, "<port>").replace(&format!("process {pid}"), "process <pid>");
    insta::assert_snapshot!(text);
}
