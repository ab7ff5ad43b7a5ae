//! A store for tests that misbehaves as it is told to.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use bus_client::store::Key;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

/// What the store does to one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trick {
    /// Sends so many bytes of the body and closes.
    CutAfter(usize),
    /// Answers that it is in trouble.
    Trouble,
    /// Says the length, sends half of it and then nothing.
    Hang,
}

/// A running store; it ends when it is dropped.
pub(crate) struct Server {
    shared: Arc<Shared>,
    address: String,
    task: AbortHandle,
}

#[derive(Default)]
struct Shared {
    content: Mutex<BTreeMap<String, Vec<u8>>>,
    tricks: Mutex<BTreeMap<String, Vec<Trick>>>,
    /// Path and first byte of every request.
    asked: Mutex<Vec<(String, usize)>>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&serving)));
            }
        });
        Self { shared, address, task: task.abort_handle() }
    }

    pub(crate) fn url(&self) -> &str {
        &self.address
    }

    /// Stores these bytes, right or wrong.
    pub(crate) fn put(&self, key: Key, stored: Vec<u8>) {
        self.shared.content.lock().unwrap().insert(path(key), stored);
    }

    pub(crate) fn remove(&self, key: Key) {
        self.shared.content.lock().unwrap().remove(&path(key));
    }

    /// Does these tricks to the next requests for it, one each.
    pub(crate) fn play(&self, key: Key, tricks: &[Trick]) {
        let tricks = tricks.iter().rev().copied().collect();
        self.shared.tricks.lock().unwrap().insert(path(key), tricks);
    }

    /// The first bytes that requests for it asked for.
    pub(crate) fn asked(&self, key: Key) -> Vec<usize> {
        let asked = self.shared.asked.lock().unwrap();
        asked.iter().filter(|(asked, _)| *asked == path(key)).map(|(_, offset)| *offset).collect()
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.asked.lock().unwrap().len()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn path(key: Key) -> String {
    format!("/{}", key.path())
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) -> Option<()> {
    loop {
        let (path, offset) = read_request(&mut stream).await?;
        shared.asked.lock().unwrap().push((path.clone(), offset));
        let trick = shared.tricks.lock().unwrap().get_mut(&path).and_then(Vec::pop);
        let content = shared.content.lock().unwrap().get(&path).cloned();
        let (head, body) = match (trick, content) {
            (Some(Trick::Trouble), _) => {
                ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(), Vec::new())
            }
            (_, None) => ("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".to_owned(), Vec::new()),
            (_, Some(content)) => answer(&content, offset),
        };
        let len = match trick {
            Some(Trick::CutAfter(len)) => len,
            Some(Trick::Hang) => body.len() / 2,
            Some(Trick::Trouble) | None => body.len(),
        };
        stream.write_all(head.as_bytes()).await.ok()?;
        stream.write_all(&body[..len.min(body.len())]).await.ok()?;
        match trick {
            Some(Trick::CutAfter(_)) => return None,
            Some(Trick::Hang) => std::future::pending().await,
            Some(Trick::Trouble) | None => {}
        }
    }
}

fn answer(content: &[u8], offset: usize) -> (String, Vec<u8>) {
    let total = content.len();
    if offset >= total && total > 0 {
        return ("HTTP/1.1 416 No\r\nContent-Length: 0\r\n\r\n".to_owned(), Vec::new());
    }
    let body = content[offset..].to_vec();
    let status = if offset == 0 {
        "200 OK\r\n".to_owned()
    } else {
        format!("206 Partial\r\nContent-Range: bytes {offset}-{}/{total}\r\n", total - 1)
    };
    (format!("HTTP/1.1 {status}Content-Length: {}\r\n\r\n", body.len()), body)
}

async fn read_request(stream: &mut TcpStream) -> Option<(String, usize)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    let range =
        head.lines().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let offset = range.and_then(|range| range.trim_end_matches('-').parse().ok()).unwrap_or(0);
    Some((path, offset))
}
