//! Small files that survive a power cut whole or not at all: CBOR with its CRC-32 at the end, replaced atomically.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use schemas::codec::{self, CodecError};
use serde::{Serialize, de::DeserializeOwned};

use crate::{fault, whole::replace_file};

/// Most bytes of such a file: far above any journal (four outcomes with log tails, three slots: below 64 KiB).
const MAX_BYTES: usize = 1024 * 1024;
const CRC_BYTES: usize = 4;

/// Why a file cannot be read or replaced.
#[derive(Debug, thiserror::Error)]
pub enum DurableError {
    /// The disk said no.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The file is there, but its bytes are not what was written.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Damage,
    },
}

impl DurableError {
    /// What a person should do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Io { source, .. } if fault::is_full(source) => "free space on the disk of this node",
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                "let the user that the worker runs as write to the data folder, with `chown -R`"
            }
            Self::Io { .. } => "look at the node's disk: it may be dying or mounted read-only",
            Self::Damaged { .. } => "move it away: the worker begins it anew",
        }
    }

    /// Whether the disk is full, rather than broken.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if fault::is_full(source))
    }
}

/// What is wrong with the bytes of a file.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// A folder, a link or a pipe.
    #[error("it is no file")]
    NoFile,
    /// Shorter than its checksum, or another checksum.
    #[error("checksum does not match")]
    Checksum,
    /// The checksum matches, the content is something else.
    #[error("content has another form")]
    Content(#[source] CodecError),
}

/// The value in the file at `path`; none where there is no file.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DurableError> {
    let failed = |source| DurableError::Io { action: "read", path: path.to_owned(), source };
    let damaged = |source| DurableError::Damaged { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_file() => {}
        // Opening a pipe would wait for ever.
        Ok(_) => return Err(damaged(Damage::NoFile)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    }
    let bytes = read_at_most(path, MAX_BYTES).map_err(failed)?;
    unwrap(&bytes).map(Some).map_err(damaged)
}

/// Takes what is damaged its name, for people to look at: `journal.cbor` becomes `journal.bad`.
pub(crate) fn set_aside(path: &Path) -> Result<(), DurableError> {
    let aside = path.with_extension("bad");
    // What cannot be removed shows in the renaming.
    let _ = fs::remove_file(&aside).or_else(|_| fs::remove_dir_all(&aside));
    match fs::rename(path, aside) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(DurableError::Io { action: "set aside", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Puts `value` in place of what the file held; it is on the disk when this returns. Folders are made as needed.
pub(crate) fn replace<T: Serialize>(path: &Path, value: &T) -> Result<(), DurableError> {
    let failed = |action| move |source| DurableError::Io { action, path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed("make the folder of"))?;
    }
    replace_file(path, &wrap(value)).map_err(failed("replace"))
}

/// The first `limit` bytes of a file; one byte more tells callers that there are more.
pub(crate) fn read_at_most(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn wrap<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = codec::encode(value);
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_be_bytes());
    bytes
}

fn unwrap<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Damage> {
    let (content, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(Damage::Checksum)?;
    if u32::from_be_bytes(*crc) != crc32fast::hash(content) {
        return Err(Damage::Checksum);
    }
    codec::decode(content, MAX_BYTES).map_err(Damage::Content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("apps/web/file");
        assert!(read::<String>(&path).unwrap().is_none());
        replace(&path, &"one").unwrap();
        replace(&path, &"two").unwrap();
        assert_eq!(read::<String>(&path).unwrap().as_deref(), Some("two"));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_noticed() {
        let whole = wrap(&"some content");
        assert_eq!(unwrap::<String>(&whole).unwrap(), "some content");
        for len in 0..whole.len() {
            assert!(unwrap::<String>(&whole[..len]).is_err(), "cut to {len}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(unwrap::<String>(&flipped), Err(Damage::Checksum)), "bit {bit}");
        }
    }

    #[test]
    fn what_is_no_file_is_damage_and_is_set_aside() {
        type Make<'a> = &'a dyn Fn(&Path) -> io::Result<()>;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("journal.cbor");
        let pipe = |path: &Path| {
            rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::RWXU).map_err(io::Error::from)
        };
        let full_folder = |path: &Path| fs::create_dir_all(path.join("full"));
        let link = |path: &Path| std::os::unix::fs::symlink(path, path);
        for make in [&full_folder as Make<'_>, &link, &full_folder, &pipe, &full_folder] {
            make(&path).unwrap();
            let error = read::<String>(&path).unwrap_err();
            assert!(matches!(error, DurableError::Damaged { source: Damage::NoFile, .. }), "{error}");
            set_aside(&path).unwrap();
            replace(&path, &"one").unwrap();
            assert_eq!(read::<String>(&path).unwrap().as_deref(), Some("one"));
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn another_form_and_an_endless_file_are_damage() {
        assert!(matches!(unwrap::<u64>(&wrap(&"text")), Err(Damage::Content(_))));
        assert!(matches!(read::<u64>(Path::new("/dev/zero")), Err(DurableError::Damaged { .. })));
    }

    #[test]
    fn an_unwritable_place_is_named() {
        let error = replace(Path::new("/proc/nowhere/file"), &1).unwrap_err();
        assert!(error.to_string().contains("/proc/nowhere/file"), "{error}");
    }
}
