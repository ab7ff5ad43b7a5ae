//! How a node that makes its own key comes into the fleet: it asks at the broker's store until its record is signed.
//!
//! The files that it writes are those that [`crate::run`] reads. The record is the last of them, so that a node that was cut
//! off asks again, with the same key.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use bus_client::store::{Door, Store, StoreError};
use schemas::{
    enroll::{self, Request, Welcome, words},
    id::{Digest, KeyId, PublicKey, Seq},
    record::{Record, RecordStatus},
    root::{Root, RootChain, RootError, Trust},
    seal::{Head, SealError, SecretKey, Signed, Verified},
};
use tokio::time::{sleep, timeout};

use crate::{
    clock::{self, BUILD_DATE},
    identity::{self, IdentityError},
    settings::Settings,
    whole::{replace_file, replace_secret},
};

/// How often it asks.
const PERIOD: Duration = Duration::from_secs(2);
/// How often when others wait, too, or nobody answers.
const LONG_PERIOD: Duration = Duration::from_secs(10);
/// How long a worker that starts waits to hear whether a new token counts.
const PATIENCE: Duration = Duration::from_secs(5);

/// What there is to say while a node waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// People are to let it in; both sides show these words.
    Waiting {
        /// Six of them.
        words: String,
        /// The id of its key.
        key: KeyId,
    },
    /// Too many wait.
    Full,
    /// Nobody answers; it asks again.
    Unreachable(String),
}

/// Why a node cannot come in.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// One of its files cannot be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// One of its files cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the disk said.
        source: io::Error,
    },
    /// The system gives no random numbers.
    #[error("cannot get random numbers from the system")]
    Random(#[source] getrandom::Error),
    /// It cannot ask.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not let in.
    #[error("the broker does not let this node ask: {0}")]
    Closed(String),
    /// Nobody has said which fleet's keys count.
    #[error("no root document says which fleet this is")]
    NoRoot,
    /// What the broker answers is not what the fleet's keys have signed.
    #[error("what the broker answers is not believed: {0}")]
    NotBelieved(String),
}

impl EnrollError {
    /// What a person should do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Identity(error) => error.advice(),
            Self::Write { .. } => "see that this user may write there, and that the disk has space",
            Self::Random(_) => "see that this machine has random numbers (/dev/urandom)",
            Self::Store(error) => error.advice(),
            Self::Closed(_) => {
                "see that the node's name and fleet are right, and that the broker's settings have `root`"
            }
            Self::NoRoot => {
                "copy `root.cbor` of the publisher's folder beside the settings, or say it with --root"
            }
            Self::NotBelieved(_) => {
                "see that `store` is that of this fleet's broker; if it is, copy `root.cbor` of the publisher's folder beside the settings"
            }
        }
    }
}

impl From<RootError> for EnrollError {
    fn from(error: RootError) -> Self {
        Self::NotBelieved(error.to_string())
    }
}

impl From<SealError> for EnrollError {
    fn from(error: SealError) -> Self {
        Self::NotBelieved(error.to_string())
    }
}

/// What a factory lists of a node: public key and the digest of the token that it will log in with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The key that the node made.
    pub key: PublicKey,
    /// SHA-256 of its token.
    pub login: Digest,
}

/// Whether a node with these settings was invited and has not come yet.
pub fn is_invited(settings: &Settings) -> bool {
    settings.invitation.exists() && !settings.record.exists()
}

/// Makes the key and the token of a node that has none, and says what others may know of them.
///
/// # Errors
/// When they cannot be stored, or are there and cannot be used.
pub fn make_keys(settings: &Settings) -> Result<Listed, EnrollError> {
    let (key, login) = keys(settings, &settings.password)?;
    Ok(Listed { key: key.public(), login })
}

/// Asks until the node is let in, and stores what it has to know. `say` hears what there is to say, again and again.
///
/// # Errors
/// When files cannot be used, when the broker does not let it ask, or when what that says is not believed.
pub async fn enroll(settings: &Settings, say: impl FnMut(&News)) -> Result<(), EnrollError> {
    ask(settings, &settings.password, say).await
}

/// As [`enroll`], with another token: the present one counts until the fleet has let the node in with the new one.
///
/// # Errors
/// As of [`enroll`].
pub async fn renew(settings: &Settings, say: impl FnMut(&News)) -> Result<(), EnrollError> {
    ask(settings, &next_of(&settings.password), say).await?;
    finish_renewal(settings).await
}

/// Ends a renewal that was cut short, if the new token counts by now: asks once, where that is not known here.
///
/// # Errors
/// When files cannot be used.
pub async fn finish_renewal(settings: &Settings) -> Result<(), EnrollError> {
    let next = next_of(&settings.password);
    if !next.exists() || !settings.record.exists() {
        return Ok(());
    }
    if !has_login(settings, &next)? {
        let once = ask(settings, &next, |_| {});
        if !matches!(timeout(PATIENCE, once).await, Ok(Ok(()))) {
            // The old token counts, as far as anybody knows.
            return Ok(());
        }
    }
    let failed = |source| EnrollError::Write { path: settings.password.clone(), source };
    fs::rename(&next, &settings.password).map_err(failed)
}

/// Whether the record on the disk is for the token in this file.
fn has_login(settings: &Settings, token: &Path) -> Result<bool, EnrollError> {
    let login = Digest::of(identity::open_password(token)?.as_bytes());
    let trust = identity::open_root(&settings.root, &settings.fleet)?;
    let record = fs::read(&settings.record).ok().and_then(|bytes| Signed::<Record>::from_bytes(&bytes).ok());
    Ok(record.and_then(|record| record.verify(&trust).ok()).is_some_and(|record| record.login == Some(login)))
}

/// `token` is the file of the token that the node will log in with.
async fn ask(settings: &Settings, token: &Path, mut say: impl FnMut(&News)) -> Result<(), EnrollError> {
    let mut asker = Asker::open(settings, token)?;
    let tls = identity::open_tls(settings, BUILD_DATE)?;
    let store = Store::open(settings.store.clone(), None, tls.as_ref())?;
    loop {
        let wait = match store.ask_to_be_let_in(&asker.request(), Welcome::MAX_BYTES as u64).await {
            Ok(Door::Open(welcome)) => return asker.enter(&welcome),
            Ok(Door::Waiting(welcome)) => {
                say(&asker.wait(&welcome)?);
                PERIOD
            }
            Ok(Door::Full) => {
                say(&News::Full);
                LONG_PERIOD
            }
            Ok(Door::Closed(why)) => return Err(EnrollError::Closed(why)),
            Err(error) if error.is_transient() => {
                say(&News::Unreachable(crate::chain::chain(&error)));
                LONG_PERIOD
            }
            Err(error) => return Err(error.into()),
        };
        sleep(wait).await;
    }
}

/// A node that asks, and what it has learned at the door.
struct Asker<'a> {
    settings: &'a Settings,
    key: SecretKey,
    login: Digest,
    invitation: Option<String>,
    /// What people compared, or brought here: the one root that counts.
    known: Option<Trust>,
    /// The number of the record that it has already.
    renews: Option<Seq>,
}

impl<'a> Asker<'a> {
    fn open(settings: &'a Settings, token: &Path) -> Result<Self, EnrollError> {
        let (key, login) = keys(settings, token)?;
        let is_invited = settings.invitation.exists();
        let invitation =
            is_invited.then(|| identity::read_text("invitation", &settings.invitation)).transpose()?;
        let is_known = settings.root.exists();
        let known = is_known.then(|| identity::open_root(&settings.root, &settings.fleet)).transpose()?;
        Ok(Self { settings, key, login, invitation, known, renews: None })
    }

    fn request(&self) -> Vec<u8> {
        let head = Head::new(self.settings.fleet.clone(), clock::system().max(BUILD_DATE));
        let proof = self.invitation.as_deref().map(str::trim);
        let request = enroll::request(head, self.settings.node.clone(), &self.key, self.login, proof);
        let request = Request { renews: self.renews, ..request };
        Signed::seal(&request, std::slice::from_ref(&self.key)).to_bytes()
    }

    fn enter(&self, welcome: &[u8]) -> Result<(), EnrollError> {
        let known = self.known.as_ref().ok_or(EnrollError::NoRoot)?;
        take(self.settings, &self.key, self.login, known, welcome)
    }

    /// The words that people compare, of the root that was known before or is pinned now.
    fn wait(&mut self, welcome: &[u8]) -> Result<News, EnrollError> {
        let welcome = read(welcome)?;
        let trust = match &self.known {
            Some(known) => newest_root(&welcome, known)?.1,
            None => pin(self.settings, &welcome)?,
        };
        self.renews = record_of(&welcome, &trust, &self.key).map(|record| record.seq);
        let key = self.key.public();
        let news = News::Waiting { words: words(&trust.digest(), &key), key: key.id() };
        self.known = Some(trust);
        Ok(news)
    }
}

fn keys(settings: &Settings, token: &Path) -> Result<(SecretKey, Digest), EnrollError> {
    if !settings.key.exists() {
        store_secret(&settings.key, &random()?)?;
    }
    if !token.exists() {
        store_secret(token, &random()?)?;
    }
    let token = identity::open_password(token)?;
    Ok((identity::open_key(&settings.key)?, Digest::of(token.as_bytes())))
}

fn next_of(password: &Path) -> PathBuf {
    password.with_extension("next")
}

/// 256 random bits, as hexadecimal digits.
fn random() -> Result<String, EnrollError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(EnrollError::Random)?;
    Ok(Digest(bytes).to_string())
}

fn store_secret(path: &Path, text: &str) -> Result<(), EnrollError> {
    let failed = |source| EnrollError::Write { path: path.to_owned(), source };
    replace_secret(path, format!("{text}\n").as_bytes()).map_err(failed)
}

fn read(welcome: &[u8]) -> Result<Welcome, EnrollError> {
    Welcome::from_bytes(welcome).map_err(|error| EnrollError::NotBelieved(error.to_string()))
}

/// Believes the root that people are about to compare by the words, from now on and after the next start.
fn pin(settings: &Settings, welcome: &Welcome) -> Result<Trust, EnrollError> {
    let chain = RootChain::from_bytes(&welcome.trust)?;
    let newest = chain.newest().ok_or(EnrollError::NoRoot)?;
    let trust = Trust::first(newest)?;
    if *trust.fleet() != settings.fleet {
        return Err(EnrollError::NotBelieved(format!("it is of fleet {}", trust.fleet())));
    }
    replace(&settings.root, &newest.to_bytes())?;
    Ok(trust)
}

/// The newest root that follows the one that the node knows.
fn newest_root(welcome: &Welcome, known: &Trust) -> Result<(Option<Signed<Root>>, Trust), EnrollError> {
    let chain = RootChain::from_bytes(&welcome.trust)?;
    let (mut trust, mut newest) = (known.clone(), None);
    while let Some((next, signed)) = trust.follow(&chain)? {
        (trust, newest) = (next, Some(signed));
    }
    Ok((newest, trust))
}

/// The record that the fleet has of this node already.
fn record_of(welcome: &Welcome, trust: &Trust, key: &SecretKey) -> Option<Verified<Record>> {
    let record = Signed::<Record>::from_bytes(&welcome.record).ok()?.verify(trust).ok()?;
    (record.key == key.public()).then_some(record)
}

/// Stores root and record, once they are what they should be.
fn take(
    settings: &Settings,
    key: &SecretKey,
    login: Digest,
    known: &Trust,
    welcome: &[u8],
) -> Result<(), EnrollError> {
    let welcome = read(welcome)?;
    let (root, trust) = newest_root(&welcome, known)?;
    let record = Signed::<Record>::from_bytes(&welcome.record)?.verify(&trust)?;
    let is_ours = *trust.fleet() == settings.fleet
        && record.node == settings.node
        && record.key == key.public()
        && record.login == Some(login)
        && record.status == RecordStatus::Active;
    if !is_ours {
        return Err(EnrollError::NotBelieved("the record is not this node's".to_owned()));
    }
    if let Some(root) = root {
        replace(&settings.root, &root.to_bytes())?;
    }
    replace(&settings.record, &welcome.record)?;
    // Worth nothing any more.
    let _ = fs::remove_file(&settings.invitation);
    Ok(())
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), EnrollError> {
    replace_file(path, bytes).map_err(|source| EnrollError::Write { path: path.to_owned(), source })
}
