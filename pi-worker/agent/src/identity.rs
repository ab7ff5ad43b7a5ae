//! Who the node is: its files, and the newest record about it.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use bus_client::{Credentials, InvalidCa, Tls};
use schemas::{
    id::{Digest, FleetId, GroupId, NodeId, PublicKey, Seq},
    reason::Reason,
    record::{Record, RecordStatus},
    root::{Role, Root, RootError, Trust},
    seal::{SealError, SecretKey, Signed, Verified},
    time::UnixTime,
};
use tracing::warn;

use crate::{chain::chain, durable::read_at_most, memory::Memory, roots::Roots, settings::Settings};

/// Longest key and password file.
const MAX_SECRET_BYTES: usize = 1024;
/// Longest CA file: some certificates, with room for comments.
const MAX_CA_BYTES: usize = 64 * 1024;

/// Who the node is and whom it believes.
pub(crate) struct Identity {
    pub(crate) node: NodeId,
    pub(crate) fleet: FleetId,
    pub(crate) roots: Roots,
    pub(crate) key: SecretKey,
    pub(crate) credentials: Credentials,
    record: Verified<Record>,
    /// The version of the root in whose time the record was accepted.
    record_root: u64,
}

/// Why the node cannot say who it is.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read.
    #[error("cannot read {what} file {path}")]
    Unreadable {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{path} is no {what}")]
    NotOne {
        /// What should be in it.
        what: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The CA of bus and store is not usable.
    #[error("cannot use CA file {path}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// Why.
        source: InvalidCa,
    },
    /// The root document is not usable.
    #[error("cannot trust root file {path}")]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<RootError>,
    },
    /// The record is not believed.
    #[error("cannot believe record file {path}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<SealError>,
    },
    /// The files belong to different fleets, nodes or keys.
    #[error("{path} is for {what} {found}, the settings say {expected}")]
    Mismatch {
        /// The file.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// What the file says.
        found: String,
        /// What the settings or the other files say.
        expected: String,
    },
}

impl IdentityError {
    /// What a person should do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Unreadable { what: "record", source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "this node is not in the fleet yet: `pi-worker enroll` asks to be let in, and `publisher node add` makes its files"
            }
            Self::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                "copy the node's folder again, as `publisher node add` or `pi-worker enroll` made it"
            }
            Self::Unreadable { .. } => {
                "let the user that the worker runs as read it, with `chown` and `chmod`"
            }
            Self::NotOne { .. } => {
                "copy the file again, or make another one with `publisher node add NAME --force`"
            }
            Self::Ca { .. } => "copy `ca.pem` of the publisher's folder here",
            Self::Root { .. } => "copy `root.cbor` of the publisher's folder here",
            Self::Record { .. } => {
                "copy `record.cbor` of this node from `nodes` in the publisher's folder, and `root.cbor` of the same fleet"
            }
            Self::Mismatch { .. } => {
                "correct the settings, or copy all files of this node again from one folder, as `publisher node add` made it"
            }
        }
    }
}

/// Why a record is not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("record of {0} was published on another topic")]
    WrongNode(NodeId),
    #[error("record {got} is older than record {have}")]
    Older { have: Seq, got: Seq },
    #[error("two different records have number {0}")]
    Conflict(Seq),
}

impl RecordError {
    /// The code that reports carry.
    pub(crate) fn reason(&self) -> Reason {
        match self {
            Self::Seal(error) => error.reason(),
            Self::WrongNode(_) => Reason::WrongTopic,
            Self::Older { .. } => Reason::Replayed,
            Self::Conflict(_) => Reason::RevisionConflict,
        }
    }
}

impl Identity {
    /// Reads the files that the settings name; `memory` has the roots and the record that came over the bus.
    ///
    /// # Errors
    /// When a file is missing, is not believed, or does not fit the others.
    pub(crate) fn open(settings: &Settings, memory: &Memory) -> Result<Self, IdentityError> {
        let first = open_root(&settings.root, &settings.fleet)?;
        let roots = Roots::new(first, &memory.roots);
        let key = open_key(&settings.key)?;
        let (record, record_root) = open_record(settings, &roots, key.public())?;
        let mut identity = Self {
            node: settings.node.clone(),
            fleet: settings.fleet.clone(),
            credentials: Credentials::new(settings.node.as_str(), open_password(&settings.password)?),
            roots,
            key,
            record,
            record_root,
        };
        if let Some(bytes) = &memory.record
            && let Err(error) = identity.remember_record(bytes)
        {
            warn!(error = %chain(&error), "Remembered record is ignored, the one of the file counts");
        }
        Ok(identity)
    }

    /// The keys that count.
    pub(crate) fn trust(&self) -> &Trust {
        self.roots.current()
    }

    /// The groups whose orders the node obeys; none once it was retired.
    pub(crate) fn groups(&self) -> BTreeSet<GroupId> {
        match self.record.status {
            RecordStatus::Active => self.record.groups.clone(),
            RecordStatus::Revoked => BTreeSet::new(),
        }
    }

    /// The record that counts now.
    pub(crate) fn record(&self) -> &Verified<Record> {
        &self.record
    }

    /// Takes over a newer record; whether it was one.
    ///
    /// # Errors
    /// When it is not believed, or is older than the one that counts.
    pub(crate) fn accept_record(&mut self, bytes: &[u8]) -> Result<bool, RecordError> {
        let record = Signed::<Record>::from_bytes(bytes)?.verify(self.trust())?;
        self.take_record(record, self.trust().version())
    }

    /// Takes over a record that was accepted before the worker started: by the keys that counted then.
    fn remember_record(&mut self, bytes: &[u8]) -> Result<bool, RecordError> {
        let (record, root) = self.roots.verify(&Signed::from_bytes(bytes)?)?;
        self.take_record(record, root)
    }

    fn take_record(&mut self, record: Verified<Record>, root: u64) -> Result<bool, RecordError> {
        if record.node != self.node {
            return Err(RecordError::WrongNode(record.node.clone()));
        }
        let (have, got) = (self.record.seq, record.seq);
        // A stolen key may have used up the numbers.
        let begins_anew = self.record_root < self.roots.reset_of(Role::Ops) && root > self.record_root;
        if record.digest() == self.record.digest() {
            self.record_root = self.record_root.max(root);
            return Ok(false);
        }
        if got < have && !begins_anew {
            return Err(RecordError::Older { have, got });
        }
        if got == have && !begins_anew {
            return Err(RecordError::Conflict(got));
        }
        if record.key != self.key.public() {
            warn!(record = %got, "Fleet expects another key of this node and will not believe its reports");
        }
        (self.record, self.record_root) = (record, root);
        Ok(true)
    }
}

/// Whom TLS believes, when the settings name a CA; `earliest` is known to be past.
pub(crate) fn open_tls(settings: &Settings, earliest: UnixTime) -> Result<Option<Tls>, IdentityError> {
    let Some(path) = &settings.ca else { return Ok(None) };
    let pem = read_file("CA", path, MAX_CA_BYTES)?;
    let invalid = |source| IdentityError::Ca { path: path.to_owned(), source };
    Tls::pinned(&pem, earliest).map(Some).map_err(invalid)
}

pub(crate) fn open_root(path: &Path, fleet: &FleetId) -> Result<Trust, IdentityError> {
    let bytes = read_file("root", path, Signed::<Root>::MAX_BYTES)?;
    let refused = |error| IdentityError::Root { path: path.to_owned(), source: Box::new(error) };
    let signed = Signed::from_bytes(&bytes).map_err(|error| refused(error.into()))?;
    let trust = Trust::first(&signed).map_err(refused)?;
    same(path, "fleet", trust.fleet().as_str(), fleet.as_str())?;
    Ok(trust)
}

fn open_record(
    settings: &Settings,
    roots: &Roots,
    key: PublicKey,
) -> Result<(Verified<Record>, u64), IdentityError> {
    let path = &settings.record;
    let bytes = read_file("record", path, Signed::<Record>::MAX_BYTES)?;
    let (record, root) = Signed::<Record>::from_bytes(&bytes)
        .and_then(|signed| roots.verify(&signed))
        .map_err(|error| IdentityError::Record { path: path.clone(), source: Box::new(error) })?;
    same(path, "node", record.node.as_str(), settings.node.as_str())?;
    same(path, "key", &record.key.to_string(), &key.to_string())?;
    Ok((record, root))
}

pub(crate) fn open_key(path: &Path) -> Result<SecretKey, IdentityError> {
    /// Others may not even read it.
    const PRIVATE: u32 = 0o077;
    if fs::metadata(path).is_ok_and(|found| found.permissions().mode() & PRIVATE != 0) {
        warn!(path = %path.display(), "Others can read the key of this node: chmod 600");
    }
    let text = read_text("key", path)?;
    // A digest is the type with 32 bytes in hexadecimal.
    let seed: Digest = text
        .trim()
        .parse()
        .map_err(|_| IdentityError::NotOne { what: "key of 64 hexadecimal digits", path: path.to_owned() })?;
    Ok(SecretKey::from_seed(&seed.0))
}

pub(crate) fn open_password(path: &Path) -> Result<String, IdentityError> {
    let text = read_text("password", path)?;
    let password = text.trim();
    if password.is_empty() {
        return Err(IdentityError::NotOne { what: "password", path: path.to_owned() });
    }
    Ok(password.to_owned())
}

pub(crate) fn read_text(what: &'static str, path: &Path) -> Result<String, IdentityError> {
    String::from_utf8(read_file(what, path, MAX_SECRET_BYTES)?)
        .map_err(|_| IdentityError::NotOne { what, path: path.to_owned() })
}

fn read_file(what: &'static str, path: &Path, limit: usize) -> Result<Vec<u8>, IdentityError> {
    read_at_most(path, limit).map_err(|source| IdentityError::Unreadable {
        what,
        path: path.to_owned(),
        source,
    })
}

fn same(path: &Path, what: &'static str, found: &str, expected: &str) -> Result<(), IdentityError> {
    if found == expected {
        return Ok(());
    }
    let (found, expected) = (found.to_owned(), expected.to_owned());
    Err(IdentityError::Mismatch { path: path.to_owned(), what, found, expected })
}

#[cfg(test)]
mod tests {
    use schemas::root::RootChain;

    use super::*;
    use crate::testing::{self, Home};

    #[test]
    fn the_files_of_node_add_make_an_identity() {
        let home = Home::new();
        let identity = Identity::open(&home.settings(), &Memory::default()).unwrap();
        assert_eq!(identity.groups(), ["all".parse().unwrap(), "canary".parse().unwrap()].into());
        assert_eq!(identity.credentials.user, "pi-1");
    }

    #[test]
    fn a_newer_record_changes_the_groups_and_an_older_one_is_a_replay() {
        let home = Home::new();
        let mut identity = Identity::open(&home.settings(), &Memory::default()).unwrap();
        let newer = home.record(2, &["kitchen"], RecordStatus::Active);
        assert!(identity.accept_record(&newer).unwrap());
        assert!(!identity.accept_record(&newer).unwrap());
        assert_eq!(identity.groups(), ["kitchen".parse().unwrap()].into());
        for (record, reason) in [
            (home.record(1, &["all"], RecordStatus::Active), Reason::Replayed),
            (home.record(2, &["all"], RecordStatus::Active), Reason::RevisionConflict),
            (b"junk".to_vec(), Reason::Malformed),
        ] {
            assert_eq!(identity.accept_record(&record).unwrap_err().reason(), reason);
        }
        assert!(identity.accept_record(&home.record(3, &["kitchen"], RecordStatus::Revoked)).unwrap());
        assert!(identity.groups().is_empty());
    }

    #[test]
    fn the_remembered_record_counts_when_it_is_newer() {
        let home = Home::new();
        let with = |record: &[u8]| {
            let mut memory = Memory::default();
            memory.record = Some(record.to_vec().into());
            memory
        };
        let newer = with(&home.record(2, &["kitchen"], RecordStatus::Active));
        let identity = Identity::open(&home.settings(), &newer).unwrap();
        assert_eq!(identity.record().seq, Seq(2));
        let identity = Identity::open(&home.settings(), &with(b"junk")).unwrap();
        assert_eq!(identity.record().seq, Seq(1));
    }

    #[test]
    fn the_numbers_of_records_begin_anew_with_a_root_that_says_so() {
        let home = Home::new();
        let mut identity = Identity::open(&home.settings(), &Memory::default()).unwrap();
        assert!(identity.accept_record(&home.record(u64::MAX, &["stolen"], RecordStatus::Active)).unwrap());
        let chain = RootChain::new(1, testing::roots(2, &[(2, Role::Ops)]));
        assert!(identity.roots.follow(&chain).unwrap());
        let by_new_key = |seq| home.record_by(&testing::root_key(2), seq, &["kitchen"]);
        assert!(identity.accept_record(&by_new_key(2)).unwrap());
        assert_eq!(identity.accept_record(&by_new_key(1)).unwrap_err().reason(), Reason::Replayed);
        assert_eq!(identity.groups(), ["kitchen".parse().unwrap()].into());
    }

    #[test]
    fn files_that_are_missing_or_do_not_fit_are_named() {
        type Spoil = fn(&Home, &mut Settings);
        let spoils: [(Spoil, &str); 6] = [
            (|_, settings| settings.node = "pi-2".parse().unwrap(), "record.cbor is for node pi-1"),
            (|_, settings| settings.fleet = "other".parse().unwrap(), "root.cbor is for fleet home"),
            (|home, _| home.write("node.key", &[b'7'; 64]), "record.cbor is for key"),
            (|home, _| home.write("node.key", b"secret"), "node.key is no key of 64 hexadecimal digits"),
            (|home, _| home.write("password", b"\n"), "password is no password"),
            (|home, _| home.remove("root.cbor"), "cannot read root file"),
        ];
        for (spoil, expected) in spoils {
            let home = Home::new();
            let mut settings = home.settings();
            spoil(&home, &mut settings);
            let error =
                Identity::open(&settings, &Memory::default()).err().expect("spoilt files are refused");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
