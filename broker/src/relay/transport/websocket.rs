//! MQTT in the frames of a WebSocket (MQTT 5, 6), for clients in a browser.

use std::{
    io::{self, IoSlice},
    net::IpAddr,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async_with_config,
    tungstenite::{
        Error, Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
        protocol::WebSocketConfig,
    },
};

use super::{
    NoStream,
    admission::{Admission, Gated},
};

/// The subprotocol.
const MQTT: &str = "mqtt";
/// What is read at a time; each connection holds so much.
const READ_BUFFER_BYTES: usize = 2 * 1024;
/// Most that is put into one frame.
const FRAME_BYTES: usize = 32 * 1024;

/// What WebSockets may do.
#[derive(Debug, Clone, Copy)]
pub(super) struct WebSocketRules {
    /// The longest frame that is taken.
    pub(super) max_frame_bytes: usize,
    /// Only pages of this machine may connect: a page from elsewhere that somebody looks at here must not speak for them
    /// where nobody has to log in.
    pub(super) loopback_only: bool,
}

/// A WebSocket as a stream of bytes. MQTT-6.0.0-2: packets "MUST NOT" be taken to be "aligned on WebSocket frame
/// boundaries".
#[derive(Debug)]
pub(in crate::relay) struct WebSocket<S> {
    inner: WebSocketStream<Gated<S>>,
    /// Of the last frame, not yet read.
    rest: Bytes,
}

/// Upgrades a connection.
pub(super) async fn accept<S>(
    stream: S,
    rules: &WebSocketRules,
    admission: Admission,
) -> Result<WebSocket<S>, NoStream>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(Some(rules.max_frame_bytes))
        .max_frame_size(Some(rules.max_frame_bytes));
    #[expect(clippy::result_large_err, reason = "the library's type")]
    let callback = |request: &Request, response: Response| agree(request, response, *rules);
    let inner = accept_hdr_async_with_config(Gated::new(stream, admission), callback, Some(config)).await;
    let inner = inner.map_err(|err| NoStream::WebSocket(Box::new(err)))?;
    Ok(WebSocket { inner, rest: Bytes::new() })
}

/// MQTT-6.0.0-3: the client "MUST include "mqtt" in the list of WebSocket Sub Protocols it offers"; MQTT-6.0.0-4: that "is
/// the only" one "the Server MUST" choose.
#[expect(clippy::result_large_err, reason = "the library's type")]
fn agree(
    request: &Request,
    mut response: Response,
    rules: WebSocketRules,
) -> Result<Response, ErrorResponse> {
    let headers = request.headers();
    let offered =
        headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    if !offered.flat_map(|list| list.split(',')).any(|name| name.trim() == MQTT) {
        return Err(refusal(StatusCode::BAD_REQUEST, "the WebSocket subprotocol here is mqtt"));
    }
    if rules.loopback_only && !is_of_this_machine(headers) {
        return Err(refusal(StatusCode::FORBIDDEN, "only pages of this machine may connect"));
    }
    response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(MQTT));
    Ok(response)
}

fn refusal(status: StatusCode, text: &str) -> ErrorResponse {
    let mut response = ErrorResponse::new(Some(text.to_owned()));
    *response.status_mut() = status;
    response
}

/// Whether the page that connects, if it is one, and the name by which it found us are those of this machine.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let of = |name| headers.get(name).map(|value| value.to_str().ok().and_then(host_of));
    [of(header::ORIGIN), of(header::HOST)].into_iter().flatten().all(|host| {
        let is_local = |host: String| {
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        };
        host.is_some_and(is_local)
    })
}

fn host_of(url: &str) -> Option<String> {
    let uri: Uri = url.parse().ok()?;
    Some(uri.host()?.trim_matches(['[', ']']).to_ascii_lowercase())
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for WebSocket<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.inner).poll_next(cx)) {
                Some(Ok(Message::Binary(bytes))) => this.rest = bytes,
                // MQTT-6.0.0-1: "If any other type of data frame is received the recipient MUST close the Network
                // Connection".
                Some(Ok(Message::Text(_))) => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
                // Pings are answered by the library.
                Some(Ok(_)) => {}
                Some(Err(err)) => return Poll::Ready(Err(io_error(err))),
                None => return Poll::Ready(Ok(())),
            }
        }
        let count = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest[..count]);
        this.rest.advance(count);
        if this.rest.is_empty() {
            this.rest = Bytes::new();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WebSocket<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    /// All slices go into one frame.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.inner).poll_ready(cx)).map_err(io_error)?;
        let mut frame =
            BytesMut::with_capacity(slices.iter().map(|slice| slice.len()).sum::<usize>().min(FRAME_BYTES));
        for slice in slices {
            let room = FRAME_BYTES - frame.len();
            frame.extend_from_slice(&slice[..slice.len().min(room)]);
        }
        let count = frame.len();
        Pin::new(&mut this.inner).start_send(Message::Binary(frame.freeze())).map_err(io_error)?;
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx).map_err(io_error)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(Pin::new(&mut self.get_mut().inner).poll_close(cx)) {
            Ok(()) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => Poll::Ready(Ok(())),
            Err(err) => Poll::Ready(Err(io_error(err))),
        }
    }
}

fn io_error(err: Error) -> io::Error {
    match err {
        Error::Io(err) => err,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_elsewhere_are_told_from_those_of_this_machine() {
        let is_ours = |origin: Option<&'static str>, host: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static(host));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            is_of_this_machine(&headers)
        };
        assert!(is_ours(None, "127.0.0.1:9001") && is_ours(Some("http://localhost:3000"), "localhost:9001"));
        assert!(is_ours(Some("http://[::1]:80"), "[::1]:9001"));
        assert!(!is_ours(Some("https://evil.example"), "127.0.0.1:9001"));
        assert!(!is_ours(Some("http://localhost.evil.example"), "localhost:9001"));
        // By a name that was made to point here.
        assert!(!is_ours(None, "evil.example:9001"));
        assert!(!is_ours(Some("null"), "localhost:9001") && !is_ours(Some(""), "localhost:9001"));
    }
}
