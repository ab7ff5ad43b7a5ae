//! The users file on the disk: read, edited by one command at a time, and replaced as it was owned.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    super::files,
    Secret, User, UserName,
    lines::{self, Listed, with_user},
};
use crate::problem::{Advise as _, problem};

/// The first lines of a new file.
pub(crate) const HEADING: &str = "# Who may log in to the broker. Written by `publisher`; the broker reads it again when it changes.\n\
                                  # name               role           secret\n";

/// A users file.
#[derive(Debug)]
pub(crate) struct UsersFile(PathBuf);

impl UsersFile {
    /// The file at `path`; nothing is read yet.
    pub(crate) fn at(path: &Path) -> Self {
        // A link is followed: the file that it names is replaced, not the link.
        Self(fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()))
    }

    /// Where it lies.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The text of the file.
    pub(crate) fn read(&self) -> Result<String> {
        fs::read_to_string(&self.0).advise(
            format!("cannot read {}", self.0.display()),
            "say where the broker's users file is with --users, or bring it back from the broker's machine, which has a copy",
        )
    }

    /// Adds a user that is not there yet.
    pub(crate) fn add(&self, user: &User<'_>) -> Result<()> {
        self.edit(|text| {
            check_free(text, user.name)?;
            with_user(text, user)
        })
    }

    /// Whether nobody has this name yet: said before a person is asked for a password.
    pub(crate) fn check_free(&self, name: &str) -> Result<()> {
        check_free(&self.read()?, name)
    }

    /// Takes a user out.
    pub(crate) fn remove(&self, name: &UserName) -> Result<()> {
        self.edit(|text| {
            self.check_there(text, name)?;
            Ok(lines::without_user(text, name.as_str()))
        })
    }

    /// Gives a user another secret.
    pub(crate) fn change_secret(&self, name: &UserName, secret: &Secret) -> Result<()> {
        let stored = secret.stored()?;
        self.edit(|text| {
            self.check_there(text, name)?;
            Ok(lines::with_secret(text, name.as_str(), &stored))
        })
    }

    /// Whether there is such a user.
    pub(crate) fn check_there(&self, text: &str, name: &UserName) -> Result<()> {
        if lines::role_of(text, name.as_str()).is_some() {
            return Ok(());
        }
        Err(problem(
            format!("no user {name} in {}", self.0.display()),
            "`publisher user list` shows who is there",
        ))
    }

    /// Replaces the text by what `change` makes of it. Mode and owner stay: the broker must be able to read it.
    fn edit(&self, change: impl FnOnce(&str) -> Result<String>) -> Result<()> {
        let what = || format!("cannot write {}", self.0.display());
        let folder = self.0.parent().with_context(what)?;
        // The folder is locked, since the file is another one after each edit.
        let lock = File::open(folder).and_then(|folder| folder.lock().map(|()| folder));
        let _lock = lock.with_context(what)?;
        let (old, text) = (fs::metadata(&self.0).ok(), self.read()?);
        let new = change(&text)?;
        let advice = "run this as the file's owner or as root; the folder must take files";
        files::replace_owned(&self.0, new.as_bytes(), old.as_ref()).advise(what(), advice)
    }
}

fn check_free(text: &str, name: &str) -> Result<()> {
    match lines::role_of(text, name) {
        None => Ok(()),
        Some(role) => Err(problem(
            format!("{name} is the name of a {role} already"),
            format!("choose another name; `publisher user passwd {name}` gives a user another secret"),
        )),
    }
}

/// The users of `text`, in its order.
pub(crate) fn listed(text: &str) -> Vec<Listed<'_>> {
    lines::listed(text).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::{super::UserRole, *};

    #[test]
    fn an_edit_keeps_mode_and_link_and_what_others_wrote() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("users"), dir.path().join("link"));
        fs::write(&path, HEADING.to_owned() + "# mine\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        symlink(&path, &link).unwrap();
        let (users, secret) = (UsersFile::at(&link), Secret::Token("t".to_owned()));
        users.add(&User::new("anna", UserRole::Admin, &secret)).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        let text = users.read().unwrap();
        assert!(text.starts_with(HEADING) && text.contains("# mine\nanna "), "{text}");
        assert!(users.add(&User::new("anna", UserRole::Watcher, &secret)).is_err());
        assert_eq!(users.read().unwrap(), text);
        users.remove(&"anna".parse().unwrap()).unwrap();
        assert_eq!(users.read().unwrap(), HEADING.to_owned() + "# mine\n");
    }

    #[test]
    fn who_is_not_there_cannot_be_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users");
        fs::write(&path, "anna admin sha256:00\n").unwrap();
        let err = UsersFile::at(&path).remove(&"bert".parse().unwrap()).unwrap_err().to_string();
        assert!(err.starts_with("no user bert in "), "{err}");
    }
}
