//! MQTT 3.1.1 by hand: what measures must cost less than what is measured.

use std::{io, time::Duration};

use anyhow::{Context as _, Result, ensure};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    runtime::Runtime,
    time::timeout,
};

/// No broker on no machine should take longer for anything here.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);
/// Small: there are 10,000 of them.
const BUFFER_BYTES: usize = 2 * 1024;

/// A connected client.
pub(crate) struct Client<S = TcpStream> {
    stream: BufReader<S>,
    body: Vec<u8>,
}

/// One thread is enough for clients that hardly do anything.
pub(crate) fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

impl Client {
    /// Connects over TCP, with a clean session.
    pub(crate) async fn connect(port: u16, id: &str) -> Result<Self> {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await?;
        tcp.set_nodelay(true)?;
        Self::open(tcp, id).await
    }

    /// What it reads from now on, where nothing but messages comes any more.
    pub(crate) fn into_reader(self) -> BufReader<TcpStream> {
        self.stream
    }

    /// Ends with a reset, so that the port is free again at once.
    pub(crate) fn reset(self) -> io::Result<()> {
        rustix::net::sockopt::set_socket_linger(self.stream.get_ref(), Some(Duration::ZERO))?;
        Ok(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Connects over a stream that is there.
    pub(crate) async fn open(stream: S, id: &str) -> Result<Self> {
        let mut client = Self { stream: BufReader::with_capacity(BUFFER_BYTES, stream), body: Vec::new() };
        let head = [0x10, 12 + id.len() as u8, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, id.len() as u8];
        client.send(&[&head[..], id.as_bytes()].concat()).await?;
        client.expect(0x20).await?;
        ensure!(client.body.get(1) == Some(&0), "client {id} was refused");
        Ok(client)
    }

    /// Subscribes, and waits until that is granted.
    pub(crate) async fn subscribe(&mut self, filter: &str, qos: u8) -> Result<()> {
        let head = [0x82, 5 + filter.len() as u8, 0, 1, 0, filter.len() as u8];
        self.send(&[&head[..], filter.as_bytes(), &[qos]].concat()).await?;
        self.expect(0x90).await?;
        ensure!(self.body.get(2).is_some_and(|code| *code < 0x80), "subscription to {filter} was refused");
        Ok(())
    }

    /// Publishes a retained message at QoS 1, without waiting.
    pub(crate) async fn send_retained(&mut self, topic: &str, payload: &[u8], id: u16) -> Result<()> {
        let mut rest = 2 + topic.len() + 2 + payload.len();
        let mut packet = Vec::with_capacity(5 + rest);
        packet.push(0x33);
        while rest > 0x7f {
            packet.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        packet.extend([rest as u8, 0, topic.len() as u8]);
        for part in [topic.as_bytes(), &id.to_be_bytes(), payload] {
            packet.extend_from_slice(part);
        }
        self.send(&packet).await
    }

    /// Waits for an acknowledgement.
    pub(crate) async fn acknowledged(&mut self) -> Result<()> {
        self.expect(0x40).await
    }

    /// Waits for a message.
    pub(crate) async fn message(&mut self) -> Result<()> {
        timeout(PATIENCE, self.packet(0x30)).await.context("no message came")?
    }

    /// Waits for a message for as long as it takes.
    pub(crate) async fn next(&mut self) -> Result<()> {
        self.packet(0x30).await
    }

    /// Topic and payload of the message that came last, at QoS 0.
    pub(crate) fn heard(&self) -> (String, &[u8]) {
        let (length, rest) = self.body.split_at(2);
        let (topic, payload) = rest.split_at(usize::from(u16::from_be_bytes([length[0], length[1]])));
        (String::from_utf8_lossy(topic).into_owned(), payload)
    }

    async fn expect(&mut self, kind: u8) -> Result<()> {
        timeout(PATIENCE, self.packet(kind)).await.context("no answer came")?
    }

    /// Reads up to the end of the next packet of this kind; its body is in `self.body`.
    async fn packet(&mut self, kind: u8) -> Result<()> {
        loop {
            let first = self.stream.read_u8().await?;
            let (mut length, mut shift) = (0, 0);
            loop {
                let byte = self.stream.read_u8().await?;
                length |= usize::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    break;
                }
            }
            self.body.resize(length, 0);
            self.stream.read_exact(&mut self.body).await?;
            if first & 0xf0 == kind {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).await?;
        Ok(self.stream.flush().await?)
    }
}
