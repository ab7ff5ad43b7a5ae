//! TLS with the CA that `publisher init` makes.

use std::{fs, process::Command};

use e2e::{BusKind, Mqtt, Output, World, get};

#[test]
fn nothing_is_said_to_who_speaks_no_tls() {
    let world = World::on(BusKind::Tls).unwrap();
    let (bus, store) = world.tls_ports().unwrap();
    assert!(Mqtt::connect(bus, None).is_err());
    assert!(get(store, "/healthz").is_err());
}

#[test]
fn the_brokers_issuer_can_speak_for_the_broker_alone() {
    if Command::new("openssl").arg("version").output().is_err() {
        println!("skipped: needs openssl");
        return;
    }
    let world = World::new().unwrap();
    let issuer = world.home().join("broker/tls");
    let verify = |name: &str| {
        let openssl = |line: &str| {
            let mut openssl = Command::new("openssl");
            Output::of(openssl.current_dir(&issuer).args(line.split(' '))).unwrap()
        };
        fs::write(issuer.join("names"), format!("subjectAltName={name}")).unwrap();
        openssl("req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout leaf.key -out leaf.csr")
            .expect(0)
            .unwrap();
        openssl(
            "x509 -req -in leaf.csr -CA issuer.pem -CAkey issuer.key -days 1 -extfile names -out leaf.pem",
        )
        .expect(0)
        .unwrap();
        openssl("verify -CAfile ../../ca.pem -untrusted issuer.pem leaf.pem")
    };
    for name in ["DNS:localhost", "IP:127.0.0.1"] {
        verify(name).expect(0).unwrap();
    }
    for name in ["DNS:bank.example", "IP:192.0.2.1"] {
        let said = verify(name).expect(2).unwrap();
        assert!(said.stderr.contains("permitted subtree violation"), "{}", said.stderr);
    }
}
