//! TLS, and several servers of one bus, with a real broker.

use std::{fs, path::Path, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, date_time_ymd};
use rumqttc::{ConnAck, ConnectReturnCode, Packet, QoS, SubscribeReasonCode};
use schemas::{time::UnixTime, topic::Filter};
use tempfile::TempDir;

use super::{
    Bus, Event, Message, event_topic, info_topic, mosquitto::Mosquitto, next_event, scripted::Scripted,
    until_connected, until_delivered,
};
use crate::{Tls, bus::Lost};

/// 2101-01-01: when the certificates of these tests begin to count.
const BEGIN: UnixTime = UnixTime(4_133_980_800);

#[tokio::test]
async fn a_pinned_ca_is_believed_and_a_clock_that_was_not_set_is_no_hindrance() {
    let folder = TempDir::new().unwrap();
    let pem = certify(folder.path());
    let Some(broker) = Mosquitto::start_with_tls(folder) else { return };
    let mut options = broker.options("pi");
    options.url = broker.tls_url("localhost");
    options.tls = Some(Tls::pinned(pem.as_bytes(), BEGIN).unwrap());
    let (bus, mut events) = Bus::connect(options);
    until_connected(&mut events).await;
    until_delivered([bus.publish(Message::new(event_topic(), "secret"))]).await;
}

#[tokio::test]
async fn a_certificate_of_somebody_else_or_for_another_name_is_not_believed() {
    let folder = TempDir::new().unwrap();
    let pem = certify(folder.path());
    let stranger = certify(TempDir::new().unwrap().path());
    let Some(broker) = Mosquitto::start_with_tls(folder) else { return };
    let pinned = |pem: &str, earliest| Some(Tls::pinned(pem.as_bytes(), earliest).unwrap());
    for (what, host, tls) in [
        ("another CA", "localhost", pinned(&stranger, BEGIN)),
        ("another name", "127.0.0.1", pinned(&pem, BEGIN)),
        ("not yet valid", "localhost", pinned(&pem, UnixTime(0))),
        ("no CA of the world", "localhost", None),
    ] {
        let mut options = broker.options("pi");
        (options.url, options.tls) = (broker.tls_url(host), tls);
        let (_bus, mut events) = Bus::connect(options);
        let event = next_event(&mut events).await;
        assert!(matches!(event, Event::Disconnected(Lost::Untrusted { .. })), "{what}: {event:?}");
    }
}

#[tokio::test]
async fn tls_is_never_given_up_for_a_broker_that_has_none() {
    let broker = Scripted::bind().await;
    let url = broker.url().to_string().replace("mqtt://", "mqtts://").parse().unwrap();
    let (_bus, mut events) = Bus::connect(super::eager(url, "pi"));
    let mut peer = broker.accept().await;
    // A record of TLS (22: handshake), where the CONNECT would be without.
    assert_eq!(peer.read_byte().await, 22);
    peer.write(Packet::ConnAck(ConnAck::new(ConnectReturnCode::Success, false))).await;
    let event = next_event(&mut events).await;
    assert!(matches!(event, Event::Disconnected(Lost::Garbled { .. })), "{event:?}");
}

#[tokio::test]
async fn when_a_server_is_killed_another_one_of_the_cluster_is_used() {
    let (Some(mut first), Some(second)) = (Mosquitto::start(), Mosquitto::start()) else { return };
    let mut options = first.options("pi");
    options.url = format!("mqtt://127.0.0.1:{},127.0.0.1:{}", first.port(), second.port()).parse().unwrap();
    let (bus, mut events) = Bus::connect(options);
    until_delivered([bus.set_retained(Message::new(info_topic(), "state"))]).await;
    until_connected(&mut events).await;
    first.kill();
    while !matches!(next_event(&mut events).await, Event::Disconnected(_)) {}
    until_connected(&mut events).await;
    let (reader, mut seen) = second.connect("reader");
    reader.subscribe([Filter::from(&info_topic())]);
    assert_eq!(super::next_message(&mut seen).await.payload, "state");
}

#[tokio::test]
async fn subscriptions_are_renewed_once_the_servers_of_a_cluster_agree() {
    let (server, other) = (Scripted::bind().await, Scripted::bind().await);
    let servers = format!("{},{}", server.url(), other.url().to_string().replace("mqtt://", ""));
    let mut options = super::eager(servers.parse().unwrap(), "pi");
    options.cluster_settles_in = Duration::from_millis(10)..=Duration::from_millis(20);
    let (bus, _events) = Bus::connect(options);
    bus.subscribe([Filter::from(&info_topic())]);
    let mut peer = server.let_in().await;
    let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
    // Then, too, when one was refused, as servers do that have no leader.
    for answer in [granted, SubscribeReasonCode::Failure, granted] {
        let subscribe = peer.read_subscribe().await;
        peer.grant(&subscribe, answer).await;
    }
}

/// Writes `cert.pem` and `key.pem` for localhost, and gives the CA.
fn certify(folder: &Path) -> String {
    let times = |params: &mut CertificateParams| {
        (params.not_before, params.not_after) = (date_time_ymd(2100, 1, 1), date_time_ymd(2110, 1, 1));
    };
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    times(&mut ca);
    let ca_key = KeyPair::generate().unwrap();
    let pem = ca.self_signed(&ca_key).unwrap().pem();
    let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    times(&mut params);
    let key = KeyPair::generate().unwrap();
    let signed = params.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    fs::write(folder.join("cert.pem"), signed.pem()).unwrap();
    fs::write(folder.join("key.pem"), key.serialize_pem()).unwrap();
    pem
}
