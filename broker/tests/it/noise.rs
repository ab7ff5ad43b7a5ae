//! Noise for every port: bytes of chance, and what belongs there with some bytes changed.

use std::{
    collections::BTreeMap,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};

use crate::client::{Duplex, Hello, PATIENCE};

/// The ports of a broker, as its settings call them.
pub(crate) const PORTS: [&str; 5] = ["mqtt", "mqtts", "ws", "wss", "http"];
/// The relay may take nothing any more, and answer nothing; waiting for it makes no noise.
const LIMIT: Duration = Duration::from_millis(20);

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

const UPGRADE: &str = "GET /mqtt HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: mqtt\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const REQUEST: &str = "PUT /v1/objects/sha256:00 HTTP/1.1\r\nHost: localhost\r\nContent-Range: bytes 0-9/10\r\n\
                       Transfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n5\r\nabcde\r\n0\r\n\r\n";

/// Somebody who makes noise.
pub(crate) struct Noise {
    random: Random,
    addresses: BTreeMap<&'static str, SocketAddr>,
    tls: Arc<ClientConfig>,
    /// How often a connection got as far as MQTT is spoken, for each port.
    pub(crate) opened: BTreeMap<&'static str, usize>,
}

struct Random(u64);

impl Noise {
    pub(crate) fn new(seed: u64, addresses: BTreeMap<&'static str, SocketAddr>, tls: ClientConfig) -> Self {
        Self { random: Random(seed | 1), addresses, tls: Arc::new(tls), opened: BTreeMap::new() }
    }

    /// Noise at one of the ports, before or after what makes a good connection.
    pub(crate) fn make(&mut self) {
        let port = PORTS[self.random.below(PORTS.len())];
        let tcp = TcpStream::connect(self.addresses[port]).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        let raw = tcp.try_clone().unwrap();
        let (mut stream, bytes) = if self.random.below(2) == 0 {
            (Box::new(tcp) as Box<dyn Duplex>, self.before(port))
        } else {
            let opened = self.open(port, tcp);
            *self.opened.entry(port).or_default() += 1;
            (opened, self.after(port))
        };
        raw.set_read_timeout(Some(LIMIT)).unwrap();
        raw.set_write_timeout(Some(LIMIT)).unwrap();
        // The relay hangs up as soon as it has seen enough.
        let _ = self.send(&mut stream, &raw, &bytes);
    }

    fn send(&mut self, stream: &mut Box<dyn Duplex>, mut raw: &TcpStream, bytes: &[u8]) -> io::Result<()> {
        stream.write_all(bytes)?;
        stream.flush()?;
        if self.random.below(4) == 0 {
            // Below TLS and frames: what cannot be decrypted there.
            let mut bytes = self.random.bytes(100);
            if self.random.below(2) == 0 {
                bytes.splice(..0, *b"\x17\x03\x03\x00\x20");
            }
            raw.write_all(&bytes)?;
        }
        match self.random.below(4) {
            0 => raw.shutdown(Shutdown::Write)?,
            1 => drop(stream.read(&mut [0; 1000])?),
            _ => {}
        }
        Ok(())
    }

    /// A connection on which MQTT can be spoken.
    fn open(&mut self, port: &str, tcp: TcpStream) -> Box<dyn Duplex> {
        let mut stream: Box<dyn Duplex> = match port {
            "mqtts" | "wss" => Box::new(StreamOwned::new(self.tls_client(), tcp)),
            _ => Box::new(tcp),
        };
        if port.starts_with("ws") {
            stream.write_all(UPGRADE.as_bytes()).unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                answer.extend(byte);
            }
            assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        }
        stream
    }

    fn tls_client(&self) -> ClientConnection {
        ClientConnection::new(Arc::clone(&self.tls), "localhost".try_into().unwrap()).unwrap()
    }

    /// Bytes of one connection from its beginning: chance alone, or what should be there, with some bytes changed.
    fn before(&mut self, port: &str) -> Vec<u8> {
        let mut bytes = match port {
            "mqtt" => return self.random.packets(),
            "ws" => [UPGRADE.as_bytes(), &self.frames()].concat(),
            "http" => REQUEST.as_bytes().to_vec(),
            _ => {
                let mut hello = Vec::new();
                self.tls_client().write_tls(&mut hello).unwrap();
                hello
            }
        };
        if self.random.below(3) == 0 {
            return self.random.bytes(2000);
        }
        self.random.change(&mut bytes);
        bytes
    }

    /// The same where all has gone well so far.
    fn after(&mut self, port: &str) -> Vec<u8> {
        match port {
            "ws" | "wss" if self.random.below(4) == 0 => self.random.bytes(2000),
            "ws" | "wss" => {
                let mut frames = self.frames();
                if self.random.below(2) == 0 {
                    self.random.change(&mut frames);
                }
                frames
            }
            "http" => [REQUEST.as_bytes(), &self.random.bytes(2000)].concat(),
            _ => self.random.packets(),
        }
    }

    /// Packets in frames that do not begin and end with them.
    fn frames(&mut self) -> Vec<u8> {
        let packets = self.random.packets();
        let mut rest = &packets[..];
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let (payload, after) = rest.split_at(1 + self.random.below(rest.len()));
            rest = after;
            self.random.frame(payload, &mut frames);
        }
        frames
    }
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

    fn bytes(&mut self, end: usize) -> Vec<u8> {
        let length = self.below(end);
        (0..length).map(|_| self.next() as u8).collect()
    }

    /// Chance alone, chance behind a good beginning, or packets with some bytes changed.
    fn packets(&mut self) -> Vec<u8> {
        let mut bytes = match self.below(4) {
            0 => Vec::new(),
            1 => Hello::new("noise").bytes(),
            kind => PACKETS[kind - 2 + self.below(2)].to_vec(),
        };
        if self.below(2) == 0 {
            bytes.extend(self.bytes(2000));
            return bytes;
        }
        for _ in 0..self.below(60) {
            bytes.extend(PACKETS[self.below(PACKETS.len())]);
        }
        self.change(&mut bytes);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..self.below(4) {
            let place = self.below(bytes.len().max(1));
            match self.below(3) {
                0 => bytes.truncate(place),
                1 => bytes.insert(place.min(bytes.len()), self.next() as u8),
                _ => bytes.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1 << (place % 8)),
            }
        }
    }

    /// A frame of a client (RFC 6455, 5.2), mostly a good one.
    fn frame(&mut self, payload: &[u8], frames: &mut Vec<u8>) {
        const LAST_AND_BINARY: u8 = 0x82;
        const LENGTH_OF_16_BITS: u8 = 0x7e;
        let first = if self.below(4) == 0 { self.next() as u8 } else { LAST_AND_BINARY };
        let mask_bit = if self.below(20) == 0 { 0 } else { 0x80 };
        let mask = (self.next() as u32).to_be_bytes();
        frames.push(first);
        match payload.len() {
            length @ ..126 => frames.push(mask_bit | length as u8),
            length => {
                frames.push(mask_bit | LENGTH_OF_16_BITS);
                frames.extend((length as u16).to_be_bytes());
            }
        }
        frames.extend(mask);
        frames.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }
}
