//! How much a stranger may send: frames are put together below the reader of CONNECT, whose own limit comes too late.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A CONNECT and the handshake before it.
const MAX_BYTES: usize = 96 * 1024;

/// Whether a client is let in.
#[derive(Debug, Clone, Default)]
pub(in crate::relay) struct Admission(Arc<AtomicBool>);

impl Admission {
    /// From now on it sends what it likes.
    pub(in crate::relay) fn grant(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A stream that ends with an error when a stranger sends too much.
#[derive(Debug)]
pub(super) struct Gated<S> {
    inner: S,
    admission: Admission,
    read_bytes: usize,
}

impl<S> Gated<S> {
    /// Nothing was read yet.
    pub(super) fn new(inner: S, admission: Admission) -> Self {
        Self { inner, admission, read_bytes: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gated<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        if this.read_bytes <= MAX_BYTES && !this.admission.0.load(Ordering::Relaxed) {
            this.read_bytes += buffer.filled().len() - before;
            if this.read_bytes > MAX_BYTES {
                return Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "too much before CONNECT",
                )));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gated<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}
