//! Objects in pieces over the bus, for nodes that have no room for a second TLS connection: one question, one answer.
//!
//! Whoever may ask is told by the topic, which belongs to one node. Each node has a pace; what it asks for beyond that is
//! dropped, and asked for again by the node. One question is answered at a time.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read as _},
    path::Path,
    sync::Arc,
};

use schemas::{
    chunk::{MAX_OBJECT_BYTES, MAX_PIECE_BYTES, NoPiece, Piece, Want},
    id::{FleetId, NodeId},
    topic::{Kind, Topic},
};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{
    layout::{Layout, Name},
    upload::WINDOW_LOG_MAX,
};
use crate::relay::{Inside, View};

/// So many questions of a node are answered at once after a pause …
const BURST: f64 = 256.0;
/// … and so many in a second from then on: 1 MiB, more than a Pico W can write.
const PER_SECOND: f64 = 256.0;
/// To give a piece, all that is before it is unpacked: so many bytes of that count as one question more.
const UNPACKED_BYTES: u64 = 256 * 1024;
/// So many nodes are remembered; whoever is not begins with a full burst.
const MOST_NODES: usize = 10_000;

/// Answers the questions of nodes for pieces.
#[derive(Debug)]
pub(crate) struct Chunks {
    layout: Arc<Layout>,
    fleet: FleetId,
    inside: Inside,
    pace: Pace,
}

/// How many questions each node has left, and since when.
#[derive(Debug, Default)]
struct Pace(HashMap<NodeId, (f64, Instant)>);

impl Pace {
    /// Whether `node` may ask now for what is at `offset`.
    fn lets(&mut self, node: &NodeId, offset: u64, now: Instant) -> bool {
        if self.0.len() >= MOST_NODES && !self.0.contains_key(node) {
            self.0.clear();
        }
        let (left, since) = self.0.entry(node.clone()).or_insert((BURST, now));
        *left = (*left + now.duration_since(*since).as_secs_f64() * PER_SECOND).min(BURST);
        *since = now;
        let cost = 1.0 + (offset.min(MAX_OBJECT_BYTES) / UNPACKED_BYTES) as f64;
        let lets = *left >= cost;
        if lets {
            *left -= cost;
        }
        lets
    }
}

impl Chunks {
    /// Gives out what lies in the store below `data`.
    ///
    /// # Errors
    /// When the store's folder cannot be made.
    pub(crate) fn new(data: &Path, fleet: FleetId, inside: Inside) -> io::Result<Self> {
        let layout = Arc::new(Layout::create(&data.join("store"))?);
        Ok(Self { layout, fleet, inside, pace: Pace::default() })
    }

    /// Answers until the relay is gone.
    pub(crate) async fn run(mut self, mut wants: View) {
        while let Some((topic, payload)) = wants.next().await {
            let Ok(Topic { kind: Kind::Want(node), .. }) = topic.parse::<Topic>() else { continue };
            let Ok(want) = Want::from_bytes(&payload) else {
                debug!(%node, "Question for a piece is unreadable");
                continue;
            };
            if !self.pace.lets(&node, want.offset, Instant::now()) {
                debug!(%node, "Node asks for pieces too fast");
                continue;
            }
            let layout = Arc::clone(&self.layout);
            if let Ok(piece) = tokio::task::spawn_blocking(move || answer(&layout, &want)).await {
                self.inside.publish(&Kind::Piece(node).of(&self.fleet), piece.to_bytes());
            }
        }
    }
}

fn answer(layout: &Layout, want: &Want) -> Piece {
    let (bytes, error) = match read(layout, want) {
        Ok(Ok(bytes)) => (bytes, None),
        Ok(Err(error)) => (Vec::new(), Some(error)),
        Err(error) => {
            warn!(object = %want.digest, %error, "Object cannot be read for a node");
            (Vec::new(), Some(NoPiece::Unreadable))
        }
    };
    Piece { digest: want.digest, offset: want.offset, bytes, error }
}

fn read(layout: &Layout, want: &Want) -> io::Result<Result<Vec<u8>, NoPiece>> {
    if want.offset > MAX_OBJECT_BYTES {
        return Ok(Err(NoPiece::TooLarge));
    }
    let names = [Name::Object(want.digest), Name::Manifest(want.digest)];
    let Some(file) = names.iter().find_map(|name| File::open(layout.file(*name)).ok()) else {
        return Ok(Err(NoPiece::Missing));
    };
    let mut plain = zstd::Decoder::new(BufReader::new(file))?;
    plain.window_log_max(WINDOW_LOG_MAX)?;
    io::copy(&mut plain.by_ref().take(want.offset), &mut io::sink())?;
    let mut bytes = Vec::new();
    plain.take(want.length.min(MAX_PIECE_BYTES)).read_to_end(&mut bytes)?;
    Ok(Ok(bytes))
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use schemas::id::Digest;

    use super::*;

    #[test]
    fn pieces_make_the_whole_and_end_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let plain: Vec<u8> = (0..10_000_u32).map(|n| (n % 251) as u8).collect();
        let digest = Digest::of(&plain);
        let path = layout.file(Name::Object(digest));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, zstd::encode_all(&plain[..], 3).unwrap()).unwrap();
        let mut whole = Vec::new();
        loop {
            let want = Want { digest, offset: whole.len() as u64, length: u64::MAX };
            let piece = answer(&layout, &want);
            assert_eq!((piece.error, piece.offset), (None, want.offset));
            if piece.bytes.is_empty() {
                break;
            }
            assert!(piece.bytes.len() <= MAX_PIECE_BYTES as usize);
            whole.extend(piece.bytes);
        }
        assert_eq!(whole, plain);
    }

    #[test]
    fn what_cannot_be_given_has_a_reason() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::create(folder.path()).unwrap();
        let digest = Digest::of(b"broken");
        let ask = |offset| answer(&layout, &Want { digest, offset, length: 9 }).error;
        assert_eq!(ask(0), Some(NoPiece::Missing));
        assert_eq!(ask(MAX_OBJECT_BYTES + 1), Some(NoPiece::TooLarge));
        fs::write(layout.file(Name::Manifest(digest)), b"no zstd").unwrap();
        assert_eq!(ask(0), Some(NoPiece::Unreadable));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_has_a_pace_and_others_have_their_own() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let (one, two): (NodeId, NodeId) = ("one".parse().unwrap(), "two".parse().unwrap());
        let answered = (0..1_000).filter(|_| pace.lets(&one, 0, now)).count();
        assert_eq!(answered, 256);
        assert!(pace.lets(&two, 0, now));
        let later = now + Duration::from_millis(500);
        assert_eq!((0..1_000).filter(|_| pace.lets(&one, 0, later)).count(), 128);
        // What is far behind costs more.
        assert_eq!((0..1_000).filter(|_| pace.lets(&two, MAX_OBJECT_BYTES, later)).count(), 15);
    }
}
