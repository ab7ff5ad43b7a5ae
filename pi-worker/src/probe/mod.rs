//! Health checks: each is asked at its own pace; what they say together is told when it changes.

mod ask;
mod http;
mod proof;
mod threshold;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use agent::{Notice, Notices};
use machine::{Health, Slot};
use schemas::{
    id::{AppId, Digest},
    release::Check,
};
use tokio::{
    sync::mpsc::{UnboundedSender, unbounded_channel},
    task::{AbortHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};
use tracing::debug;

pub(crate) use ask::{Asker, Inside};

use ask::Seen;
use threshold::{Threshold, overall};

/// No check is asked more often: it would keep a small Pi busy.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(50);
/// No check has less time.
const SHORTEST_TIMEOUT: Duration = Duration::from_millis(50);

/// An engine answers in milliseconds; each asking costs it a little.
const CONTAINER_INTERVAL: Duration = Duration::from_secs(1);
/// An engine on a Pi that builds may take a while.
const CONTAINER_TIMEOUT: Duration = Duration::from_secs(5);
/// As for checks.
const CONTAINER_UNHEALTHY_AFTER: u32 = 3;

/// Where the last lines of an app come from, when it is not healthy.
pub(crate) trait LastWords: Send + Sync + 'static {
    fn tail(&self) -> impl Future<Output = Vec<String>> + Send;
}

/// Asks the checks of one slot per app.
#[derive(Debug)]
pub(crate) struct Prober {
    notices: Notices,
    watched: Mutex<BTreeMap<AppId, AbortHandle>>,
}

impl Prober {
    pub(crate) fn new(notices: Notices) -> Self {
        Self { notices, watched: Mutex::default() }
    }

    /// Begins to ask the checks of the slot, in place of those asked before.
    pub(crate) fn watch(&self, app: &AppId, slot: &Slot, asker: Asker, last_words: impl LastWords) {
        self.end(app);
        let (app, tree, checks) = (app.clone(), slot.tree(), slot.part.checks.clone());
        if slot.part.is_unchecked() {
            return;
        }
        let mut questions: Vec<Question> = checks.into_iter().map(Question::Check).collect();
        questions.extend(asker.inside.is_some().then_some(Question::Container));
        let (key, notices) = (app.clone(), self.notices.clone());
        let watch = tokio::spawn(async move {
            let tell = |health| {
                debug!(%app, ?health, "health changed");
                notices.send((app.clone(), Notice::Health(health))).is_ok()
            };
            follow(tree, questions, asker, last_words, tell).await;
        });
        self.lock().insert(key, watch.abort_handle());
    }

    /// Asks no more.
    pub(crate) fn end(&self, app: &AppId) {
        if let Some(watch) = self.lock().remove(app) {
            watch.abort();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<AppId, AbortHandle>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.lock().values().for_each(AbortHandle::abort);
    }
}

/// What is asked.
enum Question {
    /// What the release says.
    Check(Check),
    /// Whether the container itself is well.
    Container,
}

impl Question {
    /// How often it is asked, and how long an answer may take.
    fn pace(&self) -> (Duration, Duration) {
        match self {
            Self::Check(check) => {
                (Duration::from_millis(check.interval_ms), Duration::from_millis(check.timeout_ms))
            }
            Self::Container => (CONTAINER_INTERVAL, CONTAINER_TIMEOUT),
        }
    }

    fn threshold(&self) -> Threshold {
        match self {
            Self::Check(check) => Threshold::new(check.healthy_after, check.unhealthy_after),
            Self::Container => Threshold::new(1, CONTAINER_UNHEALTHY_AFTER),
        }
    }
}

/// The answer of a check, by its place.
type Answer = (usize, Result<(), String>);

async fn follow(
    tree: Digest,
    questions: Vec<Question>,
    asker: Asker,
    last_words: impl LastWords,
    tell: impl Fn(Health) -> bool,
) {
    let mut minds: Vec<Mind> = questions.iter().map(Mind::new).collect();
    let (sender, mut answers) = unbounded_channel();
    // Dropped with this future, and all the asking with it.
    let mut asking = JoinSet::new();
    let asker = Arc::new(asker);
    for (place, question) in questions.into_iter().enumerate() {
        asking.spawn(keep_asking(place, question, asker.clone(), sender.clone()));
    }
    let mut told = None;
    while let Some((place, answer)) = answers.recv().await {
        minds[place].take(answer);
        let says = overall(minds.iter().map(Mind::says)).map(|says| says.map_err(str::to_owned));
        let Some(says) = says.filter(|says| told.as_ref() != Some(says)) else { continue };
        told = Some(says.clone());
        let (ok, text) = (says.is_ok(), says.err().unwrap_or_default());
        let log_tail = if ok { Vec::new() } else { last_words.tail().await };
        if !tell(Health { tree, ok, text, log_tail }) {
            return;
        }
    }
}

async fn keep_asking(place: usize, question: Question, asker: Arc<Asker>, answers: UnboundedSender<Answer>) {
    let (every, limit) = question.pace();
    let mut pace = interval(every.max(SHORTEST_INTERVAL));
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let limit = limit.max(SHORTEST_TIMEOUT);
    let mut seen = Seen::default();
    loop {
        pace.tick().await;
        let answer = match &question {
            Question::Check(check) => asker.ask(&check.probe, limit, &mut seen).await,
            Question::Container => asker.ask_container(limit).await,
        };
        if answers.send((place, answer)).is_err() {
            return;
        }
    }
}

/// What one check says, and its last bad answer.
#[derive(Debug)]
struct Mind {
    threshold: Threshold,
    verdict: Option<bool>,
    bad: String,
}

impl Mind {
    fn new(question: &Question) -> Self {
        Self { threshold: question.threshold(), verdict: None, bad: String::new() }
    }

    fn take(&mut self, answer: Result<(), String>) {
        self.verdict = self.threshold.take(answer.is_ok());
        if let Err(text) = answer {
            self.bad = text;
        }
    }

    fn says(&self) -> Option<Result<(), &str>> {
        self.verdict.map(|good| if good { Ok(()) } else { Err(self.bad.as_str()) })
    }
}

#[cfg(test)]
mod tests;
