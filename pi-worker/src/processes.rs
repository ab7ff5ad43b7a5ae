//! The kernel's table of processes: who is alive, in which group, since when, and when it ends.

use std::{fs, path::Path};

use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};
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
    /// The process, unless it is dead.
    pub(crate) fn of(pid: Pid) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        parse_stat(&text).filter(|stat| !matches!(stat.state, 'Z' | 'X'))
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
pub(crate) fn alive(wanted: impl Fn(Pid, &Stat) -> bool) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter(|pid| *pid != getpid())
        .filter(|pid| Stat::of(*pid).is_some_and(|stat| wanted(*pid, &stat)))
        .collect()
}

/// Whether the process was started with a variable whose value begins so. False for processes of other users.
pub(crate) fn was_given(pid: Pid, variable: &str, value_start: &Path) -> bool {
    let wanted = format!("{variable}={}", value_start.display());
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environ.split(|byte| *byte == 0).any(|pair| pair.starts_with(wanted.as_bytes()))
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
        assert!(!alive(|_, _| true).contains(&getpid()));
    }
}
