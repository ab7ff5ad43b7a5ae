//! A fleet on this machine: a home, mosquitto, a store.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::store::FakeStore;

/// Where Debian puts it.
const MOSQUITTO: &str = "/usr/sbin/mosquitto";

/// What a command printed and how it ended.
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

pub(crate) struct World {
    pub(crate) store: FakeStore,
    pub(crate) bus_port: u16,
    broker: Child,
    dir: tempfile::TempDir,
}

impl World {
    pub(crate) fn start() -> Option<Self> {
        Self::start_with_acl("topic readwrite #")
    }

    /// A world whose broker permits what `acl` says.
    pub(crate) fn start_with_acl(acl: &str) -> Option<Self> {
        if !PathBuf::from(MOSQUITTO).exists() {
            println!("skipped: mosquitto is not installed");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let bus_port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let acl_file = dir.path().join("acl");
        // Users that are not listed have a line of their own; mosquitto reads `user` sections for the others.
        let others =
            ["pi-1", "pi-2", "controller"].map(|user| format!("user {user}\ntopic readwrite #\n")).concat();
        fs::write(&acl_file, format!("{acl}\nuser publisher\n{acl}\n{others}")).unwrap();
        let settings = format!(
            "listener {bus_port} 127.0.0.1\nallow_anonymous true\nacl_file {}\nuser root\n",
            acl_file.display()
        );
        fs::write(dir.path().join("conf"), settings).unwrap();
        let mut command = Command::new(MOSQUITTO);
        command.arg("-c").arg(dir.path().join("conf")).stdout(Stdio::null()).stderr(Stdio::null());
        let broker = command.spawn().unwrap();
        let world = Self { store: FakeStore::start(), bus_port, broker, dir };
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", bus_port)).is_err() {
            assert!(started.elapsed() < Duration::from_secs(10), "mosquitto does not start");
            thread::yield_now();
        }
        fs::create_dir(world.path("home")).unwrap();
        let bus = format!("mqtt://127.0.0.1:{bus_port}");
        let store = format!("http://127.0.0.1:{}", world.store.port);
        assert_eq!(world.run(&["init", "--bus", &bus, "--store", &store]).code, Some(0));
        Some(world)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// How many files are in a folder.
    pub(crate) fn files(&self, name: &str) -> usize {
        fs::read_dir(self.path(name)).unwrap().count()
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_publisher"));
        command.args(arguments).current_dir(self.dir.path()).env("HOME", self.path("home"));
        command.env_remove("DEPLOYBUS_HOME").env_remove("RUST_LOG").stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Self::end(self.command(arguments))
    }

    /// With a variable in its environment.
    pub(crate) fn run_with(&self, (name, value): (&str, &str), arguments: &[&str]) -> Ran {
        let mut command = self.command(arguments);
        command.env(name, value);
        Self::end(command)
    }

    /// At another time; none where faketime is not installed.
    pub(crate) fn run_at(&self, time: &str, arguments: &[&str]) -> Option<Ran> {
        Command::new("faketime").arg("--help").output().ok()?;
        let mut faked = Command::new("faketime");
        faked.args(["-f", time, env!("CARGO_BIN_EXE_publisher")]).args(arguments);
        faked.current_dir(self.dir.path()).env("HOME", self.path("home")).stdin(Stdio::null());
        Some(Self::end(faked))
    }

    fn end(mut command: Command) -> Ran {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    pub(crate) fn add_node(&self, name: &str) {
        assert_eq!(self.run(&["node", "add", name, "--group", "canary"]).code, Some(0));
    }

    /// Writes the app, with one file that differs by version.
    pub(crate) fn app(&self, version: &str) {
        let app = self.path("app");
        fs::create_dir_all(&app).unwrap();
        fs::write(app.join("deploybus.toml"), format!("[app]\nname = \"web\"\nversion = \"{version}\"\n"))
            .unwrap();
        fs::write(app.join("app.py"), format!("print('{version}')\n")).unwrap();
    }

    /// A running `publisher watch` whose reader left after the first line, as `head -1` does.
    pub(crate) fn unread_watch(&self) -> Child {
        let mut child = self.command(&["watch"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        child
    }

    /// A running `publisher watch` that has shown the fleet as it is.
    pub(crate) fn watch(&self) -> Watch {
        self.watch_by(&["watch"])
    }

    /// A running command that has shown its first line, and goes on until Ctrl-C.
    pub(crate) fn watch_by(&self, arguments: &[&str]) -> Watch {
        let mut child = self.command(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(String::new()));
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let heard = Arc::clone(&said);
        thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let mut heard = heard.lock().unwrap();
                heard.push_str(&line);
                heard.push('\n');
            }
        });
        Watch { child, said }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.broker.kill().ok();
        self.broker.wait().ok();
    }
}

pub(crate) struct Watch {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Watch {
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Ctrl-C, and the exit code.
    pub(crate) fn interrupt(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
