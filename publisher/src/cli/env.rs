//! The command line of the environment of nodes.

use clap::{Args, Subcommand};
use schemas::id::GroupId;

/// What can be done with the environment of nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum EnvCommand {
    /// Set variables of a node's apps, or of a whole group's: they are started anew from what is installed
    #[command(after_help = "\
Examples:
  publisher env set pi-kitchen CAMPAIGN_NAME=turboship
  publisher env set --group canary CAMPAIGN_NAME=turboship LOG_LEVEL=debug

Nothing is built and nothing is fetched. They go above what a release and the node's own settings say, and lie on the bus in the
node's signed record: they are no place for secrets.")]
    Set(EnvSet),
    /// Remove variables that were set
    #[command(after_help = "\
Examples:
  publisher env unset pi-kitchen CAMPAIGN_NAME
  publisher env unset --group canary CAMPAIGN_NAME LOG_LEVEL")]
    Unset(EnvSet),
    /// List the variables that were set
    #[command(after_help = "\
Examples:
  publisher env list
  publisher env list pi-kitchen
  publisher env list --group canary --json")]
    List(EnvList),
}

#[derive(Debug, Args)]
pub(crate) struct EnvSet {
    /// The node, unless there is a group; then the variables
    #[arg(required = true, value_name = "NODE|VARIABLE")]
    pub(crate) words: Vec<String>,
    /// Every node of this group that was added from here
    #[arg(long)]
    pub(crate) group: Option<GroupId>,
}

#[derive(Debug, Args)]
pub(crate) struct EnvList {
    /// The node
    #[arg(value_name = "NODE")]
    pub(crate) node: Option<schemas::id::NodeId>,
    /// Every node of this group that was added from here
    #[arg(long, conflicts_with = "node")]
    pub(crate) group: Option<GroupId>,
}
