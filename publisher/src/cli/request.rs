//! What people may ask of a node.

use clap::{Args, ValueEnum};
use schemas::{
    hold::{AskKind, MAX_ASKED_LINES},
    id::{AppId, GroupId, NodeId},
};

#[derive(Debug, Args)]
pub(crate) struct Request {
    /// Name of the node
    pub(crate) node: NodeId,
    /// What it is asked for
    pub(crate) wanted: Wanted,
    /// App that it is about; needed when there are several
    #[arg(long)]
    pub(crate) app: Option<AppId>,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Name of the node
    pub(crate) node: NodeId,
    /// App that it is about; needed when the node has several
    #[arg(long)]
    pub(crate) app: Option<AppId>,
    /// So many of the last lines
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(..=i64::from(MAX_ASKED_LINES)))]
    pub(crate) lines: u16,
    /// Go on with what comes, until Ctrl-C
    #[arg(long, short)]
    pub(crate) follow: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Images {
    /// Node whose images are shown; all nodes when none is named
    #[arg(conflicts_with = "group")]
    pub(crate) node: Option<NodeId>,
    /// Group whose nodes' images are shown
    #[arg(long)]
    pub(crate) group: Option<GroupId>,
    /// App whose images are shown; all apps when none is named
    #[arg(long)]
    pub(crate) app: Option<AppId>,
}

#[derive(Debug, Args)]
pub(crate) struct Prune {
    /// Node that is asked
    #[arg(conflicts_with = "group", required_unless_present = "group")]
    pub(crate) node: Option<NodeId>,
    /// Group whose nodes are asked, as far as they have a container engine
    #[arg(long)]
    pub(crate) group: Option<GroupId>,
    /// Remove nothing, only say what would be removed
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// What a node can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wanted {
    /// Install the release that waits for a yes; ends `hold`
    Install,
    /// Try the release once more that is ordered and did not prove itself
    Retry,
    /// Go back to the release that ran before
    Rollback,
    /// Take no other release until asked to install
    Hold,
}

impl From<Wanted> for AskKind {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Install => Self::Install,
            Wanted::Retry => Self::Retry,
            Wanted::Rollback => Self::Rollback,
            Wanted::Hold => Self::Hold,
        }
    }
}
