//! What is said to people on a node that does not start, or does not come to its bus: what happened, where, what to do.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use e2e::{App, BusKind, Output, Process, World, binary, free_port};

/// How the worker's log says that the bus is away.
const AWAY: &str = " WARN agent::runtime::node: Bus is away";

/// The folder of a node, and what its worker said after it was spoilt in some way.
struct Told {
    world: World,
    /// The folder as `publisher node add` wrote it.
    good: PathBuf,
    runs: usize,
    text: String,
}

impl Told {
    fn new(bus: BusKind) -> Self {
        let mut world = World::on(bus).unwrap();
        let good = world.register_node("pi-1", &["canary"]).unwrap().folder().to_owned();
        Self { world, good, runs: 0, text: String::new() }
    }

    /// Another copy of the folder, spoilt.
    fn spoilt(&mut self, spoil: impl FnOnce(&Path)) -> PathBuf {
        self.runs += 1;
        let folder = self.world.folder().join(format!("card-{}", self.runs));
        fs::create_dir(&folder).unwrap();
        for file in fs::read_dir(&self.good).unwrap().map(Result::unwrap) {
            fs::copy(file.path(), folder.join(file.file_name())).unwrap();
        }
        edit(&folder, "/pi-1-data", &format!("/data-{}", self.runs));
        spoil(&folder);
        folder
    }

    /// A command that ends by itself.
    fn ends(&mut self, mistake: &str, command: &str, more: &[&str], spoil: impl FnOnce(&Path)) {
        let folder = self.spoilt(spoil);
        let said = Output::of(worker(command, &folder).args(more)).unwrap();
        assert!(matches!(said.code, Some(1 | 2)), "{mistake}: {}{}", said.stdout, said.stderr);
        assert!(said.stderr.starts_with("error: ") && said.stderr.contains("\nhint:  "), "{}", said.stderr);
        self.note(&format!("{mistake}   → {}", said.code.unwrap()), &folder, &said.stderr);
    }

    /// A worker that does not start.
    fn refuses(&mut self, mistake: &str, spoil: impl FnOnce(&Path)) {
        self.ends(mistake, "run", &[], spoil);
    }

    /// A worker that goes on, and says so in a line of its log that begins with `line`.
    fn warns(&mut self, mistake: &str, line: &str, spoil: impl FnOnce(&Path)) {
        let folder = self.spoilt(spoil);
        let log = folder.join("worker.log");
        let running = Process::start(worker("run", &folder), &log, line).unwrap();
        let said = fs::read_to_string(&log).unwrap();
        let said = said.lines().find(|said| said.starts_with(line)).unwrap().trim_start().to_owned();
        self.note(&format!("{mistake}   → goes on"), &folder, &format!("{said}\n"));
        drop(running);
    }

    fn note(&mut self, mistake: &str, folder: &Path, said: &str) {
        let (mqtt, _) = self.world.ports();
        let said = said
            .replace(&format!(":{mqtt}`"), ":<bus>`")
            .replace(folder.to_str().unwrap(), "~")
            .replace(self.world.folder().to_str().unwrap(), "/var/lib")
            .replace(&format!("/data-{}", self.runs), "/deploybus");
        writeln!(self.text, "# {mistake}\n{said}").unwrap();
    }
}

fn worker(command: &str, folder: &Path) -> Command {
    let mut worker = Command::new(binary("pi-worker").unwrap());
    worker.arg(command).arg("--config").arg(folder.join("pi-worker.toml"));
    // As in systemd's journal, which has the time of each line.
    worker.env("JOURNAL_STREAM", "1").env_remove("RUST_LOG");
    worker
}

/// Changes the settings in `folder`.
fn edit(folder: &Path, from: &str, to: &str) {
    let path = folder.join("pi-worker.toml");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from} in {text}");
    fs::write(path, text.replace(from, to)).unwrap();
}

/// Puts `line` before everything else in the settings in `folder`.
fn begin(folder: &Path, line: &str) {
    let path = folder.join("pi-worker.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(path, format!("{line}\n{text}")).unwrap();
}

fn remove(folder: &Path, name: &str) {
    fs::remove_file(folder.join(name)).unwrap();
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

#[test]
fn a_node_with_wrong_files_is_answered_with_what_to_do() {
    let mut told = Told::new(BusKind::Relay);
    told.refuses("no settings", |folder| remove(folder, "pi-worker.toml"));
    told.refuses("no TOML", |folder| begin(folder, "= 1"));
    told.refuses("unknown key", |folder| begin(folder, "colour = 'red'"));
    told.refuses("wrong type", |folder| edit(folder, "[env]", "[fetch]\nparallel = 'many'\n[env]"));
    told.refuses("bad address of the bus", |folder| edit(folder, "mqtt://", "http://"));
    told.refuses("root missing", |folder| remove(folder, "root.cbor"));
    told.refuses("no root document", |folder| write(folder, "root.cbor", "rubbish"));
    told.refuses("another fleet", |folder| edit(folder, "fleet = \"deploybus\"", "fleet = \"barn\""));
    told.refuses("record missing: not in the fleet", |folder| remove(folder, "record.cbor"));
    told.refuses("no record", |folder| write(folder, "record.cbor", "rubbish"));
    told.refuses("another node's record", |folder| edit(folder, "node = \"pi-1\"", "node = \"pi-2\""));
    told.refuses("key missing", |folder| remove(folder, "node.key"));
    told.refuses("no key", |folder| write(folder, "node.key", "rubbish"));
    told.refuses("password missing", |folder| remove(folder, "password"));
    told.refuses("password empty", |folder| write(folder, "password", "\n"));
    told.refuses("CA missing", |folder| begin(folder, "ca = 'ca.pem'"));
    told.refuses("no CA", |folder| begin(folder, "ca = 'password'"));
    let others = " WARN agent::identity: Others can read";
    told.warns("key that others may read", others, |folder| {
        fs::set_permissions(folder.join("node.key"), fs::Permissions::from_mode(0o644)).unwrap();
    });
    insta::assert_snapshot!(told.text);
}

#[test]
fn a_data_folder_or_command_that_does_not_do_is_answered_with_what_to_do() {
    let mut told = Told::new(BusKind::Relay);
    let world = told.world.folder().to_owned();
    told.refuses("data folder is a file", |_| write(&world, "data-1", ""));
    told.refuses("data folder cannot be made", |folder| edit(folder, "/data-2", "/data-1/deploybus"));
    told.refuses("apps are no folder", |_| {
        fs::create_dir(world.join("data-3")).unwrap();
        write(&world, "data-3/apps", "");
    });
    told.ends("verify, where apps are no folder", "verify", &[], |_| {
        fs::create_dir(world.join("data-4")).unwrap();
        write(&world, "data-4/apps", "");
    });
    told.ends("status, before the first start", "status", &[], |_| ());
    told.ends("enroll, without settings", "enroll", &[], |folder| remove(folder, "pi-worker.toml"));
    told.ends("enroll, with settings twice", "enroll", &["--node", "pi-2"], |_| ());
    told.ends("enroll, in the fleet already", "enroll", &[], |_| ());
    let other = told.world.folder().join("elsewhere");
    let init = told.world.publisher_command(&["init", "--home", other.to_str().unwrap()]);
    Output::of(&mut init.unwrap()).unwrap().expect(0).unwrap();
    told.ends("enroll, with the root of another fleet's keys", "enroll", &[], |folder| {
        remove(folder, "record.cbor");
        fs::copy(other.join("root.cbor"), folder.join("root.cbor")).unwrap();
    });
    let node = told.world.node("pi-1").unwrap();
    node.start().unwrap();
    let pid = node.process().unwrap().pid().to_string();
    told.refuses("two workers with the same data folder", |folder| edit(folder, "/data-10", "/pi-1-data"));
    insta::assert_snapshot!(told.text.replace(&format!("pi-worker {pid} "), "pi-worker <pid> "));
}

#[test]
fn a_node_that_does_not_come_to_its_bus_says_what_to_do() {
    let mut told = Told::new(BusKind::Tls);
    let ((plain, store), (tls, _)) = (told.world.ports(), told.world.tls_ports().unwrap());
    let (from, nobody) = (format!("mqtts://127.0.0.1:{tls}"), free_port().unwrap());
    let mut away = |mistake: &str, to: String| {
        told.warns(mistake, AWAY, |folder| edit(folder, &from, &to));
    };
    away("broker down", format!("mqtts://127.0.0.1:{nobody}"));
    away("port of the store", format!("mqtt://127.0.0.1:{store}"));
    away("TLS where none is spoken", format!("mqtts://127.0.0.1:{plain}"));
    away("no TLS where it is spoken", format!("mqtt://127.0.0.1:{tls}"));
    told.warns("CA of another fleet", AWAY, |folder| {
        let other = folder.join("elsewhere");
        let home = other.to_str().unwrap();
        let mut init = Command::new(binary("publisher").unwrap());
        Output::of(init.args(["init", "--host", "127.0.0.1", "--home", home])).unwrap().expect(0).unwrap();
        fs::copy(other.join("ca.pem"), folder.join("ca.pem")).unwrap();
    });
    told.warns("wrong password", AWAY, |folder| write(folder, "password", "guessed"));
    told.world.node("pi-1").unwrap().start().unwrap();
    told.warns("two nodes with the same name", AWAY, |_| ());
    told.world.node("pi-1").unwrap().kill().unwrap();
    told.world.publisher(&["node", "retire", "pi-1", "--yes"]).unwrap().expect(0).unwrap();
    told.warns("node that was retired", AWAY, |_| ());
    let ports = [(nobody, "<nobody>"), (store, "<store>"), (plain, "<plain>"), (tls, "<tls>")];
    let text = ports.iter().fold(told.text, |text, (port, name)| text.replace(&port.to_string(), name));
    insta::assert_snapshot!(text);
}

#[test]
fn a_publisher_whom_the_broker_does_not_serve_is_told_what_to_do() {
    let mut world = World::new().unwrap();
    let app = world.app().unwrap();
    let (home, folder) = (world.home(), app.folder().to_str().unwrap().to_owned());
    let announce = ["announce", &folder, "--group", "canary"];
    let mut text = String::new();
    let mut tell = |mistake: &str, world: &World, args: &[&str]| {
        let said = world.publisher(args).unwrap().expect(1).unwrap().stderr;
        let (mqtt, http) = world.ports();
        let said = said[said.find("error: ").unwrap()..]
            .replace(world.folder().to_str().unwrap(), "~")
            .replace(&mqtt.to_string(), "<bus>")
            .replace(&http.to_string(), "<store>");
        writeln!(text, "# {mistake}\n{}", without_digest(&said)).unwrap();
    };
    let settings = fs::read_to_string(home.join("fleet.toml")).unwrap();
    let password = settings.lines().find(|line| line.starts_with("password")).unwrap();
    let guessed = settings.replace(password, "password = \"guessed\"");
    fs::write(home.join("fleet.toml"), &guessed).unwrap();
    tell("wrong password, on the bus", &world, &["status"]);
    tell("wrong password, at the store", &world, &["log"]);
    fs::write(home.join("fleet.toml"), guessed.replace("user = \"publisher\"", "user = \"eve\"")).unwrap();
    tell("no such user", &world, &["status"]);
    fs::write(home.join("fleet.toml"), settings).unwrap();
    world.stop_broker().unwrap();
    let broker = home.join("broker/broker.toml");
    let limits = fs::read_to_string(&broker).unwrap() + "\n[limits]\nobject_bytes = 100\n";
    fs::write(&broker, limits).unwrap();
    world.start_broker().unwrap();
    tell("file too large for the store", &world, &announce);
    world.stop_broker().unwrap();
    tell("broker down", &world, &announce);
    insta::assert_snapshot!(text);
}

/// With a name in the place of a digest, which differs from app to app.
fn without_digest(said: &str) -> String {
    let digest = said.split(['/', '-', ':', ' ']).find(|word| word.len() == 64);
    digest.map_or(said.to_owned(), |digest| said.replace(digest, "<digest>"))
}

/// What `announce` says of a node that cannot do it.
fn verdict(world: &World, app: &App) -> String {
    let folder = app.folder().to_str().unwrap();
    let said = world.publisher(&["announce", folder, "--group", "canary", "--timeout", "2m"]).unwrap();
    let said = said.expect(3).unwrap().stdout;
    let begin = said.find("pi-1: ").unwrap();
    without_digest(&said[begin..].replace(world.folder().to_str().unwrap(), "/var/lib"))
}

#[test]
fn a_release_that_a_node_cannot_install_is_answered_with_what_to_do() {
    let mut world = World::new().unwrap();
    world.register_node("pi-1", &["canary"]).unwrap();
    if !world.give_small_disk("pi-1", "4m").unwrap() {
        println!("skipped: needs root to mount a small disk");
        return;
    }
    let app = world.app().unwrap();
    let slots = world.node("pi-1").unwrap().data().join("apps/web/slots");
    fs::create_dir_all(slots.parent().unwrap()).unwrap();
    fs::write(&slots, "").unwrap();
    world.node("pi-1").unwrap().start().unwrap();
    let mut text = format!("# slots are no folder\n{}", verdict(&world, &app));
    fs::remove_file(&slots).unwrap();
    fs::create_dir(&slots).unwrap();
    app.edit_file("deploybus.toml", "\"python3\"", "\"./serve\"").unwrap();
    writeln!(text, "\n# program that is not in the folder\n{}", verdict(&world, &app)).unwrap();
    app.edit_file("deploybus.toml", "\"./serve\"", "\"python4\"").unwrap();
    let path = std::env::var("PATH").unwrap();
    let said = verdict(&world, &app).replace(&path, "<PATH>");
    writeln!(text, "# program that is not on the node\n{said}").unwrap();
    // Noise does not compress: too large for the disk, small for the store.
    let noise: Vec<u8> = (0u32..6_000_000).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(app.folder().join("large.bin"), noise).unwrap();
    let said = verdict(&world, &app);
    let (begin, end) = (said.find(", ").unwrap(), said.find(" are free").unwrap());
    writeln!(text, "# disk full\n{}, <few>{}", &said[..begin], &said[end..]).unwrap();
    insta::assert_snapshot!(text);
}
