//! A device of a simulated fleet: real machines, one for each app, and what the agent does around them.

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use machine::{Effect, Fault, Yield};
use schemas::{
    hold::HoldCode,
    id::{AppId, Digest, GroupId, NodeId},
    reason::Reason,
    report::{AppReport, MAX_REFUSALS, Refusal},
    seal::SecretKey,
};

use super::office::{Membership, key_of};
use crate::simulator::{
    apps::{Behaviour, Behaviours},
    effects::fault,
    node::{Flight, Node},
};

/// How releases behave that somebody said something about; all others are good.
pub(crate) type Breaks = BTreeMap<(Option<NodeId>, Digest), Behaviour>;

/// A device and all that is on it.
pub(crate) struct Device {
    pub(crate) name: NodeId,
    pub(crate) platform: String,
    /// What ops says about it.
    pub(crate) record: Membership,
    /// Its record as it heard it last.
    pub(crate) heard: Option<Rc<[u8]>>,
    pub(crate) known_seq: u64,
    pub(crate) key: SecretKey,
    /// The groups whose orders it reads: what it knows of its record.
    pub(crate) groups: Vec<GroupId>,
    pub(crate) apps: BTreeMap<AppId, Node>,
    pub(crate) link: Link,
    /// What runs there is in the way of the network.
    pub(crate) cut_off: bool,
    /// Reports: of which boot, the last number, and when the next one is due.
    pub(crate) boot: u64,
    pub(crate) seq: u64,
    pub(crate) due_ms: Option<u64>,
    pub(crate) said: Option<(Vec<AppReport>, Vec<Refusal>)>,
    pub(crate) refusals: Vec<Refusal>,
    /// The last report, until the broker has it.
    pub(crate) unsent: Option<Rc<[u8]>>,
    pub(crate) trouble: Trouble,
    /// When fetches that take long are to say how far they are.
    pub(crate) progress_ms: Option<u64>,
    /// What happens next here by itself.
    pub(crate) wake: Option<(u64, Next)>,
}

/// How a device hangs on the bus.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Link {
    /// There is power.
    pub(crate) powered: bool,
    /// There is a network.
    pub(crate) wired: bool,
    /// The session is there, as the device sees it; and which one it is.
    pub(crate) session: bool,
    pub(crate) number: u64,
}

/// What does not work on a device.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble {
    pub(crate) store_down: bool,
    pub(crate) disk_full: bool,
    /// Its lock file is there.
    pub(crate) locked: bool,
    /// A fetch takes so long.
    pub(crate) slow_ms: Option<u64>,
    /// The power is cut when the next effect of this name has ended.
    pub(crate) cut_after: Option<String>,
}

/// The apps of one device, as they behave.
pub(crate) struct Habits<'a> {
    pub(crate) breaks: &'a Breaks,
    pub(crate) node: &'a NodeId,
}

impl Behaviours for Habits<'_> {
    fn behaviour(&self, release: &Digest) -> Behaviour {
        let here = self.breaks.get(&(Some(self.node.clone()), *release));
        here.or_else(|| self.breaks.get(&(None, *release))).copied().unwrap_or(Behaviour::Good)
    }
}

impl Trouble {
    /// What holds the device back from beginning.
    pub(crate) fn holds(&self) -> Vec<HoldCode> {
        if self.locked { vec![HoldCode::Lock] } else { Vec::new() }
    }

    /// How an effect that begins now ends on this device.
    pub(crate) fn hinder(&self, flight: &mut Flight, now_ms: u64, missing: &BTreeSet<Digest>) {
        let failed = match &flight.effect {
            Effect::Fetch(slot) if missing.contains(&slot.release) => {
                Some(fault(Reason::ObjectMissing, false))
            }
            Effect::Fetch(_) if self.store_down => Some(fault(Reason::StoreUnreachable, true)),
            Effect::Stage(_) if self.disk_full => Some(fault(Reason::DiskFull, false)),
            _ => None,
        };
        match failed {
            Some(fault) => (flight.result, flight.writes) = (Err(fault), false),
            None => {
                if let (Effect::Fetch(_), Some(slow_ms)) = (&flight.effect, self.slow_ms) {
                    flight.ends_ms = now_ms + slow_ms;
                }
            }
        }
    }
}

impl Device {
    pub(crate) fn new(name: NodeId, groups: Vec<GroupId>) -> Self {
        let record = Membership { seq: 1, groups: groups.clone(), labels: BTreeMap::new(), is_active: true };
        Self {
            key: key_of(name.as_str()),
            heard: None,
            known_seq: 0,
            name,
            platform: "linux/aarch64".to_owned(),
            record,
            groups,
            apps: BTreeMap::new(),
            link: Link { powered: true, wired: true, session: false, number: 0 },
            cut_off: false,
            boot: 1,
            seq: 0,
            due_ms: None,
            said: None,
            unsent: None,
            trouble: Trouble::default(),
            progress_ms: None,
            wake: None,
            refusals: Vec::new(),
        }
    }

    /// What the node would report.
    pub(crate) fn reports(&self) -> Vec<AppReport> {
        self.apps.values().map(|node| node.machine.report()).collect()
    }

    /// Notes a message that was refused: reports carry the last few.
    pub(crate) fn refuse(&mut self, refusal: Refusal) {
        self.refusals.retain(|known| known.topic != refusal.topic || known.reason != refusal.reason);
        self.refusals.push(refusal);
        let excess = self.refusals.len().saturating_sub(MAX_REFUSALS);
        self.refusals.drain(..excess);
    }

    /// When anything happens here by itself, and in which app.
    pub(crate) fn next_ms(&self, now_ms: u64) -> Option<(u64, Next)> {
        if !self.link.powered {
            return None;
        }
        let of_app = |(app, node): (&AppId, &Node)| {
            [
                (node.flight.as_ref().map(|flight| flight.ends_ms), Next::Effect(app.clone())),
                (node.health_ms(now_ms), Next::Health(app.clone())),
                (node.exit_ms(), Next::Exit(app.clone())),
                (node.timeout_ms(), Next::Timeout(app.clone())),
            ]
        };
        let own = [(self.due_ms, Next::Report), (self.progress_ms, Next::Progress)];
        let all = self.apps.iter().flat_map(of_app).chain(own);
        all.filter_map(|(at_ms, next)| Some((at_ms?, next))).min()
    }
}

/// What happens next on a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Next {
    Effect(AppId),
    Health(AppId),
    Exit(AppId),
    Timeout(AppId),
    Progress,
    Report,
}

/// The name of an effect in stories: what the power may be cut after.
pub(crate) fn step_name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Persist(_) => "persist",
        Effect::Fetch(_) => "fetch",
        Effect::Stage(_) => "stage",
        Effect::PreCheck(_) => "pre-check",
        Effect::Stop(_) => "stop",
        Effect::Switch(_) => "switch",
        Effect::Start(_) => "start",
        Effect::Prove(_) => "prove",
        Effect::Prune { .. } => "prune",
        _ => "",
    }
}

/// How an effect ends that was cancelled.
pub(crate) fn cancelled() -> Result<Yield, Fault> {
    Err(fault(Reason::Unknown, true))
}
