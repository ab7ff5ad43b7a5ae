//! Who carries rollouts out, and writes into the deploy log what happens: it follows the bus, lets the pure [`rollout::course`] decide, and publishes what that wants.
//!
//! It has no key of the fleet. Its own key counts within the mandate of each rollout. It keeps nothing on the disk but that key:
//! what has become of a rollout is on the bus, signed, before the orders that rely on it; so it may die at any moment.

mod diary;
mod key;
mod settings;
mod status;
mod wire;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rollout::{
    Change, Deed, Fleet, Leases, Milestone, MilestoneKind, Wanted,
    course::{Changed, Conductor, Now},
};
use rustix::time::{ClockId, clock_gettime};
use schemas::{
    id::{AppId, FleetId, NodeId},
    root::{RootChain, Trust},
    seal::{SecretKey, Signed},
    time::UnixTime,
    topic::{BusTopic, Filter, Kind, NodeTopic, Topic},
};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

pub use self::settings::ControllerSettings;
use self::{diary::Diary, status::Statuses, wire::Heard};
pub(crate) use self::{
    key::KeyError,
    wire::{Wire, WireError},
};
use crate::{
    log::Log,
    nodes::{NodesError, read_root},
};

/// Time goes on also when nothing is heard.
const TICK: Duration = Duration::from_secs(1);
/// All nodes are looked at that often; else those of which something was heard.
const LOOK_AT_ALL: Duration = Duration::from_secs(5);
/// What is heard in so long is looked at together: with 10,000 nodes, that spares most of the work.
const TOGETHER: Duration = Duration::from_millis(50);

/// What is known, and what is decided on it.
#[derive(Debug)]
pub(crate) struct Controller {
    wire: Wire,
    diary: Diary,
    /// Rollouts are carried out, not only looked at.
    conducts: bool,
    key: SecretKey,
    fleet: Fleet,
    leases: Leases,
    conductors: BTreeMap<AppId, Conductor>,
    /// The bus is away.
    is_cut_off: bool,
    /// Nodes of which something was heard since the last step.
    heard: BTreeSet<NodeId>,
    statuses: Statuses,
    /// By a clock that goes on while the machine is asleep.
    started: Duration,
    looked_at_all: Option<Instant>,
}

/// What has to be read on the bus of `fleet`, in the order in which what is retained is to be read.
pub(crate) fn filters(fleet: &FleetId) -> Vec<Filter> {
    let all_nodes = |topic| Filter::all_nodes(fleet, &topic);
    vec![
        Filter::from(&Kind::Trust.of(fleet)),
        all_nodes(NodeTopic::Record),
        all_nodes(NodeTopic::Availability),
        all_nodes(NodeTopic::Report),
        Filter::plans(fleet),
        Filter::courses(fleet),
        Filter::all_releases(fleet),
        Filter::controllers(fleet),
    ]
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
        wire: Wire,
        log: Log,
    ) -> Result<Self, NodesError> {
        let trust = read_root(root, Trust::first)?;
        Ok(Self {
            leases: Leases::new(trust.fleet().clone(), key.public(), program()),
            wire,
            diary: Diary::new(log),
            conducts,
            key,
            fleet: Fleet::new(trust),
            conductors: BTreeMap::new(),
            is_cut_off: false,
            heard: BTreeSet::new(),
            statuses: Statuses::default(),
            started: since_boot(),
            looked_at_all: None,
        })
    }

    /// Carries rollouts out until the bus is gone.
    pub(crate) async fn run(mut self) {
        for (topic, payload) in self.wire.retained().await {
            self.take(&topic, &payload);
        }
        info!(key = %self.key.public().id(), conducts = self.conducts, "controller reads the bus");
        let mut wake = Instant::now();
        loop {
            tokio::select! {
                heard = self.wire.next() => match heard {
                    Heard::Message { topic, payload, retained } => {
                        if !retained && let Kind::Node(node, NodeTopic::Availability) = &topic.kind {
                            // Whether it comes or goes, it was there until now.
                            self.diary.saw(node, self.now().wall);
                        }
                        if self.take(&topic, &payload) {
                            wake = wake.min(Instant::now() + TOGETHER);
                        }
                    }
                    Heard::News => {}
                    Heard::Lost => {
                        // What is not heard of nodes is no silence of theirs; and nothing may be decided on what is old.
                        self.conductors.clear();
                        self.is_cut_off = true;
                    }
                    Heard::Back => {
                        for (topic, payload) in self.wire.retained().await {
                            self.take(&topic, &payload);
                        }
                        self.is_cut_off = false;
                        wake = Instant::now();
                    }
                    Heard::Ended => return,
                },
                () = sleep_until(wake) => {
                    self.step();
                    wake = Instant::now() + TICK;
                }
            }
        }
    }

    /// Takes a message, and says whether something may follow from it.
    fn take(&mut self, topic: &Topic, payload: &[u8]) -> bool {
        if topic.kind == Kind::Trust {
            self.follow(payload);
            return true;
        }
        let change = self.fleet.take(topic, payload);
        if let Some(change) = &change {
            self.diary.observe(change);
        }
        match change {
            Some(Change::Record(node) | Change::Report(node) | Change::Availability(node)) => {
                self.heard.insert(node);
                true
            }
            Some(Change::Plan(app)) => {
                if let Some(text) = self.fleet.rollouts().plan_disbelief(&app) {
                    warn!(%app, error = text, "rollout is not believed");
                }
                true
            }
            Some(_) => true,
            None => false,
        }
    }

    /// The keys of the fleet have changed.
    fn follow(&mut self, payload: &[u8]) {
        let Ok(chain) = RootChain::from_bytes(payload) else { return };
        let mut trust = None;
        while let Ok(Some((next, _))) = trust.as_ref().unwrap_or(self.fleet.trust()).follow(&chain) {
            trust = Some(next);
        }
        if let Some(trust) = trust {
            info!(version = trust.version(), "controller follows a change of the fleet's keys");
            self.fleet.believe_by(trust);
            self.looked_at_all = None;
        }
    }

    fn step(&mut self) {
        let now = self.now();
        self.diary.catch_up(Some(&self.fleet), now.wall);
        if !self.conducts || self.is_cut_off {
            self.heard.clear();
            return;
        }
        let rollouts = self.fleet.rollouts();
        if let Some(controller) = self.leases.look(rollouts, now) {
            let signed = Signed::seal(&controller, std::slice::from_ref(&self.key));
            self.publish(Kind::Controller(controller.key.id()), signed.to_bytes());
        }
        if self.leases.has_twin(now) {
            warn!(key = %self.key.public().id(), "another process has this controller's key: stop one of them, and give it a data folder of its own");
        }
        for app in self.leases.forsaken(rollouts, now) {
            warn!(%app, "none of the controllers is there that the rollout was given to: `publisher rollout status {app}` says what to do");
        }
        self.follow_plans(now);
        self.take_up(now);
        let heard = std::mem::take(&mut self.heard);
        let is_due = self.looked_at_all.is_none_or(|at| at.elapsed() >= LOOK_AT_ALL);
        if is_due {
            self.looked_at_all = Some(Instant::now());
        }
        let changed = if is_due { Changed::All } else { Changed::Nodes(&heard) };
        for (app, mut conductor) in std::mem::take(&mut self.conductors) {
            let deeds = conductor.step(&self.fleet, changed, now, &self.key);
            self.carry_out(&conductor, deeds, now);
            self.conductors.insert(app, conductor);
        }
    }

    /// Notes what people want of rollouts that are carried out here; one whose place another takes, or that another controller
    /// carries out by now, is let go.
    fn follow_plans(&mut self, now: Now) {
        let mut left = Vec::new();
        let rollouts = self.fleet.rollouts();
        for (app, wanted) in rollouts.plans() {
            let Some(Wanted { planned, plans }) = wanted.believed() else { continue };
            let Some(conductor) = self.conductors.get_mut(app) else { continue };
            if conductor.first() == plans.rollout.first {
                conductor.renew(planned, plans);
            } else {
                left.extend(self.conductors.remove(app));
            }
        }
        let leases = &self.leases;
        self.conductors.retain(|app, of| {
            rollouts.plans().contains_key(app) && leases.term(app, of.first()) == Some(of.term())
        });
        for mut old in left {
            let deeds = old.supersede();
            self.carry_out(&old, deeds, now);
        }
    }

    /// Takes up what people want and this controller is to carry out.
    fn take_up(&mut self, now: Now) {
        let rollouts = self.fleet.rollouts();
        for (app, wanted) in rollouts.plans() {
            let Some(Wanted { planned, plans }) = wanted.believed() else { continue };
            let Some(term) = self.leases.term(app, plans.rollout.first) else { continue };
            if self.conductors.contains_key(app) {
                continue;
            }
            let conductor = match rollouts.course(app) {
                Some(course) => Conductor::resume(planned, plans.clone(), course, &self.fleet, term, now),
                None => Conductor::begin(planned, plans.clone(), &self.fleet, term, now),
            };
            if !conductor.state().is_over() {
                info!(%app, version = conductor.version(), state = conductor.state().name(), "rollout taken up");
            }
            self.statuses.forget(app);
            self.conductors.insert(app.clone(), conductor);
        }
    }

    fn carry_out(&mut self, conductor: &Conductor, deeds: Vec<Deed>, now: Now) {
        for deed in deeds {
            match deed {
                Deed::Publish(topic, payload) => self.wire.publish(topic, payload),
                Deed::Tell(milestone) => self.tell(&milestone, now),
                Deed::Note(_) => {}
            }
        }
        for (topic, payload) in self.statuses.news(conductor, now) {
            self.publish(topic, payload);
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

    fn publish(&self, kind: Kind, payload: Vec<u8>) {
        self.wire.publish(kind.of(self.fleet.trust().fleet()), payload);
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now::new(since_boot().saturating_sub(self.started), UnixTime(wall.as_secs()))
    }
}

fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::try_from(time).unwrap_or_default()
}

/// Program and version, as they are said of themselves.
fn program() -> String {
    format!("broker {}", env!("CARGO_PKG_VERSION"))
}
