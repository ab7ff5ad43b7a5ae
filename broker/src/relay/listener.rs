//! The listening sockets: take connections as fast as they come, within limits, and never stop because of one.

use std::{io, net::SocketAddr, os::fd::AsFd, sync::Arc, time::Duration};

use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
    task::{unconstrained, yield_now},
};
use tracing::{debug, warn};

use super::{
    Shared,
    codec::{self, Protocol, Reason},
    connection,
    transport::{Doorman, Transport},
};
use crate::places::Places;

/// How many connections the kernel keeps for us while a whole fleet reconnects.
const BACKLOG: u32 = 4096;
/// So many are accepted before others have their turn: while thousands of connections are busy with their handshakes, the
/// kernel's queue must not run over, since who finds no place there tries again after a second.
const BATCH: usize = 1024;
/// When nothing can be accepted (no file descriptors left), trying again at once would only burn the CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A client that may be silent for ever (keep-alive 0) and whose machine lost its power is noticed after this long
/// and three probes that nobody answers.
const PROBE_AFTER: Duration = Duration::from_mins(2);
const PROBE_EVERY: Duration = Duration::from_secs(20);
const PROBES: u32 = 3;

/// What all listeners share.
#[derive(Debug)]
pub(super) struct Lobby {
    /// How many connections there are.
    pub(super) places: Arc<Places>,
    /// What comes before MQTT.
    pub(super) doorman: Doorman,
    /// What comes then.
    pub(super) shared: Arc<Shared>,
}

/// Binds `address`.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until `stop`; every connection holds a clone of `alive` to its end.
pub(super) async fn accept(
    listener: TcpListener,
    transport: Transport,
    lobby: Arc<Lobby>,
    alive: mpsc::Sender<()>,
    mut stop: watch::Receiver<bool>,
) {
    let mut in_batch = 0;
    loop {
        // Tokio itself would interrupt this after 128.
        let accepted = tokio::select! {
            accepted = unconstrained(listener.accept()) => accepted,
            _ = unconstrained(stop.changed()) => return,
        };
        in_batch += 1;
        if in_batch == BATCH {
            in_batch = 0;
            yield_now().await;
        }
        match accepted {
            Ok((stream, peer)) => admit(stream, peer, transport, &lobby, &alive),
            Err(err) => {
                warn!(error = %err, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Everything that may take time happens in the connection's own task.
fn admit(
    stream: TcpStream,
    address: SocketAddr,
    transport: Transport,
    lobby: &Arc<Lobby>,
    alive: &mpsc::Sender<()>,
) {
    let Some(place) = Places::take(&lobby.places, address.ip()) else {
        debug!(peer = %address, "too many connections");
        if transport == Transport::Mqtt {
            // A courtesy that must not cost anything: whether it arrives is the client's luck.
            let refusal = codec::refusal(Protocol::V311, Reason::ServerUnavailable, "", usize::MAX);
            let _ = stream.try_write(&refusal.unwrap_or_default());
        }
        return;
    };
    if let Err(err) = prepare(&stream) {
        return debug!(peer = %address, error = %err, "connection lost at once");
    }
    let (lobby, alive) = (Arc::clone(lobby), alive.clone());
    tokio::spawn(async move {
        // Boxed, since handshakes are large and short: what is left then waits for hours.
        match Box::pin(lobby.doorman.open(transport, stream, address)).await {
            Ok((stream, peer)) => connection::serve(stream, peer, Arc::clone(&lobby.shared)).await,
            Err(reason) => debug!(peer = %address, reason = %crate::chain(&reason), "client not admitted"),
        }
        drop((place, alive));
    });
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = stream.as_fd();
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, PROBE_AFTER)?;
    sockopt::set_tcp_keepintvl(socket, PROBE_EVERY)?;
    Ok(sockopt::set_tcp_keepcnt(socket, PROBES)?)
}
