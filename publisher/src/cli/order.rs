//! The command line of what orders a release.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use schemas::id::{AppId, GroupId};

use super::Folder;
use crate::app_file::Version;

/// How long an order is followed, and how long it may be taken.
#[derive(Debug, Args)]
pub(crate) struct Following {
    /// Follow every node to its verdict (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// End as soon as the bus has it
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// Follow for so long at most [default: 10m; with --rollout as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    timeout: Option<Duration>,
    /// Nodes that are offline are no reason for another exit code than 0, when at least one kept it
    #[arg(long)]
    pub(crate) ignore_offline: bool,
    /// Nodes begin with it for so long; later they wait for a newer announcement
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_lifetime)]
    pub(crate) expires: Duration,
}

impl Following {
    /// Nothing is followed.
    pub(crate) fn none() -> Self {
        let expires = Duration::from_hours(30 * 24);
        Self { wait: false, no_wait: true, timeout: None, ignore_offline: false, expires }
    }

    /// Whether to follow at all.
    pub(crate) fn is_wanted(&self) -> bool {
        self.wait || !self.no_wait
    }

    /// How long an order is followed at most.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout.unwrap_or(Duration::from_mins(10))
    }

    /// How long a rollout is followed at most, if that was said.
    pub(crate) fn rollout_timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

#[derive(Debug, Args)]
pub(crate) struct Announce {
    #[command(flatten)]
    pub(crate) folder: Folder,
    /// Group of nodes that is to run it
    #[arg(long)]
    pub(crate) group: GroupId,
    /// In waves, which the broker's controller opens one after the other: as `publisher rollout start`
    #[arg(long)]
    pub(crate) rollout: bool,
    /// File with the plan of the rollout; the usual one for the size of the group when there is none
    #[arg(long, value_name = "FILE", requires = "rollout")]
    pub(crate) plan: Option<PathBuf>,
    /// Do not ask whether a new controller is to be believed, or whether another rollout of the app is to end
    #[arg(long, short, requires = "rollout")]
    pub(crate) yes: bool,
    /// What changed, for people
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) notes: String,
    /// Nodes wait neither for their maintenance window nor for consent; all else that holds them back still does
    #[arg(long, conflicts_with = "rollout")]
    pub(crate) urgent: bool,
    #[command(flatten)]
    pub(crate) following: Following,
}

#[derive(Debug, Args)]
pub(crate) struct Order {
    /// File with a release, or with an order that others have signed
    pub(crate) file: PathBuf,
    /// Group of nodes that is to run the release
    #[arg(long)]
    pub(crate) group: Option<GroupId>,
    /// Nodes wait neither for their maintenance window nor for consent; all else that holds them back still does
    #[arg(long)]
    pub(crate) urgent: bool,
    #[command(flatten)]
    pub(crate) following: Following,
}

#[derive(Debug, Args)]
pub(crate) struct Rollback {
    /// Group of nodes that is to go back
    #[arg(long)]
    pub(crate) group: GroupId,
    /// App that is to go back; needed when the group has several
    #[arg(long)]
    pub(crate) app: Option<AppId>,
    /// Version to go back to
    #[arg(long, value_name = "VERSION")]
    pub(crate) to: Option<Version>,
    #[command(flatten)]
    pub(crate) following: Following,
}

#[derive(Debug, Args)]
pub(crate) struct Withdraw {
    /// Group whose order is taken back
    #[arg(long)]
    pub(crate) group: GroupId,
    /// App whose order is taken back; needed when the group has several
    #[arg(long)]
    pub(crate) app: Option<AppId>,
}

/// How long something lasts.
pub(super) fn parse_span(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "say a number with its unit, like 30s, 10m or 2h")
}

/// A time in which nodes can take an order.
pub(super) fn parse_lifetime(text: &str) -> Result<Duration, &'static str> {
    match parse_span(text) {
        Ok(lifetime) if lifetime.as_secs() == 0 => Err("nodes would take it for expired: give at least 1s"),
        parsed => parsed,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::{Cli, Command};

    #[test]
    fn waiting_is_the_default_and_the_last_word_wins() {
        let wanted = |flags: &str| {
            let line = format!("publisher announce . --group g {flags}");
            match Cli::try_parse_from(line.split_whitespace()).unwrap().command {
                Command::Announce(announce) => announce.following.is_wanted(),
                _ => unreachable!(),
            }
        };
        assert_eq!(
            ["", "--wait", "--no-wait", "--no-wait --wait", "--wait --no-wait"].map(wanted),
            [true, true, false, true, false]
        );
    }
}
