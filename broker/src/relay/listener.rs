//! The listening socket: takes connections as fast as they come, within limits, and never stops because of one.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
};
use tracing::{debug, warn};

use super::{
    Shared,
    codec::{self, Protocol, Reason},
    connection,
};
use crate::places::{ConnectionLimits, Places};

/// How many connections the kernel keeps for us while a whole fleet reconnects.
const BACKLOG: u32 = 4096;
/// When nothing can be accepted (no file descriptors left), trying again at once would only burn the CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

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
    limits: ConnectionLimits,
    shared: Arc<Shared>,
    alive: mpsc::Sender<()>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Places::new(limits);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.changed() => return,
        };
        match accepted {
            Ok((stream, peer)) => admit(stream, peer, &places, &shared, &alive),
            Err(err) => {
                warn!(error = %err, "cannot accept connections");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

fn admit(
    stream: TcpStream,
    peer: SocketAddr,
    places: &Arc<Places>,
    shared: &Arc<Shared>,
    alive: &mpsc::Sender<()>,
) {
    let Some(place) = Places::take(places, peer.ip()) else {
        debug!(%peer, "too many connections");
        // A courtesy that must not cost anything: whether it arrives is the client's luck.
        let refusal = codec::refusal(Protocol::V311, Reason::ServerUnavailable, "");
        let _ = stream.try_write(&refusal.unwrap_or_default());
        return;
    };
    if let Err(err) = stream.set_nodelay(true) {
        return debug!(%peer, error = %err, "connection lost at once");
    }
    let (shared, alive) = (Arc::clone(shared), alive.clone());
    tokio::spawn(async move {
        connection::serve(stream, peer, shared).await;
        drop((place, alive));
    });
}
