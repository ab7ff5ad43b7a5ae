//! How errors of the disk and of the store become the faults that a machine acts on.

use std::{io, path::Path};

use bus_client::store::StoreError;
use machine::Fault;
use schemas::reason::Reason;

use crate::{chain::chain, durable::DurableError};

/// A fault that the same again will not mend.
pub(crate) fn permanent(reason: Reason, text: impl Into<String>) -> Fault {
    Fault { reason, text: text.into(), log_tail: Vec::new(), transient: false }
}

/// What the disk refused to do with `path`.
pub(crate) fn disk(action: &str, path: &Path, error: &io::Error) -> Fault {
    let reason = if is_full(error) { Reason::DiskFull } else { Reason::DiskError };
    permanent(reason, format!("cannot {action} {}: {error}", path.display()))
}

/// What the disk refused to do with one of our small files.
pub(crate) fn durable(error: &DurableError) -> Fault {
    permanent(if error.is_full() { Reason::DiskFull } else { Reason::DiskError }, chain(error))
}

/// What the store refused.
pub(crate) fn store(error: &StoreError) -> Fault {
    let reason = match error {
        StoreError::TooLong { .. } => Reason::DigestMismatch,
        error if error.is_absent() => Reason::ObjectMissing,
        _ => Reason::StoreUnreachable,
    };
    Fault { reason, text: chain(error), log_tail: Vec::new(), transient: error.is_transient() }
}

/// The answer of work that was told to end early.
pub(crate) fn cancelled() -> Fault {
    permanent(Reason::Superseded, "was cancelled")
}

/// Whether the disk, or the user's share of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_told_from_a_broken_one() {
        let full = disk("write", Path::new("/x"), &io::ErrorKind::StorageFull.into());
        let broken = disk("write", Path::new("/x"), &io::Error::from_raw_os_error(5));
        assert_eq!((full.reason, broken.reason), (Reason::DiskFull, Reason::DiskError));
        assert!(!full.transient && broken.text.starts_with("cannot write /x: "));
    }
}
