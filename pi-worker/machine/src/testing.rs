//! A node that carries effects out in memory, for the tests of this crate: everything succeeds unless a test says so.

use std::collections::VecDeque;

use schemas::{
    announcement::{Announced, Announcement},
    id::{Counter, Digest, GroupId, Revision},
    order::{Audience, Order, OrderState, Policy},
    reason::Reason,
    release::{Check, Hook, Part, PartKind, Probe, Proof, Provenance, Release, Run, Trial},
    report::{Outcome, Verdict},
    root::{Role, RoleKeys, Root, Trust},
    seal::{Head, SecretKey, Signed},
    time::UnixTime,
};

use crate::{Bus, Effect, Fault, Health, Input, Machine, Now, Saved, Setup, Slot, Yield};

/// The wall clock when a test begins.
pub(crate) const WALL: UnixTime = UnixTime(1_800_000_000);

/// A release as tests say it.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) release: Release,
    pub(crate) order: Order,
}

/// A node with one app.
pub(crate) struct Node {
    pub(crate) machine: Machine,
    pub(crate) now: Now,
    /// The journal on the disk.
    pub(crate) disk: Option<Saved>,
    /// What `current` points to.
    pub(crate) link: Option<Slot>,
    /// What was carried out, and not looked at yet.
    pub(crate) done: Vec<Effect>,
    /// The effect that waits for its answer, when a test holds it back.
    pub(crate) held: Option<Effect>,
    watched: Digest,
    hold: Option<&'static str>,
    faults: VecDeque<(&'static str, Fault)>,
}

/// Release `counter` with tree `counter`, ordered for group `all` with `revision`.
pub(crate) fn order(revision: u64, counter: u64) -> Draft {
    let part = Part {
        platform: "any".into(),
        kind: PartKind::Tree,
        tree_hash: tree(counter),
        size_bytes: 1,
        manifest_bytes: 1,
        run: Run::None,
        container: None,
        one_way: false,
        env: std::collections::BTreeMap::new(),
        pre_check: None,
        checks: vec![check()],
        proof: Proof::None,
        trial: Trial { min_healthy_ms: 5_000, deadline_ms: 60_000, tries: 3 },
        joint: None,
    };
    let release = Release {
        head: Head::new("home".parse().unwrap(), WALL),
        app: "web".parse().unwrap(),
        version: format!("{counter}.0"),
        counter: Counter(counter),
        min_counter: Counter(0),
        parts: vec![part],
        provenance: Provenance::default(),
        notes: "notes".into(),
    };
    let order = Order {
        head: Head::new("home".parse().unwrap(), WALL),
        app: "web".parse().unwrap(),
        group: group("all"),
        revision: Revision(revision),
        release: Digest([0; 32]),
        audience: Audience::All,
        state: OrderState::Active,
        policy: Policy::default(),
        not_before: UnixTime(0),
        expires: WALL.plus_secs(86_400),
        continues: None,
    };
    Draft { release, order }
}

impl Draft {
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Order)) -> Self {
        change(&mut self.order);
        self
    }

    pub(crate) fn part(mut self, change: impl FnOnce(&mut Part)) -> Self {
        change(&mut self.release.parts[0]);
        self
    }

    pub(crate) fn group(self, name: &str) -> Self {
        self.with(|order| order.group = group(name))
    }

    pub(crate) fn state(self, state: OrderState) -> Self {
        self.with(|order| order.state = state)
    }

    pub(crate) fn announced(mut self) -> Announced {
        let key = SecretKey::from_seed(&[7; 32]);
        let release = Signed::seal(&self.release, std::slice::from_ref(&key));
        self.order.release = release.digest();
        let (group, app) = (self.order.group.clone(), self.order.app.clone());
        let order = Signed::seal(&self.order, std::slice::from_ref(&key));
        Announcement { order, release, mandate: None }.verify(&trust(&key), &group, &app).unwrap()
    }
}

impl Node {
    /// A node that knows nothing, with the bus there.
    pub(crate) fn new() -> Self {
        Self::with(None, None)
    }

    pub(crate) fn with(disk: Option<Saved>, link: Option<Slot>) -> Self {
        let now = Now { mono_ms: 1_000, wall: WALL };
        let machine = Machine::start(setup("boot-1"), disk.clone(), link.clone(), now);
        let (done, faults) = (Vec::new(), VecDeque::new());
        let mut node =
            Self { machine, now, disk, link, done, held: None, watched: tree(0), hold: None, faults };
        node.input(Input::Bus(Bus::Connected));
        node
    }

    /// A node on which release `counter` was kept through revision `counter`.
    pub(crate) fn running(counter: u64) -> Self {
        let mut node = Self::new();
        node.install(order(counter, counter));
        node.done.clear();
        node
    }

    /// Announces, and goes through a trial that ends well.
    pub(crate) fn install(&mut self, draft: Draft) {
        self.announce(draft);
        self.healthy();
        self.wait(6_000);
        assert_eq!(self.last().verdict, Verdict::Kept, "{:?}", self.last());
    }

    pub(crate) fn announce(&mut self, draft: Draft) {
        self.input(Input::Announced(Box::new(draft.announced())));
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.machine.handle(input, self.now);
        self.run();
    }

    /// What is asked says that it is healthy.
    pub(crate) fn healthy(&mut self) {
        self.health(true, "");
    }

    pub(crate) fn health(&mut self, ok: bool, text: &str) {
        let tree = self.watched;
        let log_tail = if ok { Vec::new() } else { vec!["a log line".into()] };
        self.input(Input::Health(Health { tree, ok, text: text.into(), log_tail }));
    }

    /// The app ends by itself.
    pub(crate) fn exit(&mut self) {
        self.input(Input::Exited(fault(Reason::Exited, false)));
    }

    /// The next effect of this name ends badly.
    pub(crate) fn fault(&mut self, effect: &'static str, fault: Fault) {
        self.faults.push_back((effect, fault));
    }

    /// The next effect of this name is not answered before `release`.
    pub(crate) fn hold(&mut self, effect: &'static str) {
        self.hold = Some(effect);
    }

    /// Answers the effect that is held back.
    pub(crate) fn release(&mut self, result: Result<Yield, Fault>) {
        let effect = self.held.take().expect("an effect is held back");
        self.answer(effect, result);
        self.run();
    }

    /// The effect that is held back is carried out.
    pub(crate) fn release_stored(&mut self) {
        self.release(Ok(Yield::default()));
    }

    /// Lets time pass; the machine is called when it wants to be.
    pub(crate) fn wait(&mut self, ms: u64) {
        let end_ms = self.now.mono_ms + ms;
        while let Some(at_ms) = self.machine.poll_timeout().filter(|at_ms| *at_ms <= end_ms) {
            self.to(at_ms.max(self.now.mono_ms));
            self.machine.handle_timeout(self.now);
            self.run();
            let next_ms = self.machine.poll_timeout();
            assert!(next_ms.is_none_or(|ms| ms > self.now.mono_ms), "would spin: {:?}", self.machine);
        }
        self.to(end_ms);
    }

    /// The power fails and comes back; the bus too.
    pub(crate) fn power_cut(&mut self) {
        self.restart("boot-2");
    }

    pub(crate) fn restart(&mut self, boot: &str) {
        self.machine = Machine::start(setup(boot), self.disk.clone(), self.link.clone(), self.now);
        (self.held, self.hold) = (None, None);
        self.input(Input::Bus(Bus::Connected));
    }

    /// Names of what was carried out since the last look.
    pub(crate) fn names(&mut self) -> Vec<&'static str> {
        self.done.drain(..).map(|effect| name(&effect)).collect()
    }

    /// The newest outcome.
    pub(crate) fn last(&self) -> Outcome {
        self.machine.report().outcomes.last().expect("there is an outcome").clone()
    }

    pub(crate) fn verdict(&self) -> (u64, Verdict, Option<Reason>) {
        let Outcome { revision, verdict, reason, .. } = self.last();
        (revision.0, verdict, reason)
    }

    /// The committed version, or nothing.
    pub(crate) fn version(&self) -> String {
        self.machine.report().installed.map(|installed| installed.version).unwrap_or_default()
    }

    pub(crate) fn state(&self) -> &'static str {
        self.machine.state.name()
    }

    fn to(&mut self, mono_ms: u64) {
        let wall_ms = self.now.wall.0 * 1_000 + self.now.mono_ms % 1_000 + (mono_ms - self.now.mono_ms);
        self.now = Now { mono_ms, wall: UnixTime(wall_ms / 1_000) };
    }

    fn run(&mut self) {
        while let Some(effect) = self.machine.poll_effect() {
            self.done.push(effect.clone());
            if let Effect::Watch(slot) = &effect {
                self.watched = slot.tree();
            }
            if !effect.is_answered() {
                continue;
            }
            assert!(self.held.is_none(), "two effects in flight: {:?} and {effect:?}", self.held);
            if self.hold == Some(name(&effect)) {
                (self.hold, self.held) = (None, Some(effect));
                continue;
            }
            let faulty = self.faults.front().is_some_and(|(wanted, _)| *wanted == name(&effect));
            let result = match faulty.then(|| self.faults.pop_front()).flatten() {
                Some((_, fault)) => Err(fault),
                None => Ok(Yield { fetched_bytes: 10, requests: 1, built: None }),
            };
            self.answer(effect, result);
        }
    }

    fn answer(&mut self, effect: Effect, result: Result<Yield, Fault>) {
        if result.is_ok() {
            match effect {
                Effect::Persist(saved) => self.disk = Some(*saved),
                Effect::Switch(slot) => self.link = slot.map(|slot| *slot),
                _ => {}
            }
        }
        self.machine.handle(Input::Done(result), self.now);
    }
}

pub(crate) fn setup(boot: &str) -> Setup {
    Setup {
        node: "pi-1".parse().unwrap(),
        app: "web".parse().unwrap(),
        platform: "linux/aarch64".into(),
        kinds: vec![PartKind::Tree, PartKind::MicroPython],
        boot: boot.into(),
    }
}

pub(crate) fn fault(reason: Reason, transient: bool) -> Fault {
    Fault { reason, text: format!("text of {reason}"), log_tail: vec!["a log line".into()], transient }
}

pub(crate) fn group(name: &str) -> GroupId {
    name.parse().unwrap()
}

pub(crate) fn tree(counter: u64) -> Digest {
    Digest::of(&counter.to_be_bytes())
}

pub(crate) fn hook() -> Hook {
    Hook { command: vec!["true".into()], timeout_ms: 1_000 }
}

pub(crate) fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Persist(_) => "persist",
        Effect::Fetch(_) => "fetch",
        Effect::Stage(_) => "stage",
        Effect::PreCheck(_) => "pre_check",
        Effect::Stop(_) => "stop",
        Effect::Switch(_) => "switch",
        Effect::Start(_) => "start",
        Effect::Prove(_) => "prove",
        Effect::Prune { .. } => "prune",
        Effect::Watch(_) => "watch",
        Effect::Cancel => "cancel",
        Effect::Tell { .. } => "tell",
        Effect::Refuse(_) => "refuse",
    }
}

fn check() -> Check {
    let probe = Probe::Tcp { address: "127.0.0.1:1".into() };
    Check { probe, interval_ms: 1_000, timeout_ms: 1_000, healthy_after: 1, unhealthy_after: 1 }
}

fn trust(key: &SecretKey) -> Trust {
    let of = |role| (role, RoleKeys { keys: vec![key.public().id()], threshold: 1 });
    let root = Root {
        head: Head::new("home".parse().unwrap(), WALL),
        version: 1,
        keys: vec![key.public()],
        roles: Role::ALL.into_iter().map(of).collect(),
        reset: Vec::new(),
        expires: WALL.plus_secs(86_400 * 365),
    };
    Trust::first(&Signed::seal(&root, std::slice::from_ref(key))).unwrap()
}
