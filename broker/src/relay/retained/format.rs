//! The retained log's bytes.
//!
//! ```text
//! file    = "DEPLOYBUS-RETAINED-3\n" named named record*
//! named   = marker(8, random) crc32(u32, of the marker)
//! record  = marker(8) length(u32) crc32(u32, of length and body) body
//! body    = flags(u8) owner-length(u16) topic-length(u16) owner topic [expiry] [properties] payload
//! expiry  = written(u64, Unix seconds) left(u32, seconds)        if flags has 2
//! properties = length(u32) bytes                                 if flags has 4
//! ```
//! The lowest bit of the flags is the QoS. Version 2 knew nothing else, so its files are read as they are and rewritten;
//! it refuses files of this version. Integers are big-endian. An empty payload clears the topic. The marker lets a reader find the next record behind
//! a damaged one. It is another one in each file and nobody is told: else a client could hide a record of a topic that
//! it may not publish to in a payload, and a power cut in the middle of that payload would bring it to light. It is
//! there twice: without it no record could be told from damage.

use std::{
    fmt,
    io::{self, Read as _},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf, BufMut, Bytes};
use tokio::time::Instant;

use crate::{
    clock,
    relay::{
        message::{Grant, Message},
        topic::TopicName,
    },
};

/// What each log starts with, before its marker.
const MAGIC: &[u8; 21] = b"DEPLOYBUS-RETAINED-3\n";
/// What logs of the version before start with.
const MAGIC_2: &[u8; 21] = b"DEPLOYBUS-RETAINED-2\n";
/// Flags of a body.
const AT_LEAST_ONCE: u8 = 1;
const HAS_EXPIRY: u8 = 2;
const HAS_PROPERTIES: u8 = 4;
const MARKER_BYTES: usize = 8;
const NAMED_BYTES: usize = MARKER_BYTES + 4;
/// Where the first record is.
pub(super) const HEADER_BYTES: usize = MAGIC.len() + 2 * NAMED_BYTES;
const PREFIX_BYTES: usize = MARKER_BYTES + 8;
/// Longest body: MQTT's longest packet and what we add. A longer one is damage.
const MAX_BODY_BYTES: usize = 260 * 1024 * 1024;

/// What each record of one file starts with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Marker([u8; MARKER_BYTES]);

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) struct Record {
    /// What was published.
    pub(in crate::relay) message: Arc<Message>,
    /// The user whose quota it counts against.
    pub(in crate::relay) owner: Arc<str>,
    expiry: Option<Expiry>,
}

/// How long a message is of use, in a way that outlives the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expiry {
    /// When it was written, by the wall clock.
    written: u64,
    /// How long it was of use then.
    left_secs: u32,
}

/// A stretch of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// A valid record.
    Record(Record),
    /// Bytes that are no record.
    Damage,
}

impl Marker {
    /// One for a new file.
    pub(super) fn random() -> io::Result<Self> {
        let mut bytes = [0; MARKER_BYTES];
        getrandom::fill(&mut bytes).map_err(io::Error::other)?;
        Ok(Self(bytes))
    }

    /// The header of a file whose records start with this.
    pub(super) fn header(self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..MAGIC.len()].copy_from_slice(MAGIC);
        for named in header[MAGIC.len()..].chunks_exact_mut(NAMED_BYTES) {
            named[..MARKER_BYTES].copy_from_slice(&self.0);
            named[MARKER_BYTES..].copy_from_slice(&checksum(&self.0, &[]).to_be_bytes());
        }
        header
    }

    /// Whether a file with this header is of this version, and not of the one before.
    pub(super) fn is_current(header: &[u8; HEADER_BYTES]) -> bool {
        header.starts_with(MAGIC)
    }

    /// What the records of the file with this header start with; `None` when it is the header of something else.
    pub(super) fn of(header: [u8; HEADER_BYTES]) -> Option<Self> {
        let named = header.strip_prefix(MAGIC).or_else(|| header.strip_prefix(MAGIC_2))?;
        named.chunks_exact(NAMED_BYTES).find_map(|named| {
            let (marker, crc) = named.split_first_chunk()?;
            (checksum(marker, &[]).to_be_bytes() == crc).then_some(Self(*marker))
        })
    }
}

impl fmt::Debug for Marker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Marker")
    }
}

impl Record {
    /// A message that is retained from now on, and whose it is.
    pub(in crate::relay) fn new(message: Arc<Message>, owner: Arc<str>) -> Self {
        let expiry = message.expiry_secs().map(|left_secs| Expiry { written: clock::now().0, left_secs });
        Self { message, owner, expiry }
    }

    /// Appends the record to `out`.
    pub(super) fn encode(&self, marker: Marker, out: &mut Vec<u8>) {
        let Message { topic, payload, grant, properties, .. } = &*self.message;
        let start = out.len();
        out.put_slice(&marker.0);
        out.put_u64(0);
        out.put_u8(
            if *grant == Grant::AtLeastOnce { AT_LEAST_ONCE } else { 0 }
                | if self.expiry.is_some() { HAS_EXPIRY } else { 0 }
                | if properties.is_empty() { 0 } else { HAS_PROPERTIES },
        );
        out.put_u16(self.owner.len() as u16);
        out.put_u16(topic.as_str().len() as u16);
        out.put_slice(self.owner.as_bytes());
        out.put_slice(topic.as_str().as_bytes());
        if let Some(Expiry { written, left_secs }) = self.expiry {
            out.put_u64(written);
            out.put_u32(left_secs);
        }
        if !properties.is_empty() {
            out.put_u32(properties.len() as u32);
            out.put_slice(properties);
        }
        out.put_slice(payload);
        let length = (out.len() - start - PREFIX_BYTES) as u32;
        let (prefix, body) = out[start + MARKER_BYTES..].split_at_mut(PREFIX_BYTES - MARKER_BYTES);
        prefix[..4].copy_from_slice(&length.to_be_bytes());
        let crc = checksum(&prefix[..4], body);
        prefix[4..].copy_from_slice(&crc.to_be_bytes());
    }

    fn decode(mut rest: &[u8]) -> Option<Self> {
        let flags = rest.try_get_u8().ok()?;
        let (owner, topic) = (rest.try_get_u16().ok()?, rest.try_get_u16().ok()?);
        let mut text = |length: u16| {
            let (text, after) = rest.split_at_checked(length.into())?;
            rest = after;
            std::str::from_utf8(text).ok()
        };
        let (owner, topic) = (text(owner)?, TopicName::parse(text(topic)?).ok()?);
        let expiry = if flags & HAS_EXPIRY == 0 {
            None
        } else {
            Some(Expiry { written: rest.try_get_u64().ok()?, left_secs: rest.try_get_u32().ok()? })
        };
        let properties = if flags & HAS_PROPERTIES == 0 { 0 } else { rest.try_get_u32().ok()? };
        let (properties, payload) = rest.split_at_checked(properties as usize)?;
        let message = Message {
            topic,
            payload: Bytes::copy_from_slice(payload),
            grant: if flags & AT_LEAST_ONCE == 0 { Grant::AtMostOnce } else { Grant::AtLeastOnce },
            retain: true,
            properties: Bytes::copy_from_slice(properties),
            expires: expiry.map(|expiry| Instant::now() + expiry.left_at(clock::now().0)),
        };
        Some(Self { message: Arc::new(message), owner: owner.into(), expiry })
    }
}

impl Expiry {
    /// What is left at this time of the wall clock. A clock that stands before the time of writing was not set yet: then
    /// nothing has passed, as far as is known.
    fn left_at(self, now: u64) -> Duration {
        Duration::from_secs(u64::from(self.left_secs).saturating_sub(now.saturating_sub(self.written)))
    }
}

fn checksum(length: &[u8], body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(length);
    crc.update(body);
    crc.finalize()
}

/// Reads a log from after its header, in bounded memory, past any damage.
#[derive(Debug)]
pub(super) struct Scanner<R> {
    source: R,
    marker: Marker,
    window: Vec<u8>,
    /// How much of `window` is done.
    done: usize,
    at_end: bool,
}

impl<R: io::Read> Scanner<R> {
    /// Reads records that start with `marker` from `source`.
    pub(super) fn new(source: R, marker: Marker) -> Self {
        Self { source, marker, window: Vec::new(), done: 0, at_end: false }
    }

    /// The next stretch and its length in bytes; `None` at the end. Neighbouring damage comes as one stretch.
    pub(super) fn next(&mut self) -> io::Result<Option<(Stretch, u64)>> {
        let mut damage = 0_u64;
        loop {
            if let Some((body, length)) = self.record()? {
                if damage > 0 {
                    return Ok(Some((Stretch::Damage, damage)));
                }
                self.done += length;
                return Ok(Some((Stretch::Record(body), length as u64)));
            }
            let skipped = self.skip_to_marker()?;
            if skipped == 0 {
                return Ok((damage > 0).then_some((Stretch::Damage, damage)));
            }
            damage += skipped;
        }
    }

    fn record(&mut self) -> io::Result<Option<(Record, usize)>> {
        self.fill(PREFIX_BYTES)?;
        let Some(mut prefix) = self.ahead().get(..PREFIX_BYTES) else { return Ok(None) };
        if !prefix.starts_with(&self.marker.0) {
            return Ok(None);
        }
        prefix.advance(MARKER_BYTES);
        let (length, crc) = (prefix.get_u32() as usize, prefix.get_u32());
        if length > MAX_BODY_BYTES {
            return Ok(None);
        }
        self.fill(PREFIX_BYTES + length)?;
        let Some(whole) = self.ahead().get(..PREFIX_BYTES + length) else { return Ok(None) };
        let (prefix, body) = whole.split_at(PREFIX_BYTES);
        if checksum(&prefix[MARKER_BYTES..MARKER_BYTES + 4], body) != crc {
            return Ok(None);
        }
        Ok(Record::decode(body).map(|record| (record, PREFIX_BYTES + length)))
    }

    /// Goes on to the next marker behind the present place; returns how far that was, 0 at the end.
    fn skip_to_marker(&mut self) -> io::Result<u64> {
        let mut skipped = 0;
        loop {
            self.fill(64 * 1024)?;
            let ahead = self.ahead();
            let mut places = ahead.get(1..).unwrap_or(&[]).windows(MARKER_BYTES);
            let step = match places.position(|bytes| bytes == self.marker.0) {
                Some(place) => place + 1,
                None if self.at_end => ahead.len(),
                None => ahead.len() - (MARKER_BYTES - 1),
            };
            let found = step < ahead.len() && ahead[step..].starts_with(&self.marker.0);
            self.done += step;
            skipped += step as u64;
            if found || self.at_end {
                return Ok(skipped);
            }
        }
    }

    fn ahead(&self) -> &[u8] {
        &self.window[self.done..]
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        if self.ahead().len() >= wanted || self.at_end {
            return Ok(());
        }
        self.window.drain(..self.done);
        self.done = 0;
        let missing = wanted.max(256 * 1024) - self.window.len();
        let read = (&mut self.source).take(missing as u64).read_to_end(&mut self.window)?;
        self.at_end = read < missing;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARKER: Marker = Marker(*b"\xd5random\n");

    #[test]
    fn a_record_inside_a_payload_never_comes_to_light() {
        let mut inner = Vec::new();
        let guessed = Marker(*b"\xd5guessed");
        record("forged", Bytes::from_static(b"x")).encode(guessed, &mut inner);
        let mut bytes = Vec::new();
        record("a", inner.into()).encode(MARKER, &mut bytes);
        bytes.extend_from_slice(b"torn");
        bytes.rotate_left(1);
        assert_eq!(scan(&bytes), ["damage"]);
    }

    #[test]
    fn a_header_says_what_its_records_start_with() {
        assert_eq!(Marker::of(MARKER.header()), Some(MARKER));
        assert_eq!(Marker::of([b'D'; HEADER_BYTES]), None);
        for place in MAGIC.len()..HEADER_BYTES {
            let mut damaged = MARKER.header();
            damaged[place] ^= 0x10;
            assert_eq!(Marker::of(damaged), Some(MARKER), "byte {place}");
            damaged[HEADER_BYTES - 1] ^= 0x20;
            damaged[MAGIC.len()] ^= 0x20;
            assert_eq!(Marker::of(damaged), None, "byte {place}");
        }
        assert_ne!(Marker::random().unwrap(), Marker::random().unwrap());
    }

    #[test]
    fn what_is_written_is_read() {
        let log = log(&[("a/b", 0), ("ä", 3), ("c", 400_000)]);
        let read = scan(&log);
        assert_eq!(read, ["a/b 0", "ä 3", "c 400000"]);
    }

    #[test]
    fn a_log_cut_anywhere_gives_everything_before_the_cut() {
        let whole = log(&[("a", 5), ("b", 9)]);
        let first = log(&[("a", 5)]).len();
        for cut in 0..whole.len() {
            let found = scan(&whole[..cut]);
            let records: Vec<_> = found.iter().filter(|line| *line != "damage").collect();
            assert_eq!(records.len(), usize::from(cut >= first), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_costs_one_record() {
        let whole = log(&[("a", 5), ("b", 9), ("c", 2)]);
        let (start, end) = (log(&[("a", 5)]).len(), log(&[("a", 5), ("b", 9)]).len());
        for place in start..end {
            let mut damaged = whole.clone();
            damaged[place] ^= 0x10;
            assert_eq!(scan(&damaged), ["a 5", "damage", "c 2"], "byte {place}");
        }
    }

    #[test]
    fn properties_and_what_is_left_of_the_time_come_back() {
        let properties = Bytes::from_static(b"\x01\x01");
        let topic = TopicName::parse("a").unwrap();
        let expires = Some(Instant::now() + Duration::from_secs(100));
        let message = Message { properties, expires, payload: "x".into(), ..Message::clearing(topic) };
        let mut bytes = Vec::new();
        let record = Record::new(Arc::new(message), "anna".into());
        record.encode(MARKER, &mut bytes);
        let (Stretch::Record(read), _) = Scanner::new(&bytes[..], MARKER).next().unwrap().unwrap() else {
            panic!()
        };
        assert_eq!(
            (&read.message.properties, &read.message.payload),
            (&record.message.properties, &"x".into())
        );
        assert!((98..=100).contains(&read.message.expiry_secs().unwrap()));
        let expiry = Expiry { written: 1000, left_secs: 100 };
        let left = [1000, 1040, 1100, 5000, 3].map(|now| expiry.left_at(now).as_secs());
        assert_eq!(left, [100, 60, 0, 0, 100], "also by a clock that is not set");
    }

    fn log(topics: &[(&str, usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (topic, size) in topics {
            record(topic, vec![b'.'; *size].into()).encode(MARKER, &mut bytes);
        }
        bytes
    }

    fn record(topic: &str, payload: Bytes) -> Record {
        let topic = TopicName::parse(topic).unwrap();
        Record::new(Arc::new(Message { payload, ..Message::clearing(topic) }), "anna".into())
    }

    fn scan(bytes: &[u8]) -> Vec<String> {
        let mut scanner = Scanner::new(bytes, MARKER);
        let mut lines = Vec::new();
        let mut total = 0;
        while let Some((stretch, length)) = scanner.next().unwrap() {
            total += length;
            lines.push(match stretch {
                Stretch::Record(r) => format!("{} {}", r.message.topic, r.message.payload.len()),
                Stretch::Damage => "damage".to_owned(),
            });
        }
        assert_eq!(total, bytes.len() as u64);
        lines
    }
}
