//! What holds the entries together.
//!
//! The digest of an entry is SHA-256 of `"deploybus/1" 00 "deploy-log" 00 previous u64be(len e) e`, with `previous` the
//! 32 bytes of the digest before it and `e` the entry as CBOR. Nothing else that is digested or signed begins like this.
//! `e` is the same on every machine and in every version: maps with the fields in the order in which [`Entry`] has them,
//! shortest integers, definite lengths, and a golden file that says so (`testdata/v1/deploy_log.hex`).

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Entry, What};
use crate::{
    codec,
    id::{Digest, Hasher},
    reason::Reason,
};

/// Which fields go into the digests; raised with the first entry that has more of them.
pub const FORMAT: u32 = 1;
/// First bytes of everything that is digested here.
const DOMAIN: &[u8] = b"deploybus/1\0deploy-log\0";

/// Where a chain ends: an entry, or the place before the first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The entry's place; 0 before the first one.
    pub seq: u64,
    /// Its digest; zeros before the first one.
    pub digest: Digest,
}

impl Head {
    /// Before the first entry.
    pub const BEGIN: Self = Self { seq: 0, digest: Digest([0; 32]) };

    /// The entry as the next link, with its place in it.
    pub fn next(self, entry: Entry) -> Chained {
        let entry = Entry { seq: self.seq + 1, ..entry };
        let digest = digest(&self.digest, &entry);
        Chained { entry, digest }
    }
}

/// An entry in its place of the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chained {
    /// What happened.
    pub entry: Entry,
    /// Its digest, which has all before it in it.
    pub digest: Digest,
}

impl Chained {
    /// The chain up to here.
    pub fn head(&self) -> Head {
        Head { seq: self.entry.seq, digest: self.digest }
    }
}

/// The digest of `entry` behind the one whose digest is `previous`.
pub fn digest(previous: &Digest, entry: &Entry) -> Digest {
    let bytes = codec::encode(entry);
    let mut hasher = Hasher::default();
    hasher.update(DOMAIN);
    hasher.update(&previous.0);
    hasher.update(&(bytes.len() as u64).to_be_bytes());
    hasher.update(&bytes);
    hasher.finish()
}

/// Where a chain is no chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("entry {seq} {fault}")]
pub struct Broken {
    /// The entry that should be there.
    pub seq: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Another one is in its place.
    Missing {
        /// Its place.
        found: u64,
    },
    /// It was changed, or one before it.
    Changed,
    /// It says something that only a newer version can check.
    TooNew,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { found } => write!(f, "is missing: entry {found} is in its place"),
            Self::Changed => f.write_str("was changed, or one before it was"),
            Self::TooNew => f.write_str("has words of a newer version, or was changed"),
        }
    }
}

/// Sees that `entries` are the unbroken continuation of `from`, and gives the last of them.
///
/// # Errors
/// Names the first one that is not.
pub fn verify<'a>(from: Head, entries: impl IntoIterator<Item = &'a Chained>) -> Result<Head, Broken> {
    entries.into_iter().try_fold(from, |head, link| {
        let seq = head.seq + 1;
        let fault = |fault| Broken { seq, fault };
        if link.entry.seq != seq {
            return Err(fault(Fault::Missing { found: link.entry.seq }));
        }
        if digest(&head.digest, &link.entry) != link.digest {
            return Err(fault(if is_too_new(&link.entry) { Fault::TooNew } else { Fault::Changed }));
        }
        Ok(link.head())
    })
}

/// What a newer version has a word for was digested with that word.
fn is_too_new(entry: &Entry) -> bool {
    entry.what == What::Unknown || entry.reason == Some(Reason::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{id::Counter, time::UnixTime};

    fn chain(len: u64) -> Vec<Chained> {
        let entry = |at| Entry { at: UnixTime(at), what: What::Installed, ..Entry::default() };
        let mut head = Head::BEGIN;
        let next = |at| {
            let link = head.next(entry(at));
            head = link.head();
            link
        };
        (1..=len).map(next).collect()
    }

    #[test]
    fn an_unbroken_chain_verifies_from_any_place_of_it() {
        let chain = chain(9);
        let end = chain[8].head();
        assert_eq!(verify(Head::BEGIN, &chain), Ok(end));
        assert_eq!(verify(chain[3].head(), &chain[4..]), Ok(end));
        assert_eq!(verify(end, []), Ok(end));
    }

    #[test]
    fn what_was_changed_taken_out_put_in_or_moved_is_found() {
        let changed = |change: fn(&mut Vec<Chained>)| {
            let mut chain = chain(9);
            change(&mut chain);
            verify(Head::BEGIN, &chain).unwrap_err()
        };
        let broken = |seq, fault| Broken { seq, fault };
        assert_eq!(changed(|chain| chain[4].entry.counter = Counter(7)), broken(5, Fault::Changed));
        assert_eq!(changed(|chain| chain[4].digest = Digest([1; 32])), broken(5, Fault::Changed));
        assert_eq!(changed(|chain| drop(chain.remove(4))), broken(5, Fault::Missing { found: 6 }));
        assert_eq!(changed(|chain| chain.swap(4, 5)), broken(5, Fault::Missing { found: 6 }));
        assert_eq!(
            changed(|chain| chain.insert(4, chain[4].clone())),
            broken(6, Fault::Missing { found: 5 })
        );
        let renumbered = changed(|chain| {
            chain.remove(4);
            chain[4..].iter_mut().for_each(|link| link.entry.seq -= 1);
        });
        assert_eq!(renumbered, broken(5, Fault::Changed));
        assert_eq!(changed(|chain| chain[2].entry.what = What::Unknown), broken(3, Fault::TooNew));
    }

    #[test]
    fn text_does_not_move_from_one_field_into_the_next() {
        let of = |version: &str, commit: &str| {
            let entry = Entry { version: version.into(), commit: commit.into(), ..Entry::default() };
            digest(&Digest([0; 32]), &entry)
        };
        assert_ne!(of("1.0", "abc"), of("1.0a", "bc"));
    }
}
