//! One document of each kind, the same on every run.

use std::collections::{BTreeMap, BTreeSet};

use schemas::{
    announcement::Announcement,
    chunk::{Piece, Want},
    deploy_log::{Entry as LogEntry, What},
    enroll::{self, Request},
    id::{Counter, Digest, Revision, Seq},
    mandate::Mandate,
    manifest::{Entry, Manifest, Node},
    order::{Audience, Order, OrderState, Policy},
    reason::Reason,
    record::{Record, RecordStatus},
    release::{Check, Expect, Hook, Part, PartKind, Probe, Proof, Provenance, Release, Run, Trial},
    report::{AppReport, Installed, Outcome, Refusal, Report, Target, Verdict},
    rollout::{
        Controller, Course, CourseState, CourseWave, Lease, Pause, PauseReason, Planned, Rollout, Standing,
        WaveState, Wish,
    },
    root::{Role, RoleKeys, Root, RootChain, Trust},
    seal::{Head, SecretKey, Signed},
    status::Phase,
    time::UnixTime,
};

pub(crate) const AT: UnixTime = UnixTime(1_795_000_000);

pub(crate) fn key(n: u8) -> SecretKey {
    SecretKey::from_seed(&[n; 32])
}

pub(crate) fn head() -> Head {
    Head::new("deploybus".parse().unwrap(), AT)
}

/// Root 1 with key 1 for root, key 2 for release, key 3 for ops.
pub(crate) fn root() -> Root {
    let role = |n: u8| RoleKeys { keys: vec![key(n).public().id()], threshold: 1 };
    Root {
        head: head(),
        version: 1,
        keys: (1..=3).map(|n| key(n).public()).collect(),
        roles: BTreeMap::from([(Role::Root, role(1)), (Role::Release, role(2)), (Role::Ops, role(3))]),
        reset: Vec::new(),
        expires: AT.plus_secs(365 * 86_400),
    }
}

pub(crate) fn trust() -> Trust {
    Trust::first(&Signed::seal(&root(), &[key(1)])).unwrap()
}

pub(crate) fn chain() -> RootChain {
    RootChain::new(1, vec![Signed::seal(&root(), &[key(1)])])
}

pub(crate) fn manifest() -> Manifest {
    let file = |path: &str, executable, content: &[u8]| Entry {
        path: path.into(),
        node: Node::File { executable, size: content.len() as u64, digest: Digest::of(content) },
    };
    Manifest::new(vec![
        file("app.py", true, b"print('1.0.0')\n"),
        Entry { path: "static".into(), node: Node::Directory },
        file("static/index.html", false, b"<h1>hello</h1>\n"),
        Entry { path: "static/latest".into(), node: Node::Symlink { target: "index.html".into() } },
    ])
    .unwrap()
}

pub(crate) fn want() -> Want {
    Want { digest: Digest::of(b"abc"), offset: 4_096, length: 4_095 }
}

pub(crate) fn piece() -> Piece {
    Piece { digest: Digest::of(b"abc"), offset: 4_096, bytes: b"abc".to_vec(), error: None }
}

pub(crate) fn release() -> Release {
    let manifest = manifest();
    Release {
        head: head(),
        app: "web".parse().unwrap(),
        version: "1.0.0".into(),
        counter: Counter(7),
        min_counter: Counter(3),
        parts: vec![Part {
            platform: "any".into(),
            kind: PartKind::Tree,
            tree_hash: manifest.tree_hash(),
            size_bytes: manifest.size_bytes(),
            manifest_bytes: manifest.encode().len() as u64,
            run: Run::Process { command: vec!["python3".into(), "app.py".into()], stop_timeout_ms: 10_000 },
            container: None,
            one_way: false,
            env: BTreeMap::from([("PORT".into(), "8000".into())]),
            pre_check: Some(Hook { command: vec!["python3".into(), "-V".into()], timeout_ms: 60_000 }),
            checks: vec![Check {
                probe: Probe::Http { url: "http://127.0.0.1:8000/health".into() },
                interval_ms: 1_000,
                timeout_ms: 2_000,
                healthy_after: 1,
                unhealthy_after: 3,
            }],
            proof: Proof::Http {
                url: "http://127.0.0.1:8000/version".into(),
                pointer: "/commit".into(),
                expect: Expect::Commit,
            },
            trial: Trial::default(),
            joint: None,
        }],
        provenance: Provenance {
            commit: "0123456789abcdef".into(),
            dirty: false,
            builder: "publisher 0.1.0".into(),
            built_at: AT,
        },
        notes: "first".into(),
    }
}

pub(crate) fn order() -> Order {
    Order {
        head: head(),
        app: "web".parse().unwrap(),
        group: "canary".parse().unwrap(),
        revision: Revision(42),
        release: Signed::seal(&release(), &[key(2)]).digest(),
        audience: Audience::All,
        state: OrderState::Active,
        policy: Policy::default(),
        not_before: UnixTime(0),
        expires: AT.plus_secs(30 * 86_400),
        continues: None,
    }
}

pub(crate) fn announcement() -> Announcement {
    Announcement {
        order: Signed::seal(&order(), &[key(3)]),
        release: Signed::seal(&release(), &[key(2)]),
        mandate: None,
    }
}

/// Key 8 is a controller's.
pub(crate) fn mandate() -> Mandate {
    Mandate {
        head: head(),
        app: "web".parse().unwrap(),
        groups: vec!["canary".parse().unwrap(), "all".parse().unwrap()],
        release: order().release,
        keys: vec![key(8).public()],
        first: Revision(40),
        last: Revision(49),
        expires: AT.plus_secs(30 * 86_400),
    }
}

/// An order by a controller.
pub(crate) fn mandated(order: &Order, mandate: &Mandate) -> Announcement {
    let order = &Order { continues: Some(mandate.first), ..order.clone() };
    let mandate = Some(Signed::seal(mandate, &[key(3)]));
    Announcement { order: Signed::seal(order, &[key(8)]), mandate, ..announcement() }
}

pub(crate) fn planned() -> Planned {
    let rollout = Rollout {
        head: head(),
        app: "web".parse().unwrap(),
        first: Revision(40),
        seq: Seq(2),
        plan: "app = \"web\"\n[[stage]]\ngroup = \"canary\"\n".into(),
        wish: Wish::Abort { revert: true },
        approved: 1,
        acknowledged: vec!["pi-1".parse().unwrap()],
        not_before: AT,
    };
    let seal = [key(3)];
    let release = Signed::seal(&release(), &[key(2)]);
    Planned { rollout: Signed::seal(&rollout, &seal), mandate: Signed::seal(&mandate(), &seal), release }
}

pub(crate) fn course() -> Course {
    let cause = Pause { why: PauseReason::Failures, text: "pi-1 rolled back".into(), at: AT };
    let seats =
        vec![("pi-1".parse().unwrap(), Standing::RolledBack), ("pi-2".parse().unwrap(), Standing::None)];
    Course {
        head: head(),
        app: "web".parse().unwrap(),
        first: Revision(40),
        seq: Seq(5),
        term: 2,
        heeded: Seq(2),
        heeded_rollout: Digest::of(b"rollout"),
        state: CourseState::Reverting { cause, wave: 0 },
        revision: Revision(42),
        waves: vec![CourseWave {
            stage: 0,
            state: WaveState::Failed,
            since: AT,
            watched_secs: 30,
            seats,
            audience: None,
        }],
        orders: vec![Signed::seal(&order(), &[key(8)])],
        started_at: AT,
    }
}

pub(crate) fn controller() -> Controller {
    Controller {
        head: head(),
        key: key(8).public(),
        program: "broker 0.1.0".into(),
        until: AT.plus_secs(60),
        leases: vec![Lease { app: "web".parse().unwrap(), first: Revision(40), term: 4 }],
    }
}

pub(crate) fn record() -> Record {
    Record {
        head: head(),
        node: "pi-1".parse().unwrap(),
        seq: Seq(1),
        key: key(9).public(),
        groups: BTreeSet::from(["canary".parse().unwrap(), "all".parse().unwrap()]),
        labels: BTreeMap::from([("site".into(), "barn".into())]),
        status: RecordStatus::Active,
        login: None,
        env: BTreeMap::new(),
    }
}

pub(crate) fn request() -> Request {
    enroll::request(head(), "pi-2".parse().unwrap(), &key(9), Digest::of(b"token"), Some("invitation"))
}

pub(crate) fn log_entry() -> LogEntry {
    LogEntry {
        seq: 7,
        at: UnixTime(AT.0 + 3),
        what: What::RolledBack,
        node: Some("pi-1".parse().unwrap()),
        app: Some("web".parse().unwrap()),
        group: Some("canary".parse().unwrap()),
        version: "1.0.1".into(),
        counter: Counter(8),
        commit: "0123456789abcdef".into(),
        strategy: String::new(),
        revision: Revision(41),
        release: Some(Digest::of(b"bad")),
        started_at: Some(UnixTime(AT.0 - 2)),
        ended_at: Some(AT),
        took_ms: 1_234,
        fetched_bytes: 567,
        requests: 2,
        reason: Some(Reason::Unhealthy),
        attack: false,
        text: "GET http://127.0.0.1:8000/health answered 500".into(),
        log_tail: vec!["Traceback".into()],
    }
}

pub(crate) fn report() -> Report {
    let installed = Installed {
        release: Digest::of(b"release"),
        version: "1.0.0".into(),
        counter: Counter(7),
        commit: "0123456789abcdef".into(),
        tree_hash: manifest().tree_hash(),
        group: "all".parse().unwrap(),
        since: AT,
    };
    Report {
        head: head(),
        node: "pi-1".parse().unwrap(),
        boot: 3,
        seq: Seq(12),
        root_version: 1,
        clock_unset: false,
        apps: vec![AppReport {
            app: "web".parse().unwrap(),
            phase: Phase::Fetching,
            revision: Revision(42),
            installed: Some(installed),
            previous: None,
            target: Some(Target {
                revision: Revision(42),
                version: "1.1.0".into(),
                progress_permille: 500,
                attempt: 1,
                waits_for: String::new(),
                hold: None,
                until: None,
            }),
            healthy: Some(true),
            outcomes: vec![Outcome {
                revision: Revision(41),
                release: Digest::of(b"bad"),
                version: "1.0.1".into(),
                verdict: Verdict::RolledBack,
                reason: Some(Reason::Unhealthy),
                text: "GET http://127.0.0.1:8000/health answered 500".into(),
                log_tail: vec!["Traceback".into()],
                took_ms: 1_234,
                fetched_bytes: 567,
                requests: 2,
                built: None,
                at: AT,
            }],
        }],
        refusals: vec![Refusal {
            topic: "deploybus/v1/release/canary/web".into(),
            reason: Reason::BadSignature,
            text: "order has 0 of 1 valid signatures".into(),
            order: None,
            attack: true,
            times: 2,
            at: AT,
        }],
    }
}
