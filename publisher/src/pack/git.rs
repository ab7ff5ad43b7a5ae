//! What git says about a folder. Without git, or outside a repository, nothing is known and nothing fails.

use std::{path::Path, process::Command};

/// The state of the repository that a folder is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Git {
    /// Whether the folder is in a repository at all.
    pub(super) is_repository: bool,
    /// The commit, or empty when there is none yet.
    pub(super) commit: String,
    /// Whether the folder differs from that commit.
    pub(super) dirty: bool,
    /// The commit's name by its nearest tag, as in `v1.2.0-3-gabc1234`.
    pub(super) describe: Option<String>,
}

impl Git {
    /// Asks git about `folder`.
    pub(super) fn ask(folder: &Path) -> Self {
        if ask(folder, &["rev-parse", "--is-inside-work-tree"]).as_deref() != Some("true") {
            return Self::default();
        }
        Self {
            is_repository: true,
            commit: ask(folder, &["rev-parse", "--verify", "--quiet", "HEAD"]).unwrap_or_default(),
            dirty: ask(folder, &["status", "--porcelain", "--", "."])
                .is_none_or(|changes| !changes.is_empty()),
            describe: ask(folder, &["describe", "--tags", "--always", "--dirty"]),
        }
    }
}

/// What git prints, unless it fails. The folder's owner does not count as an attacker: it is about to be deployed.
fn ask(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("-C").arg(folder).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn run(folder: &Path, arguments: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let status =
            Command::new("git").arg("-C").arg(folder).args(identity).args(arguments).output().unwrap().status;
        assert!(status.success(), "{arguments:?}");
    }

    #[test]
    fn knows_commit_tag_and_changes() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Git::ask(dir.path()), Git::default());
        run(dir.path(), &["init", "-q"]);
        let fresh = Git::ask(dir.path());
        assert!(fresh.is_repository && fresh.commit.is_empty() && fresh.describe.is_none());
        fs::write(dir.path().join("a"), "1").unwrap();
        run(dir.path(), &["add", "a"]);
        run(dir.path(), &["commit", "-q", "-m", "one"]);
        run(dir.path(), &["tag", "v1.0"]);
        let clean = Git::ask(dir.path());
        assert_eq!((clean.commit.len(), clean.dirty, clean.describe.as_deref()), (40, false, Some("v1.0")));
        fs::write(dir.path().join("a"), "2").unwrap();
        let dirty = Git::ask(dir.path());
        assert_eq!((dirty.dirty, dirty.describe.as_deref()), (true, Some("v1.0-dirty")));
    }
}
