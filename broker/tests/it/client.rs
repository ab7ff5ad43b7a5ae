//! A blocking MQTT client that can also misbehave.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use bytes::BytesMut;
use rumqttc::{
    Connect, ConnectReturnCode, LastWill, Login, Packet, PubAck, PubRel, Publish, QoS, Subscribe,
    SubscribeFilter, SubscribeReasonCode, Unsubscribe,
};

/// Longer than anything should take, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const MAX: usize = 16 << 20;

/// What a client says first.
#[derive(Clone)]
pub(crate) struct Hello(Connect);

impl Hello {
    pub(crate) fn new(id: &str) -> Self {
        let mut connect = Connect::new(id);
        connect.keep_alive = 0;
        Self(connect)
    }

    pub(crate) fn user(mut self, name: &str) -> Self {
        self.0.login = Some(Login::new(name, format!("{name}-secret")));
        self
    }

    pub(crate) fn password(mut self, name: &str, password: &str) -> Self {
        self.0.login = Some(Login::new(name, password));
        self
    }

    pub(crate) fn keep(mut self) -> Self {
        self.0.clean_session = false;
        self
    }

    pub(crate) fn keep_alive(mut self, secs: u16) -> Self {
        self.0.keep_alive = secs;
        self
    }

    pub(crate) fn will(mut self, topic: &str, payload: &str, retain: bool) -> Self {
        self.0.last_will = Some(LastWill::new(topic, payload, QoS::AtLeastOnce, retain));
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = BytesMut::new();
        self.0.write(&mut bytes).unwrap();
        bytes.to_vec()
    }
}

/// What bytes go through.
pub(crate) trait Duplex: Read + Write + Send {}

impl<S: Read + Write + Send> Duplex for S {}

/// One connection.
pub(crate) struct Client {
    /// The connection itself.
    tcp: TcpStream,
    /// The same, or what is spoken over it.
    stream: Box<dyn Duplex>,
    input: BytesMut,
    next_id: u16,
    pub(crate) session_present: bool,
    /// Whether QoS 1 messages are acknowledged as they are read.
    pub(crate) acknowledges: bool,
}

/// A message as it came.
#[derive(Debug, Clone)]
pub(crate) struct Received(pub(crate) Publish);

impl Received {
    pub(crate) fn text(&self) -> String {
        format!("{}={}", self.0.topic, String::from_utf8_lossy(&self.0.payload))
    }

    /// Also with how it came: `r` for a replayed one, its QoS, `d` for a repeated one.
    pub(crate) fn detail(&self) -> String {
        let mark = |set, mark| if set { mark } else { "" };
        let retain = mark(self.0.retain, " r");
        format!("{}{retain} q{}{}", self.text(), self.0.qos as u8, mark(self.0.dup, " d"))
    }
}

impl Client {
    /// A connection on which nothing has been said.
    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self::over(address, |tcp| Box::new(tcp))
    }

    /// The same over what `wrap` makes of it.
    pub(crate) fn over(address: SocketAddr, wrap: impl FnOnce(TcpStream) -> Box<dyn Duplex>) -> Self {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tcp.set_write_timeout(Some(PATIENCE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        let stream = wrap(tcp.try_clone().unwrap());
        Self { tcp, stream, input: BytesMut::new(), next_id: 0, session_present: false, acknowledges: true }
    }

    /// Connects; the error is what the relay answers instead of welcome.
    pub(crate) fn connect(address: SocketAddr, hello: &Hello) -> Result<Self, ConnectReturnCode> {
        Self::silent(address).say(hello)
    }

    /// Says `hello`; the error is what the relay answers instead of welcome.
    pub(crate) fn say(mut self, hello: &Hello) -> Result<Self, ConnectReturnCode> {
        let client = &mut self;
        client.send_bytes(&hello.bytes());
        match client.packet() {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => {
                self.session_present = ack.session_present;
                Ok(self)
            }
            Packet::ConnAck(ack) => Err(ack.code),
            other => panic!("expected CONNACK, got {other:?}"),
        }
    }

    /// Like [`Self::connect`] where the relay may hang up without a word.
    pub(crate) fn connect_or_hang_up(address: SocketAddr, hello: &Hello) -> Option<Self> {
        let mut client = Self::silent(address);
        client.try_send_bytes(&hello.bytes()).ok()?;
        match client.try_packet()? {
            Packet::ConnAck(ack) if ack.code == ConnectReturnCode::Success => Some(client),
            _ => None,
        }
    }

    pub(crate) fn set_write_timeout(&self, limit: Duration) {
        self.tcp.set_write_timeout(Some(limit)).unwrap();
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Like [`Self::send_bytes`] where the relay may hang up at any byte.
    pub(crate) fn try_send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn send(&mut self, packet: &Packet) {
        let mut bytes = BytesMut::new();
        packet.write(&mut bytes, MAX).unwrap();
        self.send_bytes(&bytes);
    }

    /// The next packet, whatever it is; `None` when the relay has hung up.
    pub(crate) fn try_packet(&mut self) -> Option<Packet> {
        loop {
            match Packet::read(&mut self.input, MAX) {
                Ok(packet) => return Some(packet),
                Err(rumqttc::mqttbytes::Error::InsufficientBytes(_)) => {}
                Err(err) => panic!("the relay sent nonsense: {err}"),
            }
            let mut buffer = [0; 16384];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(err) if is_end(&err) => return None,
                Err(err) => panic!("nothing came: {err}"),
            }
        }
    }

    pub(crate) fn packet(&mut self) -> Packet {
        self.try_packet().expect("the relay should not hang up")
    }

    /// The next message; answers are not expected before it.
    pub(crate) fn message(&mut self) -> Received {
        match self.packet() {
            Packet::Publish(publish) => {
                if publish.qos == QoS::AtLeastOnce && self.acknowledges {
                    self.send(&Packet::PubAck(PubAck::new(publish.pkid)));
                }
                Received(publish)
            }
            other => panic!("expected a message, got {other:?}"),
        }
    }

    pub(crate) fn messages(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.message().detail()).collect()
    }

    /// Everything that comes before the answer to a PINGREQ sent now: what was on its way already.
    pub(crate) fn pending(&mut self) -> Vec<String> {
        self.send(&Packet::PingReq);
        let mut messages = Vec::new();
        loop {
            match self.packet() {
                Packet::PingResp => return messages,
                Packet::Publish(publish) => messages.push(Received(publish).detail()),
                other => panic!("expected messages, got {other:?}"),
            }
        }
    }

    /// Publishes and, above QoS 0, waits for the acknowledgement. Messages that come before it are kept for later.
    pub(crate) fn publish(&mut self, topic: &str, payload: &str, qos: u8, retain: bool) {
        let id = self.send_publish(topic, payload.as_bytes(), qos, retain);
        if qos == 0 {
            return;
        }
        let mut before = Vec::new();
        loop {
            match self.packet() {
                Packet::PubAck(ack) if qos == 1 && ack.pkid == id => break,
                Packet::PubRec(rec) if qos == 2 && rec.pkid == id => {
                    self.send(&Packet::PubRel(PubRel::new(id)));
                }
                Packet::PubComp(comp) if qos == 2 && comp.pkid == id => break,
                Packet::Publish(publish) => before.push(publish),
                other => panic!("expected an acknowledgement, got {other:?}"),
            }
        }
        self.put_back(before);
    }

    /// Publishes without waiting; returns the packet id.
    pub(crate) fn send_publish(&mut self, topic: &str, payload: &[u8], qos: u8, retain: bool) -> u16 {
        let mut publish = Publish::new(topic, rumqttc::qos(qos).unwrap(), payload);
        publish.retain = retain;
        if qos > 0 {
            self.next_id = self.next_id.checked_add(1).unwrap_or(1);
            publish.pkid = self.next_id;
        }
        self.send(&Packet::Publish(publish));
        self.next_id
    }

    /// Publishes at QoS 1, retained; `None` when the relay has gone.
    pub(crate) fn try_publish(&mut self, topic: &str, payload: &[u8]) -> Option<u16> {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, payload);
        self.next_id = self.next_id.checked_add(1).unwrap_or(1);
        (publish.pkid, publish.retain) = (self.next_id, true);
        let mut bytes = BytesMut::new();
        publish.write(&mut bytes).unwrap();
        self.try_send_bytes(&bytes).ok().map(|()| self.next_id)
    }

    /// Subscribes and waits for what is granted.
    pub(crate) fn subscribe(&mut self, filter: &str, qos: u8) -> SubscribeReasonCode {
        self.subscribe_all(&[(filter, qos)])[0]
    }

    pub(crate) fn subscribe_all(&mut self, filters: &[(&str, u8)]) -> Vec<SubscribeReasonCode> {
        let filter =
            |(path, qos): &(&str, u8)| SubscribeFilter::new((*path).to_owned(), rumqttc::qos(*qos).unwrap());
        let mut subscribe = Subscribe::new_many(filters.iter().map(filter));
        subscribe.pkid = 77;
        self.send(&Packet::Subscribe(subscribe));
        match self.packet() {
            Packet::SubAck(ack) if ack.pkid == 77 => ack.return_codes,
            other => panic!("expected SUBACK, got {other:?}"),
        }
    }

    pub(crate) fn unsubscribe(&mut self, filter: &str) {
        let mut unsubscribe = Unsubscribe::new(filter);
        unsubscribe.pkid = 78;
        self.send(&Packet::Unsubscribe(unsubscribe));
        assert!(matches!(self.packet(), Packet::UnsubAck(ack) if ack.pkid == 78));
    }

    /// Says good-bye.
    pub(crate) fn disconnect(mut self) {
        self.send(&Packet::Disconnect);
        assert!(self.try_packet().is_none());
    }

    /// Ends without a word, with a reset.
    pub(crate) fn reset(self) {
        let linger = rustix::net::sockopt::set_socket_linger(&self.tcp, Some(Duration::ZERO));
        linger.unwrap();
    }

    /// Waits until the relay hangs up; what comes before is ignored.
    pub(crate) fn wait_for_end(&mut self) {
        while self.try_packet().is_some() {}
    }

    pub(crate) fn shut_down_writing(&self) {
        self.tcp.shutdown(Shutdown::Write).unwrap();
    }

    /// What comes as it is, until the relay hangs up, which it must.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        if let Err(err) = self.stream.read_to_end(&mut rest) {
            assert!(!is_late(&err), "the relay should hang up");
        }
        rest
    }

    /// Sends `bytes` again and again until the relay hangs up, which it must.
    pub(crate) fn flood(&mut self, bytes: &[u8]) {
        loop {
            if let Err(err) = self.stream.write_all(bytes) {
                return assert!(!is_late(&err), "the relay should hang up");
            }
        }
    }

    fn put_back(&mut self, messages: Vec<Publish>) {
        let mut bytes = BytesMut::new();
        for message in messages {
            message.write(&mut bytes).unwrap();
        }
        bytes.extend_from_slice(&self.input);
        self.input = bytes;
    }
}

/// Connections that begin with one of `beginnings` each, and do not go on.
pub(crate) fn unfinished(address: SocketAddr, beginnings: &[&[u8]]) -> Vec<Client> {
    let begin = |bytes: &&[u8]| {
        let mut client = Client::silent(address);
        // Nonsense may be answered with a hang-up at any byte.
        let _ = client.try_send_bytes(bytes);
        client
    };
    beginnings.iter().cycle().take(40).map(begin).collect()
}

/// Whether nothing happened for as long as a test waits.
fn is_late(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Whether the relay has hung up, in whatever way.
fn is_end(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof)
}
