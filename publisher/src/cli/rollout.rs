//! The command line of rollouts.

use std::{path::PathBuf, time::Duration};

use clap::{ArgGroup, Args, Subcommand};
use schemas::{
    id::{AppId, GroupId, KeyId},
    time::UnixTime,
};

use super::order::{parse_lifetime, parse_span};
use crate::{app_file::Version, clock, exit::Exit};

/// What can be done with rollouts.
#[derive(Debug, Subcommand)]
pub(crate) enum RolloutCommand {
    /// Begin a rollout: pack, sign and upload a folder, or take a release that there is, and follow it wave by wave
    #[command(after_help = format!("\
Examples:
  publisher rollout start ./app                         the usual plan for the group `all`
  publisher rollout start ./app --group farm
  publisher rollout start ./app --plan plan.toml
  publisher rollout start web-1.2.0.release             a release that others have signed, too
  publisher rollout start --release 1.1.0 --app web     one that was released before
  publisher rollout start ./app --at 2026-12-01T22:00:00Z --detach
  publisher rollout start ./app --at 2h

It is followed until it is over or stops; it goes on without this command. A plan has an app and stages: docs/rollouts.md. With
--json, one object is printed at the end: that of `publisher rollout status --json`, with exit_code and exit_meaning.

{}", Exit::table()))]
    Start(RolloutStart),
    /// Show how rollouts stand: waves, nodes that failed, why it stopped and what to do
    #[command(after_help = "\
Examples:
  publisher rollout status
  publisher rollout status web
  publisher rollout status web --json

With --json, one object is printed; docs/rollouts.md has every key.")]
    Status(RolloutStatus),
    /// List all rollouts with their states
    #[command(after_help = "\
Examples:
  publisher rollout list
  publisher rollout list --json")]
    List,
    /// Begin nothing new; what has begun goes on to its end
    #[command(after_help = "\
Examples:
  publisher rollout pause web")]
    Pause(RolloutApp),
    /// Let a rollout go on that was paused, or has stopped
    #[command(after_help = "\
Examples:
  publisher rollout resume web
  publisher rollout resume web --ack-failures       the nodes that failed so far stop it no more")]
    Resume(RolloutResume),
    /// End a rollout; nodes that have the release keep it or go back
    #[command(after_help = "\
Examples:
  publisher rollout abort web --keep                nodes that have the release keep it
  publisher rollout abort web --revert              they go back to what they ran before, newest wave first
  publisher rollout abort web --revert --yes        for scripts: nobody is asked")]
    Abort(RolloutAbort),
    /// Let the next stage open that waits for it
    #[command(after_help = "\
Examples:
  publisher rollout approve web")]
    Approve(RolloutApp),
    /// List the controllers that carry rollouts out, and decide which of them new rollouts are given to
    #[command(after_help = "\
Examples:
  publisher rollout controllers
  publisher rollout controllers --forget 0123456789abcdef   its broker is gone for good, or its key was stolen
  publisher rollout controllers --know 0123456789abcdef     it is yours all the same

Rollouts that a controller was given to before stay its own until they are over, or others take their place.")]
    Controllers(RolloutControllers),
    /// Lay a plan out over the fleet as it is now: which nodes, when, and how soon a bad release is found out
    #[command(after_help = "\
Examples:
  publisher rollout simulate                       the usual plan for the group `all`
  publisher rollout simulate --group farm --app web
  publisher rollout simulate plan.toml --json

Nothing is ordered. A plan has an app and stages: docs/rollouts.md.")]
    Simulate(RolloutSimulate),
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("source").args(["path", "release"]).required(true))]
pub(crate) struct RolloutStart {
    /// Folder with deploybus.toml, or a file with a release
    #[arg(value_name = "PATH")]
    pub(crate) path: Option<PathBuf>,
    /// Version that was released before, instead of a folder
    #[arg(long, value_name = "VERSION")]
    pub(crate) release: Option<Version>,
    /// File with a plan; the usual one for the size of the group when there is none
    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,
    /// Group of nodes when there is no plan [default: all]
    #[arg(long, conflicts_with = "plan")]
    pub(crate) group: Option<GroupId>,
    /// App: another name than deploybus.toml says; with --release which one it is
    #[arg(long)]
    pub(crate) app: Option<AppId>,
    /// Another version than deploybus.toml, the file VERSION or git say
    #[arg(long, requires = "path")]
    pub(crate) version: Option<Version>,
    /// Another commit than git says
    #[arg(long, value_name = "TEXT", requires = "path")]
    pub(crate) commit: Option<String>,
    /// Have nodes build its image without any cache, if it is a container
    #[arg(long, conflicts_with = "release")]
    pub(crate) force_build: bool,
    /// What changed, for people
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) notes: String,
    #[command(flatten)]
    pub(crate) terms: RolloutTerms,
    /// End as soon as the controller has it
    #[arg(long)]
    pub(crate) detach: bool,
    /// Follow for so long at most [default: as long as it takes]
    #[arg(long, value_name = "TIME", value_parser = parse_span)]
    pub(crate) timeout: Option<Duration>,
}

/// When a rollout may be carried out, and by whom.
#[derive(Debug, Clone, Args)]
pub(crate) struct RolloutTerms {
    /// Begin then at the earliest: a time in UTC, or a span such as 2h from now
    #[arg(long, value_name = "TIME", value_parser = parse_moment)]
    pub(crate) at: Option<UnixTime>,
    /// The controller may order for so long from its beginning; nodes that come back later wait for a newer announcement
    #[arg(long, value_name = "TIME", default_value = "30d", value_parser = parse_lifetime)]
    pub(crate) expires: Duration,
    /// Do not ask whether another rollout of the app is to end
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutStatus {
    /// App; all that have a rollout when none is said
    pub(crate) app: Option<AppId>,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutApp {
    /// App whose rollout it is
    pub(crate) app: AppId,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutResume {
    /// App whose rollout it is
    pub(crate) app: AppId,
    /// The nodes that failed so far are known, and stop it no more
    #[arg(long)]
    pub(crate) ack_failures: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutAbort {
    /// App whose rollout it is
    pub(crate) app: AppId,
    #[command(flatten)]
    pub(crate) end: RolloutEnd,
    /// Do not ask
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// What becomes of the nodes that have the release.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct RolloutEnd {
    /// Nodes that have the release keep it
    #[arg(long)]
    pub(crate) keep: bool,
    /// They go back to what they ran before
    #[arg(long)]
    pub(crate) revert: bool,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutControllers {
    /// Give no rollout to the controller with this key any more
    #[arg(long, value_name = "KEY")]
    pub(crate) forget: Option<KeyId>,
    /// Give rollouts to it, as to those that this home knows already
    #[arg(long, value_name = "KEY", conflicts_with = "forget")]
    pub(crate) know: Option<KeyId>,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutSimulate {
    /// File with a plan; the usual one for the size of the group when there is none
    pub(crate) plan: Option<PathBuf>,
    /// Group of nodes [default: all]
    #[arg(long, conflicts_with = "plan")]
    pub(crate) group: Option<GroupId>,
    /// App; needed when the group has several
    #[arg(long, conflicts_with = "plan")]
    pub(crate) app: Option<AppId>,
}

/// A point in time, or a span from now on.
fn parse_moment(text: &str) -> Result<UnixTime, String> {
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(clock::now().plus_secs(span.as_secs()));
    }
    let how = "say a time in UTC like 2026-11-21T05:14:58Z, or a span from now like 2h";
    text.parse().map_err(|_| how.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_a_time_or_a_span() {
        assert_eq!(parse_moment("2000-02-29T00:00:00Z"), Ok(UnixTime(951_782_400)));
        assert!(parse_moment("2h").unwrap() >= clock::now().plus_secs(7_190));
        assert!(parse_moment("tonight").unwrap_err().contains("from now like 2h"));
    }
}
