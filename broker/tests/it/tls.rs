//! TLS: strangers at the port, certificates that come and go, and clients that log in with theirs.

use std::{io::Write as _, net::TcpStream, sync::Arc, time::Instant};

use broker::{TlsSettings, Transport};
use rumqttc::ConnectReturnCode;
use rustls::{ClientConnection, StreamOwned};

use crate::{
    bus::Bus,
    client::{Client, Hello, PATIENCE, unfinished},
    pki::Pki,
};

fn with_tls(pki: &Pki) -> Bus {
    Bus::with(|settings| {
        settings.mqtts = Some("127.0.0.1:0".parse().unwrap());
        settings.tls = Some(pki.settings(None));
    })
}

#[test]
fn what_is_said_over_tls_is_heard_without_it() {
    let pki = Pki::new();
    let bus = with_tls(&pki);
    let mut plain = bus.client("plain");
    plain.subscribe("a/#", 1);
    let mut secret = pki.client(bus.address(Transport::Mqtts), None).say(&Hello::new("secret")).unwrap();
    secret.subscribe("a/#", 1);
    secret.publish("a/b", &"x".repeat(300_000), 1, true);
    assert_eq!(plain.message().0.payload.len(), 300_000);
    assert_eq!(secret.message().0.payload.len(), 300_000);
    secret.disconnect();
}

#[test]
fn an_issuer_makes_the_certificate_of_relay_and_store() {
    let (pki, next) = (Pki::new(), Pki::new());
    let issuer = pki.issuing();
    let bus = Bus::with(|settings| {
        settings.mqtts = Some("127.0.0.1:0".parse().unwrap());
        settings.https = Some("127.0.0.1:0".parse().unwrap());
        settings.tls = Some(issuer.clone());
    });
    let address = bus.address(Transport::Mqtts);
    pki.client(address, None).say(&Hello::new("a")).unwrap().disconnect();
    let mut store = pki.client(bus.https(), None);
    store.send_bytes(b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(String::from_utf8(store.rest()).unwrap().ends_with("{\"ok\":true}"));

    // Another issuer is taken without a signal.
    let TlsSettings { cert, key, .. } = next.issuing();
    std::fs::copy(cert, &issuer.cert).unwrap();
    std::fs::copy(key, &issuer.key).unwrap();
    let limit = Instant::now() + PATIENCE;
    while next.client(address, None).try_send_bytes(b"x").is_err() {
        assert!(Instant::now() < limit, "the new issuer is not taken");
    }
}

#[test]
fn who_opens_the_tls_port_and_says_nothing_stops_nobody_and_is_cut_off() {
    let pki = Pki::new();
    let bus = with_tls(&pki);
    let address = bus.address(Transport::Mqtts);
    let beginnings: [&[u8]; 4] = [b"", b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\n\r\n", &[0xff; 300]];
    let mut idle = unfinished(address, &beginnings);
    pki.client(address, None).say(&Hello::new("good")).unwrap().disconnect();
    for client in &mut idle {
        client.rest();
    }
    // Also one that finishes the handshake and then says nothing.
    pki.client(address, None).rest();
    pki.client(address, None).say(&Hello::new("good")).unwrap().disconnect();
}

#[test]
fn microcontrollers_speak_tls_1_2_and_show_their_certificate_each_time() {
    let pki = Pki::new();
    let bus = Bus::with_users_and(&["pi-1 node groups=all"], |settings| {
        settings.mqtts = Some("127.0.0.1:0".parse().unwrap());
        settings.tls = Some(pki.settings(Some(&pki)));
    });
    let config = Arc::new(pki.config(&[&rustls::version::TLS12], Some(&pki.of("pi-1"))));
    for _ in 0..2 {
        let connection = ClientConnection::new(Arc::clone(&config), "localhost".try_into().unwrap()).unwrap();
        let tcp = TcpStream::connect(bus.address(Transport::Mqtts)).unwrap();
        let mut stream = StreamOwned::new(connection, tcp);
        stream.write_all(b"x").unwrap();
        assert_eq!(stream.conn.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_2));
        let suite = format!("{:?}", stream.conn.negotiated_cipher_suite().unwrap().suite());
        assert!(suite.starts_with("TLS_ECDHE_") && !suite.contains("CBC"), "{suite}");
        assert_eq!(stream.conn.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[test]
fn certificates_are_read_again_while_clients_stay() {
    let (pki, next) = (Pki::new(), Pki::new());
    let bus = with_tls(&pki);
    let address = bus.address(Transport::Mqtts);
    let mut staying = pki.client(address, None).say(&Hello::new("staying")).unwrap();
    staying.subscribe("a", 1);

    std::fs::write(pki.path_of_relay().cert, "half a certi").unwrap();
    bus.reload();
    pki.client(address, None).say(&Hello::new("still the old one")).unwrap();

    pki.replace(&next);
    bus.reload();
    let mut newcomer = next.client(address, None).say(&Hello::new("newcomer")).unwrap();
    newcomer.publish("a", "x", 1, false);
    assert_eq!(staying.message().text(), "a=x");
    assert!(pki.client(address, None).try_send_bytes(b"x").is_err(), "the old CA did not sign the new one");
}

#[test]
fn a_client_logs_in_with_its_certificate_and_as_nobody_else() {
    let (pki, stranger) = (Pki::new(), Pki::new());
    let bus = Bus::with_users_and(&["pi-1 node groups=all", "anna admin"], |settings| {
        settings.mqtts = Some("127.0.0.1:0".parse().unwrap());
        settings.tls = Some(pki.settings(Some(&pki)));
    });
    let address = bus.address(Transport::Mqtts);
    let certified = pki.of("pi-1");
    let say = |hello: &Hello| pki.client(address, Some(&certified)).say(hello);
    let no_password = |user| Hello::new("pi-1").password(user, "");

    let mut node = say(&Hello::new("pi-1")).unwrap();
    node.publish("deploybus/v1/node/pi-1/health", "{}", 1, true);
    say(&no_password("pi-1")).unwrap();
    let refused = |result: Result<Client, _>| result.err().unwrap();
    assert_eq!(refused(say(&no_password("anna"))), ConnectReturnCode::NotAuthorized);
    assert_eq!(refused(say(&Hello::new("pi-2"))), ConnectReturnCode::BadClientId);
    let by_subject = pki.of_common_name("anna");
    pki.client(address, Some(&by_subject)).say(&Hello::new("x")).unwrap();
    let unknown = pki.of("nobody");
    let unknown = pki.client(address, Some(&unknown)).say(&Hello::new("nobody"));
    assert_eq!(refused(unknown), ConnectReturnCode::NotAuthorized);

    for bad in [pki.expired("pi-1"), stranger.of("pi-1")] {
        let mut client = pki.client(address, Some(&bad));
        // The client has finished its part of the handshake before the relay has judged it.
        let _ = client.try_send_bytes(&Hello::new("pi-1").bytes());
        assert_eq!(client.rest(), b"");
    }
    // Without a certificate, by password as ever.
    pki.client(address, None).say(&Hello::new("y").user("anna")).unwrap();
    let anonymous = pki.client(address, None).say(&Hello::new("y"));
    assert_eq!(refused(anonymous), ConnectReturnCode::NotAuthorized);
}
