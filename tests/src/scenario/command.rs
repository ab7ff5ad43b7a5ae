//! The lines of a scenario: what each verb takes.

use schemas::id::{AppId, GroupId, NodeId};

use super::{
    grammar::{expected, label, messages, nodes, on, plan, release, version},
    words::Words,
};

/// What a line says.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Seed(u64),
    Fleet {
        count: usize,
        prefix: String,
        groups: Vec<GroupId>,
    },
    Label {
        node: NodeId,
        key: String,
        value: String,
    },
    Platform {
        node: NodeId,
        platform: String,
    },
    App(AppId),
    Runs {
        version: String,
        nodes: Nodes,
    },
    Release {
        version: String,
        floor: Option<String>,
        platform: Option<String>,
        breaks: Option<(Nodes, String)>,
    },
    Breaks {
        version: String,
        nodes: Nodes,
        how: String,
    },
    Plan(PlanLine),
    Start {
        version: String,
        after_ms: u64,
        mandate_ms: Option<u64>,
    },
    Wish(Wished),
    Announce {
        version: String,
        group: GroupId,
    },
    Withdraw {
        version: String,
        group: GroupId,
        revert: bool,
    },
    Missing {
        version: String,
        is_missing: bool,
    },
    After(u64),
    Link {
        nodes: Nodes,
        change: LinkChange,
    },
    CutPower {
        node: NodeId,
        after: Option<String>,
    },
    Trouble {
        nodes: Nodes,
        what: TroubleKind,
    },
    Messages {
        lose: u64,
        double: u64,
        delay_ms: u64,
    },
    Replay,
    Controller(ControllerChange),
    Clock {
        who: Option<NodeId>,
        ahead_secs: i64,
    },
    Join {
        node: NodeId,
        group: GroupId,
    },
    Leave {
        node: NodeId,
        group: GroupId,
    },
    Arrive {
        node: NodeId,
        groups: Vec<GroupId>,
    },
    Retire(NodeId),
    Repair,
    CheckEnd,
    CheckRollouts,
    Finish,
    Expect(Expected),
}

/// Some nodes, or all.
#[derive(Debug, Clone)]
pub(crate) enum Nodes {
    All,
    These(Vec<NodeId>),
}

/// A part of a plan.
#[derive(Debug, Clone)]
pub(crate) enum PlanLine {
    /// A key of the plan as a whole, as TOML.
    Key(String),
    /// A stage, as TOML.
    Stage(GroupId, String),
}

/// What a person wants of a rollout.
#[derive(Debug, Clone)]
pub(crate) enum Wished {
    Pause,
    Resume { acknowledged: Option<Nodes> },
    Abort { revert: bool },
    Approve,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum LinkChange {
    /// It says that it goes.
    Offline,
    /// The broker finds out.
    Cut,
    Online,
    PowerOn,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum TroubleKind {
    Store(bool),
    Disk(bool),
    /// Somebody works on the node, and has it wait.
    Lock(bool),
    Slow(Option<u64>),
    Ill(u64),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum ControllerChange {
    Kill,
    /// In the middle of what it does.
    KillAfter(u32),
    Start,
}

/// What must be so.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    Rollout { state: String, why: Option<String> },
    Wave { wave: usize, state: String },
    Node { node: NodeId, state: String },
    Installed { version: String, on: Count },
    Order { group: GroupId, says: String },
}

#[derive(Debug, Clone)]
pub(crate) enum Count {
    So(usize),
    Nodes(Nodes),
}

impl Wished {
    /// The same in a timeline.
    pub(crate) fn words(&self) -> &'static str {
        match self {
            Self::Pause => "somebody pauses it",
            Self::Abort { revert: true } => "somebody ends it, and lets nodes go back",
            Self::Abort { revert: false } => "somebody ends it",
            Self::Approve => "somebody approves",
            Self::Resume { acknowledged: Some(_) } => "somebody lets it go on, knowing who failed",
            Self::Resume { acknowledged: None } => "somebody lets it go on",
        }
    }
}

/// The nodes of a fleet.
pub(crate) fn names(count: usize, prefix: &str) -> impl Iterator<Item = String> {
    let digits = count.to_string().len();
    (1..=count).map(move |number| format!("{prefix}-{number:0digits$}"))
}

/// How the beginning of a rollout reads in a timeline.
pub(crate) fn starts(version: &str, app: &AppId) -> String {
    format!("somebody starts {version} of {app}")
}

impl Command {
    /// Reads a line; nothing when it is empty.
    pub(crate) fn parse(line: &str) -> Result<Option<Self>, String> {
        let mut words = Words::of(line);
        if words.is_empty() {
            return Ok(None);
        }
        let verb = words.word("verb")?;
        let command = match Self::of_people(verb, &mut words)? {
            Some(command) => command,
            None => Self::of_world(verb, &mut words)?.ok_or_else(|| format!("there is no verb `{verb}`"))?,
        };
        words.end()?;
        Ok(Some(command))
    }

    /// What people do, and what is there to begin with.
    fn of_people(verb: &str, words: &mut Words<'_>) -> Result<Option<Self>, String> {
        Ok(Some(match verb {
            "fleet" => {
                let (count, prefix) = (words.get("number of nodes")?, words.word("prefix")?.to_owned());
                words.must("in")?;
                Self::Fleet { count, prefix, groups: words.list("group")? }
            }
            "app" => Self::App(words.get("app")?),
            "runs" => Self::Runs { version: version(words)?, nodes: on(words)? },
            "release" => release(words)?,
            "plan" => Self::Plan(plan(words)?),
            "start" => {
                let version = version(words)?;
                let after_ms = if words.takes("in") { words.time()? } else { 0 };
                let mandate_ms = if words.takes("mandate") { Some(words.time()?) } else { None };
                Self::Start { version, after_ms, mandate_ms }
            }
            "pause" => Self::Wish(Wished::Pause),
            "resume" => {
                let acknowledged = if words.takes("acknowledging") { Some(nodes(words)?) } else { None };
                Self::Wish(Wished::Resume { acknowledged })
            }
            "abort" => {
                let revert = words.takes("revert");
                if !revert {
                    words.must("keep")?;
                }
                Self::Wish(Wished::Abort { revert })
            }
            "approve" => Self::Wish(Wished::Approve),
            "announce" => {
                let version = version(words)?;
                words.must("to")?;
                Self::Announce { version, group: words.get("group")? }
            }
            "withdraw" => {
                let version = version(words)?;
                words.must("from")?;
                let group = words.get("group")?;
                Self::Withdraw { version, group, revert: words.takes("revert") }
            }
            "join" => Self::Join { node: words.get("node")?, group: words.get("group")? },
            "leave" => Self::Leave { node: words.get("node")?, group: words.get("group")? },
            "arrive" => {
                let node = words.get("node")?;
                words.must("in")?;
                Self::Arrive { node, groups: words.list("group")? }
            }
            "retire" => Self::Retire(words.get("node")?),
            "label" => label(words)?,
            "platform" => {
                Self::Platform { node: words.get("node")?, platform: words.word("platform")?.to_owned() }
            }
            "expect" => Self::Expect(expected(words)?),
            _ => return Ok(None),
        }))
    }

    /// What happens to them.
    fn of_world(verb: &str, words: &mut Words<'_>) -> Result<Option<Self>, String> {
        let link =
            |words: &mut Words<'_>, change| Ok::<_, String>(Self::Link { nodes: nodes(words)?, change });
        let trouble = |nodes, what| Self::Trouble { nodes, what };
        Ok(Some(match verb {
            "seed" => Self::Seed(words.get("number")?),
            "after" => Self::After(words.time()?),
            "breaks" => {
                let version = version(words)?;
                Self::Breaks { version, nodes: on(words)?, how: words.word("way to break")?.to_owned() }
            }
            "missing" => Self::Missing { version: version(words)?, is_missing: true },
            "uploaded" => Self::Missing { version: version(words)?, is_missing: false },
            "offline" => link(words, LinkChange::Offline)?,
            "cut-network" => link(words, LinkChange::Cut)?,
            "online" => link(words, LinkChange::Online)?,
            "power" => link(words, LinkChange::PowerOn)?,
            "cut-power" => {
                let node = words.get("node")?;
                let after = if words.takes("after") { Some(words.word("step")?.to_owned()) } else { None };
                Self::CutPower { node, after }
            }
            "store-down" => trouble(nodes(words)?, TroubleKind::Store(true)),
            "store-up" => trouble(nodes(words)?, TroubleKind::Store(false)),
            "disk-full" => trouble(nodes(words)?, TroubleKind::Disk(true)),
            "disk-free" => trouble(nodes(words)?, TroubleKind::Disk(false)),
            "lock" => trouble(nodes(words)?, TroubleKind::Lock(true)),
            "unlock" => trouble(nodes(words)?, TroubleKind::Lock(false)),
            "slow" => {
                let nodes = nodes(words)?;
                trouble(nodes, TroubleKind::Slow(Some(words.time()?)))
            }
            "ill" => {
                let nodes = nodes(words)?;
                words.must("for")?;
                trouble(nodes, TroubleKind::Ill(words.time()?))
            }
            "messages" => messages(words)?,
            "replay" => Self::Replay,
            "kill" => {
                words.must("controller")?;
                let in_midst = words.takes("after");
                Self::Controller(if in_midst {
                    ControllerChange::KillAfter(words.get("number of messages")?)
                } else {
                    ControllerChange::Kill
                })
            }
            "restart" => {
                words.must("controller")?;
                Self::Controller(ControllerChange::Start)
            }
            "clock" => {
                let who = if words.takes("controller") { None } else { Some(words.get("node")?) };
                let back = words.takes("back");
                let secs = i64::try_from(words.time()? / 1_000).unwrap_or(i64::MAX);
                Self::Clock { who, ahead_secs: if back { -secs } else { secs } }
            }
            "repair" => Self::Repair,
            "check-rollouts" => Self::CheckRollouts,
            "check-end" => Self::CheckEnd,
            "finish" => Self::Finish,
            _ => return Ok(None),
        }))
    }
}
