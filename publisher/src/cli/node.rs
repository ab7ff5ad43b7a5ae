//! The command line of nodes.

use std::{collections::BTreeSet, path::PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use schemas::id::{GroupId, KeyId, NodeId};

use super::parse_pair;

/// What can be done with nodes.
#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// Make a node: its key, password, settings and signed record, in a folder to copy over
    #[command(after_help = "\
Examples:
  publisher node add pi-kitchen --group canary
  publisher node add pi-barn --group barn --label site=farm --out /media/sd/deploybus
  publisher node add pi-hall --group canary --env PORT=8080
  publisher node add pi-shed --group canary --invite --out /media/sd/deploybus
  publisher node add pi-kitchen --group canary --force          a new key, the old one is no longer believed

With --invite the node makes its own key, and what is copied to it is worth nothing once it has come. This command waits for it;
when it is ended before, the next command that publishes something lets the node in.")]
    Add(NodeAdd),
    /// Let in a node that asks for it, after comparing the six words that both sides show
    #[command(after_help = "\
Examples:
  publisher node approve pi-shed --group canary
  publisher node approve pi-shed --key 139e3940e64b5491       several ask under this name
  publisher node approve --list keys.txt --group farm         those whose keys a factory has listed

On the node: pi-worker enroll. `publisher status` shows who waits. A list has a line for each node, as `pi-worker enroll --offline`
prints it: name, public key, digest of its token.")]
    Approve(NodeApprove),
    /// Change the groups of a node, or what is said about it; it keeps its key
    #[command(after_help = "\
Examples:
  publisher node change pi-kitchen --join stable --leave canary
  publisher node change pi-kitchen --label site=farm --unlabel room")]
    Change(NodeChange),
    /// Put a node out for good: it is cut off within a second, and what it said is cleared
    #[command(after_help = "\
Examples:
  publisher node retire pi-kitchen
  publisher node retire pi-kitchen --yes               for scripts: nobody is asked")]
    Retire {
        /// Name of the node
        name: NodeId,
        /// Do not ask whether it is meant
        #[arg(long, short)]
        yes: bool,
    },
    /// Show all that is known of a node
    #[command(after_help = "\
Examples:
  publisher node show pi-kitchen
  publisher node show pi-kitchen --json")]
    Show {
        /// Name of the node
        name: NodeId,
    },
    /// List the nodes that were added from here
    #[command(after_help = "\
Examples:
  publisher node list
  publisher node list --json")]
    List,
    /// Publish the records that the bus lacks
    #[command(after_help = "\
Examples:
  publisher node sync")]
    Sync,
}

/// Where in the fleet a node is to be.
#[derive(Debug, Args)]
pub(crate) struct Membership {
    /// Group whose orders it obeys; may be given several times
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<GroupId>,
    /// Leave it out of the group `all`, to which every node belongs
    #[arg(long)]
    no_all: bool,
    /// Something to say about it, as KEY=VALUE; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub(crate) labels: Vec<(String, String)>,
}

impl Membership {
    /// The groups, with the one to which every node belongs unless it is said otherwise.
    pub(crate) fn groups(&self) -> BTreeSet<GroupId> {
        let all = (!self.no_all).then(|| "all".parse().expect("a group that is written here"));
        self.groups.iter().cloned().chain(all).collect()
    }
}

#[derive(Debug, Args)]
pub(crate) struct NodeAdd {
    /// Name of the node
    pub(crate) name: NodeId,
    #[command(flatten)]
    pub(crate) membership: Membership,
    /// Environment variable of its apps, above what a release says; may be given several times
    #[arg(long = "env", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub(crate) env: Vec<(String, String)>,
    /// Folder where the worker keeps its data, on the node
    #[arg(long, value_name = "DIR", default_value = "/var/lib/deploybus")]
    pub(crate) data: PathBuf,
    /// Copy the node's folder there as well
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Make it anew when it was added before
    #[arg(long)]
    pub(crate) force: bool,
    /// Let the node make its own key, and give it a token that counts once
    #[arg(long)]
    pub(crate) invite: bool,
    /// Do not wait until the node that was invited has come
    #[arg(long, requires = "invite")]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).multiple(true).args(["join", "leave", "labels", "unlabel"]))]
pub(crate) struct NodeChange {
    /// Name of the node
    pub(crate) name: NodeId,
    /// Group whose orders it obeys from now on; may be given several times
    #[arg(long, value_name = "GROUP")]
    pub(crate) join: Vec<GroupId>,
    /// Group whose orders it obeys no more; may be given several times
    #[arg(long, value_name = "GROUP")]
    pub(crate) leave: Vec<GroupId>,
    /// Something to say about it, as KEY=VALUE; may be given several times
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = parse_pair)]
    pub(crate) labels: Vec<(String, String)>,
    /// Something not to say about it any more; may be given several times
    #[arg(long, value_name = "KEY")]
    pub(crate) unlabel: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct NodeApprove {
    /// Name under which it asks
    #[arg(required_unless_present = "list")]
    pub(crate) name: Option<NodeId>,
    #[command(flatten)]
    pub(crate) membership: Membership,
    /// Id of its key, when several ask under this name
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<KeyId>,
    /// File with a line for each node: name, public key, digest of its token
    #[arg(long, value_name = "FILE", conflicts_with_all = ["name", "key"])]
    pub(crate) list: Option<PathBuf>,
    /// Do not ask whether the words are the same
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Also in the place of a node that was added before
    #[arg(long)]
    pub(crate) force: bool,
}
