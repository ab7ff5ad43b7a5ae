//! A broker that does to its clients whatever a test says.

use std::net::SocketAddr;

use bytes::BytesMut;
use rumqttc::{
    ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, QoS, SubAck, Subscribe,
    SubscribeReasonCode, mqttbytes::Error,
};
use schemas::topic::Topic;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpSocket, TcpStream},
};

use super::{BusUrl, within};

/// Listens, and does nothing by itself.
pub(super) struct Scripted(TcpListener);

/// An address at which nothing listens yet.
pub(super) struct Reserved(TcpSocket);

/// One connection of a client.
pub(super) struct Peer {
    stream: TcpStream,
    received: BytesMut,
}

impl Reserved {
    pub(super) fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    pub(super) fn url(&self) -> BusUrl {
        url_of(self.0.local_addr().unwrap())
    }

    pub(super) fn listen(self) -> Scripted {
        Scripted(self.0.listen(16).unwrap())
    }
}

impl Scripted {
    pub(super) async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    pub(super) fn url(&self) -> BusUrl {
        url_of(self.0.local_addr().unwrap())
    }

    pub(super) async fn accept(&self) -> Peer {
        let (stream, _) = within("a connection", self.0.accept()).await.unwrap();
        Peer { stream, received: BytesMut::new() }
    }

    /// Answers the next client that connects.
    pub(super) async fn answer(&self, code: ConnectReturnCode, session_present: bool) -> (Peer, Connect) {
        let mut peer = self.accept().await;
        let Some(Packet::Connect(connect)) = peer.read().await else { panic!("no CONNECT") };
        peer.write(Packet::ConnAck(ConnAck::new(code, session_present))).await;
        (peer, connect)
    }

    /// Lets the next client in that connects.
    pub(super) async fn let_in(&self) -> Peer {
        self.answer(ConnectReturnCode::Success, false).await.0
    }
}

impl Peer {
    /// The next packet; `None` when the client is gone.
    pub(super) async fn read(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.received, usize::MAX) {
                Ok(packet) => return Some(packet),
                Err(Error::InsufficientBytes(_)) => {}
                Err(error) => panic!("client sends garbage: {error}"),
            }
            let count = within("a packet", self.stream.read_buf(&mut self.received)).await;
            if count.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    pub(super) async fn read_publish(&mut self) -> Publish {
        match self.read().await {
            Some(Packet::Publish(publish)) => publish,
            other => panic!("not a PUBLISH: {other:?}"),
        }
    }

    pub(super) async fn read_subscribe(&mut self) -> Subscribe {
        match self.read().await {
            Some(Packet::Subscribe(subscribe)) => subscribe,
            other => panic!("not a SUBSCRIBE: {other:?}"),
        }
    }

    /// The first byte of whatever the client says.
    pub(super) async fn read_byte(&mut self) -> u8 {
        within("a byte", self.stream.read_u8()).await.unwrap()
    }

    /// Ignores a client that has gone.
    pub(super) async fn write(&mut self, packet: Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, usize::MAX).unwrap();
        self.stream.write_all(&bytes).await.ok();
    }

    pub(super) async fn ack(&mut self, publish: &Publish) {
        self.write(Packet::PubAck(PubAck::new(publish.pkid))).await;
    }

    pub(super) async fn grant(&mut self, subscribe: &Subscribe, code: SubscribeReasonCode) {
        let codes = subscribe.filters.iter().map(|_| code).collect();
        self.write(Packet::SubAck(SubAck::new(subscribe.pkid, codes))).await;
    }

    /// Says something to the client, at QoS 0.
    pub(super) async fn say(&mut self, topic: &Topic, payload: impl Into<Vec<u8>>) {
        self.write(Packet::Publish(Publish::new(topic.to_string(), QoS::AtMostOnce, payload.into()))).await;
    }
}

fn url_of(address: SocketAddr) -> BusUrl {
    format!("mqtt://{address}").parse().unwrap()
}

/// What a publish says.
pub(super) fn text(publish: &Publish) -> String {
    String::from_utf8(publish.payload.to_vec()).unwrap()
}
