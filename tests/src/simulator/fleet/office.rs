//! Who signs in a simulated fleet: release keys, ops, the nodes and the controller, and what they sign.

use std::collections::BTreeMap;

use schemas::{
    announcement::Announcement,
    id::{AppId, Counter, Digest, GroupId, NodeId, Revision, Seq},
    mandate::{Mandate, REVISIONS},
    order::{Audience, Order, OrderState, Policy},
    record::{Record, RecordStatus},
    release::{Check, Part, PartKind, Probe, Proof, Provenance, Release, Run, Trial},
    report::{AppReport, Refusal, Report},
    rollout::{Planned, Rollout, Wish},
    root::Trust,
    seal::{Head, SecretKey, Signed},
    time::UnixTime,
};

use crate::simulator::catalog::{WALL, trust};

/// So long a mandate lasts when nobody says otherwise: longer than any story.
pub(crate) const MANDATE_SECS: u64 = 30 * 86_400;

/// The keys of a fleet, and what was signed so far.
pub(crate) struct Office {
    pub(crate) trust: Trust,
    key: SecretKey,
    controller: SecretKey,
    /// The highest revision that was used or set aside.
    revision: Revision,
    releases: BTreeMap<(AppId, String), Made>,
    rollouts: BTreeMap<AppId, Ongoing>,
}

/// A release that was signed.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) signed: Signed<Release>,
    pub(crate) release: Release,
}

/// A rollout as people want it now.
#[derive(Clone)]
struct Ongoing {
    rollout: Rollout,
    mandate: Signed<Mandate>,
    release: Signed<Release>,
}

/// What is peculiar to a release.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    pub(crate) version: String,
    /// Releases below this counter are refused once it is kept.
    pub(crate) floor: u64,
    pub(crate) platform: String,
}

/// A rollout that is to begin.
pub(crate) struct Start<'a> {
    pub(crate) app: &'a AppId,
    pub(crate) version: &'a str,
    pub(crate) plan: String,
    pub(crate) groups: Vec<GroupId>,
    pub(crate) not_before: UnixTime,
    pub(crate) expires: UnixTime,
}

impl Office {
    pub(crate) fn open() -> Self {
        let key = SecretKey::from_seed(&[7; 32]);
        Self {
            trust: trust(&key),
            key,
            controller: key_of("controller"),
            revision: Revision(0),
            releases: BTreeMap::new(),
            rollouts: BTreeMap::new(),
        }
    }

    pub(crate) fn controller(&self) -> &SecretKey {
        &self.controller
    }

    /// Signs a release; its counter is one more than that of the one before.
    pub(crate) fn release(&mut self, app: &AppId, recipe: &Recipe) {
        let counter = self.releases.keys().filter(|(of, _)| of == app).count() as u64 + 1;
        let release = release(app, recipe, counter);
        let signed = Signed::seal(&release, std::slice::from_ref(&self.key));
        self.releases.insert((app.clone(), recipe.version.clone()), Made { signed, release });
    }

    pub(crate) fn made(&self, app: &AppId, version: &str) -> Option<&Made> {
        self.releases.get(&(app.clone(), version.to_owned()))
    }

    /// A person orders something.
    pub(crate) fn announce(
        &mut self,
        made: &Made,
        group: &GroupId,
        state: OrderState,
        at: UnixTime,
    ) -> Announcement {
        self.revision = self.revision.next(0);
        let order = Order {
            head: head(at),
            app: made.release.app.clone(),
            group: group.clone(),
            revision: self.revision,
            release: made.signed.digest(),
            audience: Audience::All,
            state,
            policy: Policy::default(),
            not_before: UnixTime(0),
            expires: at.plus_secs(MANDATE_SECS),
            continues: None,
        };
        Announcement {
            order: Signed::seal(&order, std::slice::from_ref(&self.key)),
            release: made.signed.clone(),
            mandate: None,
        }
    }

    /// A person begins a rollout.
    pub(crate) fn start(&mut self, start: Start<'_>, at: UnixTime) -> Option<Planned> {
        let made = self.made(start.app, start.version)?.clone();
        let first = self.revision.next(0);
        self.revision = Revision(first.0 + REVISIONS);
        let mandate = Mandate {
            head: head(at),
            app: start.app.clone(),
            groups: start.groups,
            release: made.signed.digest(),
            keys: vec![self.controller.public()],
            first,
            last: self.revision,
            expires: start.expires,
        };
        let rollout = Rollout {
            head: head(at),
            app: start.app.clone(),
            first,
            seq: Seq(1),
            plan: start.plan,
            wish: Wish::Run,
            approved: 0,
            acknowledged: Vec::new(),
            not_before: start.not_before,
        };
        let mandate = Signed::seal(&mandate, std::slice::from_ref(&self.key));
        let ongoing = Ongoing { rollout, mandate, release: made.signed };
        self.rollouts.insert(start.app.clone(), ongoing);
        self.planned(start.app)
    }

    /// A person wants something else of the rollout of `app`.
    pub(crate) fn wish(&mut self, app: &AppId, change: impl FnOnce(&mut Rollout)) -> Option<Planned> {
        let ongoing = self.rollouts.get_mut(app)?;
        change(&mut ongoing.rollout);
        ongoing.rollout.seq = ongoing.rollout.seq.next(0);
        self.planned(app)
    }

    fn planned(&self, app: &AppId) -> Option<Planned> {
        let Ongoing { rollout, mandate, release } = self.rollouts.get(app)?.clone();
        let rollout = Signed::seal(&rollout, std::slice::from_ref(&self.key));
        Some(Planned { rollout, mandate, release })
    }

    /// What ops says about a node.
    pub(crate) fn record(&self, record: &Membership, node: &NodeId) -> Vec<u8> {
        let record = Record {
            head: head(WALL),
            node: node.clone(),
            seq: Seq(record.seq),
            key: key_of(node.as_str()).public(),
            groups: record.groups.iter().cloned().collect(),
            labels: record.labels.clone(),
            status: if record.is_active { RecordStatus::Active } else { RecordStatus::Revoked },
            login: None,
            env: BTreeMap::new(),
        };
        Signed::seal(&record, std::slice::from_ref(&self.key)).to_bytes()
    }
}

/// Where a node belongs, as its record says it.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) seq: u64,
    pub(crate) groups: Vec<GroupId>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) is_active: bool,
}

/// What a node says of itself.
pub(crate) fn report(
    node: &NodeId,
    key: &SecretKey,
    (boot, seq): (u64, u64),
    apps: Vec<AppReport>,
    refusals: Vec<Refusal>,
    at: UnixTime,
) -> Vec<u8> {
    let report = Report {
        head: head(at),
        node: node.clone(),
        boot,
        seq: Seq(seq),
        root_version: 1,
        clock_unset: false,
        apps,
        refusals,
    };
    Signed::seal(&report, std::slice::from_ref(key)).to_bytes()
}

pub(crate) fn key_of(name: &str) -> SecretKey {
    SecretKey::from_seed(&Digest::of(name.as_bytes()).0)
}

fn head(at: UnixTime) -> Head {
    Head::new("home".parse().expect("is a fleet name"), at)
}

fn release(app: &AppId, recipe: &Recipe, counter: u64) -> Release {
    let probe = Probe::Tcp { address: "127.0.0.1:80".into() };
    let check = Check { probe, interval_ms: 500, timeout_ms: 500, healthy_after: 1, unhealthy_after: 1 };
    let part = Part {
        platform: recipe.platform.clone(),
        kind: PartKind::Tree,
        tree_hash: Digest::of(format!("{app} {}", recipe.version).as_bytes()),
        size_bytes: 1,
        manifest_bytes: 1,
        run: Run::None,
        container: None,
        one_way: false,
        env: BTreeMap::new(),
        pre_check: None,
        checks: vec![check],
        proof: Proof::None,
        trial: Trial { min_healthy_ms: 5_000, deadline_ms: 30_000, tries: 2 },
        joint: None,
    };
    Release {
        head: head(WALL),
        app: app.clone(),
        version: recipe.version.clone(),
        counter: Counter(counter),
        min_counter: Counter(recipe.floor),
        parts: vec![part],
        provenance: Provenance::default(),
        notes: String::new(),
    }
}
