//! Noise of every kind against a real broker: for some seconds, or as long as `SECONDS` says (`make soak`).

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

use crate::{
    client::{Client, Hello},
    noise::{Noise, PORTS},
    pki::Pki,
    program::{Broker, listening_broker},
    websocket,
};

/// More than the broker needs for all that it holds back in its queues.
const MOST_MIB: u64 = 250;
const THREADS: u64 = 4;

#[test]
fn noise_of_every_kind_at_every_port_harms_nobody() {
    let seconds = env::var("SECONDS").map_or(3, |seconds| seconds.parse().unwrap());
    let seed = env::var("SEED").map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    println!("SEED={seed}");
    let (folder, pki) = (TempDir::new().unwrap(), Pki::new());
    let log = folder.path().join("log");
    let mut command = listening_broker(folder.path(), &pki.settings(Some(&pki)), &[]);
    let broker = Broker::spawn(command.stderr(File::create(&log).unwrap()));
    let until = Instant::now() + Duration::from_secs(seconds);
    let noises = start_noise(&broker, &pki, seed, until);
    let mut most_mib = 0;
    while Instant::now() < until {
        assert_serves(&broker, &pki);
        most_mib = most_mib.max(broker.resident_mib());
        assert!(most_mib < MOST_MIB, "{most_mib} MiB");
    }
    let mut opened = BTreeMap::<_, usize>::new();
    for (port, count) in noises.into_iter().flat_map(|noise| noise.join().unwrap()) {
        *opened.entry(port).or_default() += count;
    }
    println!("connections that got in: {opened:?}; {most_mib} MiB at most");
    assert!(PORTS.iter().all(|port| opened.get(port).is_some_and(|count| *count > 10)), "{opened:?}");
    assert_serves(&broker, &pki);
    assert!(broker.terminate().success());
    // A connection that panics ends alone, and only the log says so.
    let log = fs::read_to_string(&log).unwrap();
    let lines = log.lines().count();
    assert!(
        !log.contains("panicked") && lines < 50 + 2 * seconds as usize,
        "{lines} lines in the log:\n{log}"
    );
}

/// Each of them gives how often it got in at each port.
fn start_noise(
    broker: &Broker,
    pki: &Pki,
    seed: u64,
    until: Instant,
) -> Vec<JoinHandle<BTreeMap<&'static str, usize>>> {
    let addresses: BTreeMap<_, _> = PORTS.into_iter().map(|port| (port, broker.address(port))).collect();
    let start = |n| {
        let tls = pki.config(&[&rustls::version::TLS13], None);
        let mut noise = Noise::new(seed ^ n << 32, addresses.clone(), tls);
        thread::spawn(move || {
            while Instant::now() < until {
                noise.make();
            }
            noise.opened
        })
    };
    (0..THREADS).map(start).collect()
}

/// Fails unless a new client of each kind can publish to all of them.
fn assert_serves(broker: &Broker, pki: &Pki) {
    let [mqtt, mqtts, ws, wss] = ["mqtt", "mqtts", "ws", "wss"].map(|port| broker.address(port));
    let clients = [
        ("good-mqtt", Client::silent(mqtt)),
        ("good-mqtts", pki.client(mqtts, None)),
        ("good-ws", websocket::client(ws, 99)),
        ("good-wss", websocket::tls_client(pki, wss, 99)),
    ];
    let mut clients = clients.map(|(id, client)| client.say(&Hello::new(id)).unwrap());
    for client in &mut clients {
        client.subscribe("good", 1);
    }
    for publisher in 0..clients.len() {
        clients[publisher].publish("good", "x", 1, false);
        for client in &mut clients {
            assert_eq!(client.message().text(), "good=x");
        }
    }
    clients.into_iter().for_each(Client::disconnect);
}
