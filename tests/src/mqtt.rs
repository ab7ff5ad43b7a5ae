//! An MQTT client that obeys nothing: what an attacker with a stolen password has.

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

const PATIENCE: Duration = Duration::from_secs(10);

/// Connections that were made, to tell them apart.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// Retained messages by topic.
pub type Retained = BTreeMap<String, Vec<u8>>;

/// A connection.
#[derive(Debug)]
pub struct Mqtt {
    stream: TcpStream,
    next_id: u16,
}

/// A packet as it came.
#[derive(Debug)]
struct Packet {
    kind: u8,
    flags: u8,
    body: Vec<u8>,
}

impl Mqtt {
    /// Connects with a clean session, under a client id that no other connection of this process has.
    ///
    /// # Errors
    /// When nobody listens or the log-in is refused.
    pub fn connect(port: u16, login: Option<(&str, &str)>) -> Result<Self> {
        Self::connect_as(&format!("intruder-{}", CONNECTIONS.fetch_add(1, Ordering::Relaxed)), port, login)
    }

    /// The same with the password of a node, whose client ids begin with its name.
    ///
    /// # Errors
    /// When nobody listens or the log-in is refused.
    pub fn connect_as_node(node: &str, port: u16, password: &str) -> Result<Self> {
        let id = format!("{node}.intruder-{}", CONNECTIONS.fetch_add(1, Ordering::Relaxed));
        Self::connect_as(&id, port, Some((node, password)))
    }

    fn connect_as(id: &str, port: u16, login: Option<(&str, &str)>) -> Result<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut mqtt = Self { stream, next_id: 0 };
        let mut body = [text("MQTT"), vec![4]].concat();
        body.push(if login.is_some() { 0xc2 } else { 0x02 });
        body.extend([0, 0]);
        body.extend(text(id));
        for part in login.into_iter().flat_map(|(user, password)| [user, password]) {
            body.extend(text(part));
        }
        mqtt.send(0x10, &body)?;
        let answer = mqtt.receive()?;
        ensure!(answer.kind == 2 && answer.body.get(1) == Some(&0), "log-in refused: {answer:?}");
        Ok(mqtt)
    }

    /// Publishes with QoS 1 and waits for the acknowledgement.
    ///
    /// # Errors
    /// When it does not come.
    pub fn publish(&mut self, topic: &str, payload: &[u8], retain: bool) -> Result<()> {
        let id = self.id();
        let body = [text(topic), id.to_be_bytes().to_vec(), payload.to_vec()].concat();
        self.send(0x32 | u8::from(retain), &body)?;
        self.wait_for(4, id)
    }

    /// What is retained under `filter` now: everything until `quiet` passes without a message.
    ///
    /// # Errors
    /// When the subscription is refused.
    pub fn retained(&mut self, filter: &str, quiet: Duration) -> Result<Retained> {
        self.subscribe(filter)?;
        let mut retained = Retained::new();
        while let Some((topic, payload, _)) = self.next(quiet)? {
            retained.insert(topic, payload);
        }
        Ok(retained)
    }

    /// Subscribes with QoS 1.
    ///
    /// # Errors
    /// When it is refused.
    pub fn subscribe(&mut self, filter: &str) -> Result<()> {
        let id = self.id();
        let body = [id.to_be_bytes().to_vec(), text(filter), vec![1]].concat();
        self.send(0x82, &body)?;
        self.wait_for(9, id)
    }

    /// The next message as topic, payload and retain flag, or nothing within `patience`.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn next(&mut self, patience: Duration) -> Result<Option<(String, Vec<u8>, bool)>> {
        let until = Instant::now() + patience;
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left))?;
            let mut first = [0];
            let peeked = self.stream.peek(&mut first);
            self.stream.set_read_timeout(Some(PATIENCE))?;
            match peeked {
                Ok(0) => bail!("the broker closed the connection"),
                Ok(_) => {}
                Err(_) if Instant::now() >= until => return Ok(None),
                Err(_) => continue,
            }
            let packet = self.receive()?;
            if packet.kind == 3 {
                return self.message(&packet).map(Some);
            }
        }
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        Ok(self.stream.write_all(bytes)?)
    }

    fn message(&mut self, packet: &Packet) -> Result<(String, Vec<u8>, bool)> {
        let len = usize::from(u16::from_be_bytes([packet.body[0], packet.body[1]]));
        let topic = String::from_utf8(packet.body[2..2 + len].to_vec())?;
        let qos = packet.flags >> 1 & 3;
        let payload = packet.body[2 + len + if qos > 0 { 2 } else { 0 }..].to_vec();
        if qos > 0 {
            let id = packet.body[2 + len..4 + len].to_vec();
            self.send(0x40, &id)?;
        }
        Ok((topic, payload, packet.flags & 1 == 1))
    }

    fn wait_for(&mut self, kind: u8, id: u16) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            let packet = self.receive()?;
            if packet.kind == kind && packet.body.get(..2) == Some(&id.to_be_bytes()) {
                ensure!(packet.body.get(2) != Some(&0x80), "subscription refused");
                return Ok(());
            }
            if packet.kind == 3 {
                self.message(&packet)?;
            }
        }
        bail!("packet {kind} did not come")
    }

    fn id(&mut self) -> u16 {
        self.next_id = self.next_id % 60_000 + 1;
        self.next_id
    }

    fn send(&mut self, first: u8, body: &[u8]) -> Result<()> {
        let mut packet = vec![first];
        let mut len = body.len();
        loop {
            let byte = (len % 128) as u8;
            len /= 128;
            packet.push(if len > 0 { byte | 0x80 } else { byte });
            if len == 0 {
                break;
            }
        }
        packet.extend(body);
        Ok(self.stream.write_all(&packet)?)
    }

    fn receive(&mut self) -> Result<Packet> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).context("the broker closed the connection")?;
        let first = byte[0];
        let (mut len, mut shift) = (0usize, 0);
        loop {
            self.stream.read_exact(&mut byte)?;
            len |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] & 0x80 == 0 {
                break;
            }
        }
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        Ok(Packet { kind: first >> 4, flags: first & 0x0f, body })
    }
}

fn text(text: &str) -> Vec<u8> {
    let len = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [&len.to_be_bytes(), text.as_bytes()].concat()
}
