//! A fleet for tests: a home in a temporary folder, nodes whose keys follow from their names.

use schemas::{
    announcement::Announcement,
    id::{Counter, Digest, NodeId, Revision, Seq},
    order::{Audience, Order, OrderState, Policy},
    record::{Record, RecordStatus},
    release::{Part, PartKind, Proof, Provenance, Release, Run, Trial},
    report::{AppReport, Installed, Outcome, Report, Target, Verdict},
    root::Role,
    seal::{Head, SecretKey, Signed},
    status::Phase,
    time::UnixTime,
    topic::{Kind, NodeTopic, Topic},
};

use crate::{
    fleet::Fleet,
    home::{
        Home,
        init::{NewFleet, init},
    },
};

/// When everything in a sample happens.
pub(crate) const NOW: UnixTime = UnixTime(1_795_240_000);

pub(crate) struct Sample {
    pub(crate) home: Home,
    /// Deletes the home in the end.
    _dir: tempfile::TempDir,
}

impl Sample {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let new = NewFleet {
            fleet: "deploybus".parse().unwrap(),
            bus: "mqtt://127.0.0.1:1883".parse().unwrap(),
            store: "http://127.0.0.1:8080".parse().unwrap(),
        };
        init(&dir.path().join("home"), new, NOW).unwrap();
        Self { home: Home::open(&dir.path().join("home")).unwrap(), _dir: dir }
    }

    fn head(&self) -> Head {
        Head::new(self.home.settings.fleet.clone(), NOW)
    }

    pub(crate) fn empty_fleet(&self) -> Fleet {
        Fleet::new(self.home.trust.clone())
    }

    pub(crate) fn topic(&self, node: &str, topic: NodeTopic) -> Topic {
        Kind::Node(node.parse().unwrap(), topic).of(&self.home.settings.fleet)
    }

    pub(crate) fn record(&self, node: &str, groups: &[&str]) -> Vec<u8> {
        let record = Record {
            head: self.head(),
            node: node.parse().unwrap(),
            seq: Seq(1),
            key: node_key(node).public(),
            groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
            labels: [].into(),
            status: RecordStatus::Active,
        };
        Signed::seal(&record, &[self.home.key(Role::Ops).unwrap()]).to_bytes()
    }

    pub(crate) fn report(&self, node: &str, seq: u64, apps: Vec<AppReport>) -> Vec<u8> {
        let report = Report {
            head: self.head(),
            node: node.parse().unwrap(),
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
    pub(crate) fn fleet(&self, nodes: &[(&str, Option<AppReport>)]) -> Fleet {
        let mut fleet = self.empty_fleet();
        for (name, app) in nodes {
            fleet.take(&self.topic(name, NodeTopic::Record), &self.record(name, &["all", "canary"]));
            fleet.take(&self.topic(name, NodeTopic::Availability), b"online");
            self.says(&mut fleet, name, 1, app.clone());
        }
        fleet
    }

    pub(crate) fn says(&self, fleet: &mut Fleet, node: &str, seq: u64, app: Option<AppReport>) {
        let report = self.report(node, seq, app.into_iter().collect());
        fleet.take(&self.topic(node, NodeTopic::Report), &report);
    }

    pub(crate) fn announcement(&self, revision: u64, counter: u64, version: &str) -> Announcement {
        let release = Signed::seal(&self.release(counter, version), &[self.home.key(Role::Release).unwrap()]);
        let order = self.order(revision, release.digest());
        Announcement { order: Signed::seal(&order, &[self.home.key(Role::Ops).unwrap()]), release }
    }

    pub(crate) fn order(&self, revision: u64, release: Digest) -> Order {
        Order {
            head: self.head(),
            app: "web".parse().unwrap(),
            group: "canary".parse().unwrap(),
            revision: Revision(revision),
            release,
            audience: Audience::All,
            state: OrderState::Active,
            policy: Policy::default(),
            not_before: UnixTime(0),
            expires: NOW.plus_secs(3_600),
        }
    }

    pub(crate) fn release(&self, counter: u64, version: &str) -> Release {
        let part = Part {
            platform: "any".into(),
            kind: PartKind::Tree,
            tree_hash: Digest::of(version.as_bytes()),
            size_bytes: 10,
            manifest_bytes: 10,
            run: Run::None,
            env: [].into(),
            pre_check: None,
            checks: Vec::new(),
            proof: Proof::None,
            trial: Trial::default(),
        };
        Release {
            head: self.head(),
            app: "web".parse().unwrap(),
            version: version.into(),
            counter: Counter(counter),
            min_counter: Counter(0),
            parts: vec![part],
            provenance: Provenance::default(),
            notes: String::new(),
        }
    }
}

pub(crate) fn node_key(node: &str) -> SecretKey {
    SecretKey::from_seed(&Digest::of(node.as_bytes()).0)
}

pub(crate) fn node(name: &str) -> NodeId {
    name.parse().unwrap()
}

/// What an idle node says that runs nothing.
pub(crate) fn idle(revision: u64) -> AppReport {
    AppReport {
        app: "web".parse().unwrap(),
        phase: Phase::Idle,
        revision: Revision(revision),
        installed: None,
        previous: None,
        target: None,
        healthy: None,
        outcomes: Vec::new(),
    }
}

pub(crate) fn working(revision: u64, phase: Phase, permille: u16) -> AppReport {
    let target = Target {
        revision: Revision(revision),
        version: "1.1.0".into(),
        progress_permille: permille,
        attempt: 1,
        waits_for: String::new(),
    };
    AppReport { phase, target: Some(target), ..idle(revision) }
}

pub(crate) fn outcome(revision: u64, verdict: Verdict) -> Outcome {
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
        at: NOW,
    }
}

pub(crate) fn ended(outcome: Outcome) -> AppReport {
    let installed = (outcome.verdict == Verdict::Kept).then(|| installed(outcome.release, &outcome.version));
    let idle = idle(outcome.revision.0);
    AppReport { installed, healthy: Some(true), outcomes: vec![outcome], ..idle }
}

pub(crate) fn installed(release: Digest, version: &str) -> Installed {
    Installed {
        release,
        version: version.into(),
        counter: Counter(1),
        commit: String::new(),
        tree_hash: Digest::of(version.as_bytes()),
        group: "canary".parse().unwrap(),
        since: NOW,
    }
}
