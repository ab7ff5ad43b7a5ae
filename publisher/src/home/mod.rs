//! The publisher's home: the fleet's settings and keys, the nodes that were added, what was announced.

mod ca;
pub(crate) mod controllers;
pub(crate) mod files;
pub(crate) mod history;
pub(crate) mod init;
pub(crate) mod keys;
pub(crate) mod nodes;
pub(crate) mod roots;
pub(crate) mod users;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::Result;
use bus_client::{Credentials, Tls, bus::BusUrl, store::StoreUrl};
use schemas::{
    id::{FleetId, PublicKey},
    root::{Role, Root, Trust},
    seal::{SecretKey, Signed},
    time::UnixTime,
};
use serde::{Deserialize, Serialize};

use self::{
    keys::{Asker, Unlocked},
    users::{Secret, UsersFile},
};
use crate::{
    clock,
    problem::{Advise as _, problem},
};

/// What to do when a home takes no files.
pub(crate) const WRITABLE: &str =
    "a home must be writable and have free space: mend that, or copy it and say where with --home";
/// The file of those CAs that bus and store are believed by, in the home and in a node's folder.
const CA: &str = "ca.pem";
/// Folder of what can be lost.
const CACHES: &str = "cache";

/// `fleet.toml`: where the fleet is and who this publisher is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) fleet: FleetId,
    pub(crate) bus: BusUrl,
    pub(crate) store: StoreUrl,
    /// The only CA that bus and store are believed by, as a path in the home; those that browsers believe when there is
    /// none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    pub(crate) user: String,
    password: String,
}

impl Settings {
    /// Name and password for bus and store.
    pub(crate) fn credentials(&self) -> Credentials {
        Credentials::new(&self.user, &self.password)
    }
}

/// A home that `publisher init` made.
#[derive(Debug)]
pub(crate) struct Home {
    dir: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) trust: Trust,
    /// Opens key files that have a passphrase.
    pub(crate) asker: Asker,
}

impl Home {
    /// Whether a fleet was made in `dir`.
    pub(crate) fn is_at(dir: &Path) -> bool {
        dir.join("fleet.toml").exists()
    }

    /// Opens the home in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let file = dir.join("fleet.toml");
        if !Self::is_at(dir) {
            return Err(problem(
                format!("there is no fleet in {}", dir.display()),
                "make one with `publisher init`, or say where it is with --home",
            ));
        }
        let what = || format!("cannot use {}", file.display());
        let text = fs::read_to_string(&file).advise(what(), "make it readable for you")?;
        let settings: Settings = toml::from_str(&text).advise(what(), "correct the line that is shown")?;
        let trust = read_trust(&dir.join("root.cbor"))?;
        if *trust.fleet() != settings.fleet {
            return Err(problem(
                format!("{} says fleet {}, root.cbor says {}", file.display(), settings.fleet, trust.fleet()),
                "set `fleet` back: another fleet is made with `publisher init --home DIR --fleet NAME`",
            ));
        }
        Ok(Self { dir: dir.to_owned(), settings, trust, asker: Asker::default() })
    }

    /// Where digests are kept between packings.
    pub(crate) fn caches(&self) -> PathBuf {
        self.dir.join(CACHES)
    }

    /// A path in the home.
    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.join(name)
    }

    /// What to do when the broker does not let this home in.
    pub(crate) fn let_in(&self) -> String {
        format!(
            "copy {} to the broker's machine; user and password here are those in {}",
            self.path("broker/users").display(),
            self.path("fleet.toml").display()
        )
    }

    /// Whom TLS believes, where the settings name a CA.
    pub(crate) fn tls(&self) -> Result<Option<Tls>> {
        let Some(ca) = &self.settings.ca else { return Ok(None) };
        let path = self.path(ca);
        let what = format!("cannot use CA file {}", path.display());
        let advice = "bring it back from a backup, or from a node's folder, which has a copy";
        let pem = fs::read(&path).advise(&what, advice)?;
        Tls::pinned(&pem, UnixTime(0)).advise(what, advice).map(Some)
    }

    /// Who may log in to the broker.
    pub(crate) fn users(&self) -> UsersFile {
        UsersFile::at(&self.path("broker/users"))
    }

    /// Keeps a changed secret of those users that the home has on its own account.
    pub(crate) fn keep_secret(&self, user: &str, secret: &Secret) -> Result<()> {
        let (path, text) = if user == self.settings.user {
            let settings = Settings { password: secret.text().to_owned(), ..self.settings.clone() };
            (self.path("fleet.toml"), toml::to_string(&settings)?)
        } else if user == init::WATCHER {
            (self.path("watcher.password"), format!("{}\n", secret.text()))
        } else {
            return Ok(());
        };
        files::replace(&path, text.as_bytes(), files::PRIVATE)
            .advise(format!("cannot write {}", path.display()), WRITABLE)
    }

    /// The secret key of a role: what the environment gives, else the file.
    pub(crate) fn key(&self, role: Role) -> Result<SecretKey> {
        self.unlocked(role).map(|unlocked| unlocked.key)
    }

    /// The secret key of a role whose signature alone is believed.
    pub(crate) fn sole_key(&self, role: Role, instead: &str) -> Result<SecretKey> {
        let (named, name) = (self.trust.keys(role), role.name());
        if named.threshold() > 1 {
            return Err(problem(
                format!(
                    "{} keys have to sign what the {name} key of this home would sign alone",
                    named.threshold()
                ),
                instead,
            ));
        }
        self.key(role)
    }

    fn unlocked(&self, role: Role) -> Result<Unlocked> {
        match keys::from_environment(role, &self.asker)? {
            Some(given) => Ok(given),
            None => keys::load_named(&self.key_file(role), self.is_named(role), &self.asker),
        }
    }

    /// The public half of the key of a role that lies here, when the root names it. Asks for no passphrase.
    pub(crate) fn holds(&self, role: Role) -> Option<PublicKey> {
        let given = keys::peek_environment(role).filter(self.is_named(role));
        given.or_else(|| keys::peek_named(&self.key_file(role), self.is_named(role)))
    }

    /// Held by a command that changes keys, from its first look at the root to the end.
    pub(crate) fn lock_keys(dir: &Path) -> Result<File> {
        let path = dir.join("keys.lock");
        let file = File::create(&path).and_then(|file| file.lock().map(|()| file));
        file.advise(format!("cannot lock {}", path.display()), WRITABLE)
    }

    fn is_named(&self, role: Role) -> impl Fn(&PublicKey) -> bool {
        let named = self.trust.keys(role).keys();
        move |key| named.contains(key)
    }

    /// The file of the key that this home has of a role.
    pub(crate) fn key_file(&self, role: Role) -> PathBuf {
        self.dir.join(format!("keys/{}.key", role.name()))
    }

    /// The time to sign with: by what the clock says, nothing may be signed that nodes could not accept.
    pub(crate) fn signing_time(&self) -> Result<UnixTime> {
        let (now, end) = (clock::plausible(clock::now())?, self.trust.expires());
        if now >= end {
            return Err(problem(
                format!("the root of fleet {} expired at {end}, and it is {now} now", self.settings.fleet),
                "if the clock of this machine is wrong, set it; else make the next root with `publisher keys rotate root`",
            ));
        }
        Ok(now)
    }

    /// Held while numbers are chosen, so that two commands at once do not choose the same.
    pub(crate) fn lock(&self) -> Result<File> {
        let path = self.dir.join("lock");
        let file = File::create(&path).and_then(|file| file.lock().map(|()| file));
        file.advise(format!("cannot lock {}", path.display()), WRITABLE)
    }
}

/// Where digests are kept between packings, when there is a home in `dir`: packing needs none.
pub(crate) fn caches(dir: &Path) -> Option<PathBuf> {
    Home::is_at(dir).then(|| dir.join(CACHES))
}

/// The trust that a root file gives.
pub(crate) fn read_trust(path: &Path) -> Result<Trust> {
    let what = || format!("cannot use {}", path.display());
    let advice = "bring it back from a backup, or from a node's folder, which has a copy";
    let bytes = fs::read(path).advise(what(), advice)?;
    let root: Signed<Root> = Signed::from_bytes(&bytes).advise(what(), advice)?;
    Trust::first(&root).advise(what(), advice)
}
