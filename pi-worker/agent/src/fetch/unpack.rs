//! Stored bytes to plain bytes, checked as they pass: no more than announced, and the digest that was signed.
//!
//! The decoder sees bytes that nobody has verified yet, for digests are of plain bytes. So its window and its output
//! are bounded, and whatever it says is only an error.

use std::io::{self, Read, Write};

use schemas::id::{Digest, Hasher};

use crate::cancel::Cancel;

/// Largest window of a stored object, as a power of two: 8 MB, what the smallest Pi has to spare.
const WINDOW_LOG_MAX: u32 = 23;
/// Between two looks at whether the work is still wanted.
const STEP_BYTES: usize = 64 * 1024;

/// What the plain bytes must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) digest: Digest,
    pub(crate) size_bytes: u64,
}

/// Why stored bytes do not give what was expected.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("stored bytes are not zstd")]
    NotZstd(#[source] io::Error),
    #[error("content is longer than the {0} bytes announced")]
    TooLong(u64),
    #[error("content has {found} bytes, announced were {expected}")]
    TooShort { expected: u64, found: u64 },
    #[error("content has digest {found}")]
    Digest { found: Digest },
    #[error("cannot read what was stored")]
    Read(#[source] io::Error),
    #[error("cannot write the content")]
    Write(#[source] io::Error),
    #[error("was cancelled")]
    Cancelled,
}

/// Most stored bytes that content of this size can have: zstd adds at most 1/256 and a header to what it cannot compress.
pub(crate) fn stored_limit(size_bytes: u64) -> u64 {
    const HEADERS: u64 = 1024;
    size_bytes.saturating_add(size_bytes >> 8).saturating_add(HEADERS)
}

/// Writes to `plain` what `stored` holds.
///
/// # Errors
/// When it is not what was expected; `plain` is then worthless.
pub(crate) fn unpack(
    stored: impl Read,
    plain: impl Write,
    expected: Expected,
    cancel: &Cancel,
) -> Result<(), UnpackError> {
    let mut stored = Watched { inner: stored, failed: false };
    let mut checked = Checked { inner: plain, expected, written_bytes: 0, hasher: Hasher::default() };
    match pump(&mut stored, &mut checked, cancel) {
        Err(UnpackError::NotZstd(error)) if stored.failed => Err(UnpackError::Read(error)),
        Err(error) => Err(error),
        Ok(()) => checked.finish(),
    }
}

fn pump(stored: impl Read, checked: &mut Checked<impl Write>, cancel: &Cancel) -> Result<(), UnpackError> {
    let mut decoder = zstd::stream::read::Decoder::new(stored).map_err(UnpackError::NotZstd)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(UnpackError::NotZstd)?;
    let mut buffer = vec![0; STEP_BYTES];
    loop {
        if cancel.is_cancelled() {
            return Err(UnpackError::Cancelled);
        }
        match decoder.read(&mut buffer).map_err(UnpackError::NotZstd)? {
            0 => return Ok(()),
            len => checked.write(&buffer[..len])?,
        }
    }
}

/// A reader that remembers whether it was the one that failed.
struct Watched<R> {
    inner: R,
    failed: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buffer).inspect_err(|_| self.failed = true)
    }
}

/// A writer that lets through no more than announced, and knows the digest of what passed.
struct Checked<W> {
    inner: W,
    expected: Expected,
    written_bytes: u64,
    hasher: Hasher,
}

impl<W: Write> Checked<W> {
    fn write(&mut self, bytes: &[u8]) -> Result<(), UnpackError> {
        let written_bytes = self.written_bytes + bytes.len() as u64;
        if written_bytes > self.expected.size_bytes {
            return Err(UnpackError::TooLong(self.expected.size_bytes));
        }
        self.written_bytes = written_bytes;
        self.hasher.update(bytes);
        self.inner.write_all(bytes).map_err(UnpackError::Write)
    }

    fn finish(self) -> Result<(), UnpackError> {
        let (expected, found) = (self.expected.size_bytes, self.written_bytes);
        if found < expected {
            return Err(UnpackError::TooShort { expected, found });
        }
        let found = self.hasher.finish();
        if found == self.expected.digest { Ok(()) } else { Err(UnpackError::Digest { found }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    #[test]
    fn gives_the_plain_bytes_when_they_are_what_was_announced() {
        for len in [0, 1, STEP_BYTES, STEP_BYTES * 3 + 7] {
            let content = noise(len);
            let stored = zstd::encode_all(&content[..], 3).unwrap();
            assert!(stored.len() as u64 <= stored_limit(len as u64));
            assert_eq!(run(&stored, expected(&content)).unwrap(), content);
        }
    }

    #[test]
    fn other_bytes_more_bytes_and_fewer_bytes_are_refused() {
        let content = noise(100_000);
        let stored = zstd::encode_all(&content[..], 3).unwrap();
        let expected = expected(&content);
        let other = zstd::encode_all(&noise(99_999)[..], 3).unwrap();
        assert!(matches!(run(&other, expected), Err(UnpackError::TooShort { found: 99_999, .. })));
        let doubled = [stored.clone(), stored.clone()].concat();
        assert!(matches!(run(&doubled, expected), Err(UnpackError::TooLong(100_000))));
        assert!(matches!(run(&stored[..stored.len() / 2], expected), Err(UnpackError::NotZstd(_))));
        assert!(matches!(run(b"<html>", expected), Err(UnpackError::NotZstd(_))));
        let expected = Expected { digest: Digest::of(b"else"), ..expected };
        assert!(matches!(run(&stored, expected), Err(UnpackError::Digest { .. })));
    }

    #[test]
    fn a_small_bomb_writes_no_more_than_was_announced() {
        let bomb = zstd::encode_all(&vec![0; 64 * 1024 * 1024][..], 19).unwrap();
        let mut plain = Vec::new();
        let expected = Expected { digest: Digest::of(b""), size_bytes: 10 };
        assert!(unpack(&bomb[..], &mut plain, expected, &Cancel::never()).is_err());
        assert!(bomb.len() < 16 * 1024 && plain.len() <= 10);
    }

    #[test]
    fn a_window_that_needs_too_much_memory_is_refused() {
        let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(27).unwrap();
        let content = vec![7; 1024];
        encoder.write_all(&content).unwrap();
        let stored = encoder.finish().unwrap();
        assert!(matches!(run(&stored, expected(&content)), Err(UnpackError::NotZstd(_))));
    }

    #[test]
    fn flipped_bits_are_errors_and_never_more() {
        let content = noise(5_000);
        let stored = zstd::encode_all(&content[..], 3).unwrap();
        for bit in (0..stored.len() * 8).step_by(7) {
            let mut flipped = stored.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(plain) = run(&flipped, expected(&content)) {
                assert_eq!(plain, content, "bit {bit}");
            }
        }
    }

    #[test]
    fn a_disk_that_fails_is_told_from_bad_bytes() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from_raw_os_error(5))
            }
        }
        let outcome = unpack(Broken, Vec::new(), expected(b"x"), &Cancel::never());
        assert!(matches!(outcome, Err(UnpackError::Read(_))));
    }

    #[test]
    fn ends_early_when_it_is_not_wanted_any_more() {
        let (canceller, cancel) = Cancel::pair();
        canceller.cancel();
        let stored = zstd::encode_all(&b"x"[..], 3).unwrap();
        assert!(matches!(
            unpack(&stored[..], Vec::new(), expected(b"x"), &cancel),
            Err(UnpackError::Cancelled)
        ));
    }

    fn run(stored: &[u8], expected: Expected) -> Result<Vec<u8>, UnpackError> {
        let mut plain = Vec::new();
        unpack(stored, &mut plain, expected, &Cancel::never())?;
        Ok(plain)
    }

    fn expected(content: &[u8]) -> Expected {
        Expected { digest: Digest::of(content), size_bytes: content.len() as u64 }
    }
}
