//! The web app that is deployed: a real Git repository with one commit per version.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process::Output;

/// The app's folder.
#[derive(Debug)]
pub struct App {
    folder: PathBuf,
}

impl App {
    /// Copies the demo app to `folder`, as a repository with its first commit.
    ///
    /// # Errors
    /// When that fails, for example without git.
    pub fn create(folder: &Path) -> Result<Self> {
        Self::copy("demo-app", folder)
    }

    /// The same with the app `name`, a folder beside that of the demo app.
    ///
    /// # Errors
    /// When that fails, for example without git.
    pub fn copy(name: &str, folder: &Path) -> Result<Self> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        copy_files(&source, folder)?;
        let app = Self { folder: folder.to_path_buf() };
        app.git(&["init", "--quiet"])?;
        app.commit("1.0.0")?;
        Ok(app)
    }

    /// Where it is.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Replaces `from` by `to` in its source.
    ///
    /// # Errors
    /// When `from` is not there.
    pub fn edit(&self, from: &str, to: &str) -> Result<()> {
        self.edit_file("app.py", from, to)
    }

    /// Replaces `from` by `to` in one of its files.
    ///
    /// # Errors
    /// When `from` is not there.
    pub fn edit_file(&self, file: &str, from: &str, to: &str) -> Result<()> {
        let path = self.folder.join(file);
        let text = fs::read_to_string(&path)?;
        anyhow::ensure!(text.contains(from), "{file} has no `{from}`");
        fs::write(&path, text.replace(from, to))?;
        Ok(())
    }

    /// Sets the version and commits everything; gives the commit.
    ///
    /// # Errors
    /// When git fails.
    pub fn commit(&self, version: &str) -> Result<String> {
        fs::write(self.folder.join("VERSION"), format!("{version}\n"))?;
        self.git(&["add", "--all"])?;
        let author =
            ["-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "commit.gpgsign=false"];
        self.git(&[&author[..], &["commit", "--quiet", "--allow-empty", "--message", version]].concat())?;
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    fn git(&self, args: &[&str]) -> Result<String> {
        let mut git = Command::new("git");
        git.args(args).current_dir(&self.folder).env("GIT_CONFIG_GLOBAL", "/dev/null");
        Ok(Output::of(&mut git)?.expect(0)?.stdout)
    }
}

fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_files(&entry.path(), &to)?;
        } else {
            fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
