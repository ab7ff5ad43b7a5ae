//! Noise of every kind against a real broker: for some seconds, or as long as `SECONDS` says (`make soak`).

use std::{
    env,
    io::Write as _,
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use tempfile::TempDir;

use crate::{client::Hello, program::Broker};

/// More than the broker needs for all that it holds back in its queues.
const MOST_MIB: u64 = 250;
const THREADS: u64 = 4;

/// Packets of both versions, to be mutated.
const PACKETS: [&[u8]; 12] = [
    b"\x10\x11\0\x04MQTT\x04\x02\0\0\0\x05noise",
    b"\x10\x12\0\x04MQTT\x05\x00\0\0\0\0\x05noise",
    b"\x10\x21\0\x04MQTT\x05\x26\0\x01\x05\x11\0\0\0\x01\0\x01n\x05\x18\0\0\0\x01\0\x01w\0\x04gone",
    b"\x33\x0a\0\x03a/b\0\x01xyz",
    b"\x33\x12\0\x03a/b\0\x02\x07\x26\0\x01k\0\x01vxyz",
    b"\x34\x08\0\x03a/b\0\x03z",
    b"\x82\x08\0\x01\0\x03a/#\x02",
    b"\x82\x0b\0\x01\x02\x0b\x05\0\x03+/#\x29",
    b"\xa2\x07\0\x01\0\x03a/#",
    b"\x62\x02\0\x03",
    b"\x40\x02\0\x01",
    b"\xc0\x00",
];

struct Random(u64);

#[test]
fn noise_of_every_kind_harms_nobody() {
    let seconds = env::var("SECONDS").map_or(3, |seconds| seconds.parse().unwrap());
    let seed = env::var("SEED").map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
        |seed| seed.parse().unwrap(),
    );
    println!("SEED={seed}");
    let folder = TempDir::new().unwrap();
    let broker = Broker::start(folder.path());
    let (address, until) = (broker.mqtt(), Instant::now() + Duration::from_secs(seconds));
    let noises: Vec<_> =
        (0..THREADS).map(|n| thread::spawn(move || make_noise(address, seed ^ n << 32, until))).collect();
    while Instant::now() < until {
        broker.assert_alive();
        let has = broker.resident_mib();
        assert!(has < MOST_MIB, "{has} MiB");
    }
    let connections: usize = noises.into_iter().map(|noise| noise.join().unwrap()).sum();
    println!("{connections} connections");
    assert!(connections > 100);
    broker.assert_alive();
    assert!(broker.terminate().success());
}

fn make_noise(address: SocketAddr, seed: u64, until: Instant) -> usize {
    let mut random = Random(seed | 1);
    let mut connections = 0;
    while Instant::now() < until {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        connections += 1;
        let bytes = random.noise();
        // The relay hangs up as soon as it has seen enough.
        let _ = stream.write_all(&bytes);
    }
    connections
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 16) as usize % end
    }

    /// Bytes of one connection: chance alone, chance behind a good beginning, or packets with some bytes changed.
    fn noise(&mut self) -> Vec<u8> {
        let mut bytes = match self.below(4) {
            0 => Vec::new(),
            1 => Hello::new("noise").bytes(),
            kind => PACKETS[kind - 2 + self.below(2)].to_vec(),
        };
        if self.below(2) == 0 {
            let length = self.below(2000);
            bytes.extend((0..length).map(|_| self.next() as u8));
            return bytes;
        }
        for _ in 0..self.below(60) {
            bytes.extend(PACKETS[self.below(PACKETS.len())]);
        }
        for _ in 0..self.below(4) {
            let place = self.below(bytes.len().max(1));
            match self.below(3) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place.min(bytes.len()), self.next() as u8),
                _ => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << (place % 8)),
            }
        }
        bytes
    }
}
