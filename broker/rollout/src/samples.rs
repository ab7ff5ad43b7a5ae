//! A small fleet for tests, of this crate and of those that show or use a [`Fleet`]: nodes whose keys follow from their
//! names. Pure as well: the fleet's keys follow from a name too.

#![expect(
    clippy::missing_panics_doc,
    clippy::new_without_default,
    reason = "for tests alone, which stop at the first surprise"
)]

use std::{collections::BTreeMap, time::Duration};

use schemas::{
    announcement::Announcement,
    id::{AppId, Counter, Digest, NodeId, PublicKey, Revision, Seq},
    mandate::{Mandate, REVISIONS},
    order::{Audience, Order, OrderState, Policy},
    record::{Record, RecordStatus},
    release::{Part, PartKind, Proof, Provenance, Release, Run, Trial},
    report::{AppReport, Installed, Outcome, Report, Target, Verdict},
    rollout::{Planned, Rollout, Wish},
    root::{Role, RoleKeys, Root, RootChain, Trust},
    seal::{Head, SecretKey, Signed},
    status::Phase,
    time::UnixTime,
    topic::{Kind, NodeTopic, Topic},
};

use crate::{Deed, Desk, Event, Fleet, Pace, course::Now, plan::Plan};

/// When everything in a sample happens.
pub const NOW: UnixTime = UnixTime(1_795_240_000);

/// The time so many seconds after [`NOW`], in a process that was started then.
pub fn at(secs: u64) -> Now {
    Now::new(Duration::from_secs(secs), NOW.plus_secs(secs))
}

/// The keys of a fleet and what they signed.
#[derive(Debug, Clone)]
pub struct Sample {
    /// What the fleet's root says.
    pub trust: Trust,
    release_key: SecretKey,
    ops_key: SecretKey,
}

impl Sample {
    /// The fleet `deploybus`.
    pub fn new() -> Self {
        Self::of("deploybus")
    }

    /// A fleet called `deploybus` with keys of its own, which follow from `owner`.
    pub fn of(owner: &str) -> Self {
        let keys = keys_of(owner);
        let trust = Trust::first(&root(1, &keys)).expect("the root was made here");
        Self::signed_by(trust, keys[&Role::Release].clone(), keys[&Role::Ops].clone())
    }

    /// The fleet that `trust` names, with the keys that it trusts.
    pub fn signed_by(trust: Trust, release_key: SecretKey, ops_key: SecretKey) -> Self {
        Self { trust, release_key, ops_key }
    }

    fn head(&self) -> Head {
        Head::new(self.trust.fleet().clone(), NOW)
    }

    /// What is known before anything was heard.
    pub fn empty_fleet(&self) -> Fleet {
        Fleet::new(self.trust.clone())
    }

    /// A topic of a node.
    pub fn topic(&self, node: &str, topic: NodeTopic) -> Topic {
        Kind::Node(node.parse().expect("samples use valid names"), topic).of(self.trust.fleet())
    }

    /// The signed record of a node in `groups`.
    pub fn record(&self, node: &str, groups: &[&str]) -> Vec<u8> {
        let record = Record {
            head: self.head(),
            node: node.parse().expect("samples use valid names"),
            seq: Seq(1),
            key: node_key(node).public(),
            groups: groups.iter().map(|group| group.parse().expect("samples use valid names")).collect(),
            labels: [].into(),
            status: RecordStatus::Active,
            login: None,
            env: BTreeMap::new(),
        };
        Signed::seal(&record, std::slice::from_ref(&self.ops_key)).to_bytes()
    }

    /// The signed record of a node that was retired.
    pub fn revoked(&self, node: &str) -> Vec<u8> {
        let record = Record {
            head: self.head(),
            node: node.parse().expect("samples use valid names"),
            seq: Seq(2),
            key: node_key(node).public(),
            groups: [].into(),
            labels: [].into(),
            status: RecordStatus::Revoked,
            login: None,
            env: BTreeMap::new(),
        };
        Signed::seal(&record, std::slice::from_ref(&self.ops_key)).to_bytes()
    }

    /// The signed report of a node.
    pub fn report(&self, node: &str, seq: u64, apps: Vec<AppReport>) -> Vec<u8> {
        let report = Report {
            head: self.head(),
            node: node.parse().expect("samples use valid names"),
            boot: 1,
            seq: Seq(seq),
            root_version: 1,
            clock_unset: false,
            apps,
            refusals: Vec::new(),
        };
        Signed::seal(&report, &[node_key(node)]).to_bytes()
    }

    /// A fleet in which these nodes are members of `canary`, online, and say this of `web`.
    pub fn fleet(&self, nodes: &[(&str, Option<AppReport>)]) -> Fleet {
        let mut fleet = self.empty_fleet();
        for (name, app) in nodes {
            fleet.take(&self.topic(name, NodeTopic::Record), &self.record(name, &["all", "canary"]));
            fleet.take(&self.topic(name, NodeTopic::Availability), b"online");
            self.says(&mut fleet, name, 1, app.clone());
        }
        fleet
    }

    /// Lets `fleet` hear a report with what the node says of `web`.
    pub fn says(&self, fleet: &mut Fleet, node: &str, seq: u64, app: Option<AppReport>) {
        let report = self.report(node, seq, app.into_iter().collect());
        fleet.take(&self.topic(node, NodeTopic::Report), &report);
    }

    /// A signed announcement of `web` to `canary`.
    pub fn announcement(&self, revision: u64, counter: u64, version: &str) -> Announcement {
        let release = Signed::seal(&self.release(counter, version), std::slice::from_ref(&self.release_key));
        let order = self.order(revision, release.digest());
        Announcement {
            order: Signed::seal(&order, std::slice::from_ref(&self.ops_key)),
            release,
            mandate: None,
        }
    }

    /// An order of `release` for `canary`.
    pub fn order(&self, revision: u64, release: Digest) -> Order {
        Order {
            head: self.head(),
            app: "web".parse().expect("samples use valid names"),
            group: "canary".parse().expect("samples use valid names"),
            revision: Revision(revision),
            release,
            audience: Audience::All,
            state: OrderState::Active,
            policy: Policy::default(),
            not_before: UnixTime(0),
            expires: NOW.plus_secs(3_600),
            continues: None,
        }
    }

    /// A rollout of version 1.1.0 of `web` with these wishes; its controller has the key [`controller_key`].
    pub fn planned(&self, plan: &str, seq: u64, change: impl FnOnce(&mut Rollout)) -> Planned {
        self.planned_from(100, plan, seq, change)
    }

    /// The same with another first revision.
    pub fn planned_from(
        &self,
        first: u64,
        plan: &str,
        seq: u64,
        change: impl FnOnce(&mut Rollout),
    ) -> Planned {
        let app = "web".parse().expect("samples use valid names");
        self.planned_of((&app, first), &[controller_key().public()], plan, seq, change)
    }

    /// The same of any app, for these controllers.
    pub fn planned_of(
        &self,
        (app, first): (&AppId, u64),
        controllers: &[PublicKey],
        plan: &str,
        seq: u64,
        change: impl FnOnce(&mut Rollout),
    ) -> Planned {
        let plan = format!("app = \"{app}\"\n{plan}");
        let release = Release { app: app.clone(), ..self.release(7, "1.1.0") };
        let release = Signed::seal(&release, std::slice::from_ref(&self.release_key));
        let groups = Plan::parse(&plan).map(|plan| plan.groups()).unwrap_or_default();
        let first = Revision(first);
        let mandate = Mandate {
            head: self.head(),
            app: app.clone(),
            groups: groups.into_iter().collect(),
            release: release.digest(),
            keys: controllers.to_vec(),
            first,
            last: Revision(first.0 + REVISIONS),
            expires: NOW.plus_secs(30 * 86_400),
        };
        let mut rollout = Rollout {
            head: self.head(),
            app: app.clone(),
            first,
            seq: Seq(seq),
            plan,
            wish: Wish::Run,
            approved: 0,
            acknowledged: Vec::new(),
            not_before: UnixTime(0),
        };
        change(&mut rollout);
        let ops = std::slice::from_ref(&self.ops_key);
        Planned { rollout: Signed::seal(&rollout, ops), mandate: Signed::seal(&mandate, ops), release }
    }

    /// A release of `web`.
    pub fn release(&self, counter: u64, version: &str) -> Release {
        let part = Part {
            platform: "any".into(),
            kind: PartKind::Tree,
            tree_hash: Digest::of(version.as_bytes()),
            size_bytes: 10,
            manifest_bytes: 10,
            run: Run::None,
            container: None,
            one_way: false,
            env: [].into(),
            pre_check: None,
            checks: Vec::new(),
            proof: Proof::None,
            trial: Trial::default(),
            joint: None,
        };
        Release {
            head: self.head(),
            app: "web".parse().expect("samples use valid names"),
            version: version.into(),
            counter: Counter(counter),
            min_counter: Counter(0),
            parts: vec![part],
            provenance: Provenance::default(),
            notes: String::new(),
        }
    }
}

fn keys_of(owner: &str) -> BTreeMap<Role, SecretKey> {
    let key = |role: Role| (role, node_key(&format!("{owner}/{}", role.name())));
    Role::ALL.into_iter().map(key).collect()
}

/// The root document of the fleet whose keys follow from `owner`, as it lies in a file.
pub fn root_of(owner: &str) -> Signed<Root> {
    root(1, &keys_of(owner))
}

fn root(version: u64, keys: &BTreeMap<Role, SecretKey>) -> Signed<Root> {
    let only = |key: &SecretKey| RoleKeys { keys: vec![key.public().id()], threshold: 1 };
    let root = Root {
        head: Head::new("deploybus".parse().expect("the name is valid"), NOW),
        version,
        keys: keys.values().map(SecretKey::public).collect(),
        roles: keys.iter().map(|(role, key)| (*role, only(key))).collect(),
        reset: Vec::new(),
        expires: NOW.plus_secs(365 * 86_400),
    };
    Signed::seal(&root, &[keys[&Role::Root].clone()])
}

/// The root documents of [`Sample::new`]: ops have another key by the second one.
pub fn chain_with_other_ops() -> RootChain {
    let mut keys = keys_of("deploybus");
    let first = root(1, &keys);
    keys.insert(Role::Ops, node_key("other ops"));
    RootChain::new(1, vec![first, root(2, &keys)])
}

/// The controller of `fleet`, which has no others beside it and has read the bus.
pub fn desk(fleet: Fleet) -> Desk {
    let mut desk = Desk::alone(fleet, controller_key(), Pace::LIVE);
    desk.handle(Event::Back, at(0));
    desk
}

/// Lets `desk` look, and hear what it publishes as a bus would tell it. Gives all that is to be done.
pub fn look(desk: &mut Desk, now: Now) -> Vec<Deed> {
    desk.handle_timeout(now);
    let deeds: Vec<Deed> = std::iter::from_fn(|| desk.poll_deed()).collect();
    for deed in &deeds {
        if let Deed::Publish(topic, payload) = deed {
            desk.handle(Event::Message(topic, payload), now);
        }
    }
    deeds
}

/// The secret key that belongs to a name.
pub fn node_key(node: &str) -> SecretKey {
    SecretKey::from_seed(&Digest::of(node.as_bytes()).0)
}

/// The secret key of the controller.
pub fn controller_key() -> SecretKey {
    node_key("controller")
}

/// A name of a node.
pub fn node(name: &str) -> NodeId {
    name.parse().expect("samples use valid names")
}

/// What an idle node says that runs nothing.
pub fn idle(revision: u64) -> AppReport {
    AppReport {
        app: "web".parse().expect("samples use valid names"),
        phase: Phase::Idle,
        revision: Revision(revision),
        installed: None,
        previous: None,
        target: None,
        healthy: None,
        outcomes: Vec::new(),
    }
}

/// What a node says that is on the way.
pub fn working(revision: u64, phase: Phase, permille: u16) -> AppReport {
    let target = Target {
        revision: Revision(revision),
        version: "1.1.0".into(),
        progress_permille: permille,
        attempt: 1,
        waits_for: String::new(),
        hold: None,
        until: None,
    };
    AppReport { phase, target: Some(target), ..idle(revision) }
}

/// How an order for version 1.1.0 ended.
pub fn outcome(revision: u64, verdict: Verdict) -> Outcome {
    Outcome {
        revision: Revision(revision),
        release: Digest::of(b"release"),
        version: "1.1.0".into(),
        verdict,
        reason: None,
        text: String::new(),
        log_tail: Vec::new(),
        took_ms: 812,
        fetched_bytes: 511,
        requests: 1,
        built: None,
        at: NOW,
    }
}

/// What a node says of `web` after `outcome`.
pub fn ended(outcome: Outcome) -> AppReport {
    let installed = (outcome.verdict == Verdict::Kept).then(|| installed(outcome.release, &outcome.version));
    let idle = idle(outcome.revision.0);
    AppReport { installed, healthy: Some(true), outcomes: vec![outcome], ..idle }
}

/// A slot with `version`.
pub fn installed(release: Digest, version: &str) -> Installed {
    Installed {
        release,
        version: version.into(),
        counter: Counter(1),
        commit: String::new(),
        tree_hash: Digest::of(version.as_bytes()),
        group: "canary".parse().expect("samples use valid names"),
        since: NOW,
    }
}
