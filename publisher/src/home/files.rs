//! Writing files so that a power cut leaves the old one or the new one, and secrets are readable by their owner alone.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown},
    path::Path,
};

use atomicwrites::{AllowOverwrite, AtomicFile};

/// Mode of keys, passwords and whatever else only the owner needs.
pub(crate) const PRIVATE: u32 = 0o600;
/// Mode of what may be read by others.
pub(crate) const PUBLIC: u32 = 0o644;

/// Replaces `path` by a file with `bytes`, or makes it.
pub(crate) fn replace(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(mode);
    AtomicFile::new(path, AllowOverwrite)
        .write_with_options(|file| file.write_all(bytes), options)
        .map_err(io::Error::from)
}

/// As [`replace`], with mode and owner as in `old`; for the owner alone when there was none.
pub(crate) fn replace_owned(path: &Path, bytes: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(old.map_or(PRIVATE, Metadata::mode));
    let write = |file: &mut File| {
        let (own, wanted) = (file.metadata()?, old);
        if let Some(old) = wanted.filter(|old| (old.uid(), old.gid()) != (own.uid(), own.gid())) {
            fchown(&*file, Some(old.uid()), Some(old.gid()))?;
        }
        file.write_all(bytes)
    };
    AtomicFile::new(path, AllowOverwrite).write_with_options(write, options).map_err(io::Error::from)
}

/// Makes a file that is not there yet.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A version that came over the bus may be any text; a file name may not.
pub(crate) fn name_of(version: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "._+~-".contains(c) { c } else { '_' };
    version.chars().take(64).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_never_leaves_its_folder() {
        assert_eq!(name_of("../../etc/passwd"), ".._.._etc_passwd");
        assert_eq!(name_of("ä b"), "__b");
    }
}
