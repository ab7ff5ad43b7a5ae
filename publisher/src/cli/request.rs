//! What people may ask of a node.

use clap::{Args, ValueEnum};
use schemas::{
    hold::AskKind,
    id::{AppId, NodeId},
};

#[derive(Debug, Args)]
pub(crate) struct Request {
    /// Name of the node
    pub(crate) node: NodeId,
    /// What it is asked for
    pub(crate) wanted: Wanted,
    /// App that it is about; needed when several wait
    #[arg(long)]
    pub(crate) app: Option<AppId>,
}

/// What a node can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wanted {
    /// Install the release that waits for a yes
    Install,
}

impl From<Wanted> for AskKind {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Install => Self::Install,
        }
    }
}
