//! TLS 1.3: full handshakes, of which the clients on the same machine do their half, and memory for each connection.

use std::{sync::Arc, time::Instant};

use anyhow::{Context as _, Result};
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    broker::{Brand, Broker},
    client::{Client, runtime},
    figure::{Aim, Figures, Measured, Samples, resident_kib},
};

const ROUNDS: usize = 5;
const HANDSHAKES: usize = 1_000;
/// Handshakes at a time.
const TOGETHER: usize = 64;

type TlsClient = Client<TlsStream<TcpStream>>;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let (certificate, key) = (certified.cert.pem(), certified.signing_key.serialize_pem());
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone())?;
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let connector = TlsConnector::from(Arc::new(config));

    let brokers: Result<Vec<_>> =
        Brand::all().into_iter().map(|brand| Broker::start(brand, Some((&certificate, &key)))).collect();
    let brokers = brokers?;
    let runtime = runtime()?;
    let empty = || brokers.iter().map(|broker| (broker.brand, Samples::default())).collect::<Vec<_>>();
    let (mut rate, mut memory) = (empty(), empty());
    for round in 0..ROUNDS {
        for (at, broker) in brokers.iter().enumerate() {
            let (before, begin) = (resident_kib(broker.pid())?, Instant::now());
            let clients = runtime.block_on(connect(&connector, broker.tls_port))?;
            rate[at].1.0.push(HANDSHAKES as f64 / begin.elapsed().as_secs_f64());
            // Later rounds find memory that was used before.
            if round == 0 {
                let each = (resident_kib(broker.pid())? - before) / HANDSHAKES as f64;
                memory[at].1.0.push(each);
            }
            drop(clients);
        }
    }
    let measured = |what, unit| Measured { bench: "tls", what, unit };
    figures.compare(measured("full handshakes and CONNECTs", "per s"), &rate, Aim::None)?;
    figures.compare(measured("memory per connection", "KiB"), &memory, Aim::None)
}

async fn connect(connector: &TlsConnector, port: u16) -> Result<Vec<TlsClient>> {
    let mut tasks = JoinSet::new();
    for lane in 0..TOGETHER {
        let connector = connector.clone();
        tasks.spawn(async move {
            let mut clients = Vec::new();
            for number in (lane..HANDSHAKES).step_by(TOGETHER) {
                let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
                let stream = connector.connect("localhost".try_into()?, tcp).await.context("no TLS")?;
                clients.push(Client::open(stream, &format!("node-{number}")).await?);
            }
            anyhow::Ok(clients)
        });
    }
    let clients: Result<Vec<_>> = tasks.join_all().await.into_iter().collect();
    Ok(clients?.into_iter().flatten().collect())
}
