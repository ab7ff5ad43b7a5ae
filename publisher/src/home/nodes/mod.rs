//! The nodes that were added: a folder each, with its record, and for those that were made here all that is copied to the
//! node. How nodes come that made their own keys is in [`enroll`].

mod change;
mod enroll;
mod pico;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use schemas::{
    id::{Digest, GroupId, NodeId, PublicKey, Seq},
    record::{Record, RecordStatus},
    root::{Role, Trust},
    seal::{Head, SecretKey, Signed, Verified},
    time::UnixTime,
};
use serde::Serialize;

pub(crate) use self::{change::Changeable, enroll::Place, pico::PicoPlace};
use super::{
    CA, Home, files, keys,
    users::{self, Secret},
};
use crate::problem::{Advise as _, problem};

/// Records that others have to sign before they count.
const DRAFTS: &str = "drafts";

/// What became of a record.
#[must_use]
pub(crate) enum Kept {
    /// It counts, once the bus has it.
    Counts,
    /// Others have to sign this file first.
    Waits(PathBuf),
}

/// A node that is to be added.
#[derive(Debug, Clone)]
pub(crate) struct NewNode {
    pub(crate) name: NodeId,
    pub(crate) groups: BTreeSet<GroupId>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Environment of the node's apps.
    pub(crate) env: BTreeMap<String, String>,
    /// Where the worker keeps its data on the node.
    pub(crate) data: PathBuf,
    /// Makes a node anew that was added before.
    pub(crate) replace: bool,
}

/// A node's record, as it is published.
pub(crate) struct KnownNode {
    pub(crate) signed: Signed<Record>,
    pub(crate) record: Verified<Record>,
}

impl KnownNode {
    /// The node's name, if `trust` would not believe its record.
    pub(crate) fn signed_by_too_few(&self, trust: &Trust) -> Option<String> {
        self.signed.verify(trust).is_err().then(|| self.record.node.to_string())
    }
}

/// `pi-worker.toml`: the other files are found beside it.
#[derive(Serialize)]
struct WorkerSettings<'a> {
    node: &'a NodeId,
    fleet: &'a schemas::id::FleetId,
    bus: String,
    store: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca: Option<&'static str>,
    data: &'a Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: &'a BTreeMap<String, String>,
}

impl Home {
    /// Makes key, password and record of a node, lets it into the broker, and returns its folder.
    pub(crate) fn add_node(&self, new: &NewNode, now: UnixTime) -> Result<PathBuf> {
        let _lock = self.lock()?;
        let folder = self.node_folder(&new.name);
        let before = self.check_name(new, &folder)?;
        let (key, secret) = (keys::new_key()?, Secret::new_token()?);
        let seq = before.map_or(Seq(0), |known| known.record.seq).next(now.0);
        let record = self.record(new, key.public(), secret.digest(), seq, now);
        let signed = Signed::seal(&record, &[self.key(Role::Ops)?]);
        self.replace_folder(&folder, |draft| self.fill_folder(draft, new, &key, secret.text(), &signed))?;
        Ok(folder)
    }

    /// Says that a node is out, for good, and forgets what lets it in.
    pub(crate) fn retire_node(&self, name: &NodeId, now: UnixTime) -> Result<Kept> {
        let _lock = self.lock()?;
        let folder = self.node_folder(name);
        if !folder.exists() {
            return Err(problem(
                format!("no node {name} was added here"),
                "see the nodes with `publisher node list`",
            ));
        }
        let before = self.known(&folder)?.record;
        if before.status == RecordStatus::Revoked {
            return Ok(Kept::Counts);
        }
        let seq = before.seq.next(now.0);
        let head = Head::new(self.settings.fleet.clone(), now);
        let record = Record { head, seq, status: RecordStatus::Revoked, login: None, ..before.into_inner() };
        self.keep_record(name, &Signed::seal(&record, &[self.key(Role::Ops)?]))
    }

    /// Keeps a record in the place of the one before, or beside it when others have to sign it first.
    fn keep_record(&self, name: &NodeId, signed: &Signed<Record>) -> Result<Kept> {
        if signed.verify(&self.trust).is_ok() {
            self.replace_folder(&self.node_folder(name), |draft| write_record(draft, signed))?;
            return Ok(Kept::Counts);
        }
        let drafts = self.path(DRAFTS);
        let file = drafts.join(format!("{name}.cbor"));
        // Not written again: it may have signatures of others.
        if !file.exists() {
            let advice = super::WRITABLE;
            fs::create_dir_all(&drafts).advise(format!("cannot make {}", drafts.display()), advice)?;
            files::replace(&file, &signed.to_bytes(), files::PUBLIC)
                .advise(format!("cannot write {}", file.display()), advice)?;
        }
        Ok(Kept::Waits(file))
    }

    /// Takes over those records that others have signed by now.
    pub(crate) fn settle_drafts(&self) -> Result<()> {
        let _lock = self.lock()?;
        for path in super::history::files_below(&self.path(DRAFTS))? {
            let signed = fs::read(&path).ok().and_then(|bytes| Signed::<Record>::from_bytes(&bytes).ok());
            let verified = signed.as_ref().and_then(|signed| signed.verify(&self.trust).ok());
            let Some((signed, record)) = signed.as_ref().zip(verified) else { continue };
            self.learn_record(&record.node, signed, &record)?;
            fs::remove_file(&path).advise(format!("cannot remove {}", path.display()), super::WRITABLE)?;
        }
        Ok(())
    }

    /// Keeps a record that is newer than the one that is here, wherever it was made. What a node made here has besides stays.
    pub(crate) fn learn_record(&self, name: &NodeId, signed: &Signed<Record>, record: &Record) -> Result<()> {
        let folder = self.node_folder(name);
        let known = self.known(&folder).ok();
        if known.as_ref().is_some_and(|known| known.record.seq >= record.seq) {
            return Ok(());
        }
        let is_same = known.is_some_and(|known| known.record.key == record.key);
        if is_same && record.status == RecordStatus::Active {
            let path = folder.join("record.cbor");
            return files::replace(&path, &signed.to_bytes(), files::PUBLIC)
                .advise(format!("cannot write {}", path.display()), super::WRITABLE);
        }
        self.replace_folder(&folder, |draft| write_record(draft, signed))
    }

    /// The folder of a node.
    pub(crate) fn node_folder(&self, name: &NodeId) -> PathBuf {
        self.path("nodes").join(name.as_str())
    }

    /// Fills a new folder and puts it in the place of `folder`: there is the old one or the new one.
    fn replace_folder(&self, folder: &Path, fill: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
        let name = folder.file_name().unwrap_or_default().display();
        let draft = self.path("nodes").join(format!(".{name}.new"));
        // What a power cut has left: whoever is here has the lock.
        let _ = fs::remove_dir_all(&draft);
        let written = fill(&draft).and_then(|()| put_in_place(&draft, folder));
        if written.is_err() {
            let _ = fs::remove_dir_all(&draft);
        }
        written.with_context(|| format!("cannot write {}", folder.display()))
    }

    /// All nodes that were added here, by name. Records that no longer verify are left out and said.
    pub(crate) fn nodes(&self) -> Result<Vec<KnownNode>> {
        let folder = self.path("nodes");
        let what = || format!("cannot read {}", folder.display());
        let mut nodes = Vec::new();
        for entry in fs::read_dir(&folder).with_context(what)? {
            let entry = entry.with_context(what)?;
            if entry.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            match self.known(&entry.path()) {
                Ok(known) => nodes.push(known),
                Err(error) => tracing::warn!("Left out: {error:#}"),
            }
        }
        nodes.sort_by(|a, b| a.record.node.cmp(&b.record.node));
        Ok(nodes)
    }

    fn known(&self, folder: &Path) -> Result<KnownNode> {
        let path = folder.join("record.cbor");
        let what = || format!("cannot use {}", path.display());
        let signed: Signed<Record> =
            Signed::from_bytes(&fs::read(&path).with_context(what)?).with_context(what)?;
        let record = signed.verify(&self.trust).with_context(what)?;
        Ok(KnownNode { signed, record })
    }

    fn check_name(&self, new: &NewNode, folder: &Path) -> Result<Option<KnownNode>> {
        let users = self.users().read()?;
        if let Some(role) = users::role_of(&users, new.name.as_str()).filter(|role| *role != users::NODE) {
            return Err(problem(
                format!("{} is the name of a {role}", new.name),
                "choose another name: on the bus, users and nodes share one list of names",
            ));
        }
        if !folder.exists() {
            return Ok(None);
        }
        if !new.replace {
            return Err(problem(
                format!("node {} was added before: {}", new.name, folder.display()),
                "copy that folder to the node, or make a new one with --force: then the old one is no longer believed",
            ));
        }
        Ok(self.known(folder).ok())
    }

    fn record(
        &self,
        new: &NewNode,
        key: PublicKey,
        login: Option<Digest>,
        seq: Seq,
        now: UnixTime,
    ) -> Record {
        Record {
            head: Head::new(self.settings.fleet.clone(), now),
            node: new.name.clone(),
            seq,
            key,
            groups: new.groups.clone(),
            labels: new.labels.clone(),
            status: RecordStatus::Active,
            login,
            env: BTreeMap::new(),
        }
    }

    fn fill_folder(
        &self,
        draft: &Path,
        new: &NewNode,
        key: &SecretKey,
        password: &str,
        record: &Signed<Record>,
    ) -> Result<()> {
        write_record(draft, record)?;
        keys::store(&draft.join("node.key"), key, None)?;
        files::create(&draft.join("password"), format!("{password}\n").as_bytes(), files::PRIVATE)?;
        self.write_settings(draft, new)?;
        Ok(files::sync_folder(draft)?)
    }

    /// What every node has to know: where the fleet is, and whom to believe.
    fn write_settings(&self, folder: &Path, new: &NewNode) -> Result<()> {
        let settings = WorkerSettings {
            node: &new.name,
            fleet: &self.settings.fleet,
            bus: self.settings.bus.to_string(),
            store: vec![self.settings.store.to_string()],
            ca: self.settings.ca.as_ref().map(|_| CA),
            data: &new.data,
            env: &new.env,
        };
        files::create(&folder.join("root.cbor"), &fs::read(self.path("root.cbor"))?, files::PUBLIC)?;
        if let Some(ca) = &self.settings.ca {
            files::create(&folder.join(CA), &fs::read(self.path(ca))?, files::PUBLIC)?;
        }
        Ok(files::create(
            &folder.join("pi-worker.toml"),
            toml::to_string(&settings)?.as_bytes(),
            files::PUBLIC,
        )?)
    }
}

/// Makes a folder with a record.
fn write_record(draft: &Path, record: &Signed<Record>) -> Result<()> {
    fs::DirBuilder::new().mode(0o700).create(draft)?;
    files::create(&draft.join("record.cbor"), &record.to_bytes(), files::PUBLIC)?;
    Ok(files::sync_folder(draft)?)
}

/// Puts a folder in the place of another in one step: a power cut leaves the one or the other.
fn put_in_place(draft: &Path, folder: &Path) -> Result<()> {
    let parent = folder.parent().context("a node's folder lies in the home")?;
    if folder.exists() {
        renameat_with(CWD, draft, CWD, folder, RenameFlags::EXCHANGE)?;
        files::sync_folder(parent)?;
        return Ok(fs::remove_dir_all(draft)?);
    }
    fs::rename(draft, folder)?;
    Ok(files::sync_folder(parent)?)
}

/// Sees that a node's folder can be copied there, before the node is made.
pub(crate) fn prepare_copy(to: &Path, replace: bool) -> Result<()> {
    let what = || format!("cannot copy a node's folder to {}", to.display());
    fs::create_dir_all(to).advise(what(), "name a folder that can be written with --out")?;
    let is_taken = ["pi-worker.toml", "node.key"].iter().any(|file| to.join(file).exists());
    if is_taken && !replace {
        return Err(problem(
            format!("{} has the folder of a node already", to.display()),
            "name another folder with --out, or say --force to replace it",
        ));
    }
    Ok(())
}

/// Copies a node's folder to a place of the person's choice, such as a mounted SD card.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    let what = || format!("cannot copy {} to {}", from.display(), to.display());
    fs::create_dir_all(to).with_context(what)?;
    for entry in fs::read_dir(from).with_context(what)? {
        let entry = entry.with_context(what)?;
        let secret = matches!(entry.file_name().to_str(), Some("node.key" | "password" | enroll::TOKEN));
        let mode = if secret { files::PRIVATE } else { files::PUBLIC };
        let bytes = fs::read(entry.path()).with_context(what)?;
        files::replace(&to.join(entry.file_name()), &bytes, mode).with_context(what)?;
    }
    Ok(())
}
