//! What apps say, for whoever asks: the last lines, and for a minute those that come.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent::{Notice, Notices, Said};
use schemas::{id::AppId, status::LogSource};
use tokio::{
    io::AsyncReadExt as _,
    process::Command,
    task::AbortHandle,
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tracing::debug;

use crate::{container::Containers, tail::last_lines};

/// Whoever asks goes on listening by asking again.
const LISTEN_FOR: Duration = Duration::from_mins(1);
/// So much is told at once, and kept until then.
const MAX_TOLD_BYTES: usize = 16 * 1024;
/// From one telling to the next. The first one is the answer: by then every source has given the lines that it has.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Where an app's lines come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// A file that the app writes.
    File(PathBuf),
    /// The journal of a systemd unit.
    Unit(String),
    /// A container.
    Container(Arc<Containers>),
    /// It says nothing.
    Nothing,
}

/// Listens to one app at a time for each.
#[derive(Debug)]
pub(crate) struct Listeners {
    notices: Notices,
    listening: Mutex<BTreeMap<AppId, AbortHandle>>,
}

impl Listeners {
    pub(crate) fn new(notices: Notices) -> Self {
        Self { notices, listening: Mutex::default() }
    }

    /// Tells the last `lines` of an app as the answer to `id`, then what comes, in place of what was listened to before.
    pub(crate) fn listen(&self, app: &AppId, source: Source, lines: usize, id: String) {
        let (key, app, notices) = (app.clone(), app.clone(), self.notices.clone());
        let listening = tokio::spawn(async move {
            let said = Arc::new(Mutex::new(Vec::new()));
            let hear = hear(&app, source, lines, &said);
            let tell = tell(&app, &said, (lines, id), &notices);
            // Both go on until the time is over.
            let _ = timeout(LISTEN_FOR, async { tokio::join!(hear, tell) }).await;
        });
        let mut all = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(before) = all.insert(key, listening.abort_handle()) {
            before.abort();
        }
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner).values().for_each(AbortHandle::abort);
    }
}

/// What was heard and is not told yet, up to a bound.
type Heard = Mutex<Vec<u8>>;

fn take_down(heard: &Heard, said: &[u8]) {
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    heard.extend_from_slice(said);
    let excess = heard.len().saturating_sub(MAX_TOLD_BYTES);
    heard.drain(..excess);
}

/// Takes the whole lines out; of a line without an end only when it is as long as all that is kept.
fn take_lines(heard: &Heard) -> Vec<u8> {
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    let end = match heard.iter().rposition(|byte| *byte == b'\n') {
        Some(last) => last + 1,
        None if heard.len() < MAX_TOLD_BYTES => 0,
        None => heard.len(),
    };
    heard.drain(..end).collect()
}

async fn hear(app: &AppId, source: Source, lines: usize, heard: &Heard) {
    match source {
        Source::File(path) => hear_file(&path, lines, heard).await,
        Source::Unit(unit) => {
            if let Err(err) = hear_unit(&unit, lines, heard).await {
                debug!(%app, %unit, %err, "the journal cannot be read");
            }
        }
        Source::Container(containers) => containers.listen(app, lines, |said| take_down(heard, said)).await,
        Source::Nothing => {}
    }
}

async fn tell(app: &AppId, heard: &Heard, (lines, id): (usize, String), notices: &Notices) {
    let mut pace = interval(TELL_EVERY);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace.tick().await;
    let (mut answers, mut first) = (id, true);
    loop {
        pace.tick().await;
        let max_lines = if std::mem::take(&mut first) { lines } else { usize::MAX };
        let lines = last_lines(&take_lines(heard), max_lines, MAX_TOLD_BYTES);
        if lines.is_empty() && answers.is_empty() {
            continue;
        }
        let said = Said { source: LogSource::App, lines, answers: std::mem::take(&mut answers) };
        if notices.send((app.clone(), Notice::Said(said))).is_err() {
            return;
        }
    }
}

/// The end of a file that is appended to, and cut from time to time.
async fn hear_file(path: &Path, lines: usize, heard: &Heard) {
    let enough = if lines == 0 { 0 } else { MAX_TOLD_BYTES as u64 };
    let len = || std::fs::metadata(path).map_or(0, |meta| meta.len());
    let mut at = len().saturating_sub(enough);
    loop {
        let end = len();
        if end < at {
            at = 0;
        }
        if let Ok(said) = read(path, at) {
            at += said.len() as u64;
            take_down(heard, &said);
        }
        sleep(TELL_EVERY / 2).await;
    }
}

fn read(path: &Path, from: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(from))?;
    let mut said = Vec::new();
    file.take(MAX_TOLD_BYTES as u64).read_to_end(&mut said)?;
    Ok(said)
}

/// What systemd has kept of a unit. Its journal has no stable form but what `journalctl` says.
async fn hear_unit(unit: &str, lines: usize, heard: &Heard) -> io::Result<()> {
    let mut journal = Command::new("journalctl");
    journal.args(["--follow", "--quiet", "--output=cat", "--lines", &lines.to_string(), "--unit", unit]);
    journal.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut running = journal.spawn()?;
    let Some(mut out) = running.stdout.take() else { return Ok(()) };
    let mut said = [0; 4096];
    loop {
        match out.read(&mut said).await? {
            0 => return running.wait().await.map(drop),
            len => take_down(heard, &said[..len]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    #[tokio::test]
    async fn the_last_lines_answer_and_what_comes_follows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.log");
        fs::write(&path, "one\ntwo\nthree\n").unwrap();
        let (notices, mut told) = unbounded_channel();
        let listeners = Listeners::new(notices);
        let app: AppId = "web".parse().unwrap();
        listeners.listen(&app, Source::File(path.clone()), 2, "7".into());
        let mut next = async || match told.recv().await.unwrap() {
            (_, Notice::Said(said)) => (said.lines, said.answers),
            other => panic!("{other:?}"),
        };
        assert_eq!(next().await, (vec!["two".to_owned(), "three".to_owned()], "7".to_owned()));
        let mut file = File::options().append(true).open(&path).unwrap();
        write!(file, "fo").unwrap();
        writeln!(file, "ur").unwrap();
        assert_eq!(next().await, (vec!["four".to_owned()], String::new()));
        // It was cut, as a log is that has grown too large.
        fs::write(&path, "five\n").unwrap();
        assert_eq!(next().await.0, ["five"]);

        listeners.listen(&app, Source::Nothing, 5, "8".into());
        assert_eq!(next().await, (Vec::new(), "8".to_owned()), "who says nothing answers, too");
    }
}
