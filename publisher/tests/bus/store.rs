//! A store that takes everything, or does not, as a test wants.

use std::{
    collections::BTreeSet,
    io::{BufRead, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::{Value, json};

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
}

pub(crate) struct FakeStore {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
}

impl FakeStore {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { mood: Mood::Takes, names: BTreeSet::new() }));
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
