//! A service for one test.

use std::net::SocketAddr;

use broker::{Log, Service, Settings, Transport};
use schemas::id::Digest;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::client::{Client, Hello};

/// A running service with its folder; stops with the test.
pub(crate) struct Bus {
    runtime: Runtime,
    service: Option<Service>,
    folder: TempDir,
    settings: Settings,
}

impl Bus {
    /// Lets everybody do everything.
    pub(crate) fn open() -> Self {
        Self::with(|_| {})
    }

    /// The same with other settings.
    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let folder = TempDir::new().unwrap();
        let mut settings = Settings::open("deploybus".parse().unwrap(), folder.path().join("data"));
        change(&mut settings);
        let runtime = Runtime::new().unwrap();
        let mut bus = Self { runtime, service: None, folder, settings };
        bus.start();
        bus
    }

    /// Asks for users: `lines` are `name role rest`, and each password is `<name>-secret`.
    pub(crate) fn with_users(lines: &[&str]) -> Self {
        Self::with_users_and(lines, |_| {})
    }

    /// The same with other settings.
    pub(crate) fn with_users_and(lines: &[&str], change: impl FnOnce(&mut Settings)) -> Self {
        let text: String = lines.iter().map(|line| user_line(line)).collect();
        Self::with(|settings| {
            let users = settings.data.with_file_name("users");
            std::fs::write(&users, text).unwrap();
            settings.open_loopback = false;
            settings.users = Some(users);
            change(settings);
        })
    }

    fn start(&mut self) {
        self.service = Some(self.runtime.block_on(Service::start(self.settings.clone())).unwrap());
    }

    /// Stops cleanly and starts again with the same folder.
    pub(crate) fn restart(&mut self) {
        self.runtime.block_on(self.service.take().unwrap().stop());
        self.start();
    }

    pub(crate) fn log(&self) -> &Log {
        self.service.as_ref().unwrap().log()
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn mqtt(&self) -> SocketAddr {
        self.address(Transport::Mqtt)
    }

    /// Where it listens for `transport`.
    pub(crate) fn address(&self, transport: Transport) -> SocketAddr {
        let listeners = self.service.as_ref().unwrap().listeners();
        listeners.iter().find(|(found, _)| *found == transport).unwrap().1
    }

    /// Reads certificates again.
    pub(crate) fn reload(&self) {
        self.service.as_ref().unwrap().reload();
    }

    pub(crate) fn http(&self) -> SocketAddr {
        self.service.as_ref().unwrap().store_listeners()[0].1
    }

    pub(crate) fn https(&self) -> SocketAddr {
        self.service.as_ref().unwrap().store_listeners()[1].1
    }

    /// A client that is connected.
    pub(crate) fn client(&self, id: &str) -> Client {
        Client::connect(self.mqtt(), &Hello::new(id)).unwrap()
    }

    /// A client that is connected as `user`.
    pub(crate) fn user(&self, user: &str, id: &str) -> Client {
        Client::connect(self.mqtt(), &Hello::new(id).user(user)).unwrap()
    }

    /// Fails unless a new client can still publish and subscribe.
    pub(crate) fn assert_alive(&self) {
        let mut client = self.client("still-alive");
        client.subscribe("alive/check", 1);
        client.publish("alive/check", "yes", 1, false);
        assert_eq!(client.message().text(), "alive/check=yes");
    }
}

/// A line of the users file.
pub(crate) fn user_line(line: &str) -> String {
    let mut words = line.splitn(3, ' ');
    let (name, role) = (words.next().unwrap(), words.next().unwrap());
    let secret = Digest::of(format!("{name}-secret").as_bytes());
    format!("{name} {role} sha256:{secret} {}\n", words.next().unwrap_or_default())
}
