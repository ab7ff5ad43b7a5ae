//! The programs of mosquitto-clients over TLS, with passwords and with certificates of their own.

use std::{io::Write as _, sync::Arc};

use tempfile::NamedTempFile;

use super::{
    Bus,
    mosquitto::{Site, versions},
};
use crate::pki::{Certified, Pki};

const USERS: [&str; 3] = [
    "anna guest publish=a/#,ready/# subscribe=#",
    "bert guest publish=b/#,ready/# subscribe=#",
    "pi-1 node groups=all",
];

/// A broker with TLS, and one version of the protocol.
struct Place {
    pki: Pki,
    bus: Arc<Bus>,
    version: &'static str,
}

#[test]
fn messages_pass_between_those_with_tls_and_those_without() {
    for place in places() {
        let plain = place.plain("anna");
        let secret = place.with_password("anna");
        let mut seen_plain = plain.subscribe(&["-t", "a/#", "-q", "1"]);
        let mut seen_secret = secret.subscribe(&["-t", "a/#", "-q", "1"]);
        secret.publish(&["-t", "a/1", "-q", "1", "-r", "-m", "x"]);
        plain.publish(&["-t", "a/2", "-q", "1", "-m", "y"]);
        for seen in [&mut seen_plain, &mut seen_secret] {
            assert_eq!([seen.line(), seen.line()], ["a/1 q1 r0 x", "a/2 q1 r0 y"]);
        }
        assert_eq!(secret.read(&["-t", "a/#", "-q", "1", "-C", "1"]), ["a/1 q1 r1 x"]);
        let will = ["-t", "x", "--will-topic", "a/will", "--will-payload", "gone", "--will-qos", "1"];
        drop(secret.subscribe(&will));
        assert_eq!(seen_plain.line(), "a/will q1 r0 gone");
    }
}

#[test]
fn large_messages_and_many_come_whole_through_tls() {
    for place in places() {
        let site = place.with_password("anna");
        let mut file = NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..1_000_000_u32).map(|n| (n % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        site.publish(&["-t", "a/file", "-q", "1", "-r", "-f", file.path().to_str().unwrap()]);
        let output = site.output("mosquitto_sub", &["-t", "a/file", "-q", "1", "-C", "1", "-N"]);
        assert!(output.status.success() && output.stdout == bytes, "{} bytes came", output.stdout.len());
        let mut many = site.subscribe(&["-t", "a/many", "-q", "1", "-F", "%p"]);
        site.publish(&["-t", "a/many", "-q", "1", "-m", "x", "--repeat", "500"]);
        for _ in 0..500 {
            assert_eq!(many.line(), "x");
        }
    }
}

#[test]
fn a_certificate_of_a_client_says_who_it_is() {
    for place in places() {
        let bert = place.with_certificate(&place.pki.of("bert"), &[]);
        let mut watcher = place.with_password("anna").subscribe(&[
            "-t",
            "a/#",
            "-t",
            "b/#",
            "-t",
            "deploybus/#",
            "-q",
            "1",
        ]);
        // Not allowed, and told or not by the version.
        bert.output("mosquitto_pub", &["-t", "a/x", "-q", "1", "-m", "not bert's"]);
        bert.publish(&["-t", "b/x", "-q", "1", "-m", "bert's"]);
        assert_eq!(watcher.line(), "b/x q1 r0 bert's");
        // By the common name, and by a name that is said too.
        let anna = place.pki.of_common_name("anna");
        for also in [&[][..], &["-u", "anna"]] {
            place.with_certificate(&anna, also).publish(&["-t", "a/x", "-q", "1", "-m", "anna's"]);
            assert_eq!(watcher.line(), "a/x q1 r0 anna's");
        }
        let node = place.with_certificate(&place.pki.of("pi-1"), &["-i", "pi-1"]);
        node.publish(&["-t", "deploybus/v1/node/pi-1/health", "-q", "1", "-m", "{}"]);
        assert_eq!(watcher.line(), "deploybus/v1/node/pi-1/health q1 r0 {}");
    }
}

#[test]
fn who_is_not_who_it_says_is_refused_over_tls() {
    let stranger = Pki::new();
    for place in places() {
        let refused = |site: &Site| {
            let output = site.output("mosquitto_pub", &["-t", "a/x", "-q", "1", "-m", "x"]);
            assert!(!output.status.success());
            String::from_utf8(output.stderr).unwrap()
        };
        let of_bert = place.pki.of("bert");
        for site in [
            place.with_ca(&place.pki, &["-u", "anna", "-P", "wrong"]),
            place.with_ca(&place.pki, &[]),
            place.with_certificate(&of_bert, &["-u", "anna"]),
            place.with_certificate(&place.pki.of("nobody"), &[]),
        ] {
            let text = refused(&site).to_lowercase();
            assert!(text.contains("not authori") || text.contains("bad user"), "{text}");
        }
        refused(&place.with_certificate(&stranger.of("bert"), &[]));
        refused(&place.with_certificate(&place.pki.expired("anna"), &[]));
        // A client that does not believe the relay says nothing to it.
        refused(&place.with_ca(&stranger, &["-u", "anna", "-P", "anna-secret"]));
        place.with_certificate(&of_bert, &[]).publish(&["-t", "b/x", "-q", "1", "-m", "x"]);
    }
}

/// A broker for each version, if the programs are there.
fn places() -> impl Iterator<Item = Place> {
    versions().map(|version| {
        let pki = Pki::new();
        let bus = Arc::new(Bus::secured(&pki, &USERS));
        Place { pki, bus, version }
    })
}

impl Place {
    fn plain(&self, user: &str) -> Site {
        let (port, password) = (self.bus.port().to_string(), format!("{user}-secret"));
        Site::by(&self.bus, self.version, &["-h", "127.0.0.1", "-p", &port, "-u", user, "-P", &password])
    }

    fn with_password(&self, user: &str) -> Site {
        self.with_ca(&self.pki, &["-u", user, "-P", &format!("{user}-secret")])
    }

    fn with_certificate(&self, Certified { cert, key }: &Certified, more: &[&str]) -> Site {
        let files = ["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()];
        self.with_ca(&self.pki, &[&files, more].concat())
    }

    fn with_ca(&self, pki: &Pki, more: &[&str]) -> Site {
        let (port, ca) = (self.bus.broker.address("mqtts").port().to_string(), pki.ca());
        let way = ["-h", "127.0.0.1", "-p", &port, "--cafile", ca.to_str().unwrap()];
        Site::by(&self.bus, self.version, &[&way, more].concat())
    }
}
