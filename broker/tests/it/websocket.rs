//! MQTT over WebSockets, and what must not come through there.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
};

use broker::Transport;
use tokio_tungstenite::tungstenite::{
    self, Bytes, Message, WebSocket,
    client::IntoClientRequest as _,
    handshake::client::Request,
    http::{HeaderValue, header},
};

use crate::{
    bus::Bus,
    client::{Client, Duplex, Hello, PATIENCE, unfinished},
    pki::Pki,
};

/// A WebSocket as a stream of bytes. Each write is one frame for each of its bytes, up to `frame` of them.
struct Frames<S> {
    socket: WebSocket<S>,
    rest: Bytes,
    frame: usize,
}

impl<S: Read + Write> Read for Frames<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.rest = bytes,
                Ok(Message::Text(_)) => panic!("the relay sent text"),
                Ok(_) => {}
                Err(tungstenite::Error::Io(err)) => return Err(err),
                Err(_) => return Ok(0),
            }
        }
        let count = self.rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.rest.split_to(count));
        Ok(count)
    }
}

impl<S: Read + Write> Write for Frames<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for frame in bytes.chunks(self.frame) {
            self.socket.send(Message::Binary(Bytes::copy_from_slice(frame))).map_err(io::Error::other)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.socket.flush().map_err(io::Error::other)
    }
}

fn request(address: SocketAddr, protocol: Option<&'static str>) -> Request {
    let mut request = format!("ws://{address}/mqtt").into_client_request().unwrap();
    if let Some(protocol) = protocol {
        request.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(protocol));
    }
    request
}

fn upgrade<S: Duplex + 'static>(stream: S, address: SocketAddr, frame: usize) -> Box<dyn Duplex> {
    let (socket, response) = tungstenite::client(request(address, Some("x, mqtt")), stream).unwrap();
    assert_eq!(response.headers()[header::SEC_WEBSOCKET_PROTOCOL], "mqtt");
    Box::new(Frames { socket, rest: Bytes::new(), frame })
}

/// A client that cuts what it says into frames of `frame` bytes.
pub(crate) fn client(address: SocketAddr, frame: usize) -> Client {
    Client::over(address, |tcp| upgrade(tcp, address, frame))
}

/// The same over TLS.
pub(crate) fn tls_client(pki: &Pki, address: SocketAddr, frame: usize) -> Client {
    Client::over(address, |tcp| upgrade(Wrapped(pki.wrap(tcp, None)), address, frame))
}

fn open() -> Bus {
    Bus::with(|settings| settings.ws = Some("127.0.0.1:0".parse().unwrap()))
}

#[test]
fn packets_come_through_however_they_are_cut_into_frames() {
    let bus = open();
    let address = bus.address(Transport::Ws);
    let mut plain = bus.client("plain");
    plain.subscribe("a/#", 1);
    for frame in [1, 7, 100_000] {
        let mut web = client(address, frame).say(&Hello::new(&format!("web-{frame}"))).unwrap();
        web.subscribe("a/#", 1);
        web.publish("a/b", &"x".repeat(5000), 1, false);
        assert_eq!(web.message().0.payload.len(), 5000);
        assert_eq!(plain.message().0.payload.len(), 5000);
        // Several packets in one frame.
        let pings = [0xc0, 0].repeat(50);
        web.send_bytes(&pings);
        for _ in 0..50 {
            assert!(matches!(web.packet(), rumqttc::Packet::PingResp));
        }
        web.disconnect();
    }
}

#[test]
fn large_messages_reach_a_slow_browser_whole() {
    let bus = open();
    let mut web = client(bus.address(Transport::Ws), 4096).say(&Hello::new("web")).unwrap();
    web.subscribe("large", 0);
    let mut publisher = bus.client("publisher");
    for _ in 0..20 {
        publisher.publish("large", &"x".repeat(900_000), 1, true);
    }
    assert_eq!(web.message().0.payload.len(), 900_000);
}

#[test]
fn with_tls_too() {
    let pki = Pki::new();
    let bus = Bus::with(|settings| {
        settings.wss = Some("127.0.0.1:0".parse().unwrap());
        settings.tls = Some(pki.settings(None));
    });
    let address = bus.address(Transport::Wss);
    let mut web = tls_client(&pki, address, 999).say(&Hello::new("web")).unwrap();
    web.subscribe("a", 1);
    web.publish("a", &"x".repeat(100_000), 1, false);
    assert_eq!(web.message().0.payload.len(), 100_000);
}

/// A boxed stream as one.
struct Wrapped(Box<dyn Duplex>);

impl Read for Wrapped {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wrapped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn upgrades_without_mqtt_or_from_elsewhere_are_refused() {
    let bus = open();
    let address = bus.address(Transport::Ws);
    let status = |request: Request| {
        let refused = tungstenite::client(request, TcpStream::connect(address).unwrap()).unwrap_err();
        match refused {
            tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response)) => {
                response.status().as_u16()
            }
            other => panic!("{other}"),
        }
    };
    assert_eq!(status(request(address, None)), 400);
    assert_eq!(status(request(address, Some("mqttx"))), 400);
    let mut foreign = request(address, Some("mqtt"));
    foreign.headers_mut().insert(header::ORIGIN, HeaderValue::from_static("https://evil.example"));
    assert_eq!(status(foreign), 403);
    let mut rebound = request(address, Some("mqtt"));
    rebound.headers_mut().insert(header::HOST, HeaderValue::from_static("evil.example"));
    assert_eq!(status(rebound), 403);
}

#[test]
fn what_is_no_mqtt_ends_the_connection() {
    let bus = open();
    let address = bus.address(Transport::Ws);
    let connect = || {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        tungstenite::client(request(address, Some("mqtt")), tcp).unwrap().0
    };
    let ends = |mut socket: WebSocket<TcpStream>| {
        let end = loop {
            if let Err(end) = socket.read() {
                break end;
            }
        };
        let is_late = matches!(&end, tungstenite::Error::Io(err) if err.kind() == io::ErrorKind::WouldBlock);
        assert!(!is_late, "the relay should hang up");
    };
    let mut text = connect();
    text.send(Message::text("hello")).unwrap();
    ends(text);
    let mut huge = connect();
    // A frame of 16 MiB is announced; nothing of it comes.
    huge.get_mut().write_all(&[0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4]).unwrap();
    ends(huge);
    let mut long = connect();
    // A frame of 1 MiB, which is allowed when one is let in, and much of it comes.
    long.get_mut().write_all(&[0x82, 0xff, 0, 0, 0, 0, 0, 0x0f, 0xff, 0xff, 1, 2, 3, 4]).unwrap();
    long.get_mut().write_all(&vec![0; 200_000]).unwrap();
    ends(long);
    let mut unmasked = connect();
    unmasked.get_mut().write_all(&[0x82, 1, 0x10]).unwrap();
    ends(unmasked);
    bus.assert_alive();
}

#[test]
fn who_never_finishes_an_upgrade_stops_nobody_and_is_cut_off() {
    let bus = open();
    let address = bus.address(Transport::Ws);
    let endless = format!("GET / HTTP/1.1\r\n{}", "X: y\r\n".repeat(100));
    let beginnings = [&b""[..], b"GET / HTTP/1.1\r\nHost: localhost\r\n", endless.as_bytes(), &[0; 300]];
    let mut idle = unfinished(address, &beginnings);
    client(address, 99).say(&Hello::new("good")).unwrap().disconnect();
    for client in &mut idle {
        client.rest();
    }
    // Headers without end.
    let mut flood = Client::silent(address);
    flood.send_bytes(b"GET / HTTP/1.1\r\n");
    flood.flood(&[b'x'; 1000]);
    // One that upgrades and then says nothing.
    client(address, 99).rest();
    bus.assert_alive();
}
