//! How long nobody serves: an asker of a port, and a watcher of work that needs none.

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result};
use e2e::get;

/// How often somebody asks the app for something.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// How often somebody looks at what the app does: as often as the file system's clock moves on.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Looks all the time whether the app serves, and notices when it does not.
pub(super) struct Watch {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<Duration>,
}

impl Watch {
    /// Asks on a port.
    pub(super) fn port(port: u16) -> Self {
        Self::start(move |has_ended| {
            let (mut longest, mut answered) = (Duration::ZERO, Instant::now());
            while !has_ended() {
                if get(port, "/version").is_ok_and(|answer| answer.status == 200) {
                    longest = longest.max(answered.elapsed());
                    answered = Instant::now();
                }
                thread::sleep(ASK_EVERY);
            }
            longest
        })
    }

    /// Looks at a file that the app writes again and again, whose times are what counts: not when it was looked at.
    pub(super) fn beat(file: PathBuf) -> Self {
        Self::start(move |has_ended| {
            let beat = || fs::metadata(&file).and_then(|file| file.modified()).ok();
            let (mut longest, mut last): (Duration, Option<SystemTime>) = (Duration::ZERO, beat());
            while !has_ended() {
                let now = beat();
                let passed = now.zip(last).and_then(|(now, last)| now.duration_since(last).ok());
                longest = longest.max(passed.unwrap_or_default());
                last = now.or(last);
                thread::sleep(LOOK_EVERY);
            }
            longest
        })
    }

    fn start(watch: impl FnOnce(&dyn Fn() -> bool) -> Duration + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let heard = stop.clone();
        let thread = thread::spawn(move || watch(&|| heard.load(Ordering::Relaxed)));
        Self { stop, thread }
    }

    /// The longest time during which nobody served.
    pub(super) fn longest_gap(self) -> Result<Duration> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().ok().context("the watcher ended early")
    }
}
