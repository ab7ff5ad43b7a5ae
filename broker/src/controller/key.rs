//! The controller's own key: made at the first start, and never anybody else's.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use atomicwrites::{AllowOverwrite, AtomicFile};
use schemas::seal::SecretKey;
use zeroize::Zeroizing;

use crate::advice;

/// The file in the data folder.
const NAME: &str = "controller.key";

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// It can be neither read nor written.
    #[error("cannot use the controller's key {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is something else.
    #[error("{0} is not a key of 32 bytes")]
    Malformed(PathBuf),
    /// The system has no random numbers.
    #[error("cannot make a key")]
    Random(#[from] getrandom::Error),
}

impl KeyError {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Io { .. } => advice::DISK,
            Self::Malformed(_) => {
                "bring it back from a backup, or remove it, and the controller makes another one"
            }
            Self::Random(_) => "see that this machine has random numbers (/dev/urandom)",
        }
    }
}

/// The key in `data`, which is made when there is none.
pub(super) fn open(data: &Path) -> Result<SecretKey, KeyError> {
    let path = data.join(NAME);
    let failed = |source| KeyError::Io { path: path.clone(), source };
    match fs::read(&path).map(Zeroizing::new) {
        Ok(bytes) => {
            let seed: &[u8; 32] =
                bytes.as_slice().try_into().map_err(|_| KeyError::Malformed(path.clone()))?;
            Ok(SecretKey::from_seed(seed))
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => {
            let mut seed = Zeroizing::new([0; 32]);
            getrandom::fill(&mut seed[..])?;
            let mut options = fs::OpenOptions::new();
            options.mode(0o600).write(true).create_new(true);
            let file = AtomicFile::new(&path, AllowOverwrite);
            file.write_with_options(|file| file.write_all(&seed[..]), options)
                .map_err(|err| failed(err.into()))?;
            Ok(SecretKey::from_seed(&seed))
        }
        Err(err) => Err(failed(err)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_nobody_elses_to_read() {
        let folder = tempfile::TempDir::new().unwrap();
        let first = open(folder.path()).unwrap().public();
        assert_eq!(open(folder.path()).unwrap().public(), first);
        let path = folder.path().join(NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::write(&path, "short").unwrap();
        assert!(matches!(open(folder.path()), Err(KeyError::Malformed(_))));
    }
}
