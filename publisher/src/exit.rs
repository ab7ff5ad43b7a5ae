//! The exit codes of every command. Scripts and CI act on them, so they never change their meaning.

use std::{fmt::Write as _, process::ExitCode};

use rollout::Ending;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is done.
    Done,
    /// Something that the command needs did not work.
    Failed,
    /// The command line is wrong.
    Usage,
    /// At least one node did not keep the release.
    NotKept,
    /// At least one node is online and gave no verdict in time.
    Silent,
    /// The group has no nodes.
    Nobody,
    /// All nodes that are online kept it, others are offline.
    Offline,
    /// A rollout stopped by itself.
    Stopped,
    /// Somebody paused, ended or replaced a rollout.
    Ended,
    /// Ended by Ctrl-C.
    Interrupted,
}

impl Exit {
    /// Every exit code, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::NotKept,
        Self::Silent,
        Self::Nobody,
        Self::Offline,
        Self::Stopped,
        Self::Ended,
        Self::Interrupted,
    ];

    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotKept => 3,
            Self::Silent => 4,
            Self::Nobody => 5,
            Self::Offline => 6,
            Self::Stopped => 7,
            Self::Ended => 8,
            Self::Interrupted => 130,
        }
    }

    /// What it means, for people.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Done => {
                "done; `announce` and `rollback`: every node of the group kept it, unless --no-wait was given; rollouts: every wave passed"
            }
            Self::Failed => "failed: the message says what and what to do",
            Self::Usage => "wrong use of the command line",
            Self::NotKept => "at least one node did not keep it (rolled back, failed, refused, superseded)",
            Self::Silent => {
                "timed out: at least one node is online and gave no verdict; or a rollout that goes on"
            }
            Self::Nobody => "announced, but the group has no nodes",
            Self::Offline => {
                "every node that is online kept it, others are offline and take it later (0 with --ignore-offline)"
            }
            Self::Stopped => {
                "the rollout stopped by itself: too many failures, too little is known, or its time is over"
            }
            Self::Ended => "the rollout was paused or ended by somebody, or another order took its place",
            Self::Interrupted => "ended by Ctrl-C; what was announced stays announced",
        }
    }

    /// The table that `--help` shows.
    pub(crate) fn table() -> String {
        Self::ALL.iter().fold("Exit codes:".to_owned(), |mut table, exit| {
            let _ = write!(table, "\n  {:<4} {}", exit.code(), exit.meaning());
            table
        })
    }
}

impl From<Ending> for Exit {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Kept => Self::Done,
            Ending::NotKept => Self::NotKept,
            Ending::Silent => Self::Silent,
            Ending::Nobody => Self::Nobody,
            Ending::Offline => Self::Offline,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_what_scripts_rely_on() {
        let codes: Vec<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
        assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 8, 130]);
    }
}
