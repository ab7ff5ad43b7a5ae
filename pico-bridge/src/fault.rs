//! What went wrong with a Pico or with the Pi's disk, as the machine and people understand it.

use std::{io, path::Path};

use machine::Fault;
use schemas::reason::Reason;

use crate::{port::PortError, repl::ReplError};

/// What MicroPython says of a full flash: `ENOSPC`.
const NO_SPACE: &str = "OSError: 28";

/// A fault that the same again will not mend.
pub(crate) fn permanent(reason: Reason, text: impl Into<String>) -> Fault {
    Fault { reason, text: text.into(), log_tail: Vec::new(), transient: false }
}

/// The answer of work that nobody waits for any more.
pub(crate) fn cancelled() -> Fault {
    permanent(Reason::Superseded, "was cancelled")
}

/// What the Pi's disk refused to do with `path`.
pub(crate) fn disk(doing: &str, path: &Path, error: &io::Error) -> Fault {
    let is_full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let reason = if is_full { Reason::DiskFull } else { Reason::DiskError };
    permanent(reason, format!("cannot {doing} {}: {error}", path.display()))
}

/// What the Pico did instead of what it was to.
pub(crate) fn of(doing: &str, error: &ReplError) -> Fault {
    let (reason, transient) = match error {
        ReplError::Port(PortError::Busy(_)) => (Reason::DeviceBusy, true),
        ReplError::Port(PortError::Gone(_)) | ReplError::Silent(_) => (Reason::DeviceGone, true),
        ReplError::Failed(text) if text.starts_with(NO_SPACE) => (Reason::DeviceFull, false),
        _ => (Reason::DeviceFault, false),
    };
    Fault { reason, text: format!("cannot {doing}: {error}"), log_tail: Vec::new(), transient }
}
