//! What proves that a user is who it says: the digest of a generated token, or the argon2 hash of a chosen password.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

use argon2::{Argon2, PasswordHash, PasswordVerifier};
use schemas::id::Digest;
use subtle::ConstantTimeEq;
use tokio::{sync::Semaphore, task::spawn_blocking};
use tracing::error;

/// What a hash may cost in memory (KiB) and rounds: far above what is recommended (19 MiB, 2), far below what would
/// stop a Pi.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_ROUNDS: u32 = 16;
/// How many hashes are computed at a time: each takes the memory that it says.
const AT_A_TIME: usize = 2;
/// How many right passwords are remembered.
const MAX_REMEMBERED: usize = 10_000;

/// How a user is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Secret {
    /// SHA-256 of a token of 256 random bits: gives nothing away, and a storm of reconnects stays cheap.
    Token(Digest),
    /// What people choose can be guessed, so that each guess has to cost: a PHC string of argon2.
    Password(Arc<str>),
}

/// Why a text is no secret. It is not quoted: whoever wrote a password there by mistake must not find it in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InvalidSecret {
    /// Neither of the two forms.
    Malformed,
    /// An argon2 hash that would cost too much.
    TooCostly,
}

impl Secret {
    /// Reads `sha256:<hex>` or `argon2:<PHC string>`.
    pub(super) fn parse(text: &str) -> Result<Self, InvalidSecret> {
        if let Some(hex) = text.strip_prefix("sha256:") {
            return hex.parse().map(Self::Token).map_err(|_| InvalidSecret::Malformed);
        }
        let phc = text.strip_prefix("argon2:").ok_or(InvalidSecret::Malformed)?;
        let hash = PasswordHash::new(phc).map_err(|_| InvalidSecret::Malformed)?;
        let params = argon2::Params::try_from(&hash).map_err(|_| InvalidSecret::Malformed)?;
        if hash.hash.is_none() || !hash.algorithm.as_str().starts_with("argon2") {
            return Err(InvalidSecret::Malformed);
        }
        if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_ROUNDS {
            return Err(InvalidSecret::TooCostly);
        }
        Ok(Self::Password(phc.into()))
    }
}

/// Whether `token` has this digest; in constant time.
pub(super) fn is_token(digest: &Digest, token: &[u8]) -> bool {
    digest.0.ct_eq(&Digest::of(token).0).into()
}

/// Checks chosen passwords, off the threads that serve clients. A right one is remembered, so that reconnects are cheap:
/// not itself, but a digest with a key that nobody knows and that ends with the process.
#[derive(Debug)]
pub(super) struct Passwords {
    places: Semaphore,
    key: Digest,
    remembered: Mutex<HashSet<Digest>>,
}

impl Passwords {
    /// Nothing is remembered.
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self { places: Semaphore::new(AT_A_TIME), key: Digest(key), remembered: Mutex::default() })
    }

    /// Whether this password was right before.
    pub(super) fn is_remembered(&self, phc: &str, password: &[u8]) -> bool {
        let mark = self.mark(phc, password);
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).contains(&mark)
    }

    /// Whether this is the password of the hash `phc`. Takes its time.
    pub(super) async fn check(&self, phc: &Arc<str>, password: &[u8]) -> bool {
        let Ok(_place) = self.places.acquire().await else { return false };
        let (hash, given) = (Arc::clone(phc), password.to_vec());
        let checked = spawn_blocking(move || {
            let hash = PasswordHash::new(&hash).map_err(|err| err.to_string())?;
            Ok::<_, String>(Argon2::default().verify_password(&given, &hash).is_ok())
        });
        let is_right = match checked.await {
            Ok(Ok(is_right)) => is_right,
            Ok(Err(err)) => return broken(&err),
            Err(err) => return broken(&err.to_string()),
        };
        if is_right {
            let mark = self.mark(phc, password);
            let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            if remembered.len() >= MAX_REMEMBERED {
                remembered.clear();
            }
            remembered.insert(mark);
        }
        is_right
    }

    fn mark(&self, phc: &str, password: &[u8]) -> Digest {
        Digest::of(&[&self.key.0[..], phc.as_bytes(), b"\0", password].concat())
    }
}

fn broken(what: &str) -> bool {
    error!(error = what, "a password could not be checked");
    false
}

/// `correct horse`, at the lowest cost that there is.
#[cfg(test)]
pub(super) const HORSE: &str =
    "$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$x59UGLuAwBDnzRfVUBQJ7zA6GJrOY5gZkOVPda70TuA";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_two_forms() {
        let digest = Digest::of(b"token");
        assert_eq!(Secret::parse(&format!("sha256:{digest}")), Ok(Secret::Token(digest)));
        assert!(matches!(Secret::parse(&format!("argon2:{HORSE}")), Ok(Secret::Password(_))));
        for bad in ["", "plain", "sha256:12", "argon2:", "argon2:$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ"] {
            assert_eq!(Secret::parse(bad), Err(InvalidSecret::Malformed), "{bad}");
        }
        let foreign = HORSE.replace("argon2id", "scrypt");
        assert_eq!(Secret::parse(&format!("argon2:{foreign}")), Err(InvalidSecret::Malformed));
        for costly in [HORSE.replace("m=8", "m=1000000"), HORSE.replace("t=1", "t=9999")] {
            assert_eq!(Secret::parse(&format!("argon2:{costly}")), Err(InvalidSecret::TooCostly));
        }
    }

    #[tokio::test]
    async fn a_right_password_is_remembered_for_its_hash_alone() {
        let passwords = Passwords::new().unwrap();
        let phc: Arc<str> = HORSE.into();
        assert!(!passwords.check(&phc, b"wrong").await && !passwords.is_remembered(&phc, b"wrong"));
        assert!(!passwords.is_remembered(&phc, b"correct horse"));
        assert!(passwords.check(&phc, b"correct horse").await);
        assert!(passwords.is_remembered(&phc, b"correct horse"));
        assert!(!passwords.is_remembered("another hash", b"correct horse"));
    }
}
