//! The kernel's table of processes: who is alive, in which group, since when, and when it ends.

use std::{fs, io, path::Path};

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, getpid, pidfd_open},
};
use tokio::io::{Interest, unix::AsyncFd};

/// What `/proc/<pid>/stat` says (proc(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    /// `Z` and `X` are dead.
    state: char,
    /// Its process group.
    pub(crate) group: i32,
    /// When it started, in clock ticks since the boot: with the pid and the boot it names a process for good.
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// The process, unless it is dead or nothing can be known of it.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        Self::read(pid).ok().flatten()
    }

    fn read(pid: Pid) -> io::Result<Option<Self>> {
        let text = unless_gone(fs::read_to_string(format!("/proc/{pid}/stat")))?;
        Ok(text.and_then(|text| parse_stat(&text)).filter(|stat| !matches!(stat.state, 'Z' | 'X')))
    }
}

/// The second field is the name, in parentheses, and may itself hold spaces and parentheses.
fn parse_stat(text: &str) -> Option<Stat> {
    const STATE: usize = 0;
    const GROUP: usize = 2;
    const START: usize = 19;
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: fields.get(STATE)?.chars().next()?,
        group: fields.get(GROUP)?.parse().ok()?,
        start_ticks: fields.get(START)?.parse().ok()?,
    })
}

/// Everything alive that `wanted` says yes to, but this process itself.
///
/// # Errors
/// When the table cannot be read, as without a file descriptor left: that nobody is alive must be known, not guessed.
pub(crate) fn alive(wanted: impl Fn(Pid, &Stat) -> io::Result<bool>) -> io::Result<Vec<Pid>> {
    alive_in(Path::new("/proc"), wanted)
}

fn alive_in(table: &Path, wanted: impl Fn(Pid, &Stat) -> io::Result<bool>) -> io::Result<Vec<Pid>> {
    let mut alive = Vec::new();
    for entry in fs::read_dir(table)? {
        let pid = entry?.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid.filter(|pid| *pid != getpid()) else { continue };
        if let Some(stat) = Stat::read(pid)?
            && wanted(pid, &stat)?
        {
            alive.push(pid);
        }
    }
    Ok(alive)
}

/// Whether the process was started with a variable whose value begins so. False for processes of other users.
pub(crate) fn was_given(pid: Pid, variable: &str, value_start: &Path) -> io::Result<bool> {
    let wanted = format!("{variable}={}", value_start.display());
    let environ = match unless_gone(fs::read(format!("/proc/{pid}/environ"))) {
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => None,
        environ => environ?,
    };
    let pairs = environ.as_deref().unwrap_or_default().split(|byte| *byte == 0);
    Ok(pairs.into_iter().any(|pair| pair.starts_with(wanted.as_bytes())))
}

/// None of a process that ended meanwhile.
fn unless_gone<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) if Errno::from_io_error(&err) == Some(Errno::SRCH) => Ok(None),
        read => read.map(Some),
    }
}

/// Waits until the process has ended; at once when there is none.
pub(crate) async fn ended(pid: Pid) {
    // A process that is gone cannot be opened.
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::NONBLOCK) else { return };
    #[expect(
        deprecated,
        reason = "its replacement is unsafe, and asks for nothing but a descriptor that stays valid, as an OwnedFd does"
    )]
    let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE);
    if let Ok(pidfd) = pidfd {
        // It gets readable when the process ends, and never before (pidfd_open(2)).
        let _ = pidfd.readable().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_nothing() {
        let text = "77 (a) (b c) R 1 42 42 0 -1 4194304 5 0 0 0 0 0 0 0 20 0 1 0 123456 1 2";
        assert_eq!(parse_stat(text), Some(Stat { state: 'R', group: 42, start_ticks: 123_456 }));
        assert_eq!(parse_stat("77 (short) R 1"), None);
        assert_eq!(parse_stat(""), None);
    }

    #[test]
    fn this_process_is_alive_but_never_listed() {
        assert!(Stat::of(getpid()).is_some());
        assert!(!alive(|_, _| Ok(true)).unwrap().contains(&getpid()));
    }

    #[test]
    fn a_table_that_cannot_be_read_is_not_an_empty_one() {
        assert!(alive_in(Path::new("/proc/nowhere"), |_, _| Ok(true)).is_err());
        assert!(alive(|_, _| Err(Errno::MFILE.into())).is_err());
        assert!(unless_gone::<()>(Err(Errno::MFILE.into())).is_err());
        assert!(matches!(unless_gone::<()>(Err(Errno::SRCH.into())), Ok(None)));
    }
}
