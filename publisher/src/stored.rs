//! The stored form of files: zstd of exactly the content that was hashed.

use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use bus_client::store::Source;
use schemas::id::{Digest, Hasher};
use tempfile::NamedTempFile;

use crate::problem::problem;

/// Stored once and fetched by many: worth more effort than the default 3. Its window, 4 MiB, is half of what nodes take.
const LEVEL: i32 = 9;
/// Up to this size a file is compressed in memory; eight at a time make 64 MiB.
const IN_MEMORY_BYTES: u64 = 8 * 1024 * 1024;
/// How the files begin that large ones are compressed into.
const SCRATCH_PREFIX: &str = ".upload-";
/// No upload of one object takes so long: what is older was left by a command that was killed.
const ABANDONED: Duration = Duration::from_hours(24);

/// A file in its stored form, ready to be uploaded.
pub(crate) struct Stored {
    pub(crate) source: Source,
    pub(crate) bytes: u64,
    /// Deletes the file behind the source when the upload is over.
    _file: Option<NamedTempFile>,
}

/// The stored form of bytes at hand.
pub(crate) fn compress(plain: &[u8]) -> Result<Vec<u8>> {
    zstd::bulk::compress(plain, LEVEL).context("cannot compress")
}

/// The stored form of the file at `path`, whose content must still be `digest`. Large ones go through a file in `scratch`.
pub(crate) fn stored(path: &Path, digest: Digest, size: u64, scratch: &Path) -> Result<Stored> {
    if size <= IN_MEMORY_BYTES {
        let plain = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        unchanged(path, Digest::of(&plain), digest)?;
        let packed = compress(&plain)?;
        return Ok(Stored { bytes: packed.len() as u64, source: Source::Bytes(packed.into()), _file: None });
    }
    let what = || format!("cannot write to {}", scratch.display());
    fs::create_dir_all(scratch).with_context(what)?;
    let file = tempfile::Builder::new().prefix(SCRATCH_PREFIX).tempfile_in(scratch).with_context(what)?;
    let found = compress_file(path, size, file.as_file())
        .with_context(|| format!("cannot compress {}", path.display()))?;
    unchanged(path, found, digest)?;
    let bytes = file.as_file().metadata().with_context(what)?.len();
    Ok(Stored { source: Source::File(PathBuf::from(file.path())), bytes, _file: Some(file) })
}

/// Deletes what killed commands left in `scratch`. Best effort: it costs space and nothing else.
pub(crate) fn sweep(scratch: &Path) {
    for entry in fs::read_dir(scratch).into_iter().flatten().flatten() {
        let is_scratch = entry.file_name().to_string_lossy().starts_with(SCRATCH_PREFIX);
        let written = entry.metadata().and_then(|meta| meta.modified()).ok();
        let is_old = written.and_then(|time| time.elapsed().ok()).is_some_and(|age| age >= ABANDONED);
        if is_scratch && is_old {
            fs::remove_file(entry.path()).ok();
        }
    }
}

fn compress_file(path: &Path, size: u64, to: &File) -> io::Result<Digest> {
    let mut encoder = zstd::stream::write::Encoder::new(to, LEVEL)?;
    encoder.set_pledged_src_size(Some(size))?;
    let mut from = Hashing { from: File::open(path)?.take(size), hasher: Hasher::default() };
    io::copy(&mut from, &mut encoder)?;
    encoder.finish()?.flush()?;
    Ok(from.hasher.finish())
}

/// Hashes what passes by.
struct Hashing<R> {
    from: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.from.read(buffer)?;
        self.hasher.update(&buffer[..len]);
        Ok(len)
    }
}

fn unchanged(path: &Path, found: Digest, expected: Digest) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(problem(
        format!("{} changed after it was packed", path.display()),
        "announce again when nothing writes to the folder",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpacked(stored: &Stored) -> Vec<u8> {
        let bytes = match &stored.source {
            Source::Bytes(bytes) => bytes.to_vec(),
            Source::File(path) => fs::read(path).unwrap(),
        };
        assert_eq!(bytes.len() as u64, stored.bytes);
        zstd::decode_all(bytes.as_slice()).unwrap()
    }

    #[test]
    fn small_and_large_files_come_back_as_they_were() {
        let dir = tempfile::tempdir().unwrap();
        let (path, scratch) = (dir.path().join("a"), dir.path().join("scratch"));
        for size in [0, 5, IN_MEMORY_BYTES + 1] {
            let plain: Vec<u8> = (0..size).map(|n| (n * n / 7) as u8).collect();
            fs::write(&path, &plain).unwrap();
            let stored = stored(&path, Digest::of(&plain), size, &scratch).unwrap();
            assert!(unpacked(&stored) == plain);
        }
        assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);
    }

    #[test]
    fn what_a_killed_command_left_is_deleted_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let day_ago = std::time::SystemTime::now() - ABANDONED;
        for (name, time) in
            [(".upload-old", day_ago), (".upload-new", std::time::SystemTime::now()), ("a.cbor", day_ago)]
        {
            File::create(dir.path().join(name)).unwrap().set_modified(time).unwrap();
        }
        sweep(dir.path());
        let mut left: Vec<_> =
            fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, [".upload-new", "a.cbor"]);
    }

    #[test]
    fn a_file_that_changed_since_it_was_hashed_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        for size in [3, IN_MEMORY_BYTES + 1] {
            fs::write(&path, vec![1; size as usize]).unwrap();
            let error = stored(&path, Digest::of(b"other"), size, dir.path()).err().unwrap();
            assert!(error.to_string().ends_with("a changed after it was packed"), "{error}");
        }
    }
}
