//! The settings of a command and the node's data folder, which belongs to one worker at a time.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read as _, Write as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use agent::Settings;
use anyhow::Context as _;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};

/// So long the data folder is waited for before somebody else is said to have it.
const PATIENCE: Duration = Duration::from_secs(2);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// The settings in the file.
pub(crate) fn load(config: &Path) -> anyhow::Result<Settings> {
    let config = std::path::absolute(config).context("cannot find the current folder")?;
    let mut settings = Settings::load(&config)?;
    // One name for the folder, for it is in the environment of apps, by which they are found again.
    if let Ok(real) = settings.data.canonicalize() {
        settings.data = real;
    }
    Ok(settings)
}

/// The settings in the file, with the data folder taken.
pub(crate) fn open(config: &Path) -> anyhow::Result<(Settings, Lock)> {
    let data = load(config)?.data;
    fs::create_dir_all(&data).with_context(|| format!("cannot create data folder {}", data.display()))?;
    let settings = load(config)?;
    let lock = Lock::take(&settings.data)?;
    Ok((settings, lock))
}

/// The data folder, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "closing the file is what unlocks")] File);

/// Somebody else has the data folder.
#[derive(Debug, thiserror::Error)]
#[error("pi-worker{} runs on data folder {data} already: stop it, or give this one another `data`", pid.trim_end())]
pub(crate) struct Taken {
    data: String,
    pid: String,
}

impl Lock {
    /// Takes the folder; [`Taken`] is among the errors.
    fn take(data: &Path) -> anyhow::Result<Self> {
        let path = data.join("lock");
        let failed = || format!("cannot lock {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(failed)?;
        match lock_patiently(&file, || thread::sleep(ASK_EVERY)) {
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // Only makes the message clearer.
                let _ = file.read_to_string(&mut pid);
                return Err(Taken { data: data.display().to_string(), pid: format!(" {pid}") }.into());
            }
            locked => locked.with_context(failed)?,
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).with_context(failed)?;
        Ok(Self(file))
    }

    /// Whether somebody has the folder.
    pub(crate) fn is_taken(data: &Path) -> bool {
        let Ok(file) = File::open(data.join("lock")) else { return false };
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    }
}

/// Waits for those who hold it for a moment: a worker that was killed while it started a program lives on in that
/// program's first instants, and `pi-worker status` looks whether the lock is free by taking it.
fn lock_patiently(file: &File, mut pause: impl FnMut()) -> Result<(), Errno> {
    let until = Instant::now() + PATIENCE;
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if Instant::now() < until => pause(),
            locked => return locked,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_one_worker_and_the_second_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        assert!(!Lock::is_taken(folder.path()));
        let lock = Lock::take(folder.path()).unwrap();
        assert!(Lock::is_taken(folder.path()));
        let text = Lock::take(folder.path()).unwrap_err().to_string();
        assert!(
            text.starts_with(&format!("pi-worker {} runs on data folder /", std::process::id())),
            "{text}"
        );
        drop(lock);
        // What another test forks holds it as well, until it has begun its program.
        Lock::take(folder.path()).unwrap();
    }

    #[test]
    fn a_folder_that_is_held_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let mut holder = Some(Lock::take(folder.path()).unwrap());
        let file = File::open(folder.path().join("lock")).unwrap();
        lock_patiently(&file, || drop(holder.take())).unwrap();
        assert!(holder.is_none(), "it was held when it was asked for first");
    }
}
