//! What lies between a client and the MQTT that it speaks: TCP, TLS, WebSockets, TLS and WebSockets.

mod admission;
mod stream;
mod websocket;

use std::{fmt, net::SocketAddr, sync::Arc};

use tokio::{net::TcpStream, time::timeout};

pub(super) use self::stream::Stream;
use self::{admission::Admission, websocket::WebSocketRules};
use crate::tls::{self, HANDSHAKE_LIMIT, Nameless, Tls, TlsStream};

/// What is spoken at a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// MQTT over TCP.
    Mqtt,
    /// MQTT over TLS.
    Mqtts,
    /// MQTT over WebSockets.
    Ws,
    /// MQTT over WebSockets over TLS.
    Wss,
}

/// Who is at the other end of a stream, before it has said anything.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Where it is.
    pub(super) address: SocketAddr,
    /// Whom its certificate names, if it has one of a CA that counts.
    pub(super) certificate: Option<Arc<str>>,
    /// To be granted when it has logged in.
    pub(super) admission: Admission,
}

/// Makes streams of connections.
#[derive(Debug)]
pub(super) struct Doorman {
    /// Certificate and key, where there are some.
    tls: Option<Arc<Tls>>,
    websocket: WebSocketRules,
}

/// Why a stream does not begin.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoStream {
    /// The handshake took too long.
    #[error("no handshake within {} s", HANDSHAKE_LIMIT.as_secs())]
    Late,
    /// The TLS handshake failed.
    #[error("TLS handshake failed")]
    Tls(#[source] std::io::Error),
    /// A certificate without a name.
    #[error(transparent)]
    Nameless(#[from] Nameless),
    /// The upgrade to a WebSocket failed.
    #[error("WebSocket handshake failed")]
    WebSocket(#[source] Box<tokio_tungstenite::tungstenite::Error>),
    /// The settings have no certificate; not reached, since settings are checked.
    #[error("there is no certificate")]
    NoCertificate,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mqtt => "mqtt",
            Self::Mqtts => "mqtts",
            Self::Ws => "ws",
            Self::Wss => "wss",
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.address, f)
    }
}

impl Doorman {
    /// One who takes frames of at most `max_packet_bytes`; `is_open` where nobody has to log in.
    pub(super) fn new(tls: Option<Arc<Tls>>, max_packet_bytes: usize, is_open: bool) -> Self {
        Self { tls, websocket: WebSocketRules { max_frame_bytes: max_packet_bytes, loopback_only: is_open } }
    }

    /// Goes through the handshakes of `transport`, each within its limit.
    pub(super) async fn open(
        &self,
        transport: Transport,
        tcp: TcpStream,
        address: SocketAddr,
    ) -> Result<(Stream, Peer), NoStream> {
        let admission = Admission::default();
        let peer = Peer { address, certificate: None, admission: admission.clone() };
        match transport {
            Transport::Mqtt => Ok((Stream::Tcp(tcp), peer)),
            Transport::Ws => {
                let stream = in_time(Box::pin(websocket::accept(tcp, &self.websocket, admission))).await?;
                Ok((Stream::Ws(Box::new(stream)), peer))
            }
            Transport::Mqtts => {
                let (stream, certificate) = in_time(self.accept_tls(tcp)).await?;
                Ok((Stream::Tls(Box::new(stream)), Peer { certificate, ..peer }))
            }
            Transport::Wss => {
                let (stream, certificate) = in_time(self.accept_tls(tcp)).await?;
                let stream = in_time(Box::pin(websocket::accept(stream, &self.websocket, admission))).await?;
                Ok((Stream::Wss(Box::new(stream)), Peer { certificate, ..peer }))
            }
        }
    }

    async fn accept_tls(&self, tcp: TcpStream) -> Result<(TlsStream, Option<Arc<str>>), NoStream> {
        let tls = self.tls.as_ref().ok_or(NoStream::NoCertificate)?;
        let stream = tls.accept(tcp).await.map_err(NoStream::Tls)?;
        let name = tls::client_name(&stream)?;
        Ok((stream, name))
    }
}

async fn in_time<T>(handshake: impl Future<Output = Result<T, NoStream>>) -> Result<T, NoStream> {
    timeout(HANDSHAKE_LIMIT, handshake).await.unwrap_or(Err(NoStream::Late))
}
