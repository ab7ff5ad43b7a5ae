//! What proves that a user is who it says: the digest of a generated token, or the argon2 hash of a chosen password.

use std::{
    collections::HashSet,
    io,
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHash, Version,
    password_hash::{self, Output, Salt},
};
use schemas::id::Digest;
use subtle::ConstantTimeEq;
use tokio::sync::oneshot;
use tracing::error;

/// What a hash may cost in memory (KiB) and rounds: far above what is recommended (19 MiB, 2), far below what would
/// stop a Pi.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_ROUNDS: u32 = 16;
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
        let params = Params::try_from(&hash).map_err(|_| InvalidSecret::Malformed)?;
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

/// Checks chosen passwords, on a thread of their own: a hash takes its time, and memory of which there is one piece for all. A
/// right one is remembered, so that reconnects are cheap: not itself, but a digest with a key that nobody knows and that
/// ends with the process.
#[derive(Debug)]
pub(super) struct Passwords {
    jobs: mpsc::Sender<Job>,
    key: Digest,
    remembered: Mutex<HashSet<Digest>>,
}

/// A password to be checked.
#[derive(Debug)]
struct Job {
    phc: Arc<str>,
    password: Vec<u8>,
    is_right: oneshot::Sender<bool>,
}

impl Passwords {
    /// Nothing is remembered.
    pub(super) fn new() -> io::Result<Self> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new().name("passwords".into()).spawn(move || {
            // Allocated anew for each hash, it would not be given back: glibc leaves gaps between aligned pieces.
            let mut memory = Vec::new();
            for job in queue {
                job.run(&mut memory);
            }
        })?;
        Ok(Self { jobs, key: Digest(key), remembered: Mutex::default() })
    }

    /// Whether this password was right before.
    pub(super) fn is_remembered(&self, phc: &str, password: &[u8]) -> bool {
        let mark = self.mark(phc, password);
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).contains(&mark)
    }

    /// Whether this is the password of the hash `phc`. Takes its time.
    pub(super) async fn check(&self, phc: &Arc<str>, password: &[u8]) -> bool {
        let (answer, is_right) = oneshot::channel();
        let job = Job { phc: Arc::clone(phc), password: password.to_vec(), is_right: answer };
        if self.jobs.send(job).is_err() {
            error!("the thread of the passwords is gone");
        }
        let is_right = is_right.await.unwrap_or(false);
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

impl Job {
    /// Checks the password, unless nobody waits for that any more.
    fn run(self, memory: &mut Vec<Block>) {
        if self.is_right.is_closed() {
            return;
        }
        let is_right = verify(&self.phc, &self.password, memory).unwrap_or_else(|err| {
            error!(error = %err, "a password could not be checked");
            false
        });
        // Who asked may have gone meanwhile.
        let _ = self.is_right.send(is_right);
    }
}

/// Whether `phc` is the hash of `password`; in constant time. `memory` grows to what the costliest hash needs.
fn verify(phc: &str, password: &[u8], memory: &mut Vec<Block>) -> Result<bool, password_hash::Error> {
    let hash = PasswordHash::new(phc)?;
    let version = hash.version.map(Version::try_from).transpose()?.unwrap_or_default();
    let (algorithm, params) = (Algorithm::try_from(hash.algorithm)?, Params::try_from(&hash)?);
    let (Some(salt), Some(expected)) = (hash.salt, hash.hash) else {
        return Err(password_hash::Error::PhcStringField);
    };
    let (mut salt_bytes, mut computed) = ([0; Salt::MAX_LENGTH], [0; Output::MAX_LENGTH]);
    let (salt, computed) = (salt.decode_b64(&mut salt_bytes)?, &mut computed[..expected.len()]);
    if memory.len() < params.block_count() {
        memory.resize(params.block_count(), Block::default());
    }
    let memory = &mut memory[..params.block_count()];
    Argon2::new(algorithm, version, params)
        .hash_password_into_with_memory(password, salt, computed, memory)?;
    Ok(expected.as_bytes().ct_eq(computed).into())
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
        // What an earlier hash left in memory changes nothing.
        assert!(!passwords.check(&phc, b"other").await && passwords.check(&phc, b"correct horse").await);
    }
}
