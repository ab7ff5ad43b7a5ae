//! The store's listening sockets: HTTP/1.1 connections, limited in number and in patience.

use std::{
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::Router;
use hyper::{
    Request,
    body::Incoming,
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Sleep, sleep, timeout},
};
use tracing::{debug, warn};

use super::http::Caller;
use crate::{
    places::Places,
    tls::{HANDSHAKE_LIMIT, Tls},
};

/// How long a client may take for the head of a request, and between two requests. Longer than what a client with
/// many objects to fetch spends on writing one to an SD card.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// A client that takes nothing for this long is cut off; it can resume.
const STALL_LIMIT: Duration = Duration::from_mins(1);
/// When nothing can be accepted (no file descriptors left), trying again at once would only burn the CPU.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What serves at a listener.
#[derive(Clone)]
pub(super) struct Server {
    /// What answers.
    pub(super) router: Router,
    /// How many connections there are.
    pub(super) places: Arc<Places>,
    /// The certificate, where TLS is spoken.
    pub(super) tls: Option<Arc<Tls>>,
}

impl Server {
    /// Serves until `stop`, and then until all that has begun is done.
    pub(super) async fn serve(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        let (alive, mut ended) = mpsc::channel::<()>(1);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stopped(&mut stop) => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let Some(place) = Places::take(&self.places, peer.ip()) else {
                        debug!(%peer, "too many connections");
                        continue;
                    };
                    let (server, stop, alive) = (self.clone(), stop.clone(), alive.clone());
                    tokio::spawn(async move {
                        server.open(stream, peer, stop).await;
                        drop((place, alive));
                    });
                }
                Err(err) => {
                    warn!(error = %err, "cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((listener, alive));
        // Nothing is ever sent: this ends with the last connection.
        let _ = ended.recv().await;
    }

    async fn open(self, stream: TcpStream, peer: SocketAddr, stop: watch::Receiver<bool>) {
        // Without it every small answer waits for the client's delayed acknowledgement.
        if let Err(err) = stream.set_nodelay(true) {
            return debug!(%peer, error = %err, "connection lost at once");
        }
        let caller = Caller { from: peer.ip(), over_tls: self.tls.is_some() };
        let Some(tls) = &self.tls else { return talk(stream, caller, self.router, stop).await };
        match timeout(HANDSHAKE_LIMIT, Box::pin(tls.accept(stream))).await {
            Ok(Ok(stream)) => talk(stream, caller, self.router, stop).await,
            Ok(Err(err)) => debug!(%peer, error = %err, "TLS handshake failed"),
            Err(_late) => debug!(%peer, "no TLS handshake within {} s", HANDSHAKE_LIMIT.as_secs()),
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that the store itself is gone.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn talk<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    caller: Caller,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    let stream = TokioIo::new(Impatient::new(stream, STALL_LIMIT));
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(caller);
        router.call(request)
    });
    let mut connection = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .serve_connection(stream, service)
    );
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = stopped(&mut stop) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(err) = result {
        debug!(peer = %caller.from, error = %crate::chain(&err), "connection ended");
    }
}

/// A stream whose writes fail when the other side takes nothing for too long.
struct Impatient<S> {
    stream: S,
    limit: Duration,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    fn new(stream: S, limit: Duration) -> Self {
        Self { stream, limit, stalled: None }
    }

    /// What comes of a write, of which `written` says how it went.
    fn judge<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.limit)));
        stalled.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.judge(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_cut_off_and_a_slow_one_is_not() {
        let (ours, mut theirs) = duplex(10);
        let mut stream = Impatient::new(ours, STALL_LIMIT);
        let reader = tokio::spawn(async move {
            for _ in 0..5 {
                sleep(STALL_LIMIT * 9 / 10).await;
                theirs.read_exact(&mut [0; 10]).await.unwrap();
            }
            theirs
        });
        stream.write_all(&[0; 60]).await.unwrap();
        let _theirs = reader.await.unwrap();
        assert_eq!(stream.write_all(&[0; 60]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_never_ends_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = watch::channel(false);
        let limits = crate::places::ConnectionLimits { total: 9, per_address: 9 };
        let server = Server { router: Router::new(), places: Places::new(limits), tls: None };
        let server = tokio::spawn(server.serve(listener, stopped));
        for begun in [&b""[..], b"GET / HTTP/1.1\r\nHost: a\r\nX: "] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.write_all(begun).await.unwrap();
            let mut answer = Vec::new();
            // A reset is an end as well.
            let _ = client.read_to_end(&mut answer).await;
        }
        stop.send(true).unwrap();
        server.await.unwrap();
    }
}
