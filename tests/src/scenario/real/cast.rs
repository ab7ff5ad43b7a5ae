//! The fleet of real processes that plays a scenario: what people and the world do to it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rollout::plan::Plan;
use schemas::id::{AppId, Counter, GroupId, NodeId};
use serde_json::{Value, json};

use super::super::{
    command::{Command, LinkChange, Nodes, TroubleKind, Wished, names, starts},
    draft::Draft,
};
use crate::{App, World};

/// A soak lasts so much shorter than a scenario says.
const HASTE: u32 = 60;
/// Where somebody does something while a wave soaks, the soak leaves time for that: many times what a command takes.
const VISIT: Duration = Duration::from_secs(15);
/// How long a trial of the app may last: twenty of them may begin at once on a slow machine. Of a release that breaks it is the time
/// that every trial lasts that does not go well.
const PATIENT: &str = "deadline = \"60s\"";
const HASTY: &str = "deadline = \"20s\"";
/// The shortest soak: a plan counts in seconds.
const SHORTEST: Duration = Duration::from_secs(1);

/// Real processes.
pub(super) struct Cast {
    pub(super) world: World,
    app: App,
    name: AppId,
    /// Files with the releases, by version; each has a counter, one more than the one before.
    releases: BTreeMap<String, (PathBuf, Counter)>,
    /// How releases break on nodes, by version.
    breaks: BTreeMap<NodeId, BTreeMap<String, String>>,
    nodes: Vec<NodeId>,
    /// Groups in which they all are.
    groups: BTreeSet<GroupId>,
    /// The plan of the next rollout, so far.
    draft: Draft,
}

impl Cast {
    /// The fleet, with everybody in it who is there to begin with.
    pub(super) fn of<'a>(lines: impl Iterator<Item = &'a Command> + Clone) -> Result<Self> {
        let world = World::new()?;
        let app = App::copy("scenario-app", &world.folder().join("app"))?;
        let mut cast = Self {
            world,
            app,
            name: "web".parse().expect("is an app name"),
            releases: BTreeMap::new(),
            breaks: BTreeMap::new(),
            nodes: Vec::new(),
            groups: BTreeSet::new(),
            draft: Draft::default(),
        };
        let label = |command: &'a Command| match command {
            Command::Label { node, key, value } => Some((node, format!("{key}={value}"))),
            _ => None,
        };
        let labels: Vec<_> = lines.clone().filter_map(label).collect();
        for command in lines {
            let Command::Fleet { count, prefix, groups } = command else { continue };
            cast.groups.extend(groups.first().cloned());
            for name in names(*count, prefix) {
                let node: NodeId = name.parse()?;
                let of_node = labels.iter().filter(|(of, _)| **of == node);
                let labels: Vec<&str> = of_node.map(|(_, label)| label.as_str()).collect();
                cast.add_node(&node, groups, &labels)?;
            }
        }
        Ok(cast)
    }

    /// Does what a line says.
    pub(super) fn perform(&mut self, command: &Command, is_visited: bool) -> Result<()> {
        match command {
            Command::Runs { version, .. } => self.runs(version),
            Command::Release { version, floor, breaks, .. } => {
                self.release(version, floor.as_deref(), breaks.is_none())?;
                breaks.as_ref().map_or(Ok(()), |(nodes, how)| self.breaks(version, nodes, how))
            }
            Command::Breaks { version, nodes, how } => self.breaks(version, nodes, how),
            Command::Plan(line) => {
                self.draft.write(line);
                Ok(())
            }
            Command::Start { version, .. } => self.start(version, is_visited),
            Command::Wish(wished) => self.wish(wished),
            Command::Announce { version, group } => {
                let file = self.made(version)?.0.display().to_string();
                self.publisher(&["order", &file, "--group", group.as_str(), "--no-wait"])
            }
            Command::Arrive { node, groups } => self.add_node(node, groups, &[]),
            Command::Link { nodes, change } => {
                let is_online = matches!(change, LinkChange::Online);
                self.these(nodes).iter().try_for_each(|node| self.link(node, is_online))
            }
            Command::Trouble { nodes, what: TroubleKind::Lock(is_locked) } => {
                self.these(nodes).iter().try_for_each(|node| self.lock(node, *is_locked))
            }
            // What was there before the story, and what the simulator alone needs.
            _ => Ok(()),
        }
    }

    /// What a line says, as the simulator tells it.
    pub(super) fn words(&self, command: &Command) -> Vec<String> {
        let of_nodes =
            |nodes, word: &str| self.these(nodes).iter().map(|node| format!("{node}: {word}")).collect();
        match command {
            Command::Start { version, .. } => vec![starts(version, &self.name)],
            Command::Wish(wished) => vec![wished.words().to_owned()],
            Command::Link { nodes, change: LinkChange::Online } => of_nodes(nodes, "online"),
            Command::Link { nodes, .. } => of_nodes(nodes, "offline"),
            Command::Trouble { nodes, what: TroubleKind::Lock(true) } => of_nodes(nodes, "locked"),
            Command::Trouble { nodes, what: TroubleKind::Lock(false) } => of_nodes(nodes, "unlocked"),
            _ => Vec::new(),
        }
    }

    /// `publisher node add`, and a worker that can be locked.
    fn add_node(&mut self, node: &NodeId, groups: &[GroupId], labels: &[&str]) -> Result<()> {
        let mut args: Vec<&str> = groups.iter().flat_map(|group| ["--group", group.as_str()]).collect();
        if !groups.iter().any(|group| group.as_str() == "all") {
            args.push("--no-all");
        }
        args.extend(labels.iter().flat_map(|label| ["--label", *label]));
        let of = self.world.register_node_with(node.as_str(), &args)?;
        let settings = of.folder().join("pi-worker.toml");
        let text = fs::read_to_string(&settings)?;
        fs::write(&settings, format!("{text}\n[hold]\nlock = \"lock\"\n"))?;
        of.start()?;
        self.nodes.push(node.clone());
        Ok(())
    }

    /// `publisher release build`, with the counter that the simulator gives: which node is in which wave follows from it.
    fn release(&mut self, version: &str, floor: Option<&str>, is_good: bool) -> Result<()> {
        if !is_good {
            self.app.edit_file("deploybus.toml", PATIENT, HASTY)?;
        }
        self.app.commit(version)?;
        let file = self.world.folder().join(format!("{version}.release"));
        let (folder, out) = (self.app.folder().display().to_string(), file.display().to_string());
        self.publisher(&["release", "build", &folder, "--out", &out])?;
        let counter = Counter(self.releases.len() as u64 + 1);
        let floor = match floor {
            Some(floor) => self.made(floor)?.1,
            None => Counter(0),
        };
        self.world.forge()?.number(&file, counter, floor)?;
        if !is_good {
            self.app.edit_file("deploybus.toml", HASTY, PATIENT)?;
        }
        self.releases.insert(version.to_owned(), (file, counter));
        Ok(())
    }

    fn made(&self, version: &str) -> Result<&(PathBuf, Counter)> {
        self.releases.get(version).with_context(|| format!("there is no release {version}"))
    }

    /// Every node gets `version`, and runs it.
    fn runs(&mut self, version: &str) -> Result<()> {
        if !self.releases.contains_key(version) {
            self.release(version, None, true)?;
        }
        let file = self.made(version)?.0.display().to_string();
        for group in &self.groups {
            self.publisher(&["order", &file, "--group", group.as_str(), "--timeout", "2m"])?;
        }
        Ok(())
    }

    /// Says how a release behaves on some nodes.
    fn breaks(&mut self, version: &str, nodes: &Nodes, how: &str) -> Result<()> {
        for node in self.these(nodes) {
            let breaks = self.breaks.entry(node.clone()).or_default();
            breaks.insert(version.to_owned(), how.to_owned());
            let data =
                self.world.node(node.as_str())?.data().join("apps").join(self.name.as_str()).join("data");
            fs::create_dir_all(&data)?;
            fs::write(data.join("breaks.json"), json!(breaks).to_string())?;
        }
        Ok(())
    }

    /// `publisher rollout start`
    fn start(&mut self, version: &str, is_visited: bool) -> Result<()> {
        let (plan, _) = std::mem::take(&mut self.draft).of(&self.name);
        let file = self.world.folder().join("plan.toml");
        fs::write(&file, hasten(&plan, is_visited)?)?;
        let (release, plan) = (self.made(version)?.0.display().to_string(), file.display().to_string());
        self.publisher(&["rollout", "start", &release, "--plan", &plan, "--yes", "--detach"])
    }

    /// `publisher rollout pause`, `resume`, `abort`, `approve`
    fn wish(&self, wished: &Wished) -> Result<()> {
        let name = self.name.as_str();
        let args: &[&str] = match wished {
            Wished::Pause => &["pause", name],
            Wished::Resume { acknowledged: None } => &["resume", name],
            Wished::Resume { acknowledged: Some(_) } => &["resume", name, "--ack-failures"],
            Wished::Abort { revert: true } => &["abort", name, "--revert", "--yes"],
            Wished::Abort { revert: false } => &["abort", name, "--keep", "--yes"],
            Wished::Approve => &["approve", name],
        };
        self.publisher(&[&["rollout"], args].concat())
    }

    /// Somebody works on nodes and has them wait, or not any more.
    fn lock(&mut self, node: &NodeId, is_locked: bool) -> Result<()> {
        let lock = self.world.node(node.as_str())?.folder().join("lock");
        if is_locked { Ok(fs::write(lock, "")?) } else { Ok(fs::remove_file(lock)?) }
    }

    /// The worker ends or begins; its app goes on.
    fn link(&mut self, node: &NodeId, is_online: bool) -> Result<()> {
        let of = self.world.node(node.as_str())?;
        if is_online {
            return of.start();
        }
        match of.stop()? {
            Some(0) => Ok(()),
            code => bail!("the worker of {node} ended with {code:?}"),
        }
    }

    /// Some nodes, or all.
    pub(super) fn these(&self, nodes: &Nodes) -> Vec<NodeId> {
        match nodes {
            Nodes::All => self.nodes.clone(),
            Nodes::These(nodes) => nodes.clone(),
        }
    }

    /// The nodes whose app says that it is this version.
    pub(super) fn serving(&self, version: &str) -> Vec<&str> {
        let serving = self.world.nodes().filter(|node| node.serves().as_deref() == Some(version));
        serving.map(crate::Node::name).collect()
    }

    /// `publisher rollout status --json`, of the one rollout.
    pub(super) fn status(&self) -> Result<Value> {
        let said = self.world.publisher(&["rollout", "status", self.name.as_str(), "--json"])?.expect(0)?;
        let mut status: Value = serde_json::from_str(&said.stdout)?;
        Ok(status["rollouts"][0].take())
    }

    fn publisher(&self, args: &[&str]) -> Result<()> {
        self.world.publisher(args)?.expect(0).map(drop)
    }
}

/// The same plan with shorter soaks.
fn hasten(plan: &str, is_visited: bool) -> Result<String> {
    let mut plan = Plan::parse(plan)?;
    for stage in plan.stages.iter_mut().filter(|stage| !stage.soak.is_zero()) {
        let shortest = if is_visited { VISIT } else { SHORTEST };
        stage.soak = Duration::from_secs((stage.soak / HASTE).as_secs()).max(shortest);
    }
    Ok(plan.to_toml()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn soaks_are_shorter_and_leave_time_for_visitors() {
        let soaks = |soak: &str, is_visited| {
            let plan = format!("app = \"web\"\n[[stage]]\ngroup = \"all\"\nsoak = \"{soak}\"\n");
            Plan::parse(&hasten(&plan, is_visited).unwrap()).unwrap().stages[0].soak.as_secs()
        };
        assert_eq!([soaks("10m", false), soaks("30s", false), soaks("0s", false)], [10, 1, 0]);
        assert_eq!([soaks("1h", true), soaks("10m", true), soaks("0s", true)], [60, 15, 0]);
    }
}
