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
    enroll::{self, Welcome, words},
    id::{Digest, KeyId, PublicKey},
    record::{Record, RecordStatus},
    root::{Root, RootChain, RootError, Trust},
    seal::{Head, SealError, SecretKey, Signed},
};
use tokio::time::sleep;

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
    /// What the broker answers is not what the fleet's keys have signed.
    #[error("what the broker answers is not believed: {0}")]
    NotBelieved(String),
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

/// What a factory lists: name, public key and the digest of the token that the node will log in with.
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
    finish_renewal(settings)
}

/// Ends a renewal that was cut short after the new token had begun to count.
///
/// # Errors
/// When files cannot be used.
pub fn finish_renewal(settings: &Settings) -> Result<(), EnrollError> {
    let next = next_of(&settings.password);
    if !next.exists() || !settings.record.exists() {
        return Ok(());
    }
    let login = Digest::of(identity::open_password(&next)?.as_bytes());
    let record = fs::read(&settings.record).ok().and_then(|bytes| Signed::<Record>::from_bytes(&bytes).ok());
    let counts = record
        .and_then(|record| record.verify(&identity::open_root(&settings.root, &settings.fleet).ok()?).ok());
    if counts.is_none_or(|record| record.login != Some(login)) {
        return Ok(());
    }
    let failed = |source| EnrollError::Write { path: settings.password.clone(), source };
    fs::rename(&next, &settings.password).map_err(failed)
}

/// `token` is the file of the token that the node will log in with.
async fn ask(settings: &Settings, token: &Path, mut say: impl FnMut(&News)) -> Result<(), EnrollError> {
    let (key, login) = keys(settings, token)?;
    let invitation = if settings.invitation.exists() {
        Some(identity::read_text("invitation", &settings.invitation)?)
    } else {
        None
    };
    let known = if settings.root.exists() {
        Some(identity::open_root(&settings.root, &settings.fleet)?)
    } else {
        None
    };
    let tls = identity::open_tls(settings, BUILD_DATE)?;
    let store = Store::open(settings.store.clone(), None, tls.as_ref())?;
    loop {
        let head = Head::new(settings.fleet.clone(), clock::system().max(BUILD_DATE));
        let proof = invitation.as_deref().map(str::trim);
        let request = enroll::request(head, settings.node.clone(), &key, login, proof);
        let request = Signed::seal(&request, std::slice::from_ref(&key)).to_bytes();
        let wait = match store.ask_to_be_let_in(&request, Welcome::MAX_BYTES as u64).await {
            Ok(Door::Open(welcome)) => {
                return take(settings, &key, login, known.as_ref(), &welcome);
            }
            Ok(Door::Waiting(welcome)) => {
                let (_, trust) = newest_root(&read(&welcome)?, known.as_ref())?;
                let key = key.public();
                say(&News::Waiting { words: words(&trust.digest(), &key), key: key.id() });
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

/// The newest root: one that follows the root that the node knows, or the one that people confirm by the words.
fn newest_root(
    welcome: &Welcome,
    known: Option<&Trust>,
) -> Result<(Option<Signed<Root>>, Trust), EnrollError> {
    let chain = RootChain::from_bytes(&welcome.trust)?;
    let Some(known) = known else {
        let missing = || EnrollError::NotBelieved("there is no root document in it".to_owned());
        let newest = chain.newest().ok_or_else(missing)?;
        return Ok((Some(newest.clone()), Trust::first(newest)?));
    };
    let (mut trust, mut newest) = (known.clone(), None);
    while let Some((next, signed)) = trust.follow(&chain)? {
        (trust, newest) = (next, Some(signed));
    }
    Ok((newest, trust))
}

/// Stores root and record, once they are what they should be.
fn take(
    settings: &Settings,
    key: &SecretKey,
    login: Digest,
    known: Option<&Trust>,
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
