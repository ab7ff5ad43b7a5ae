//! The few things that slots ask of the file system.

use std::{
    fs::{self, File, FileTimes, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use machine::Fault;
use schemas::id::Digest;

use crate::fault::OnPath as _;

/// Folders of a finished slot: nothing is added to them any more.
pub(super) const FOLDER_MODE: u32 = 0o555;

/// The permissions of a finished file.
pub(super) fn file_mode(executable: bool) -> u32 {
    if executable { 0o555 } else { 0o444 }
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<(), Fault> {
    fs::set_permissions(path, Permissions::from_mode(mode)).on_path("set the mode of", path)
}

/// When a file with this content was changed last, as far as programs can see.
///
/// Other content must give another time: `CPython` takes a `.pyc` for fresh when time and size of the source are those
/// that it was made of, and so runs old code after an edit that keeps the size. The times lie in the years 2001 to
/// 2018, so that none is in the future.
pub(super) fn mtime(digest: Digest) -> SystemTime {
    const FIRST_SECS: u32 = 1_000_000_000;
    const SPAN_SECS: u32 = 1 << 29;
    let start: [u8; 4] = [digest.0[0], digest.0[1], digest.0[2], digest.0[3]];
    SystemTime::UNIX_EPOCH + Duration::from_secs((FIRST_SECS + u32::from_be_bytes(start) % SPAN_SECS).into())
}

/// Gives a file that was written just now the form that it keeps.
pub(super) fn finish_file(file: &File, path: &Path, executable: bool, digest: Digest) -> Result<(), Fault> {
    file.set_times(FileTimes::new().set_modified(mtime(digest))).on_path("set the time of", path)?;
    file.set_permissions(Permissions::from_mode(file_mode(executable))).on_path("set the mode of", path)
}

/// Writes a new file without bringing it to the disk.
pub(super) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    File::create(path).and_then(|mut file| file.write_all(bytes)).on_path("write", path)
}

/// Puts `bytes` in the place of a file, durably and as a whole.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Fault> {
    agent::replace_file(path, bytes).on_path("write", path)
}

/// Brings the names in a folder to the disk.
pub(super) fn sync_folder(path: &Path) -> Result<(), Fault> {
    File::open(path).and_then(|folder| folder.sync_all()).on_path("sync", path)
}

/// Brings everything on the file system of `path` to the disk, with one call for thousands of files.
pub(super) fn sync_all_under(path: &Path) -> Result<(), Fault> {
    let folder = File::open(path).on_path("open", path)?;
    rustix::fs::syncfs(&folder).on_path("sync", path)
}

/// Removes a tree whose folders are read-only; one that is not there is fine.
pub(super) fn remove_tree(path: &Path) -> Result<(), Fault> {
    match fs::symlink_metadata(path) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(meta) if !meta.is_dir() => return fs::remove_file(path).on_path("remove", path),
        _ => {}
    }
    make_writable(path).on_path("make writable", path)?;
    fs::remove_dir_all(path).on_path("remove", path)
}

fn make_writable(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_content_has_another_time_and_none_lies_in_the_future() {
        let (one, two) = (mtime(Digest::of(b"print(1)")), mtime(Digest::of(b"print(2)")));
        assert_ne!(one, two);
        assert_eq!(one, mtime(Digest::of(b"print(1)")));
        assert!(mtime(Digest([0xff; 32])) < SystemTime::now());
        assert!(mtime(Digest([0; 32])) > SystemTime::UNIX_EPOCH);
    }

    #[test]
    fn a_read_only_tree_is_removed_and_what_its_links_lead_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let (tree, other) = (folder.path().join("tree"), folder.path().join("other"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(&other, tree.join("a/link")).unwrap();
        set_mode(&tree.join("a/b"), FOLDER_MODE).unwrap();
        set_mode(&tree.join("a"), FOLDER_MODE).unwrap();
        remove_tree(&tree).unwrap();
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        assert!(other.join("kept").exists());
    }
}
