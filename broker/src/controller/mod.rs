//! Who carries rollouts out, and writes into the deploy log what happens: it follows the bus, lets the pure [`rollout::Desk`] decide,
//! and does what that wants.
//!
//! It has no key of the fleet. Its own key counts within the mandate of each rollout. It keeps nothing on the disk but that key:
//! what has become of a rollout is on the bus, signed, before the orders that rely on it; so it may die at any moment.

mod diary;
mod key;
mod settings;
mod status;
mod watchers;
mod wire;

use std::{
    path::Path,
    pin::pin,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rollout::{Deed, Desk, Event, Milestone, MilestoneKind, Note, Pace, course::Now};
use rustix::time::{ClockId, clock_gettime};
use schemas::{
    id::{FleetId, KeyId},
    root::Trust,
    seal::SecretKey,
    time::UnixTime,
    topic::{BusTopic, Filter, Kind, NodeTopic, Topic},
};
use tokio::{sync::oneshot, time::sleep};
use tracing::{info, warn};

pub use self::settings::ControllerSettings;
use self::{diary::Diary, status::Statuses, watchers::Watchers, wire::Heard};
pub(crate) use self::{
    key::KeyError,
    wire::{Wire, WireError},
};
use crate::{
    clock,
    discovery::Style,
    log::Log,
    metrics::Questions,
    nodes::{NodesError, read_root},
    page::{Errand, Lookout},
};

/// A desk, and what lies around it: bus, clock, log and pages.
#[derive(Debug)]
pub(crate) struct Controller {
    wire: Wire,
    desk: Desk,
    diary: Diary,
    statuses: Statuses,
    watchers: Watchers,
    /// Shows the page what is known.
    lookout: Lookout,
    /// Rollouts are carried out, not only looked at.
    conducts: bool,
    key: KeyId,
    /// By a clock that goes on while the machine is asleep.
    started: Duration,
}

/// What has to be read on the bus of `fleet`, in the order in which what is retained is to be read.
pub(crate) fn filters(fleet: &FleetId) -> Vec<Filter> {
    let all_nodes = |topic| Filter::all_nodes(fleet, &topic);
    [
        Filter::from(&Kind::Trust.of(fleet)),
        all_nodes(NodeTopic::Record),
        all_nodes(NodeTopic::Availability),
        all_nodes(NodeTopic::Report),
        Filter::plans(fleet),
        Filter::courses(fleet),
        Filter::all_releases(fleet),
        Filter::controllers(fleet),
    ]
    .into_iter()
    .chain(watchers::filters(fleet))
    .chain(Lookout::filters(fleet))
    .collect()
}

/// The controller's key in the data folder, which is made when there is none.
pub(crate) fn open_key(data: &Path) -> Result<SecretKey, KeyError> {
    key::open(data)
}

impl Controller {
    /// Believes by the root document in the file at `root`.
    pub(crate) fn new(
        root: &Path,
        key: SecretKey,
        conducts: bool,
        style: Style,
        wire: Wire,
        log: Log,
        lookout: Lookout,
    ) -> Result<Self, NodesError> {
        let trust = read_root(root, Trust::first)?;
        let watchers = Watchers::new(trust.fleet().clone(), style, clock::now());
        let id = key.public().id();
        Ok(Self {
            wire,
            desk: Desk::new(trust, key, program(), Pace::LIVE),
            diary: Diary::new(log),
            statuses: Statuses::default(),
            watchers,
            lookout,
            conducts,
            key: id,
            started: since_boot(),
        })
    }

    /// Carries rollouts out until the bus is gone, or `stop`.
    ///
    /// Whoever has a question for it is answered in between.
    pub(crate) async fn run(mut self, mut questions: Questions, stop: oneshot::Receiver<()>) {
        let mut stop = pin!(stop);
        tokio::select! {
            () = self.read() => {}
            _ = &mut stop => return self.leave().await,
        }
        info!(key = %self.key, conducts = self.conducts, "controller reads the bus");
        loop {
            let wait = self.now().until(self.desk.poll_timeout().min(self.watchers.poll_timeout()));
            tokio::select! {
                _ = &mut stop => return self.leave().await,
                heard = self.wire.next() => match heard {
                    Heard::Message { topic, payload, retained } => self.take(&topic, &payload, !retained),
                    Heard::News => {}
                    Heard::Lost => drop(self.desk.handle(Event::Lost, self.now())),
                    Heard::Back => self.read().await,
                    Heard::Ended => return,
                },
                Some(reply) = questions.recv() => {
                    // Who asked may have given up waiting.
                    let _ = reply.send(self.watchers.facts(&self.desk));
                }
                errand = self.lookout.next() => self.run_errand(errand),
                () = pause(wait) => self.look(),
            }
        }
    }

    /// Reads everything that the bus keeps, before anything is decided on it.
    async fn read(&mut self) {
        for (topic, payload) in self.wire.retained().await {
            self.take(&topic, &payload, false);
        }
        let now = self.now();
        self.watchers.has_read(now);
        if self.conducts {
            self.desk.handle(Event::Back, self.now());
        }
    }

    fn take(&mut self, topic: &Topic, payload: &[u8], is_new: bool) {
        let now = self.now();
        if is_new && let Kind::Node(node, NodeTopic::Availability) = &topic.kind {
            // Whether it comes or goes, it was there until now.
            self.diary.saw(node, now.wall);
        }
        if let Some(ask) = watchers::asked(topic, payload, is_new) {
            info!(app = %ask.app, what = ?ask.what, "somebody asks for something of a rollout, without a key");
            self.desk.handle(Event::Ask(&ask), now);
        }
        if let Some(change) = self.desk.handle(Event::Message(topic, payload), now) {
            self.diary.observe(&change);
            self.watchers.observe(&change, now);
        }
        self.watchers.hear(topic, payload, is_new, now, random);
        self.lookout.hear(topic, payload);
    }

    /// Does what people want on the page.
    fn run_errand(&mut self, errand: Errand) {
        match errand {
            Errand::Look(looking) => self.lookout.show(looking, self.desk.fleet()),
            Errand::Pause(app, text, answer) => {
                let paused = self.desk.pause(&app, text, self.now());
                self.look();
                // Who has gone away meanwhile sees it later.
                let _ = answer.send(paused);
            }
            Errand::Request(node, ask) => {
                let payload = serde_json::to_vec(&ask).expect("names are always JSON");
                self.publish(Kind::Node(node, NodeTopic::Request), payload);
            }
        }
    }

    fn look(&mut self) {
        let now = self.now();
        for (topic, payload) in self.watchers.look(&self.desk, now) {
            self.wire.publish(topic, payload);
        }
        if now.mono_ms >= self.desk.poll_timeout() {
            self.look_at_rollouts(now);
        }
    }

    fn look_at_rollouts(&mut self, now: Now) {
        self.diary.catch_up(Some(self.desk.fleet()), now.wall);
        self.desk.handle_timeout(now);
        while let Some(deed) = self.desk.poll_deed() {
            self.carry_out(deed, now);
        }
        let mut news = Vec::new();
        for conductor in self.desk.replaced().iter().chain(self.desk.conductors()) {
            news.extend(self.statuses.news(conductor, now));
        }
        for (kind, payload) in news {
            self.publish(kind, payload);
        }
    }

    fn carry_out(&mut self, deed: Deed, now: Now) {
        match deed {
            Deed::Publish(topic, payload) => self.wire.publish(topic, payload),
            Deed::Tell(milestone) => self.tell(&milestone, now),
            Deed::Note(note) => {
                if let Note::TakenUp { app, .. } = &note {
                    self.statuses.forget(app);
                }
                write_down(&note);
            }
        }
    }

    fn tell(&mut self, milestone: &Milestone, now: Now) {
        self.diary.tell(milestone, now);
        let Milestone { app, version, text, .. } = milestone;
        let happened = milestone.kind.name().replace('_', " ");
        if milestone.kind == MilestoneKind::Stopped {
            warn!(%app, version, "{happened}: {text}");
        } else {
            info!(%app, version, "{happened}: {text}");
        }
        self.publish(Kind::Bus(BusTopic::Event), status::event(milestone, now));
    }

    /// Says the last words.
    async fn leave(mut self) {
        let (topic, payload) = watchers::presence(self.desk.fleet().trust().fleet(), false);
        self.wire.leave(topic, payload).await;
    }

    fn publish(&self, kind: Kind, payload: Vec<u8>) {
        self.wire.publish(kind.of(self.desk.fleet().trust().fleet()), payload);
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now::new(since_boot().saturating_sub(self.started), UnixTime(wall.as_secs()))
    }
}

fn write_down(note: &Note) {
    match note {
        Note::Keys(version) => info!(version, "controller follows a change of the fleet's keys"),
        Note::NotBelieved(app, text) => warn!(%app, error = text, "rollout is not believed"),
        Note::Forsaken(app) => {
            warn!(%app, "none of the controllers is there that the rollout was given to: `publisher rollout status {app}` says what to do");
        }
        Note::Twin(key) => {
            warn!(%key, "another process has this controller's key: stop one of them, and give it a data folder of its own");
        }
        Note::TakenUp { state, .. } if state.is_over() => {}
        Note::TakenUp { app, version, state } => {
            info!(%app, version, state = state.name(), "rollout taken up");
        }
    }
}

/// Over at once when there is nothing to wait for, however much is heard meanwhile.
async fn pause(wait: Duration) {
    if !wait.is_zero() {
        sleep(wait).await;
    }
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

/// Any number; where the system has none, the same one each time does.
fn random() -> u64 {
    getrandom::u64().unwrap_or_default()
}

/// Program and version, as they are said of themselves.
fn program() -> String {
    format!("broker {}", env!("CARGO_PKG_VERSION"))
}
