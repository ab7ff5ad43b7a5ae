//! The log file of an app. The app writes to it by itself, so that it needs no worker to go on.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use schemas::time::UnixTime;

use crate::tail::{ENOUGH_BYTES, tail};

/// A log that is larger is rotated; one older log is kept, so an app takes twice that of an SD card.
const MAX_LOG_BYTES: u64 = 1024 * 1024;
/// Begins the line that is written before each start.
const START_MARK: &str = "=== deploybus: ";

/// The log of one app.
#[derive(Debug, Clone)]
pub(crate) struct Log(PathBuf);

impl Log {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// Opens it for a start, which is noted in it.
    pub(super) fn open(&self, what_starts: &str) -> io::Result<File> {
        if let Some(folder) = self.0.parent() {
            fs::create_dir_all(folder)?;
        }
        self.rotate()?;
        // Appending makes truncation by `rotate` safe: the app's next line goes to the new end.
        let mut file = OpenOptions::new().create(true).append(true).mode(0o640).open(&self.0)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        writeln!(file, "{START_MARK}{} {what_starts} starts", UnixTime(now))?;
        Ok(file)
    }

    /// Keeps the end of a large log as the older one and begins anew; whether it was large. The app holds the file
    /// open, so it is copied and cut; what the app says between the two is lost.
    pub(super) fn rotate(&self) -> io::Result<bool> {
        let len = match fs::metadata(&self.0) {
            Ok(meta) => meta.len(),
            Err(err) if err.kind() == io::ErrorKind::NotFound => 0,
            Err(err) => return Err(err),
        };
        if len <= MAX_LOG_BYTES {
            return Ok(false);
        }
        let kept = self.keep_end(len);
        // Also when the end was not kept: on a full disk there is no room for it before the cut.
        File::options().write(true).open(&self.0)?.set_len(0)?;
        kept.map(|()| true)
    }

    /// Only the end: an app may say gigabytes between two looks.
    fn keep_end(&self, len: u64) -> io::Result<()> {
        let mut log = File::open(&self.0)?;
        log.seek(SeekFrom::Start(len.saturating_sub(MAX_LOG_BYTES)))?;
        let mut older = File::create(self.0.with_added_extension("1"))?;
        io::copy(&mut log.take(MAX_LOG_BYTES), &mut older).map(|_| ())
    }

    /// The last lines since the last start.
    pub(crate) fn tail(&self) -> Vec<String> {
        let said = self.end().unwrap_or_default();
        let since_start = said
            .windows(START_MARK.len())
            .rposition(|window| window == START_MARK.as_bytes())
            .and_then(|mark| Some(mark + said[mark..].iter().position(|byte| *byte == b'\n')? + 1))
            .unwrap_or(0);
        tail(&said[since_start..])
    }

    fn end(&self) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.0)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(len.saturating_sub(ENOUGH_BYTES as u64)))?;
        let mut said = Vec::new();
        file.take(ENOUGH_BYTES as u64).read_to_end(&mut said)?;
        Ok(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tail_begins_at_the_last_start() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::new(folder.path().join("log/web.log"));
        assert!(log.tail().is_empty());
        writeln!(log.open("web 1").unwrap(), "of the old release").unwrap();
        let mut file = log.open("web 2").unwrap();
        assert!(log.tail().is_empty());
        writeln!(file, "one\ntwo").unwrap();
        assert_eq!(log.tail(), ["one", "two"]);
    }

    #[test]
    fn a_large_log_is_cut_while_the_app_writes_to_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        let log = Log::new(path.clone());
        let mut file = log.open("web 1").unwrap();
        file.write_all(&vec![b'x'; 3 * MAX_LOG_BYTES as usize]).unwrap();
        writeln!(file, "before").unwrap();
        assert!(log.rotate().unwrap());
        writeln!(file, "after").unwrap();
        assert!(!log.rotate().unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
        let older = fs::read(folder.path().join("web.log.1")).unwrap();
        assert_eq!(older.len() as u64, MAX_LOG_BYTES, "no more of it than fits");
        assert!(older.ends_with(b"xbefore\n"));
        assert_eq!(log.tail(), ["after"]);
    }

    #[test]
    fn a_log_is_cut_even_when_its_end_cannot_be_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        fs::write(&path, vec![b'x'; 2 * MAX_LOG_BYTES as usize]).unwrap();
        fs::create_dir(folder.path().join("web.log.1")).unwrap();
        Log::new(path.clone()).rotate().unwrap_err();
        assert_eq!(fs::metadata(path).unwrap().len(), 0);
    }
}
