//! The command line of the deploy log.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Subcommand};
use schemas::{
    deploy_log::What,
    id::{AppId, GroupId, NodeId},
    time::UnixTime,
};

/// The deploy log, or what is to be done with it.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Log {
    #[command(subcommand)]
    pub(crate) command: Option<LogCommand>,
    #[command(flatten)]
    pub(crate) show: LogShow,
}

/// What can be done with the log.
#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// See that no entry was changed, taken out or put in, and that the log is still the one that was seen last time
    #[command(after_help = "\
Examples:
  publisher log verify
  publisher log verify --json

The last entry that was verified is kept as log-head.json in the home. A log that does not have it any more was written anew:
that ends with 1.")]
    Verify,
    /// Write all of the log into a file: JSON, one entry a line
    #[command(after_help = "\
Examples:
  publisher log export deploys.jsonl
  publisher log export deploys.csv --csv")]
    Export {
        /// File to write; it must not be there yet
        file: PathBuf,
        /// Write comma-separated values with a header, for spreadsheets
        #[arg(long)]
        csv: bool,
    },
}

/// Which entries, and how.
#[derive(Debug, Args)]
pub(crate) struct LogShow {
    /// What happened to this node
    #[arg(long)]
    pub(crate) node: Option<NodeId>,
    /// What happened to this app
    #[arg(long)]
    pub(crate) app: Option<AppId>,
    /// What happened in this group
    #[arg(long)]
    pub(crate) group: Option<GroupId>,
    /// installed, rolled_back, failed, refused, superseded, rollout_started, …; several with commas between them
    #[arg(long, value_delimiter = ',')]
    pub(crate) result: Vec<What>,
    /// Since then, or for so long
    #[arg(long, value_name = "TIME")]
    pub(crate) since: Option<When>,
    /// Before then, or until so long ago
    #[arg(long, value_name = "TIME", conflicts_with = "follow")]
    pub(crate) until: Option<When>,
    /// So many at most, the newest of them
    #[arg(long, value_name = "NUMBER", default_value = "50", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) limit: u32,
    /// Print comma-separated values with a header, for spreadsheets
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
    /// Go on with what happens, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// A point in time, as people say it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Ago(Duration),
    At(UnixTime),
}

impl When {
    /// The time that is meant.
    pub(crate) fn before(self, now: UnixTime) -> UnixTime {
        match self {
            Self::Ago(age) => now.minus_secs(age.as_secs()),
            Self::At(time) => time,
        }
    }
}

impl FromStr for When {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let ago = humantime::parse_duration(text).ok().map(Self::Ago);
        ago.or_else(|| text.parse().ok().map(Self::At))
            .ok_or("say how long ago, like 7d or 2h, or a time in UTC like 2026-11-21T05:14:58Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_said_as_how_long_ago_or_as_rfc_3339() {
        let now = UnixTime(1_795_240_000);
        let meant = |text: &str| text.parse::<When>().map(|when| when.before(now));
        assert_eq!(meant("7d"), Ok(now.minus_secs(7 * 86_400)));
        assert_eq!(meant("2026-11-21T05:46:40Z"), Ok(now));
        assert!(meant("yesterday").is_err());
    }
}
