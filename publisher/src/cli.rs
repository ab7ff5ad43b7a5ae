//! The command line: what can be asked for, with examples that work as printed.

mod env;
mod keys;
mod log;
mod node;
mod order;
mod pico;
mod request;
mod rollout;
mod user;

use std::{net::IpAddr, path::PathBuf, str::FromStr};

use bus_client::{bus::BusUrl, store::StoreUrl};
use clap::{Args, Parser, Subcommand, ValueEnum};
use schemas::id::{AppId, FleetId, NodeId};

pub(crate) use self::{
    env::{EnvCommand, EnvList, EnvSet},
    keys::{KeyFiles, KeyRole, KeysChange, KeysCommand, NewFile},
    log::{Log, LogCommand, LogShow},
    node::{Membership, NodeAdd, NodeApprove, NodeChange, NodeCommand},
    order::{Announce, Following, Order, Rollback, Withdraw},
    pico::{PicoCommand, PicoConfig},
    request::{Images, Logs, Prune, Request, Wanted},
    rollout::{
        RolloutAbort, RolloutCommand, RolloutControllers, RolloutResume, RolloutSimulate, RolloutStart,
        RolloutTerms,
    },
    user::{SecretChoice, UserAdd, UserCommand, UserPlace},
};
use crate::{app_file::Version, exit::Exit};

const EXAMPLES: &str = "\
Examples:
  publisher init
  publisher node add pi-kitchen --group canary
  publisher announce ./app --group canary
  publisher status
  publisher rollback --group canary";

/// Deploy apps to Raspberry Pis over an MQTT bus
#[derive(Debug, Parser)]
#[command(name = "publisher", version, after_help = format!("{EXAMPLES}\n\n{}", Exit::table()))]
pub(crate) struct Cli {
    /// Folder with the fleet's settings and keys [env: DEPLOYBUS_HOME] [default: ~/.deploybus]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What can be asked for.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new fleet: keys, root document, passwords, settings of the broker
    #[command(after_help = "\
Examples:
  publisher init                                                   everything on this machine, to try it out
  publisher init --host 192.168.1.10                               the broker's machine, as nodes reach it
  publisher init --host bus.lan --name 192.168.1.10                it has two names
  publisher init --bus mqtts://mqtt.lan --ca ca.pem --store https://192.168.1.10:8443
                                                                   an MQTT broker that is there already is the bus
  publisher init --home ./fleet --fleet farm
  publisher init --passphrase                                      keys that nobody uses who copied the disk")]
    Init(Init),
    /// Add nodes, let them in, retire them
    #[command(subcommand)]
    Node(NodeCommand),
    /// See the Picos, work on one by hand, and prepare one for Wi-Fi
    #[command(subcommand)]
    Pico(PicoCommand),
    /// Set the environment of nodes' apps without a new release: apps restart, nothing is built
    #[command(subcommand)]
    Env(EnvCommand),
    /// See and change the keys that sign
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Say who else may log in to the broker: people, dashboards, other devices
    #[command(subcommand)]
    User(UserCommand),
    /// Pack a folder without announcing it: shows what would be deployed
    #[command(after_help = "\
Examples:
  publisher pack ./app
  publisher pack ./app --json
  publisher pack ./app --out ./site      objects as any web server or a USB stick can serve them")]
    Pack(Pack),
    /// Write the deploybus.toml that says the same as a service of a compose file
    #[command(after_help = "\
Examples:
  publisher import compose.yaml
  publisher import compose.yaml --service web --out deploybus.toml

What has no meaning for a fleet is left out and named; what would mean something else is an error.")]
    Import(Import),
    /// Pack, sign, upload and announce a folder, then follow every node to its verdict
    #[command(after_help = format!("\
Examples:
  publisher announce ./app --group canary
  publisher announce ./app --group all --notes \"faster start\"
  publisher announce ./app --group all --version 1.2.0 --timeout 5m --json
  publisher announce ./app --group all --no-wait
  publisher announce ./app --group all --urgent --notes fix      at once, also outside of maintenance windows
  publisher announce ./app --group all --rollout       in waves: one node first, by the size of the group

With --json, one object is printed at the end: app, group, version, counter, revision, release, tree_hash,
uploaded_objects, uploaded_bytes, exit_code, exit_meaning and nodes[]: node, state, online, announced_to_verdict_ms,
took_ms, fetched_bytes, requests, reason, text, advice, log_tail. With --rollout it is that of `publisher rollout status`.

{}", Exit::table()))]
    Announce(Announce),
    /// Make releases without ordering them
    #[command(subcommand)]
    Release(ReleaseCommand),
    /// Show a document that others made, and sign it: a release, an order, a root, a node's record
    #[command(after_help = "\
Examples:
  publisher sign web-1.2.0.release
  publisher sign root-2.cbor --key /media/stick/root.key      needs no home, so it works on a machine without a network
  publisher sign web-1.2.0.release --yes                      for scripts: nobody is asked")]
    Sign(Sign),
    /// Order a release that is signed already
    #[command(after_help = format!("\
Examples:
  publisher order web-1.2.0.release --group canary
  publisher order web-1.2.0.canary.order               an order that several people had to sign

{}", Exit::table()))]
    Order(Order),
    /// Take an order back: who has not begun with it does not; who has the release keeps it
    #[command(after_help = "\
Examples:
  publisher withdraw --group canaryy                   an order for a group that was not meant
  publisher withdraw --group all --app web")]
    Withdraw(Withdraw),
    /// Order the release again that was ordered before the present one
    #[command(after_help = format!("\
Examples:
  publisher rollback --group canary
  publisher rollback --group all --app web --to 1.0.0

{}", Exit::table()))]
    Rollback(Rollback),
    /// Ask a node for something: it only does what was signed before
    #[command(after_help = "\
Examples:
  publisher request pi-kitchen install                 the release that waits there for a yes
  publisher request pi-kitchen install --app web")]
    Request(Request),
    /// Show what an app says on a node, and what the build of its image says
    #[command(after_help = "\
Examples:
  publisher logs pi-kitchen
  publisher logs pi-kitchen --app web --lines 20
  publisher logs pi-kitchen --follow                   until Ctrl-C")]
    Logs(Logs),
    /// Show the images that nodes have built: how, why, how long it took, and which is in use
    #[command(after_help = "\
Examples:
  publisher images
  publisher images pi-kitchen
  publisher images --group canary --json")]
    Images(Images),
    /// Have nodes remove images and containers that neither the present nor the previous release needs, and say what was freed
    #[command(after_help = "\
Examples:
  publisher prune pi-kitchen --dry-run                 what would be removed
  publisher prune pi-kitchen
  publisher prune --group canary")]
    Prune(Prune),
    /// Roll a release out in waves: start, watch, pause, go on, end; the broker's controller carries it out
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Say why a node has, or has not, what is ordered: rule by rule, with the one that holds it back
    #[command(after_help = "\
Examples:
  publisher why pi-kitchen
  publisher why pi-kitchen web
  publisher why pi-kitchen --json")]
    Why(Why),
    /// Show nodes, apps and orders as the bus has them now
    #[command(after_help = "\
Examples:
  publisher status
  publisher status --json")]
    Status,
    /// Show rollouts, nodes and what changes, until Ctrl-C: in place on a terminal, else a line for each change
    #[command(after_help = "\
Examples:
  publisher watch
  publisher watch --app web
  publisher watch --lines
  publisher watch --json")]
    Watch(Watch),
    /// Log a browser in on the broker's page: print an address to open once, within ten minutes
    #[command(after_help = "\
Examples:
  publisher web-token
  publisher web-token --json")]
    WebToken,
    /// Show what happened to nodes, apps and rollouts, newest last
    #[command(after_help = "\
Examples:
  publisher log
  publisher log --node pi-kitchen --limit 10
  publisher log --result rolled_back,failed --since 7d
  publisher log --app web --since 2026-11-01T00:00:00Z --until 2026-11-08T00:00:00Z --csv
  publisher log --follow
  publisher log verify
  publisher log export deploys.jsonl

With --json, each entry is an object on a line of its own; docs/deploy-log.md has every key.")]
    Log(Log),
    /// Show a document of the bus or of a file as readable text, and whether its signatures are right
    #[command(after_help = "\
Examples:
  publisher decode ~/.deploybus/root.cbor
  publisher decode ~/.deploybus/nodes/pi-kitchen/record.cbor
  mosquitto_sub -u watcher -P $(cat ~/.deploybus/watcher.password) -C 1 -N \\
    -t deploybus/v1/release/canary/web | publisher decode -")]
    Decode(Decode),
}

#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Name of the fleet: the first level of every topic
    #[arg(long, default_value = "deploybus")]
    pub(crate) fleet: FleetId,
    /// Name or address of the broker's machine, as nodes reach it: bus and store there, over TLS
    #[arg(long, value_name = "HOST", conflicts_with_all = ["bus", "store"])]
    pub(crate) host: Option<Host>,
    /// Another name or address of that machine; may be repeated
    #[arg(long = "name", value_name = "HOST")]
    pub(crate) names: Vec<Host>,
    /// Where the bus is, as nodes see it
    #[arg(long, value_name = "URL", default_value = "mqtt://127.0.0.1:1883")]
    pub(crate) bus: BusUrl,
    /// PEM file of the CA of an MQTT broker that is there already, which is the bus then
    #[arg(long, value_name = "FILE", requires = "bus")]
    pub(crate) ca: Option<PathBuf>,
    /// Where the store is, as nodes see it
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) store: StoreUrl,
    /// Encrypt the keys: every command that signs asks for the passphrase
    #[arg(long)]
    pub(crate) passphrase: bool,
}

/// A DNS name or an IP address.
#[derive(Debug, Clone)]
pub(crate) struct Host(pub(crate) String);

impl FromStr for Host {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bare = text.trim_matches(['[', ']']);
        let is_name = |text: &str| {
            let is_label = |label: &str| {
                let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
                (1..=63).contains(&label.len()) && label.chars().all(good)
            };
            text.len() <= 253 && text.split('.').all(is_label)
        };
        if bare.parse::<IpAddr>().is_ok() || is_name(bare) {
            return Ok(Self(bare.to_owned()));
        }
        Err("say a name like bus.lan or an address like 192.168.1.10, without a port")
    }
}

/// The folder and what the command line says about it.
#[derive(Debug, Args)]
pub(crate) struct Folder {
    /// Folder with deploybus.toml
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
    /// Another name than deploybus.toml says
    #[arg(long)]
    pub(crate) app: Option<AppId>,
    /// Another version than deploybus.toml, the file VERSION or git say
    #[arg(long)]
    pub(crate) version: Option<Version>,
    /// Another commit than git says
    #[arg(long, value_name = "TEXT")]
    pub(crate) commit: Option<String>,
    /// Have nodes build its image without any cache, if it is a container
    #[arg(long)]
    pub(crate) force_build: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The compose file
    pub(crate) file: PathBuf,
    /// Which of its services; needed when it has several
    #[arg(long)]
    pub(crate) service: Option<String>,
    /// Where it is written [default: deploybus.toml beside the compose file]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Pack {
    #[command(flatten)]
    pub(crate) folder: Folder,
    /// Write objects and manifest there, as a store serves them
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
}

/// What can be done with releases.
#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Pack and upload a folder, and write its release into a file that can be signed elsewhere
    #[command(after_help = "\
Examples:
  publisher release build ./app
  publisher release build ./app --version 1.2.0 --out web.release")]
    Build(ReleaseBuild),
}

#[derive(Debug, Args)]
pub(crate) struct ReleaseBuild {
    #[command(flatten)]
    pub(crate) folder: Folder,
    /// What changed, for people
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) notes: String,
    /// File to write [default: APP-VERSION.release]
    #[arg(long, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Sign {
    /// File with the document; it gets the signature
    pub(crate) file: PathBuf,
    #[command(flatten)]
    pub(crate) keys: KeyFiles,
    /// Do not ask whether it is to be signed
    #[arg(long, short)]
    pub(crate) yes: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Why {
    /// Name of the node
    pub(crate) node: NodeId,
    /// One of its apps; all that are ordered for it or that it has when none is said
    pub(crate) app: Option<AppId>,
}

#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only what is about this app
    #[arg(long)]
    pub(crate) app: Option<AppId>,
    /// A line for each change, as where the output is no terminal
    #[arg(long)]
    pub(crate) lines: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Decode {
    /// File to read, or - for standard input
    pub(crate) file: PathBuf,
    /// What it is, when that is not seen by itself
    #[arg(long)]
    pub(crate) kind: Option<DocumentKind>,
}

/// What `decode` can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DocumentKind {
    Announcement,
    Plan,
    Root,
    Release,
    Order,
    Record,
    Report,
    Mandate,
    Rollout,
    Course,
    Controller,
    Manifest,
    Json,
}

fn parse_pair(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE"),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_help_has_examples_that_parse() {
        let mut root = Cli::command();
        root.build();
        let mut commands = vec![root];
        let mut helps = Vec::new();
        while let Some(mut command) = commands.pop() {
            commands.extend(command.get_subcommands().filter(|sub| sub.get_name() != "help").cloned());
            let help = command.render_long_help().to_string();
            if command.get_subcommands().next().is_none() {
                assert!(help.contains("Examples:"), "{}", command.get_name());
            }
            let lines = help.lines().filter_map(|line| line.strip_prefix("  publisher "));
            lines.for_each(parses);
            helps.push(help);
        }
        helps.sort();
        insta::assert_snapshot!(helps.join("\n════\n"));
    }

    /// Parses an example; what stands behind three spaces explains it.
    fn parses(example: &str) {
        let command = example.split("   ").next().unwrap().replace("\"faster start\"", "faster");
        let words = ["publisher"].into_iter().chain(command.split_whitespace());
        assert!(Cli::try_parse_from(words).is_ok(), "{example}");
    }
}
