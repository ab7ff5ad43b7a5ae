//! The broker's unit as it is packaged, under a real systemd: it serves TLS, and `systemctl reload` renews the certificate.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use e2e::{Output, Process, SystemdNode, free_port, systemd_unavailable, wait_until};
use schemas::id::Digest;
use tempfile::TempDir;

const UNIT: &str = "deploybus-broker.service";
const LOGIN: [&str; 4] = ["-u", "anna", "-P", "anna-secret"];
const TLS: &str = "[tls]\ncert = 'tls/broker.pem'\nkey = 'tls/broker.key'\n";
const PATIENCE: Duration = Duration::from_secs(30);

/// A machine with a broker, and what its administrator has at home.
struct Site {
    machine: SystemdNode,
    port: u16,
    http: u16,
    home: TempDir,
}

#[test]
fn the_packaged_broker_serves_tls_and_takes_a_new_certificate_on_reload() {
    if let Some(why) = systemd_unavailable().or_else(missing) {
        println!("skipped: {why}");
        return;
    }
    let site = Site::start();
    // As by the README, without TLS; the folder for certificates comes with that.
    site.run(&["systemctl", "enable", "--now", UNIT]);
    let old = site.certificate("old");
    site.put(&old);
    site.set("mqtts", TLS);
    site.run(&["systemctl", "restart", UNIT]);
    site.publish(&old, "before").unwrap().expect(0).unwrap();
    let (pid, staying) = (site.pid(), site.subscriber(&old));
    for (path, access) in [("tls", "750"), ("tls/broker.pem", "640"), ("tls/broker.key", "640")] {
        let found = site.run(&["stat", "-c", "%U:%G %a", &format!("/etc/deploybus/{path}")]);
        assert_eq!(found, format!("root:deploybus-broker {access}\n"), "{path}");
    }

    let new = site.certificate("new");
    site.put(&new);
    site.run(&["systemctl", "reload", UNIT]);
    let taken = || site.publish(&new, "renewed").ok()?.expect(0).ok();
    wait_until("the new certificate", PATIENCE, taken).unwrap();
    assert_ne!(site.publish(&old, "not believed").unwrap().code, Some(0));

    fs::write(site.etc().join("tls/broker.pem"), "half a certi").unwrap();
    site.run(&["systemctl", "reload", UNIT]);
    let said = || site.journal().contains("the certificates stay as they were").then_some(());
    wait_until("the broker to say that it cannot use a certificate", PATIENCE, said).unwrap();
    site.publish(&new, "still the new one").unwrap().expect(0).unwrap();

    let heard = || staying.said().contains("a still the new one").then_some(());
    wait_until("the client from before", PATIENCE, heard).unwrap();
    assert!(!staying.said().contains("not believed"));
    assert_eq!(site.pid(), pid, "the broker was not started again");
    // What `publisher init` made, copied as the README says.
    let home = site.copy_home();
    site.run(&["systemctl", "restart", UNIT]);
    let mut watcher = Command::new("mosquitto_sub");
    watcher.args(["-h", "127.0.0.1", "-p", &site.port.to_string(), "--cafile"]).arg(home.join("ca.pem"));
    watcher.args(["-u", "watcher", "-P", fs::read_to_string(home.join("watcher.password")).unwrap().trim()]);
    let read =
        || Output::of(watcher.args(["-t", "$SYS/broker/uptime", "-C", "1", "-W", "5"])).ok()?.expect(0).ok();
    wait_until("the broker with its own issuer", PATIENCE, read).unwrap();
    assert!(!site.journal().contains("cannot access"), "{}", site.journal());
}

/// Programs of this test that are not here.
fn missing() -> Option<String> {
    let is_there = |program: &&str| Command::new(program).arg("--help").output().is_ok();
    let missing = ["mosquitto_pub", "openssl"].into_iter().find(|program| !is_there(program));
    missing.map(|program| format!("needs {program}"))
}

impl Site {
    /// Boots, with everything in place that the README says, for one port.
    fn start() -> Self {
        let home = TempDir::new().unwrap();
        let mut machine = SystemdNode::create("broker-systemd", home.path()).unwrap();
        let root = machine.root();
        let packaging = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../packaging");
        let etc = root.join("etc");
        fs::create_dir_all(etc.join("deploybus")).unwrap();
        fs::create_dir_all(etc.join("sysusers.d")).unwrap();
        fs::copy(e2e::binary("broker").unwrap(), root.join("usr/bin/broker")).unwrap();
        fs::copy(packaging.join("systemd").join(UNIT), etc.join("systemd/system").join(UNIT)).unwrap();
        fs::copy(packaging.join("sysusers.d/deploybus.conf"), etc.join("sysusers.d/deploybus.conf")).unwrap();
        let user = format!("anna admin sha256:{}\n", Digest::of(b"anna-secret"));
        fs::write(etc.join("deploybus/users"), user).unwrap();
        machine.boot().unwrap();
        let site = Self { machine, port: free_port().unwrap(), http: free_port().unwrap(), home };
        site.set("mqtt", "");
        site.run(&["systemd-sysusers"]);
        site
    }

    /// Writes the broker's settings: `name` is what is spoken on the port.
    fn set(&self, name: &str, more: &str) {
        let Self { port, http, .. } = self;
        let mqtt = if name == "mqtt" { "" } else { "mqtt = 'off'\n" };
        let rest = format!("{name} = '127.0.0.1:{port}'\nhttp = '127.0.0.1:{http}'\nusers = 'users'\n");
        fs::write(self.etc().join("broker.toml"), [mqtt, &rest, more].concat()).unwrap();
    }

    /// Runs a command inside, which must succeed; gives what it printed.
    fn run(&self, command: &[&str]) -> String {
        self.machine.run(command).unwrap().expect(0).unwrap().stdout
    }

    fn journal(&self) -> String {
        self.run(&["journalctl", "--unit", UNIT, "--output", "cat"])
    }

    fn pid(&self) -> String {
        self.run(&["systemctl", "show", UNIT, "--property", "MainPID"])
    }

    fn etc(&self) -> PathBuf {
        self.machine.root().join("etc/deploybus")
    }

    /// Makes a fleet whose broker is this one, and copies what the broker needs; gives its home.
    fn copy_home(&self) -> PathBuf {
        let home = self.home.path().join("fleet");
        let mut publisher = Command::new(e2e::binary("publisher").unwrap());
        publisher
            .arg("--home")
            .arg(&home)
            .args(["init", "--bus"])
            .arg(format!("mqtts://127.0.0.1:{}", self.port));
        publisher.arg("--store").arg(format!("https://127.0.0.1:{}", self.http));
        Output::of(&mut publisher).unwrap().expect(0).unwrap();
        let copy = "rm -r tls; cp -r \"$0\"/broker/{broker.toml,root.cbor,users,tls} .";
        let mut bash = Command::new("bash");
        Output::of(bash.current_dir(self.etc()).args(["-ec", copy]).arg(&home)).unwrap().expect(0).unwrap();
        home
    }

    /// Makes a certificate as `docs/listeners.md` says, in a folder of this name.
    fn certificate(&self, name: &str) -> PathBuf {
        let folder = self.home.path().join(name);
        fs::create_dir(&folder).unwrap();
        let mut openssl = Command::new("openssl");
        openssl.current_dir(&folder).args(["req", "-x509", "-newkey", "ec", "-pkeyopt"]);
        openssl.args(["ec_paramgen_curve:P-256", "-nodes", "-days", "365", "-subj", "/CN=bus.lan"]);
        openssl.args(["-addext", "subjectAltName=DNS:bus.lan,IP:127.0.0.1"]);
        Output::of(openssl.args(["-keyout", "broker.key", "-out", "broker.pem"])).unwrap().expect(0).unwrap();
        folder
    }

    /// Copies a certificate to its place, for its owner alone.
    fn put(&self, folder: &Path) {
        for file in ["broker.pem", "broker.key"] {
            let path = self.etc().join("tls").join(file);
            // Not into the file that is there: it would keep who may read it.
            let _ = fs::remove_file(&path);
            fs::copy(folder.join(file), &path).unwrap();
            Output::of(Command::new("chmod").arg("600").arg(&path)).unwrap().expect(0).unwrap();
        }
    }

    fn client(&self, program: &str, believed: &Path) -> Command {
        let mut client = Command::new(program);
        client.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(LOGIN);
        client.arg("--cafile").arg(believed.join("broker.pem"));
        client
    }

    fn publish(&self, believed: &Path, payload: &str) -> anyhow::Result<Output> {
        let mut client = self.client("mosquitto_pub", believed);
        Output::of(client.args(["-t", "a", "-q", "1", "-r", "-m", payload]))
    }

    /// A client that prints topic and payload, and is there already.
    fn subscriber(&self, believed: &Path) -> Process {
        let mut client = self.client("mosquitto_sub", believed);
        client.args(["-t", "a", "-q", "1", "-v"]);
        Process::start(client, &self.home.path().join("subscriber.log"), "a before").unwrap()
    }
}
