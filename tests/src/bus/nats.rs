//! Three servers of NATS with JetStream, configured as `packaging/nats` says.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use rustix::process::Signal;

use super::{configured, run, wait_let_in};
use crate::{net::free_port, process::Process};

/// Where Debian puts it.
pub(super) const PROGRAM: &str = "/usr/sbin/nats-server";
const CONFIG: &str = include_str!("../../../packaging/nats/deploybus.conf");
const USERS: &str = include_str!("../../../packaging/nats/deploybus-users.conf");
const SERVERS: usize = 3;
/// With whose name and password it is seen that a server is ready.
const TESTER: &str = "tester";

/// A running cluster.
#[derive(Debug)]
pub struct NatsCluster {
    servers: Vec<Server>,
    users: Vec<(String, String)>,
}

#[derive(Debug)]
struct Server {
    /// None once it was killed.
    process: Option<Process>,
    folder: PathBuf,
    port: u16,
}

impl NatsCluster {
    /// Starts one with its files in `folder`, and waits until it takes clients.
    ///
    /// # Errors
    /// When it is not installed or does not get ready.
    pub fn start(folder: &Path) -> Result<Self> {
        let routes = (0..SERVERS).map(|_| free_port()).collect::<Result<Vec<_>>>()?;
        let mut cluster = Self { servers: Vec::new(), users: vec![(TESTER.to_owned(), TESTER.to_owned())] };
        for number in 0..SERVERS {
            let server = Server {
                process: None,
                folder: folder.join(format!("nats-{}", number + 1)),
                port: free_port()?,
            };
            fs::create_dir(&server.folder)?;
            cluster.servers.push(server);
        }
        cluster.write_users()?;
        for (number, server) in cluster.servers.iter_mut().enumerate() {
            server.configure(number, &routes)?;
            server.run()?;
        }
        cluster.wait_ready(TESTER, TESTER)?;
        Ok(cluster)
    }

    /// All servers, as `--bus` takes them.
    pub fn url(&self) -> String {
        let servers: Vec<_> =
            self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        format!("mqtt://{}", servers.join(","))
    }

    /// Where a server that runs listens.
    pub fn port(&self) -> u16 {
        self.running().next().map_or(0, |server| server.port)
    }

    /// Lets a user in from now on.
    ///
    /// # Errors
    /// When a server does not take it.
    pub fn let_in(&mut self, user: &str, password: &str) -> Result<()> {
        self.users.push((user.to_owned(), password.to_owned()));
        self.write_users()?;
        for server in self.running() {
            server.process.as_ref().context("it runs")?.signal(Signal::HUP)?;
        }
        self.wait_ready(user, password)
    }

    /// `kill -9` for the server that is named first, which clients try first.
    ///
    /// # Errors
    /// When none runs.
    pub fn kill_first(&mut self) -> Result<()> {
        let process = self.servers.iter_mut().find_map(|server| server.process.take());
        process.context("no server runs")?.kill()
    }

    /// Starts those again that do not run.
    ///
    /// # Errors
    /// When one does not start.
    pub fn start_again(&mut self) -> Result<()> {
        self.servers.iter_mut().filter(|server| server.process.is_none()).try_for_each(Server::run)?;
        self.wait_ready(TESTER, TESTER)
    }

    fn running(&self) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(|server| server.process.is_some())
    }

    fn wait_ready(&self, user: &str, password: &str) -> Result<()> {
        self.running().try_for_each(|server| wait_let_in(server.port, user, password))
    }

    fn write_users(&self) -> Result<()> {
        let lines: Vec<_> = self.users.iter().map(|(user, password)| user_line(user, password)).collect();
        for server in &self.servers {
            let text = format!("authorization {{ users: [\n{}\n] }}\n", lines.join("\n"));
            fs::write(server.folder.join("deploybus-users.conf"), text)?;
        }
        Ok(())
    }
}

/// What the shipped file says of this user, or else of a node.
fn user_line(user: &str, password: &str) -> String {
    let of = |name: &str| USERS.lines().find(|line| line.contains(&format!("user: {name},")));
    let line = of(user).or_else(|| of("NODE")).unwrap_or_default();
    line.replace("NODE", user).replace("PASSWORD", password)
}

impl Server {
    fn configure(&self, number: usize, routes: &[u16]) -> Result<()> {
        let all: Vec<_> = routes.iter().map(|port| format!("nats://127.0.0.1:{port}")).collect();
        let config = configured(
            CONFIG,
            &[
                ("server_name: nats-1", format!("server_name: nats-{}", number + 1)),
                ("listen: 0.0.0.0:4222", format!("listen: 127.0.0.1:{}", free_port()?)),
                ("/var/lib/nats/jetstream", self.folder.join("jetstream").display().to_string()),
                ("listen: 0.0.0.0:1883", format!("listen: 127.0.0.1:{}", self.port)),
                ("listen: 0.0.0.0:6222", format!("listen: 127.0.0.1:{}", routes[number])),
                ("nats://nats-1:6222, nats://nats-2:6222, nats://nats-3:6222", all.join(", ")),
            ],
        )?;
        Ok(fs::write(self.folder.join("nats.conf"), config)?)
    }

    fn run(&mut self) -> Result<()> {
        let mut command = Command::new(PROGRAM);
        command.arg("-c").arg(self.folder.join("nats.conf"));
        self.process = Some(run(command, &self.folder.join("log"))?);
        Ok(())
    }
}
