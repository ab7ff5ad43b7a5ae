//! Ports, and the smallest HTTP client that can ask an app how it is.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process,
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

const PATIENCE: Duration = Duration::from_secs(5);

/// Ports that no system gives to outgoing connections by itself: one of those could take a port before its listener does.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A port on which nobody listens now, another one at each call.
///
/// # Errors
/// When there is none.
pub fn free_port() -> Result<u16> {
    static CALLS: AtomicU16 = AtomicU16::new(0);
    let count = PORTS.end - PORTS.start;
    // Processes that run at the same time begin at different places.
    let begin = (process::id() % 220) as u16 * 100;
    for _ in 0..count {
        let place = begin.wrapping_add(CALLS.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + place;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("every port from {} to {} is taken", PORTS.start, PORTS.end)
}

/// What an HTTP server answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: String,
}

impl Answer {
    /// A text value of a JSON object.
    pub fn text(&self, key: &str) -> Option<String> {
        let json: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        Some(json.get(key)?.as_str()?.to_owned())
    }
}

/// `GET http://127.0.0.1:<port><path>`
///
/// # Errors
/// When nobody answers, or not in HTTP.
pub fn get(port: u16, path: &str) -> Result<Answer> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).context("no HTTP status")?;
    Ok(Answer { status, body: body.to_owned() })
}
