//! One fleet of real processes: `publisher init`, a broker, and nodes.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use schemas::{
    id::NodeId,
    report::{Outcome, Report},
};
use serde_json::Value;

use crate::{
    app::App,
    bus::{BusKind, ForeignBus, NatsCluster},
    disk::SmallDisk,
    forge::Forge,
    mqtt::Mqtt,
    net::free_port,
    node::Node,
    process::{Output, Process, binary},
};

/// The longest that a node may take to end an order.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long nothing may come until it is asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(5);

/// A fleet below one temporary folder.
#[derive(Debug)]
pub struct World {
    // Fields are dropped in this order: nodes and broker end before their disks and their folder go.
    nodes: BTreeMap<String, Node>,
    broker: Option<Process>,
    foreign: Option<ForeignBus>,
    disks: Vec<SmallDisk>,
    mqtt_port: u16,
    http_port: u16,
    /// Where bus and store listen with TLS, when that is what everybody uses.
    tls_ports: Option<(u16, u16)>,
    folder: tempfile::TempDir,
}

impl World {
    /// Makes a fleet with `publisher init` and starts its broker.
    ///
    /// # Errors
    /// When anything of that fails.
    pub fn new() -> Result<Self> {
        Self::on(BusKind::Relay)
    }

    /// The same, on another bus.
    ///
    /// # Errors
    /// When anything of that fails.
    pub fn on(bus: BusKind) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("deploybus-").tempdir()?;
        let foreign = ForeignBus::start(bus, folder.path())?;
        let (mqtt_port, http_port) = (free_port()?, free_port()?);
        let tls_ports = match bus {
            BusKind::Tls => Some((free_port()?, free_port()?)),
            _ => None,
        };
        let mut world = Self {
            nodes: BTreeMap::new(),
            broker: None,
            foreign,
            disks: Vec::new(),
            mqtt_port,
            http_port,
            tls_ports,
            folder,
        };
        let (bus, store) = match (&world.foreign, tls_ports) {
            (Some(foreign), _) => (foreign.url(), format!("http://127.0.0.1:{http_port}")),
            (None, Some((bus, store))) => {
                (format!("mqtts://127.0.0.1:{bus}"), format!("https://127.0.0.1:{store}"))
            }
            (None, None) => {
                (format!("mqtt://127.0.0.1:{mqtt_port}"), format!("http://127.0.0.1:{http_port}"))
            }
        };
        world.publisher(&["init", "--bus", &bus, "--store", &store])?.expect(0)?;
        let (publisher, watcher) = (world.login()?, world.home().join("watcher.password"));
        world.let_in(&publisher.0, &publisher.1)?;
        world.let_in("watcher", std::fs::read_to_string(watcher)?.trim_end())?;
        world.start_broker()?;
        Ok(world)
    }

    /// A fleet with one node, `pi-1` in group `canary`, that serves 1.0.0 of the app.
    ///
    /// # Errors
    /// When it does not come that far.
    pub fn serving() -> Result<(Self, App)> {
        Self::new()?.into_serving()
    }

    /// The same, from a fleet without nodes.
    ///
    /// # Errors
    /// When it does not come that far.
    pub fn into_serving(self) -> Result<(Self, App)> {
        let mut world = self;
        world.add_node("pi-1", &["canary"])?;
        let app = world.app()?;
        let (code, told) = world.announce(&app, "canary")?;
        ensure!(code == Some(0), "1.0.0 was not kept: {told}");
        Ok((world, app))
    }

    /// The folder below which everything lies.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The publisher's home.
    pub fn home(&self) -> PathBuf {
        self.folder().join("home")
    }

    /// The broker's data folder.
    pub fn broker_data(&self) -> PathBuf {
        self.folder().join("broker")
    }

    /// The ports of bus and store without TLS.
    pub fn ports(&self) -> (u16, u16) {
        (self.foreign.as_ref().map_or(self.mqtt_port, ForeignBus::port), self.http_port)
    }

    /// The cluster that is the bus here.
    ///
    /// # Errors
    /// When none is.
    pub fn cluster(&mut self) -> Result<&mut NatsCluster> {
        match &mut self.foreign {
            Some(ForeignBus::Nats(cluster)) => Ok(cluster),
            _ => bail!("the bus is no cluster"),
        }
    }

    /// `publisher --home <home> <args>`, not run yet.
    ///
    /// # Errors
    /// When the binary cannot be built.
    pub fn publisher_command(&self, args: &[&str]) -> Result<Command> {
        let mut publisher = Command::new(binary("publisher")?);
        publisher.arg("--home").arg(self.home()).args(args);
        Ok(publisher)
    }

    /// Runs `publisher` to its end.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn publisher(&self, args: &[&str]) -> Result<Output> {
        Output::of(&mut self.publisher_command(args)?)
    }

    /// `publisher announce <app> --group <group> --json`: exit code and what it printed.
    ///
    /// # Errors
    /// When it prints no JSON.
    pub fn announce(&self, app: &App, group: &str) -> Result<(Option<i32>, Value)> {
        let folder = app.folder().to_str().context("a folder that is no text")?;
        let output = self.publisher(&["announce", folder, "--group", group, "--json", "--timeout", "2m"])?;
        let json = serde_json::from_str(&output.stdout)
            .with_context(|| format!("announce said\n{}{}", output.stdout, output.stderr))?;
        Ok((output.code, json))
    }

    /// `publisher announce <app> --group <group> --no-wait`
    ///
    /// # Errors
    /// When the bus does not have it then.
    pub fn announce_only(&self, app: &App, group: &str) -> Result<()> {
        let folder = app.folder().to_str().context("a folder that is no text")?;
        self.publisher(&["announce", folder, "--group", group, "--no-wait"])?.expect(0).map(drop)
    }

    /// Where bus and store listen with TLS.
    ///
    /// # Errors
    /// When they do not.
    pub fn tls_ports(&self) -> Result<(u16, u16)> {
        self.tls_ports.context("nothing listens with TLS")
    }

    /// Starts the broker on the world's ports. Where bus and store speak TLS, this machine may do without all the same.
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_broker(&mut self) -> Result<()> {
        let command = self.broker_command()?;
        self.start_broker_as(command)
    }

    /// Starts it by a changed [`World::broker_command`].
    ///
    /// # Errors
    /// When it does not get ready.
    pub fn start_broker_as(&mut self, command: Command) -> Result<()> {
        self.broker = Some(Process::start(command, &self.folder().join("broker.log"), "broker ready")?);
        Ok(())
    }

    /// The command that runs the broker on the world's ports.
    ///
    /// # Errors
    /// When the binary cannot be built.
    pub fn broker_command(&self) -> Result<Command> {
        let mut broker = Command::new(binary("broker")?);
        broker.arg("run").arg("--data").arg(self.broker_data());
        broker.arg("--config").arg(self.home().join("broker/broker.toml"));
        match &self.foreign {
            Some(foreign) => broker.arg("--bus").arg(foreign.url()),
            None => broker.arg("--mqtt").arg(format!("127.0.0.1:{}", self.mqtt_port)),
        };
        broker.arg("--http").arg(format!("127.0.0.1:{}", self.http_port));
        Ok(broker)
    }

    /// The broker, while it runs.
    pub fn broker(&self) -> Option<&Process> {
        self.broker.as_ref()
    }

    /// `kill -9` for the broker.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill_broker(&mut self) -> Result<()> {
        self.broker.take().context("the broker does not run")?.kill()
    }

    /// SIGTERM for the broker, and its exit code.
    ///
    /// # Errors
    /// When it does not run or does not end.
    pub fn stop_broker(&mut self) -> Result<Option<i32>> {
        self.broker.take().context("the broker does not run")?.terminate()
    }

    /// `publisher node add`, and its worker started.
    ///
    /// # Errors
    /// When that fails.
    pub fn add_node(&mut self, name: &str, groups: &[&str]) -> Result<&mut Node> {
        self.register_node(name, groups)?.start()?;
        self.node(name)
    }

    /// `publisher node add`, without starting its worker.
    ///
    /// # Errors
    /// When that fails.
    pub fn register_node(&mut self, name: &str, groups: &[&str]) -> Result<&mut Node> {
        let groups: Vec<&str> = groups.iter().flat_map(|group| ["--group", *group]).collect();
        self.register_node_with(name, &groups)
    }

    /// `publisher node add <name> <more>`, without starting its worker.
    ///
    /// # Errors
    /// When that fails.
    pub fn register_node_with(&mut self, name: &str, more: &[&str]) -> Result<&mut Node> {
        let (folder, data, port) =
            (self.folder().join(name), self.folder().join(format!("{name}-data")), free_port()?);
        let (out, data_text) = (folder.to_str().context("no text")?, data.to_str().context("no text")?);
        let env = format!("PORT={port}");
        let args = ["node", "add", name, "--out", out, "--data", data_text, "--env", &env];
        self.publisher(&[&args[..], more].concat())?.expect(0)?;
        self.let_in(name, std::fs::read_to_string(folder.join("password"))?.trim_end())?;
        self.nodes.insert(name.to_owned(), Node::new(name, folder, data, port));
        self.node(name)
    }

    /// A node of which nothing was made yet: what is in `folder` comes from elsewhere.
    ///
    /// # Errors
    /// When no port is free.
    pub fn stranger(&mut self, name: &str) -> Result<&mut Node> {
        let (folder, data) = (self.folder().join(name), self.folder().join(format!("{name}-data")));
        self.nodes.insert(name.to_owned(), Node::new(name, folder, data, free_port()?));
        self.node(name)
    }

    /// Gives a node that was not started yet a disk of its own, of `size` as in `4m`; false where that is not allowed.
    ///
    /// # Errors
    /// When there is no such node.
    pub fn give_small_disk(&mut self, node: &str, size: &str) -> Result<bool> {
        let disk = SmallDisk::mount(self.node(node)?.data(), size)?;
        let is_mounted = disk.is_some();
        self.disks.extend(disk);
        Ok(is_mounted)
    }

    /// A node by its name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&mut self, name: &str) -> Result<&mut Node> {
        self.nodes.get_mut(name).with_context(|| format!("no node {name}"))
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// A new copy of the demo app, version 1.0.0.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn app(&self) -> Result<App> {
        App::create(&self.folder().join("app"))
    }

    /// Connects to the bus with the publisher's password, by a client that obeys nothing.
    ///
    /// # Errors
    /// When the broker refuses.
    pub fn raw_publisher(&self) -> Result<Mqtt> {
        let (user, password) = self.login()?;
        Mqtt::connect(self.ports().0, Some((&user, &password)))
    }

    /// User and password of the publisher.
    fn login(&self) -> Result<(String, String)> {
        let settings: toml::Table = std::fs::read_to_string(self.home().join("fleet.toml"))?.parse()?;
        let text = |key: &str| settings.get(key).and_then(|v| v.as_str()).map(str::to_owned);
        Ok((text("user").context("no user")?, text("password").context("no password")?))
    }

    /// Lets a user in where the bus is not our own, which would know by itself.
    ///
    /// # Errors
    /// When the bus does not take it.
    pub fn let_in(&mut self, user: &str, password: &str) -> Result<()> {
        self.foreign.as_mut().map_or(Ok(()), |foreign| foreign.let_in(user, password))
    }

    /// The fleet's keys.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn forge(&self) -> Result<Forge> {
        Forge::open(&self.home())
    }

    /// Waits for a signed report of `node` of which `wanted` makes something.
    ///
    /// # Errors
    /// When none comes within 60 s; with the last one that came.
    pub fn wait_report<T>(&self, node: &str, what: &str, wanted: impl Fn(&Report) -> Option<T>) -> Result<T> {
        let (forge, id) = (self.forge()?, node.parse::<NodeId>()?);
        let mut bus = self.raw_publisher()?;
        let topic = format!("{}/v1/node/{node}/report", forge.trust.fleet());
        bus.subscribe(&topic)?;
        let until = Instant::now() + PATIENCE;
        let mut last = None;
        while Instant::now() < until {
            let Some((_, payload, _)) = bus.next(ASK_AGAIN)? else {
                // A cluster may have lost what came while it took the subscription.
                bus.subscribe(&topic)?;
                continue;
            };
            let report = forge.report(&self.home(), &id, &payload)?;
            if let Some(wanted) = wanted(&report) {
                return Ok(wanted);
            }
            last = Some(report);
        }
        bail!("waited in vain for {what} of {node}; its last report: {last:#?}")
    }

    /// Waits until `node` has ended an order for `version`, and gives how.
    ///
    /// # Errors
    /// When it does not within 60 s.
    pub fn wait_outcome(&self, node: &str, version: &str) -> Result<Outcome> {
        self.wait_report(node, &format!("the verdict on {version}"), |report| {
            let outcomes = report.apps.iter().flat_map(|app| &app.outcomes);
            outcomes.rev().find(|outcome| outcome.version == version).cloned()
        })
    }
}
