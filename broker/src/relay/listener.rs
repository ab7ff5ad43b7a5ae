//! The listening socket: takes connections as fast as they come, within limits, and never stops because of one.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rumqttc::ConnectReturnCode;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::{mpsc, watch},
};
use tracing::{debug, warn};

use super::{Shared, connection, packet};

/// How many connections the kernel keeps for us while a whole fleet reconnects.
const BACKLOG: u32 = 4096;
/// When nothing can be accepted (no file descriptors left), trying again at once would only burn the CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionLimits {
    /// In all.
    pub(super) total: usize,
    /// From one address that is not this machine.
    pub(super) per_address: usize,
}

/// Counts connections; each has a [`Place`] for as long as it lives.
#[derive(Debug)]
struct Places {
    limits: ConnectionLimits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

struct Place {
    places: Arc<Places>,
    address: IpAddr,
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
    limits: ConnectionLimits,
    shared: Arc<Shared>,
    alive: mpsc::Sender<()>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Places { limits, taken: Mutex::default() });
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
        let _ = stream.try_write(&packet::refusal(ConnectReturnCode::ServiceUnavailable));
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

impl Places {
    fn take(places: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.total >= places.limits.total {
            return None;
        }
        let from_there = taken.by_address.entry(address).or_default();
        if *from_there >= places.limits.per_address && !address.is_loopback() {
            return None;
        }
        *from_there += 1;
        taken.total += 1;
        Some(Place { places: Arc::clone(places), address })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.total -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_in_all_and_by_address_and_are_given_back() {
        let limits = ConnectionLimits { total: 3, per_address: 2 };
        let places = Arc::new(Places { limits, taken: Mutex::default() });
        let take = |address: &str| Places::take(&places, address.parse().unwrap());
        let first = take("10.0.0.1");
        let second = take("10.0.0.1");
        assert!(first.is_some() && second.is_some() && take("10.0.0.1").is_none());
        let third = take("10.0.0.2");
        assert!(third.is_some() && take("10.0.0.3").is_none());
        drop(first);
        assert!(take("10.0.0.1").is_some());
        drop((second, third));
        let local: Vec<_> = (0..3).map(|_| take("127.0.0.1")).collect();
        assert!(local.iter().all(Option::is_some));
        drop(local);
        assert!(places.taken.lock().unwrap().by_address.is_empty());
    }
}
