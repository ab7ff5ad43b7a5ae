//! What somebody with some of the keys can make: documents that `publisher` never would.

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use schemas::{
    announcement::Announcement,
    id::{AppId, Counter, Digest, GroupId, NodeId, Revision},
    order::{Audience, Order, OrderState, Policy},
    record::Record,
    release::{ANY_PLATFORM, Part, PartKind, Proof, Provenance, Release, Run, Trial},
    report::Report,
    root::{Root, Trust},
    seal::{Head, SecretKey, Signed},
    time::UnixTime,
};

/// The keys of a fleet, and what can be made with them.
#[derive(Debug)]
pub struct Forge {
    /// Trust as a node has it.
    pub trust: Trust,
    /// Signs releases.
    pub release_key: SecretKey,
    /// Signs orders.
    pub ops_key: SecretKey,
}

impl Forge {
    /// Takes the keys out of a publisher's home.
    ///
    /// # Errors
    /// When they are not there.
    pub fn open(home: &Path) -> Result<Self> {
        let root = Signed::<Root>::from_bytes(&fs::read(home.join("root.cbor"))?)?;
        let key = |role: &str| read_key(&home.join(format!("keys/{role}.key")));
        Ok(Self { trust: Trust::first(&root)?, release_key: key("release")?, ops_key: key("ops")? })
    }

    /// The head of a document that is signed now.
    pub fn head(&self) -> Head {
        Head::new(self.trust.fleet().clone(), now())
    }

    /// A release of one tree that runs nothing.
    pub fn release(&self, app: &AppId, tree_hash: Digest, manifest_bytes: u64, size_bytes: u64) -> Release {
        let part = Part {
            platform: ANY_PLATFORM.to_owned(),
            kind: PartKind::Tree,
            tree_hash,
            size_bytes,
            manifest_bytes,
            run: Run::None,
            container: None,
            one_way: false,
            env: std::collections::BTreeMap::default(),
            pre_check: None,
            checks: Vec::new(),
            proof: Proof::None,
            trial: Trial { min_healthy_ms: 0, ..Trial::default() },
            joint: None,
        };
        Release {
            head: self.head(),
            app: app.clone(),
            version: "6.6.6".to_owned(),
            counter: Counter(u64::from(u32::MAX)),
            min_counter: Counter(0),
            parts: vec![part],
            provenance: Provenance::default(),
            notes: String::new(),
        }
    }

    /// An order for everybody in the group, newer than any that a publisher gives in this century.
    pub fn order(&self, group: &GroupId, app: &AppId, release: Digest, revision: Revision) -> Order {
        Order {
            head: self.head(),
            app: app.clone(),
            group: group.clone(),
            revision,
            release,
            audience: Audience::All,
            state: OrderState::Active,
            policy: Policy::default(),
            not_before: UnixTime(0),
            expires: now().plus_secs(86_400),
            continues: None,
        }
    }

    /// Both, signed with the right keys.
    pub fn announcement(&self, order: &Order, release: &Release) -> Announcement {
        let release = Signed::seal(release, std::slice::from_ref(&self.release_key));
        let order = Order { release: release.digest(), ..order.clone() };
        Announcement {
            order: Signed::seal(&order, std::slice::from_ref(&self.ops_key)),
            mandate: None,
            release,
        }
    }

    /// Gives the release in a file another counter and floor, which `publisher` takes from its clock.
    ///
    /// # Errors
    /// When it cannot be read, is not believed, or cannot be written.
    pub fn number(&self, file: &Path, counter: Counter, floor: Counter) -> Result<()> {
        let what = || format!("cannot number the release in {}", file.display());
        let signed = Signed::<Release>::from_bytes(&fs::read(file).with_context(what)?).with_context(what)?;
        let release = signed.verify(&self.trust).with_context(what)?.into_inner();
        let release = Release { counter, min_counter: floor, ..release };
        let signed = Signed::seal(&release, std::slice::from_ref(&self.release_key));
        fs::write(file, signed.to_bytes()).with_context(what)
    }

    /// Reads a node's report, if its key signed it.
    ///
    /// # Errors
    /// When it is not believed.
    pub fn report(&self, home: &Path, node: &NodeId, bytes: &[u8]) -> Result<Report> {
        let record = fs::read(home.join(format!("nodes/{node}/record.cbor")))?;
        let record = Signed::<Record>::from_bytes(&record)?.verify(&self.trust)?;
        let report = Signed::<Report>::from_bytes(bytes)?.verify_by(&record.key, self.trust.fleet())?;
        Ok(report.into_inner())
    }
}

/// Reads a key file: 64 hexadecimal digits.
///
/// # Errors
/// When it is none.
pub fn read_key(path: &Path) -> Result<SecretKey> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let seed: Digest = text.trim().parse().context("no key")?;
    Ok(SecretKey::from_seed(&seed.0))
}

/// The wall clock.
pub fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |age| age.as_secs()))
}
