//! One client's byte stream. Holds no buffer while nothing happens: thousands of idle connections cost little.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::timeout,
};

use super::outgoing::{MAX_SLICES, Outgoing, Terms};

/// What one read takes at most; on the stack, for as long as the read lasts.
const READ_BYTES: usize = 16 * 1024;
/// How long a client may take to read why its connection ends.
const FAREWELL_LIMIT: Duration = Duration::from_secs(1);
/// How much of what it sent in the meantime is read, to be thrown away.
const FAREWELL_BYTES: usize = 1024 * 1024;

/// A stream with what was read and is not yet understood, and what is yet to be written.
#[derive(Debug)]
pub(super) struct Wire<S> {
    stream: S,
    /// Read, not yet decoded.
    pub(super) input: BytesMut,
    /// Not yet written.
    pub(super) out: Outgoing,
    /// Whether something written may still be in a layer between us and the socket.
    unflushed: bool,
}

/// What happened on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is new input.
    Read,
    /// Some output is written.
    Wrote,
    /// The client closed its side.
    Closed,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Takes over `stream`.
    pub(super) fn new(stream: S) -> Self {
        Self { stream, input: BytesMut::new(), out: Outgoing::new(Terms::UNKNOWN), unflushed: false }
    }

    /// Writes what the stream takes without waiting; returns how many bytes that were.
    pub(super) async fn write_now(&mut self) -> io::Result<usize> {
        let mut total = 0;
        poll_fn(|cx| {
            while !self.out.is_empty() {
                match self.poll_write(cx) {
                    Poll::Ready(Ok(count)) => total += count,
                    Poll::Ready(Err(err)) => return Poll::Ready(Err(err)),
                    Poll::Pending => break,
                }
            }
            match self.poll_flush(cx) {
                Poll::Ready(Err(err)) => Poll::Ready(Err(err)),
                _ => Poll::Ready(Ok(total)),
            }
        })
        .await
    }

    /// Waits until something can be written, or read if `want_read`.
    pub(super) async fn step(&mut self, want_read: bool) -> io::Result<Step> {
        poll_fn(|cx| {
            if !self.out.is_empty()
                && let Poll::Ready(result) = self.poll_write(cx)
            {
                return Poll::Ready(result.map(|_| Step::Wrote));
            }
            if let Poll::Ready(Err(err)) = self.poll_flush(cx) {
                return Poll::Ready(Err(err));
            }
            if want_read { self.poll_read(cx) } else { Poll::Pending }
        })
        .await
    }

    /// Gives the memory of understood input back.
    pub(super) fn release_input(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
    }

    /// Writes everything and `last`, closes our side, and lets the client read it: a close while input waits to be read
    /// would reset the connection. All within limits.
    pub(super) async fn finish_with(&mut self, last: Bytes) -> io::Result<()> {
        self.out.push_bytes(last);
        let finish = async {
            while !self.out.is_empty() {
                self.step(false).await?;
            }
            self.stream.shutdown().await?;
            self.input = BytesMut::new();
            let mut unread = 0;
            while unread < FAREWELL_BYTES && self.step(true).await? == Step::Read {
                unread += self.input.len();
                self.input.clear();
            }
            Ok(())
        };
        // Who takes longer has not listened.
        timeout(FAREWELL_LIMIT, finish).await.unwrap_or(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let filled = self.out.slices(&mut slices);
        let written = match Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..filled]) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(err)) => return Poll::Ready(Err(err)),
            Poll::Pending => return Poll::Pending,
        };
        self.out.written(written);
        self.unflushed = true;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.unflushed {
            return Poll::Ready(Ok(()));
        }
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.unflushed = flushed.is_pending();
        flushed
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Step>> {
        let mut scratch = [const { MaybeUninit::uninit() }; READ_BYTES];
        let mut buffer = ReadBuf::uninit(&mut scratch);
        match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => Poll::Ready(Ok(Step::Closed)),
            Poll::Ready(Ok(())) => {
                self.input.extend_from_slice(buffer.filled());
                Poll::Ready(Ok(Step::Read))
            }
            Poll::Ready(Err(err)) => Poll::Ready(Err(err)),
            Poll::Pending => Poll::Pending,
        }
    }
}
