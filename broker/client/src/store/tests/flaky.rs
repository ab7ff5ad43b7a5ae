//! A store in memory that follows the rules of the real one, except for one fault a request.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use schemas::id::Digest;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};

use crate::store::{Key, StoreUrl};

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Answers this instead.
    Status(u16),
    /// The connection ends after so many bytes of the body, whichever way it goes.
    CutAfter(usize),
    /// Nothing more happens after so many bytes of the body, whichever way it goes.
    StallAfter(usize),
    /// One byte of the body comes after the other, with pauses.
    Crawl,
    /// The body does not begin where it should.
    WrongRange,
    /// The range that is said is longer or shorter than the body, by so much.
    RangeOffBy(isize),
    /// The whole is sent, whatever was asked for.
    NoRange,
    /// The length of the body is not said.
    NoLength,
    /// The answer takes half a second.
    Late,
    /// More comes than was said.
    TooMuch,
    /// Another body than there should be.
    Garbage,
}

/// A store on a port of its own; ends with the test's runtime.
pub(super) struct Flaky {
    url: StoreUrl,
    state: Arc<Mutex<State>>,
    _reserved: Option<TcpSocket>,
}

#[derive(Default)]
struct State {
    whole: BTreeMap<String, Vec<u8>>,
    partial: BTreeMap<String, Vec<u8>>,
    faults: VecDeque<Fault>,
    log: Vec<String>,
}

struct Request {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Flaky {
    pub(super) async fn start(faults: &[Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = url_of(listener.local_addr().unwrap());
        let state = State { faults: faults.iter().copied().collect(), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let served = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&served)));
            }
        });
        Self { url, state, _reserved: None }
    }

    /// A store that is down, at an address that nobody else gets.
    pub(super) fn down() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let url = url_of(socket.local_addr().unwrap());
        Self { url, state: Arc::default(), _reserved: Some(socket) }
    }

    pub(super) fn url(&self) -> StoreUrl {
        self.url.clone()
    }

    pub(super) fn hold(&self, key: Key, bytes: &[u8]) {
        self.state().whole.insert(format!("/{}", key.path()), bytes.to_vec());
    }

    pub(super) fn hold_partial(&self, key: Key, bytes: &[u8]) {
        self.state().partial.insert(format!("/{}", key.path()), bytes.to_vec());
    }

    pub(super) fn held(&self, key: Key) -> Option<Vec<u8>> {
        self.state().whole.get(&format!("/{}", key.path())).cloned()
    }

    /// Each request: its method and what of its headers matters.
    pub(super) fn log(&self) -> Vec<String> {
        self.state().log.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

fn url_of(address: SocketAddr) -> StoreUrl {
    format!("http://{address}").parse().unwrap()
}

/// One request a connection. What fails here the client sees as a cut.
async fn serve(stream: TcpStream, state: Arc<Mutex<State>>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let request = read_head(&mut stream).await?;
    let fault = {
        let mut state = state.lock().unwrap();
        state.log.push(request.summary());
        state.faults.pop_front()
    };
    let body = read_body(&mut stream, &request, fault).await;
    let is_whole = body.len() == request.length();
    let answer = match fault {
        Some(Fault::Status(status)) => Answer { status, headers: Vec::new(), body: Vec::new() },
        _ => answer(&mut state.lock().unwrap(), &request, &body, fault),
    };
    if fault == Some(Fault::Late) {
        sleep(Duration::from_millis(500)).await;
    }
    if !is_whole {
        return end(stream, fault).await;
    }
    write_answer(&mut stream, &request, answer, fault).await?;
    end(stream, fault).await
}

/// Closes the connection, or holds it for ever.
async fn end(stream: BufReader<TcpStream>, fault: Option<Fault>) -> Option<()> {
    if matches!(fault, Some(Fault::StallAfter(_))) {
        let _held = stream;
        std::future::pending::<()>().await;
    }
    None
}

async fn read_head(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|count| *count > 0)?;
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let mut first = lines.first()?.split(' ');
    let (method, path) = (first.next()?.to_owned(), first.next()?.to_owned());
    let headers = lines[1..].iter().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Some(Request { method, path, headers })
}

async fn read_body(stream: &mut BufReader<TcpStream>, request: &Request, fault: Option<Fault>) -> Vec<u8> {
    let limit = match fault {
        Some(Fault::CutAfter(count) | Fault::StallAfter(count)) => count,
        _ => usize::MAX,
    };
    let mut body = vec![0; request.length().min(limit)];
    stream.read_exact(&mut body).await.unwrap();
    body
}

fn answer(state: &mut State, request: &Request, body: &[u8], fault: Option<Fault>) -> Answer {
    match request.method.as_str() {
        "GET" | "HEAD" => get(state, request, fault),
        "PUT" => put(state, request, body),
        "POST" => {
            let mut asked: crate::store::Missing = serde_json::from_slice(body).unwrap();
            asked
                .objects
                .retain(|digest| !state.whole.contains_key(&format!("/{}", Key::Object(*digest).path())));
            asked.objects.push(Digest::of(b"nobody asked for this"));
            let body = match fault {
                Some(Fault::Garbage) => b"{\"objects\":[1]}".to_vec(),
                Some(Fault::TooMuch) => vec![b' '; 100_000],
                _ => serde_json::to_vec(&asked).unwrap(),
            };
            Answer { status: 200, headers: Vec::new(), body }
        }
        _ => Answer { status: 405, headers: Vec::new(), body: Vec::new() },
    }
}

fn get(state: &State, request: &Request, fault: Option<Fault>) -> Answer {
    let Some(bytes) = state.whole.get(&request.path) else {
        let partial = state.partial.get(&request.path);
        let headers =
            partial.map(|partial| ("Upload-Offset", partial.len().to_string())).into_iter().collect();
        return Answer { status: 404, headers, body: Vec::new() };
    };
    let range = request.headers.get("range").filter(|_| fault != Some(Fault::NoRange));
    let Some(first) = range.map(|range| range[6..range.len() - 1].parse::<usize>().unwrap()) else {
        return Answer { status: 200, headers: Vec::new(), body: bytes.clone() };
    };
    if first >= bytes.len() {
        let headers = vec![("Content-Range", format!("bytes */{}", bytes.len()))];
        return Answer { status: 416, headers, body: Vec::new() };
    }
    let first = if fault == Some(Fault::WrongRange) { first - 1 } else { first };
    let total = match fault {
        Some(Fault::RangeOffBy(count)) => bytes.len().saturating_add_signed(count),
        _ => bytes.len(),
    };
    let range = format!("bytes {first}-{}/{total}", total - 1);
    Answer { status: 206, headers: vec![("Content-Range", range)], body: bytes[first..].to_vec() }
}

fn put(state: &mut State, request: &Request, body: &[u8]) -> Answer {
    let answer = |status| Answer { status, headers: Vec::new(), body: Vec::new() };
    if request.headers.get("authorization").is_none_or(|basic| basic != "Basic YW5uYTpzZWNyZXQ=") {
        return answer(401);
    }
    if state.whole.contains_key(&request.path) {
        return answer(200);
    }
    let number = |name: &str| request.headers.get(name).and_then(|value| value.parse::<usize>().ok());
    let partial = state.partial.entry(request.path.clone()).or_default();
    if number("upload-offset").unwrap_or(0) != partial.len() {
        let headers = vec![("Upload-Offset", partial.len().to_string())];
        return Answer { status: 409, headers, body: Vec::new() };
    }
    partial.extend_from_slice(body);
    if Some(partial.len()) != number("upload-length") {
        return answer(202);
    }
    let bytes = state.partial.remove(&request.path).unwrap_or_default();
    if !request.path.ends_with(&Digest::of(&bytes).to_string()) {
        return answer(422);
    }
    state.whole.insert(request.path.clone(), bytes);
    answer(201)
}

async fn write_answer(
    stream: &mut BufReader<TcpStream>,
    request: &Request,
    answer: Answer,
    fault: Option<Fault>,
) -> Option<()> {
    let mut head = vec![format!("HTTP/1.1 {} x", answer.status), "Connection: close".to_owned()];
    head.extend(answer.headers.iter().map(|(name, value)| format!("{name}: {value}")));
    if fault != Some(Fault::NoLength) {
        head.push(format!("Content-Length: {}", answer.body.len()));
    }
    stream.write_all(format!("{}\r\n\r\n", head.join("\r\n")).as_bytes()).await.ok()?;
    let mut body = answer.body;
    match fault {
        _ if request.method == "HEAD" => body.clear(),
        Some(Fault::CutAfter(count) | Fault::StallAfter(count)) => body.truncate(count),
        Some(Fault::TooMuch) => body.extend_from_slice(b"and more"),
        _ => {}
    }
    if fault == Some(Fault::Crawl) {
        for byte in body {
            stream.write_all(&[byte]).await.ok()?;
            stream.flush().await.ok()?;
            sleep(Duration::from_millis(10)).await;
        }
        return Some(());
    }
    stream.write_all(&body).await.ok()?;
    stream.flush().await.ok()
}

impl Request {
    fn length(&self) -> usize {
        self.headers.get("content-length").map_or(0, |length| length.parse().unwrap())
    }

    fn summary(&self) -> String {
        let matters = ["range", "upload-offset"].iter().filter_map(|name| self.headers.get(*name));
        let words: Vec<&str> = std::iter::once(&self.method).chain(matters).map(String::as_str).collect();
        words.join(" ")
    }
}
