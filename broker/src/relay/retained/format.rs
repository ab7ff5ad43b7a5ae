//! The retained log's bytes. Pure.
//!
//! ```text
//! file   = "DEPLOYBUS-RETAINED-1\n" record*
//! record = marker(4) length(u32) crc32(u32, of length and body) body
//! body   = grant(u8) owner-length(u16) topic-length(u16) owner topic payload
//! ```
//! Integers are big-endian. An empty payload clears the topic. The marker lets a reader find the next record behind
//! a damaged one.

use std::{
    io::{self, Read as _},
    sync::Arc,
};

use bytes::{Buf, BufMut, Bytes};

use crate::relay::{
    message::{Grant, Message},
    topic::TopicName,
};

/// What each log starts with.
pub(super) const HEADER: &[u8] = b"DEPLOYBUS-RETAINED-1\n";
const MARKER: [u8; 4] = [0xd5, b'R', b'E', b'C'];
const PREFIX_BYTES: usize = 12;
/// Longest body: MQTT's longest packet and what we add. A longer one is damage.
const MAX_BODY_BYTES: usize = 260 * 1024 * 1024;

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::relay) struct Record {
    /// What was published.
    pub(in crate::relay) message: Arc<Message>,
    /// The user whose quota it counts against.
    pub(in crate::relay) owner: Arc<str>,
}

/// A stretch of a log.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stretch {
    /// A valid record.
    Record(Record),
    /// Bytes that are no record.
    Damage,
}

impl Record {
    /// Appends the record to `out`.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let topic = self.message.topic.as_str();
        let start = out.len();
        out.put_slice(&MARKER);
        let length = 5 + self.owner.len() + topic.len() + self.message.payload.len();
        out.put_u32(length as u32);
        out.put_u32(0);
        out.put_u8(u8::from(self.message.grant == Grant::AtLeastOnce));
        out.put_u16(self.owner.len() as u16);
        out.put_u16(topic.len() as u16);
        out.put_slice(self.owner.as_bytes());
        out.put_slice(topic.as_bytes());
        out.put_slice(&self.message.payload);
        let crc = checksum(&out[start + 4..start + 8], &out[start + PREFIX_BYTES..]);
        out[start + 8..start + PREFIX_BYTES].copy_from_slice(&crc.to_be_bytes());
    }

    fn decode(body: &[u8]) -> Option<Self> {
        let mut rest = body;
        if rest.len() < 5 {
            return None;
        }
        let grant = if rest.get_u8() == 0 { Grant::AtMostOnce } else { Grant::AtLeastOnce };
        let (owner, topic) = (usize::from(rest.get_u16()), usize::from(rest.get_u16()));
        let owner = std::str::from_utf8(rest.get(..owner)?).ok()?;
        rest.advance(owner.len());
        let topic = TopicName::parse(std::str::from_utf8(rest.get(..topic)?).ok()?).ok()?;
        rest.advance(topic.as_str().len());
        let message = Message { topic, payload: Bytes::copy_from_slice(rest), grant, retain: true };
        Some(Self { message: Arc::new(message), owner: owner.into() })
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
    window: Vec<u8>,
    /// How much of `window` is done.
    done: usize,
    at_end: bool,
}

impl<R: io::Read> Scanner<R> {
    /// Reads records from `source`.
    pub(super) fn new(source: R) -> Self {
        Self { source, window: Vec::new(), done: 0, at_end: false }
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
        if !prefix.starts_with(&MARKER) {
            return Ok(None);
        }
        prefix.advance(4);
        let (length, crc) = (prefix.get_u32() as usize, prefix.get_u32());
        if length > MAX_BODY_BYTES {
            return Ok(None);
        }
        self.fill(PREFIX_BYTES + length)?;
        let Some(whole) = self.ahead().get(..PREFIX_BYTES + length) else { return Ok(None) };
        let (prefix, body) = whole.split_at(PREFIX_BYTES);
        if checksum(&prefix[4..8], body) != crc {
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
            let step = match ahead.get(1..).unwrap_or(&[]).windows(4).position(|four| four == MARKER) {
                Some(place) => place + 1,
                None if self.at_end => ahead.len(),
                None => ahead.len() - 3,
            };
            let found = step < ahead.len() && ahead[step..].starts_with(&MARKER);
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

    fn log(topics: &[(&str, usize)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (topic, size) in topics {
            let topic = TopicName::parse(topic).unwrap();
            let payload = Bytes::from(vec![b'.'; *size]);
            let message = Message { topic, payload, grant: Grant::AtLeastOnce, retain: true };
            Record { message: Arc::new(message), owner: "anna".into() }.encode(&mut bytes);
        }
        bytes
    }

    fn scan(bytes: &[u8]) -> Vec<String> {
        let mut scanner = Scanner::new(bytes);
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
