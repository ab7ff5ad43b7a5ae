//! Files that are replaced as a whole: after a power cut there is the old one or the new one.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use atomicwrites::{AtomicFile, OverwriteBehavior};

/// How `atomicwrites` begins the names of the folders in which it writes new files.
const DRAFT: &str = ".atomicwrite";

/// Puts `bytes` in the place of what the file held; they are on the disk when this returns.
///
/// # Errors
/// When the disk refuses.
pub fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    AtomicFile::new(path, OverwriteBehavior::AllowOverwrite)
        .write(|file| file.write_all(bytes))
        .map_err(io::Error::from)
}

/// As [`replace_file`], for its owner alone.
///
/// # Errors
/// When the disk refuses.
pub(crate) fn replace_secret(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    AtomicFile::new(path, OverwriteBehavior::AllowOverwrite)
        .write_with_options(|file| file.write_all(bytes), options)
        .map_err(io::Error::from)
}

/// Removes what replacements in the folder left that were cut short. None may be under way.
///
/// What cannot be removed only takes room.
pub fn sweep_drafts(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(DRAFT.as_bytes()) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_cut_short_is_swept_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        replace_file(&file, b"old").unwrap();
        // A power cut is one that does not get to clean up.
        let cut = AtomicFile::new(&file, OverwriteBehavior::AllowOverwrite).write(|draft| {
            draft.write_all(b"new")?;
            for left in fs::read_dir(folder.path())?.flatten().filter(|entry| entry.path() != file) {
                let copy = format!("{}-cut", left.file_name().to_str().unwrap());
                fs::create_dir(folder.path().join(&copy))?;
                fs::copy(left.path().join("tmpfile.tmp"), folder.path().join(copy).join("tmpfile.tmp"))?;
            }
            io::Result::Ok(())
        });
        cut.unwrap();
        let names = || fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(names(), 2, "the file and what was cut short");
        sweep_drafts(folder.path());
        sweep_drafts(&folder.path().join("nowhere"));
        assert_eq!((names(), fs::read(&file).unwrap().as_slice()), (1, b"new".as_slice()));
    }
}
