//! A store that takes everything, or does not, as a test wants.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use schemas::deploy_log::{Chained, Entry, Head, Page, Row};
use serde_json::{Value, json};

/// Most entries of one answer.
const PAGE: u64 = 7;

/// What the store does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Takes,
    Denies,
    Full,
    /// Ends connections without an answer.
    Down,
}

struct State {
    mood: Mood,
    names: BTreeSet<String>,
    log: Vec<Chained>,
    /// What was deleted of the log.
    anchor: Head,
}

pub(crate) struct FakeStore {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl FakeStore {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            mood: Mood::Takes,
            names: BTreeSet::new(),
            log: Vec::new(),
            anchor: Head::BEGIN,
        }));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { port, state }
    }

    pub(crate) fn set(&self, mood: Mood) {
        self.state.lock().unwrap().mood = mood;
    }

    /// The paths of everything that was uploaded.
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.state.lock().unwrap().names.clone()
    }
}

impl FakeStore {
    /// Changes the deploy log that it serves.
    pub(crate) fn log(&self, change: impl FnOnce(&mut Vec<Chained>)) {
        change(&mut self.state.lock().unwrap().log);
    }

    /// Writes entries at the end of it.
    pub(crate) fn write(&self, entries: impl IntoIterator<Item = Entry>) {
        let mut state = self.state.lock().unwrap();
        for entry in entries {
            let link = state.end().next(entry);
            state.log.push(link);
        }
    }

    /// Deletes the oldest entries.
    pub(crate) fn delete(&self, count: usize) {
        let mut state = self.state.lock().unwrap();
        let last = state.log.drain(..count).next_back().unwrap();
        state.anchor = last.head();
    }
}

impl State {
    fn end(&self) -> Head {
        self.log.last().map_or(self.anchor, Chained::head)
    }

    /// The answer about the log, where `path` is about that.
    fn read_log(&self, path: &str) -> Option<String> {
        let query = path.strip_prefix("/v1/log")?;
        if query == "/head" {
            let (end, anchor) = (self.end(), self.anchor);
            let value = json!({ "format": 1, "seq": end.seq, "digest": end.digest,
                "anchor_seq": anchor.seq, "anchor_digest": anchor.digest });
            return Some(value.to_string());
        }
        let value = |key: &str| {
            let pairs = query.trim_start_matches('?').split('&').filter_map(|pair| pair.split_once('='));
            { pairs }.find_map(|(name, value)| (name == key).then(|| value.to_owned()))
        };
        let number = |key: &str| value(key).map(|value| value.parse::<u64>().unwrap());
        let (after, is_newest) = (number("after").unwrap_or(0), value("newest").is_some());
        let is_wanted = |link: &&Chained| {
            let entry = &link.entry;
            let is_behind = if is_newest { entry.seq < after } else { entry.seq > after };
            let is_of = |key, found: Option<String>| value(key).is_none_or(|wanted| found == Some(wanted));
            is_behind
                && is_of("node", entry.node.as_ref().map(ToString::to_string))
                && is_of("what", Some(entry.what.to_string()))
        };
        let mut found: Vec<_> = self.log.iter().filter(is_wanted).cloned().collect();
        if is_newest {
            found.reverse();
        }
        let limit = usize::try_from(number("limit").unwrap_or(PAGE)).unwrap().min(PAGE as usize);
        let more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().map_or(after, |link| link.entry.seq);
        let page = Page { entries: found.into_iter().map(Row::from).collect(), next, more };
        Some(serde_json::to_string(&page).unwrap())
    }
}

/// Answers the requests of one connection, until it or the store's patience ends.
fn serve(stream: TcpStream, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut stream = stream;
    loop {
        let (line, body) = request(&mut reader)?;
        let mut words = line.split(' ');
        let (method, path) = (words.next()?, words.next()?.to_owned());
        let mut state = state.lock().unwrap();
        let (status, answer) = match (state.mood, method) {
            (Mood::Down, _) => return None,
            (Mood::Denies, _) => (401, String::new()),
            (Mood::Takes | Mood::Full, "POST") => (200, missing(&state.names, &body)?),
            (_, "GET") => state.read_log(&path).map_or((404, String::new()), |answer| (200, answer)),
            (Mood::Full, _) => (507, String::new()),
            (Mood::Takes, _) => {
                state.names.insert(path);
                (201, String::new())
            }
        };
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        stream.write_all((head + &answer).as_bytes()).ok()?;
    }
}

fn request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|len| *len > 0)?;
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        lines
            .iter()
            .find_map(|line| line.to_lowercase().strip_prefix(name).map(|value| value.trim().to_owned()))
    };
    assert_eq!(header("transfer-encoding:"), None, "the fake store takes only bodies of known length");
    let len = header("content-length:").and_then(|len| len.parse().ok()).unwrap_or(0);
    let mut body = vec![0; len];
    reader.read_exact(&mut body).ok()?;
    Some((lines.first()?.clone(), body))
}

fn missing(names: &BTreeSet<String>, body: &[u8]) -> Option<String> {
    let asked: Value = serde_json::from_slice(body).ok()?;
    let absent = |key: &str| -> Vec<&Value> {
        let listed = asked[key].as_array().into_iter().flatten();
        listed.filter(|name| !names.iter().any(|there| there.ends_with(name.as_str().unwrap()))).collect()
    };
    Some(json!({ "objects": absent("objects"), "manifests": absent("manifests") }).to_string())
}
