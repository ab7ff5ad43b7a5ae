//! The releases that exist in every history, and the signed orders for them. Signing is slow, so it is done once.

use std::collections::{BTreeMap, HashMap};

use schemas::{
    announcement::{Announced, Announcement},
    id::{Counter, Digest, GroupId, Revision},
    order::{Audience, Order, OrderState, Policy},
    release::{Check, Hook, Part, PartKind, Probe, Proof, Provenance, Release, Run, Trial},
    root::{Role, RoleKeys, Root, Trust},
    seal::{Head, SecretKey, Signed},
    time::UnixTime,
};

use super::apps::{Behaviour, Behaviours};

/// The wall clock when a history begins.
pub(crate) const WALL: UnixTime = UnixTime(1_800_000_000);
/// The groups of the node.
pub(crate) const GROUPS: [&str; 2] = ["all", "canary"];
/// The release that ends a history well.
pub(crate) const BEST: usize = RELEASES.len() - 1;
/// How many releases there are.
pub(crate) const COUNT: u64 = RELEASES.len() as u64;
/// Those that are good, one of them with the files of another, one of them a security release.
pub(crate) const GOOD: [usize; 6] = [0, 1, 3, 6, 8, BEST];

/// A release as it is listed here; its counter is its place, from 1.
struct Listed {
    behaviour: Behaviour,
    tree: u8,
    floor: u64,
    checked: bool,
    pre_check: bool,
    platform: &'static str,
}

const PLAIN: Listed = Listed {
    behaviour: Behaviour::Good,
    tree: 0,
    floor: 0,
    checked: true,
    pre_check: false,
    platform: "any",
};

const RELEASES: [Listed; 17] = [
    Listed { tree: 1, ..PLAIN },
    Listed { tree: 2, ..PLAIN },
    Listed { tree: 3, behaviour: Behaviour::Exits { after_ms: 700 }, ..PLAIN },
    Listed { tree: 4, checked: false, ..PLAIN },
    Listed { tree: 5, behaviour: Behaviour::Sick, ..PLAIN },
    Listed { tree: 6, behaviour: Behaviour::Stale, ..PLAIN },
    Listed { tree: 7, floor: 4, ..PLAIN },
    Listed { tree: 8, behaviour: Behaviour::Flaps, ..PLAIN },
    // The same files as tree 7, run with other settings.
    Listed { tree: 7, pre_check: true, ..PLAIN },
    Listed { tree: 10, behaviour: Behaviour::CutsOff, ..PLAIN },
    Listed { tree: 11, behaviour: Behaviour::Mute, ..PLAIN },
    Listed { tree: 12, behaviour: Behaviour::WontStart, checked: false, ..PLAIN },
    Listed { tree: 13, platform: "linux/riscv64", ..PLAIN },
    Listed { tree: 14, behaviour: Behaviour::Exits { after_ms: 40_000 }, ..PLAIN },
    Listed { tree: 15, behaviour: Behaviour::Silent, ..PLAIN },
    Listed { tree: 17, behaviour: Behaviour::Exits { after_ms: 2_000 }, checked: false, ..PLAIN },
    Listed { tree: 16, pre_check: true, ..PLAIN },
];

/// An order as histories say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct OrderKey {
    pub(crate) revision: u64,
    pub(crate) release: usize,
    pub(crate) group: usize,
    pub(crate) what: What,
    pub(crate) when: When,
    pub(crate) for_us: bool,
    pub(crate) urgent: bool,
    /// The first order of its series.
    pub(crate) continues: Option<u64>,
}

/// What is ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Run,
    Pause,
    Withdraw,
    Revert,
}

/// When it is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum When {
    Now,
    Later,
    Spread,
    TooLate,
}

/// Everything that is signed.
pub struct Catalog {
    key: SecretKey,
    trust: Trust,
    releases: Vec<Signed<Release>>,
    behaviours: HashMap<Digest, Behaviour>,
    orders: HashMap<OrderKey, Announced>,
}

impl Default for Catalog {
    fn default() -> Self {
        let key = SecretKey::from_seed(&[7; 32]);
        let seal = |(n, listed)| Signed::seal(&release(n, listed), std::slice::from_ref(&key));
        let releases: Vec<_> = RELEASES.iter().enumerate().map(seal).collect();
        let known =
            releases.iter().zip(&RELEASES).map(|(signed, listed)| (signed.digest(), listed.behaviour));
        Self { behaviours: known.collect(), trust: trust(&key), releases, key, orders: HashMap::new() }
    }
}

impl Behaviours for Catalog {
    fn behaviour(&self, release: &Digest) -> Behaviour {
        self.behaviours.get(release).copied().unwrap_or(Behaviour::Sick)
    }
}

impl Catalog {
    /// The digest of a release.
    pub(crate) fn digest(&self, release: usize) -> Digest {
        self.releases[release].digest()
    }

    /// The order as a node takes it.
    pub(crate) fn announced(&mut self, key: OrderKey) -> Announced {
        let Self { key: secret, trust, releases, orders, .. } = self;
        let made = orders.entry(key).or_insert_with(|| {
            let release = releases[key.release].clone();
            let order = order(key, release.digest());
            let (group, app) = (order.group.clone(), order.app.clone());
            let order = Signed::seal(&order, std::slice::from_ref(secret));
            Announcement { order, release, mandate: None }
                .verify(trust, &group, &app)
                .expect("the order was just signed")
        });
        made.clone()
    }
}

fn order(key: OrderKey, release: Digest) -> Order {
    let (not_before, expires) = match key.when {
        When::Later => (WALL.plus_secs(400), WALL.plus_secs(86_400)),
        When::TooLate => (UnixTime(0), WALL.minus_secs(1_000)),
        When::Now | When::Spread => (UnixTime(0), WALL.plus_secs(86_400)),
    };
    Order {
        head: head(),
        app: "web".parse().expect("is an app name"),
        group: group(key.group),
        revision: Revision(key.revision),
        release,
        audience: if key.for_us { Audience::All } else { Audience::Nodes(Vec::new()) },
        state: match key.what {
            What::Run => OrderState::Active,
            What::Pause => OrderState::Paused,
            What::Withdraw => OrderState::Withdrawn { revert: false },
            What::Revert => OrderState::Withdrawn { revert: true },
        },
        policy: Policy { jitter_ms: if key.when == When::Spread { 90_000 } else { 0 }, urgent: key.urgent },
        not_before,
        expires,
        continues: key.continues.map(Revision),
    }
}

fn release(place: usize, listed: &Listed) -> Release {
    let probe = Probe::Tcp { address: "127.0.0.1:80".into() };
    let check = Check { probe, interval_ms: 500, timeout_ms: 500, healthy_after: 1, unhealthy_after: 1 };
    let counter = place as u64 + 1;
    let part = Part {
        platform: listed.platform.into(),
        kind: PartKind::Tree,
        tree_hash: Digest([listed.tree; 32]),
        size_bytes: 1,
        manifest_bytes: 1,
        run: Run::None,
        container: None,
        one_way: false,
        env: BTreeMap::new(),
        pre_check: listed.pre_check.then(|| Hook { command: vec!["true".into()], timeout_ms: 1_000 }),
        checks: if listed.checked { vec![check] } else { Vec::new() },
        proof: Proof::None,
        trial: Trial { min_healthy_ms: 5_000, deadline_ms: 30_000, tries: 2 },
        joint: None,
    };
    Release {
        head: head(),
        app: "web".parse().expect("is an app name"),
        version: format!("{counter}.0"),
        counter: Counter(counter),
        min_counter: Counter(listed.floor),
        parts: vec![part],
        provenance: Provenance::default(),
        notes: String::new(),
    }
}

/// A root in which `key` has every role.
pub(in crate::simulator) fn trust(key: &SecretKey) -> Trust {
    let of = |role| (role, RoleKeys { keys: vec![key.public().id()], threshold: 1 });
    let root = Root {
        head: head(),
        version: 1,
        keys: vec![key.public()],
        roles: Role::ALL.into_iter().map(of).collect(),
        reset: Vec::new(),
        expires: WALL.plus_secs(86_400 * 365),
    };
    Trust::first(&Signed::seal(&root, std::slice::from_ref(key))).expect("the root was just signed")
}

fn head() -> Head {
    Head::new("home".parse().expect("is a fleet name"), WALL)
}

fn group(index: usize) -> GroupId {
    GROUPS[index].parse().expect("is a group name")
}
