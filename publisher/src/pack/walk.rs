//! Which paths of a folder belong to the app. Ignore rules in, a list of paths out; nothing is read but names.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use ignore::{
    DirEntry, WalkBuilder,
    gitignore::{Gitignore, GitignoreBuilder},
};

use super::stamp::Stamp;
use crate::app_file::{self, FileRules};

/// Rules of the folder itself, as in .gitignore; for what git should keep and nodes should not get.
const IGNORE_FILE: &str = ".deploybusignore";

/// A path that belongs to the app, relative to the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) what: What,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    File { executable: bool, stamp: Stamp },
    Symlink { target: String },
    Directory,
}

/// Why a folder cannot be packed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WalkError {
    /// A manifest is text.
    #[error("the name {0:?} is not UTF-8")]
    NotUtf8(PathBuf),
    /// Neither file nor folder nor link.
    #[error("{} is a {what}", path.display())]
    Special { path: PathBuf, what: &'static str },
    /// `include` or `ignore` has something that is no pattern.
    #[error("`{pattern}` is not a pattern")]
    Pattern { pattern: String, source: ignore::Error },
    /// The file system said no.
    #[error("cannot read folder {}", .0.display())]
    Folder(PathBuf, #[source] ignore::Error),
    /// The file system said no.
    #[error("cannot read {}", .0.display())]
    Entry(PathBuf, #[source] std::io::Error),
}

/// Lists what of `root` belongs to the app. Inside a git repository its .gitignore files count up to the top of the
/// repository; elsewhere those from `root` on. Settings of the machine never count, so that every machine lists the same.
pub(super) fn walk(root: &Path, rules: &FileRules, in_git: bool) -> Result<Vec<Found>, WalkError> {
    let include = matcher(root, &rules.include)?;
    let ignored = matcher(root, &rules.ignore)?;
    let owned_root = root.to_owned();
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .git_ignore(rules.gitignore)
        .require_git(in_git)
        .parents(in_git)
        .add_custom_ignore_filename(IGNORE_FILE)
        .filter_entry(move |entry| !is_left_out(&owned_root, entry, ignored.as_ref()))
        .build();
    let mut found = Vec::new();
    for entry in walk {
        let entry = entry.map_err(|error| WalkError::Folder(root.to_owned(), error))?;
        let Ok(relative) = entry.path().strip_prefix(root) else { continue };
        if relative.as_os_str().is_empty() || is_excluded_file(&entry, relative, include.as_ref()) {
            continue;
        }
        let path = relative.to_str().ok_or_else(|| WalkError::NotUtf8(relative.to_owned()))?.to_owned();
        found.push(Found { what: look(entry.path())?, path });
    }
    if let Some(include) = include {
        keep_folders_of_included(&mut found, &include);
    }
    Ok(found)
}

fn matcher(root: &Path, patterns: &[String]) -> Result<Option<Gitignore>, WalkError> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let mut builder = GitignoreBuilder::new(root);
    for pattern in patterns {
        let wrong = |source| WalkError::Pattern { pattern: pattern.clone(), source };
        builder.add_line(None, pattern).map_err(wrong)?;
    }
    let wrong = |source| WalkError::Pattern { pattern: patterns.join(", "), source };
    builder.build().map(Some).map_err(wrong)
}

fn is_left_out(root: &Path, entry: &DirEntry, ignored: Option<&Gitignore>) -> bool {
    if entry.depth() == 0 {
        return false;
    }
    let name = entry.file_name();
    if name == OsStr::new(".git") {
        return true;
    }
    if entry.depth() == 1 && (name == OsStr::new(app_file::NAME) || name == OsStr::new(IGNORE_FILE)) {
        return true;
    }
    let relative = entry.path().strip_prefix(root).unwrap_or(entry.path());
    ignored.is_some_and(|rules| rules.matched(relative, is_folder(entry)).is_ignore())
}

fn is_folder(entry: &DirEntry) -> bool {
    entry.file_type().is_some_and(|kind| kind.is_dir())
}

/// Folders stay until it is known what is in them.
fn is_excluded_file(entry: &DirEntry, relative: &Path, include: Option<&Gitignore>) -> bool {
    include.is_some_and(|include| !is_folder(entry) && !is_included(include, relative, false))
}

fn is_included(include: &Gitignore, relative: &Path, is_dir: bool) -> bool {
    include.matched_path_or_any_parents(relative, is_dir).is_ignore()
}

/// With `include`, a folder belongs to the app when it is included itself or leads to something that is.
fn keep_folders_of_included(found: &mut Vec<Found>, include: &Gitignore) {
    let wanted =
        |entry: &&Found| entry.what != What::Directory || is_included(include, Path::new(&entry.path), true);
    let kept: BTreeSet<String> = found
        .iter()
        .filter(wanted)
        .flat_map(|entry| Path::new(&entry.path).ancestors())
        .filter_map(|path| path.to_str().map(str::to_owned))
        .collect();
    found.retain(|entry| kept.contains(&entry.path));
}

fn look(path: &Path) -> Result<What, WalkError> {
    let failed = |error| WalkError::Entry(path.to_owned(), error);
    let meta = fs::symlink_metadata(path).map_err(failed)?;
    let kind = meta.file_type();
    if kind.is_dir() {
        return Ok(What::Directory);
    }
    if kind.is_file() {
        let executable = meta.permissions().mode() & 0o100 != 0;
        return Ok(What::File { executable, stamp: Stamp::of(&meta) });
    }
    if kind.is_symlink() {
        let target = fs::read_link(path).map_err(failed)?;
        let text = target.to_str().ok_or_else(|| WalkError::NotUtf8(path.to_owned()))?;
        return Ok(What::Symlink { target: plain_target(text) });
    }
    let what = if kind.is_socket() {
        "socket"
    } else if kind.is_fifo() {
        "named pipe"
    } else {
        "device"
    };
    Err(WalkError::Special { path: path.to_owned(), what })
}

/// The same target without `.` and doubled slashes, which manifests do not have.
fn plain_target(target: &str) -> String {
    let segments: Vec<_> = target.split('/').filter(|segment| !matches!(*segment, "" | ".")).collect();
    match (target.starts_with('/'), segments.is_empty()) {
        (true, _) => format!("/{}", segments.join("/")),
        (false, true) => target.to_owned(),
        (false, false) => segments.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::{ffi::OsStrExt as _, fs::symlink, net::UnixListener};

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for file in files {
            let path = dir.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        dir
    }

    fn rules(include: &[&str], ignore: &[&str]) -> FileRules {
        let own = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect();
        FileRules { include: own(include), ignore: own(ignore), gitignore: true }
    }

    fn paths(dir: &Path, rules: &FileRules) -> Vec<String> {
        let mut paths: Vec<_> =
            walk(dir, rules, false).unwrap().into_iter().map(|found| found.path).collect();
        paths.sort();
        paths
    }

    #[test]
    fn leaves_out_git_the_app_file_and_what_ignore_files_say() {
        let dir = folder(&[
            "a.py",
            ".hidden",
            ".git/config",
            "deploybus.toml",
            "x/deploybus.toml",
            "b.log",
            "c.tmp",
            "d.bak",
        ]);
        fs::write(dir.path().join(".gitignore"), "*.log\n").unwrap();
        fs::write(dir.path().join(".deploybusignore"), "*.tmp\n").unwrap();
        let found = paths(dir.path(), &rules(&[], &["*.bak"]));
        assert_eq!(found, [".gitignore", ".hidden", "a.py", "x", "x/deploybus.toml"]);
    }

    #[test]
    fn what_git_ignores_is_taken_when_the_app_says_so() {
        let dir = folder(&["dist/app.js"]);
        fs::write(dir.path().join(".gitignore"), "dist/\n").unwrap();
        assert_eq!(paths(dir.path(), &rules(&[], &[])), [".gitignore"]);
        let everything = FileRules { gitignore: false, ..rules(&["dist"], &[]) };
        assert_eq!(paths(dir.path(), &everything), ["dist", "dist/app.js"]);
    }

    #[test]
    fn include_takes_only_what_it_names_and_the_folders_that_lead_there() {
        let dir = folder(&["src/a.py", "src/deep/b.py", "docs/c.md", "lib/x/d.so", "e.py"]);
        fs::create_dir(dir.path().join("src/empty")).unwrap();
        let found = paths(dir.path(), &rules(&["src", "*.so"], &["b.py"]));
        assert_eq!(found, ["lib", "lib/x", "lib/x/d.so", "src", "src/a.py", "src/deep", "src/empty"]);
    }

    #[test]
    fn refuses_what_no_manifest_can_say() {
        let dir = folder(&["a"]);
        let _socket = UnixListener::bind(dir.path().join("s")).unwrap();
        let error = walk(dir.path(), &rules(&[], &[]), false).unwrap_err();
        assert!(matches!(error, WalkError::Special { what: "socket", .. }), "{error}");
        fs::remove_file(dir.path().join("s")).unwrap();
        fs::write(dir.path().join(OsStr::from_bytes(b"caf\xe9")), "").unwrap();
        let error = walk(dir.path(), &rules(&[], &[]), false).unwrap_err();
        assert_eq!(error.to_string(), r#"the name "caf\xE9" is not UTF-8"#);
        assert!(matches!(walk(dir.path(), &rules(&["a{"], &[]), false), Err(WalkError::Pattern { .. })));
    }

    #[test]
    fn links_are_kept_as_links_in_their_plain_form() {
        let dir = folder(&["a"]);
        symlink("./x//../a", dir.path().join("l")).unwrap();
        let found = walk(dir.path(), &rules(&["l"], &[]), false).unwrap();
        assert_eq!(found[0].what, What::Symlink { target: "x/../a".into() });
        assert_eq!(["a/", ".", "/etc//x", "./a/./b"].map(plain_target), ["a", ".", "/etc/x", "a/b"]);
    }
}
