//! A GET over HTTP/1.1 (RFC 9112), as small as health checks need it: no TLS, no redirects, bounded answers.

use std::{io, str::FromStr};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Most bytes of an answer, head and body.
const MAX_ANSWER_BYTES: u64 = 256 * 1024;
const DEFAULT_PORT: u16 = 80;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// Not an address that can be asked.
    #[error("`{0}` is not an http:// address")]
    Url(String),
    /// Nothing listens there, or the connection broke.
    #[error("no connection")]
    Io(#[from] io::Error),
    /// What answers does not speak HTTP.
    #[error("answer is not HTTP")]
    NotHttp,
    /// The answer ends before it is complete.
    #[error("answer is cut short")]
    Short,
    /// More than a check may answer.
    #[error("answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
}

/// An `http://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// As the `Host` field names it.
    authority: String,
    host: String,
    port: u16,
    /// Path and query.
    target: String,
}

impl FromStr for Url {
    type Err = HttpError;

    fn from_str(text: &str) -> Result<Self, HttpError> {
        let wrong = || HttpError::Url(text.to_owned());
        let rest = text.strip_prefix("http://").ok_or_else(wrong)?;
        if rest.bytes().any(|b| b <= b' ' || b == 0x7f || b == b'@') {
            return Err(wrong());
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at(end);
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        let (host, port) = split_port(authority).ok_or_else(wrong)?;
        Ok(Self { authority: authority.to_owned(), host: host.to_owned(), port, target })
    }
}

fn split_port(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']')?;
            (host, if port.is_empty() { None } else { Some(port.strip_prefix(':')?) })
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(DEFAULT_PORT), str::parse).ok()?;
    (!host.is_empty()).then_some((host, port))
}

/// What was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Whether the status is a 2xx.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Asks once. The caller limits the time.
pub(crate) async fn get(url: &Url) -> Result<Answer, HttpError> {
    let mut stream = TcpStream::connect((url.host.as_str(), url.port)).await?;
    let request = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUser-Agent: deploybus\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        url.target, url.authority
    );
    stream.write_all(request.as_bytes()).await?;
    let mut said = Vec::new();
    let mut limited = stream.take(MAX_ANSWER_BYTES + 1);
    loop {
        let len = limited.read_buf(&mut said).await?;
        if said.len() as u64 > MAX_ANSWER_BYTES {
            return Err(HttpError::TooLong);
        }
        // A server may keep the connection open although it was asked to close it.
        match parse(&said, len == 0) {
            Err(HttpError::Short) if len > 0 => {}
            answer => return answer,
        }
    }
}

/// The answer in `said`; [`HttpError::Short`] while it is not complete. `ended` says that nothing more will come.
fn parse(said: &[u8], ended: bool) -> Result<Answer, HttpError> {
    let Some(head_len) = find(said, b"\r\n\r\n") else {
        let is_http = said.starts_with(b"HTTP/1.") || b"HTTP/1.".starts_with(said);
        return Err(if is_http { HttpError::Short } else { HttpError::NotHttp });
    };
    let head = std::str::from_utf8(&said[..head_len]).map_err(|_| HttpError::NotHttp)?;
    let body = &said[head_len + 4..];
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(status_of).ok_or(HttpError::NotHttp)?;
    let field = |wanted: &str| {
        lines.clone().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim().to_ascii_lowercase())
        })
    };
    let body = if field("transfer-encoding").is_some_and(|coding| coding.ends_with("chunked")) {
        unchunk(body)?
    } else if let Some(length) = field("content-length") {
        let length: usize = length.parse().map_err(|_| HttpError::NotHttp)?;
        body.get(..length).ok_or(HttpError::Short)?.to_vec()
    } else if ended || status == 204 || status == 304 {
        body.to_vec()
    } else {
        return Err(HttpError::Short);
    };
    Ok(Answer { status, body })
}

fn status_of(line: &str) -> Option<u16> {
    let mut words = line.strip_prefix("HTTP/1.")?.split(' ');
    words.next()?;
    words.next()?.parse().ok().filter(|status| (200..600).contains(status))
}

/// RFC 9112 §7.1; trailers are not looked at.
fn unchunk(mut rest: &[u8]) -> Result<Vec<u8>, HttpError> {
    let mut body = Vec::new();
    loop {
        let line_len = find(rest, b"\r\n").ok_or(HttpError::Short)?;
        let line = std::str::from_utf8(&rest[..line_len]).map_err(|_| HttpError::NotHttp)?;
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| HttpError::NotHttp)?;
        if size == 0 {
            return Ok(body);
        }
        if size as u64 > MAX_ANSWER_BYTES {
            return Err(HttpError::TooLong);
        }
        rest = &rest[line_len + 2..];
        let chunk = rest.get(..size + 2).ok_or(HttpError::Short)?;
        body.extend_from_slice(chunk.strip_suffix(b"\r\n").ok_or(HttpError::NotHttp)?);
        rest = &rest[size + 2..];
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        for (text, host, port, target) in [
            ("http://127.0.0.1:8000/health", "127.0.0.1", 8000, "/health"),
            ("http://localhost", "localhost", 80, "/"),
            ("http://[::1]:81/a?b=c", "::1", 81, "/a?b=c"),
            ("http://h?x=1", "h", 80, "/?x=1"),
            ("http://h/a#part", "h", 80, "/a"),
        ] {
            let url: Url = text.parse().unwrap();
            assert_eq!((url.host.as_str(), url.port, url.target.as_str()), (host, port, target), "{text}");
        }
        let bad = [
            "https://h/",
            "h:80",
            "http://",
            "http://h:99999/",
            "http://h:/",
            "http://u@h/",
            "http://h/a b",
            "http://[::1/",
            "http://h/\r\nX: y",
        ];
        for bad in bad {
            assert!(matches!(bad.parse::<Url>(), Err(HttpError::Url(_))), "{bad}");
        }
    }

    #[test]
    fn answers_are_read_in_every_form_and_never_before_they_are_complete() {
        let whole = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes", false),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n1\r\ny\r\n2;x=1\r\nes\r\n0\r\n\r\n",
                false,
            ),
            ("HTTP/1.0 200 OK\r\nServer: x\r\n\r\nyes", true),
        ];
        for (said, needs_end) in whole {
            let answer = parse(said.as_bytes(), needs_end).unwrap();
            assert_eq!((answer.status, answer.body.as_slice()), (200, b"yes".as_slice()));
            assert!(answer.is_success());
            let last = said.rfind("0\r\n\r\n").map_or(said.len(), |at| at + 1);
            for len in 0..last.min(said.len() - 1) {
                assert!(
                    matches!(parse(&said.as_bytes()[..len], false), Err(HttpError::Short)),
                    "{len}: {said}"
                );
            }
        }
        assert_eq!(parse(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n", false).unwrap().status, 503);
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n", false).unwrap().body, b"");
    }

    #[test]
    fn hostile_answers_are_refused() {
        for said in [
            "SSH-2.0-OpenSSH\r\n\r\n",
            "HTTP/1.1 abc\r\n\r\n",
            "HTTP/1.1 999 No\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc",
        ] {
            assert!(matches!(parse(said.as_bytes(), true), Err(HttpError::NotHttp)), "{said}");
        }
        let huge = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n";
        assert!(matches!(parse(huge, true), Err(HttpError::TooLong)));
        let more = b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n";
        assert!(matches!(parse(more, true), Err(HttpError::Short)));
    }
}
