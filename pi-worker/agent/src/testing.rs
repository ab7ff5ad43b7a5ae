//! A fleet of one node for tests: its keys, its files, its documents.

pub(crate) mod mosquitto;
pub(crate) mod server;
pub(crate) mod tiny_disk;

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use schemas::{
    announcement::Announcement,
    id::{Counter, Digest, FleetId, Revision, Seq},
    order::{Audience, Order, OrderState, Policy},
    record::{Record, RecordStatus},
    release::{ANY_PLATFORM, Part, PartKind, Proof, Provenance, Release, Run, Trial},
    root::{Role, RoleKeys, Root},
    seal::{Head, SecretKey, Signed},
    time::UnixTime,
};

use crate::settings::Settings;

/// The folder that `publisher node add` writes, and the fleet's key.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let home = Self { folder: tempfile::tempdir().unwrap() };
        home.write("root.cbor", &roots(1, &[])[0].to_bytes());
        home.write("record.cbor", &home.record(1, &["all", "canary"], RecordStatus::Active));
        home.write("node.key", format!("{}\n", Digest([2; 32])).as_bytes());
        home.write("password", b"correct horse\n");
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn settings(&self) -> Settings {
        self.settings_for("mqtt://127.0.0.1:1", "http://127.0.0.1:1")
    }

    pub(crate) fn settings_for(&self, bus: &str, store: &str) -> Settings {
        let text = format!(
            "node = \"pi-1\"\nfleet = \"home\"\nbus = \"{bus}\"\nstore = [\"{store}\"]\ndata = \"data\"\n"
        );
        self.write("pi-worker.toml", text.as_bytes());
        Settings::load(&self.path().join("pi-worker.toml")).unwrap()
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).unwrap();
    }

    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }

    #[expect(clippy::unused_self, reason = "a home is what has records")]
    pub(crate) fn record(&self, seq: u64, groups: &[&str], status: RecordStatus) -> Vec<u8> {
        record(&fleet_key(), seq, groups, status)
    }

    #[expect(clippy::unused_self, reason = "a home is what has records")]
    pub(crate) fn record_by(&self, key: &SecretKey, seq: u64, groups: &[&str]) -> Vec<u8> {
        record(key, seq, groups, RecordStatus::Active)
    }
}

fn record(key: &SecretKey, seq: u64, groups: &[&str], status: RecordStatus) -> Vec<u8> {
    let record = Record {
        head: head(),
        node: "pi-1".parse().unwrap(),
        seq: Seq(seq),
        key: node_key().public(),
        groups: groups.iter().map(|group| group.parse().unwrap()).collect(),
        labels: BTreeMap::new(),
        status,
        login: None,
        env: BTreeMap::new(),
    };
    Signed::seal(&record, std::slice::from_ref(key)).to_bytes()
}

pub(crate) fn fleet_key() -> SecretKey {
    SecretKey::from_seed(&[1; 32])
}

pub(crate) fn node_key() -> SecretKey {
    SecretKey::from_seed(&[2; 32])
}

pub(crate) fn release(app: &str) -> Release {
    Release {
        head: head(),
        app: app.parse().unwrap(),
        version: "1.1.0".into(),
        counter: Counter(2),
        min_counter: Counter(0),
        parts: vec![part(Digest::of(b"tree"))],
        provenance: Provenance { commit: "abc123".into(), ..Provenance::default() },
        notes: "faster".into(),
    }
}

pub(crate) fn part(tree_hash: Digest) -> Part {
    Part {
        platform: ANY_PLATFORM.into(),
        kind: PartKind::Tree,
        tree_hash,
        size_bytes: 0,
        manifest_bytes: 0,
        run: Run::None,
        container: None,
        one_way: false,
        env: BTreeMap::new(),
        pre_check: None,
        checks: Vec::new(),
        proof: Proof::None,
        trial: Trial::default(),
        joint: None,
    }
}

pub(crate) fn order(group: &str, app: &str, revision: u64, release: Digest) -> Order {
    Order {
        head: head(),
        app: app.parse().unwrap(),
        group: group.parse().unwrap(),
        revision: Revision(revision),
        release,
        audience: Audience::All,
        state: OrderState::Active,
        policy: Policy::default(),
        not_before: UnixTime(0),
        expires: UnixTime(4_000_000_000),
        continues: None,
    }
}

pub(crate) fn announcement(group: &str, app: &str, revision: u64) -> Announcement {
    announcement_of(&release(app), group, app, revision)
}

pub(crate) fn announcement_of(release: &Release, group: &str, app: &str, revision: u64) -> Announcement {
    announcement_by(&fleet_key(), release, group, app, revision)
}

pub(crate) fn announcement_by(
    key: &SecretKey,
    release: &Release,
    group: &str,
    app: &str,
    revision: u64,
) -> Announcement {
    let keys = std::slice::from_ref(key);
    let release = Signed::seal(release, keys);
    let order = Signed::seal(&order(group, app, revision, release.digest()), keys);
    Announcement { order, release, mandate: None }
}

/// Waits until something holds, for ten seconds at most.
pub(crate) async fn wait_until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("it holds within ten seconds");
}

/// Bytes that do not compress.
pub(crate) fn noise(len: usize) -> Vec<u8> {
    let next = |seed: &Digest| Some(Digest::of(&seed.0));
    std::iter::successors(Some(Digest::of(b"noise")), next).flat_map(|seed| seed.0).take(len).collect()
}

pub(crate) fn fleet() -> FleetId {
    "home".parse().unwrap()
}

fn head() -> Head {
    Head::new(fleet(), UnixTime(1_800_000_000))
}

/// Roots 1 to `last`: the first lists the fleet's key, each later one another key. `resets` says which root forgets what.
pub(crate) fn roots(last: u64, resets: &[(u64, Role)]) -> Vec<Signed<Root>> {
    let of = |version: u64| {
        let reset: Vec<_> = resets.iter().filter(|(at, _)| *at == version).map(|(_, role)| *role).collect();
        let before = root_key(version.max(2) - 1);
        Signed::seal(&root(version, &root_key(version), &reset), &[before, root_key(version)])
    };
    (1..=last).map(of).collect()
}

/// The key that root `version` lists.
pub(crate) fn root_key(version: u64) -> SecretKey {
    if version == 1 { fleet_key() } else { SecretKey::from_seed(&[100 + version as u8; 32]) }
}

pub(crate) fn root(version: u64, key: &SecretKey, reset: &[Role]) -> Root {
    let key = key.public();
    let keys = RoleKeys { keys: vec![key.id()], threshold: 1 };
    Root {
        head: head(),
        version,
        keys: vec![key],
        roles: Role::ALL.map(|role| (role, keys.clone())).into(),
        reset: reset.to_vec(),
        expires: UnixTime(4_000_000_000),
    }
}
