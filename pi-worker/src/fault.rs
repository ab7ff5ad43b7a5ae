//! How things that go wrong on the disk become faults that the machine and people understand.

use std::{io, path::Path};

use machine::Fault;
use schemas::reason::Reason;

/// A fault that ends a command.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
pub(crate) struct Failed {
    reason: Reason,
    text: String,
}

impl Failed {
    /// What a person should do about it.
    pub(crate) fn advice(&self) -> &'static str {
        self.reason.advice()
    }
}

impl From<Fault> for Failed {
    fn from(Fault { reason, text, .. }: Fault) -> Self {
        Self { reason, text }
    }
}

/// A fault without a log tail that stays the same when it is tried again.
pub(crate) fn fault(reason: Reason, text: impl Into<String>) -> Fault {
    Fault { reason, text: text.into(), log_tail: Vec::new(), transient: false }
}

/// The error with all its causes, in one line.
pub(crate) fn chain(err: impl Into<anyhow::Error>) -> String {
    format!("{:#}", err.into())
}

/// Says what was being done to which path when the disk refused.
pub(crate) trait OnPath<T> {
    /// `doing` completes "cannot …", as in `create`.
    fn on_path(self, doing: &str, path: &Path) -> Result<T, Fault>;
}

impl<T> OnPath<T> for io::Result<T> {
    fn on_path(self, doing: &str, path: &Path) -> Result<T, Fault> {
        self.map_err(|err| disk_fault(doing, path, &err))
    }
}

impl<T> OnPath<T> for rustix::io::Result<T> {
    fn on_path(self, doing: &str, path: &Path) -> Result<T, Fault> {
        self.map_err(io::Error::from).on_path(doing, path)
    }
}

fn disk_fault(doing: &str, path: &Path, err: &io::Error) -> Fault {
    let reason = match err.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reason::DiskFull,
        _ => Reason::DiskError,
    };
    fault(reason, format!("cannot {doing} {}: {err}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(kind: io::ErrorKind) -> Fault {
        disk_fault("write", Path::new("/x/y"), &kind.into())
    }

    #[test]
    fn a_full_disk_and_a_used_up_quota_are_told_from_a_broken_disk() {
        assert_eq!(of(io::ErrorKind::StorageFull).reason, Reason::DiskFull);
        assert_eq!(of(io::ErrorKind::QuotaExceeded).reason, Reason::DiskFull);
        assert_eq!(of(io::ErrorKind::ReadOnlyFilesystem).reason, Reason::DiskError);
        assert!(of(io::ErrorKind::StorageFull).text.starts_with("cannot write /x/y: "));
    }
}
