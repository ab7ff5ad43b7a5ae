//! What is said to people who begin, and get something wrong: what happened, where, and what to do.

use std::{
    fmt::Write as _,
    fs,
    net::TcpListener,
    os::unix::{fs::symlink, net::UnixListener},
    path::Path,
};

use schemas::{
    release::Release,
    report::Verdict,
    root::{Root, Trust},
    seal::{SecretKey, Signed},
};

use crate::{
    controller::FakeController,
    node::FakeNode,
    store::Mood,
    world::{Ran, World},
};

/// A stage that nobody has approved yet, so that the rollout goes on.
const PLAN: &str = "app = \"web\"\n[[stage]]\ngroup = \"canary\"\napproval = true\n";

/// Commands, and what they say when they fail, with what differs from run to run made stable.
struct Told<'a> {
    world: &'a World,
    text: String,
}

impl Told<'_> {
    fn tell(&mut self, line: &str) {
        let ran = self.world.run(&words(line));
        self.note(line, &ran);
    }

    /// With a variable in the environment.
    fn tell_with(&mut self, variable: (&str, &str), line: &str) {
        let ran = self.world.run_with(variable, &words(line));
        self.note(line, &ran);
    }

    fn note(&mut self, line: &str, ran: &Ran) {
        assert!(matches!(ran.code, Some(1 | 2)), "{line}: {}", ran.stdout);
        let (folder, code) = (self.world.path(""), ran.code.unwrap_or_default());
        let said = stable(&ran.stderr.replace(folder.to_str().unwrap(), "~/"));
        let begin = said.find("error: ").unwrap_or_else(|| panic!("{line}: {said}"));
        writeln!(self.text, "$ publisher {line}   → {code}\n{}", &said[begin..]).unwrap();
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.world.path(name), text).unwrap();
    }

    fn plan(&mut self, text: &str) {
        self.write("plan.toml", text);
    }
}

fn words(line: &str) -> Vec<&str> {
    line.split_whitespace().collect()
}

/// With names in the place of keys and times.
fn stable(said: &str) -> String {
    let is_key = |word: &str| matches!(word.len(), 16 | 64) && word.bytes().all(|b| b.is_ascii_hexdigit());
    let is_time = |word: &str| word.len() == 20 && word.ends_with('Z');
    let words = said.split_inclusive([' ', '\n', ',', '`']).map(|word| {
        let (word, end) = word.split_at(word.len() - usize::from(word.ends_with([' ', '\n', ',', '`'])));
        let word = if is_key(word) { "<key>" } else { word };
        format!("{}{end}", if is_time(word) { "<time>" } else { word })
    });
    words.collect()
}

/// A port on which nobody listens.
fn closed_port() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string()
}

#[test]
fn every_mistake_of_a_newcomer_is_answered_with_what_to_do() {
    let Some(world) = World::start() else { return };
    let (bus, store) = (closed_port(), closed_port());
    let (bus_url, store_url) = (format!("mqtt://127.0.0.1:{bus}"), format!("http://127.0.0.1:{store}"));
    let init = ["init", "--home", "down", "--bus", &bus_url, "--store", &store_url];
    assert_eq!(world.run(&init).code, Some(0));
    world.app("1.0.0");
    let mut told = Told { world: &world, text: String::new() };
    told.tell("rollout status --home nowhere");
    told.tell("rollout status --home down");
    told.tell("log --home down");
    told.tell("rollout start");
    told.tell("rollout start app --timeout soon");
    told.tell("rollout start --release 9.9 --app web");
    told.tell("rollout simulate");
    told.tell("rollout pause web");
    told.tell("why pi-1");

    world.add_node("pi-1");
    let _node = FakeNode::start(&world, "pi-1", Verdict::Kept, None);
    let _controller = FakeController::start(&world, "controller-1");
    told.tell("request pi-1 install");
    told.tell("rollout start app --group kitchen");
    told.plan(&PLAN.replace("approval = true", "soak = \"10\""));
    told.tell("rollout start app --plan plan.toml");
    told.plan(PLAN);
    let ran = world.run(&["rollout", "start", "app", "--plan", "plan.toml", "--detach"]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    told.tell("rollout start app --plan plan.toml");
    told.tell("rollout pause api");
    let text = told.text.replace(&bus, "<bus>").replace(&store, "<store>");
    insta::assert_snapshot!(text);
}

#[test]
fn what_is_asked_of_nodes_and_picos_that_are_not_there_is_answered_with_what_to_do() {
    let Some(world) = World::start() else { return };
    world.add_node("pi-1");
    let mut told = Told { world: &world, text: String::new() };
    told.tell("withdraw --group kitchen");
    told.tell("logs pi-1");
    told.tell("logs pi-9");
    told.tell("images pi-9");
    told.tell("pico release pi-1");
    told.tell("pico provision pi-9");
    told.tell("pico config pi-9 --wifi-ssid Garden --wifi-open --out tree");
    told.tell("pico config pi-1 --wifi-ssid Garden --out tree");
    told.tell("import compose.yaml");
    told.write("compose.yaml", "services:\n  web:\n    image: nginx\n");
    told.tell("import compose.yaml");
    insta::assert_snapshot!(told.text);
}

#[test]
fn every_wrong_folder_home_and_key_is_answered_with_what_to_do() {
    let Some(world) = World::start() else { return };
    world.app("1.0.0");
    let mut told = Told { world: &world, text: String::new() };
    told.tell("announce ap --group canary");
    told.tell("announce home --group canary");
    let (file, good) = ("app/deploybus.toml", "[app]\nname = \"web\"\nversion = \"1.0.0\"\n");
    told.write(file, &good.replace("version", "verison"));
    told.tell("announce app --group canary");
    told.write(file, "[app]\nname = \"web\"\n");
    told.tell("announce app --group canary");
    told.write(file, &format!("{good}[proof]\nexec = [\"./v\"]\nexpect = \"commit\"\n"));
    told.tell("announce app --group canary");
    told.write(file, good);
    let strange = world.path("app/strange");
    symlink("/etc/passwd", &strange).unwrap();
    told.tell("announce app --group canary");
    fs::remove_file(&strange).unwrap();
    let socket = UnixListener::bind(&strange).unwrap();
    told.tell("announce app --group canary");
    drop(socket);
    fs::remove_file(&strange).unwrap();
    told.tell("announce app --group Kitchen");
    told.tell("init");
    told.tell("node add pi-1 --home nowhere");

    keys(&mut told);
    documents(&mut told);
    insta::assert_snapshot!(told.text);
}

/// Keys that are away, closed, broken or others'.
fn keys(told: &mut Told<'_>) {
    let (world, ops) = (told.world, told.world.path("home/.deploybus/keys/ops.key"));
    let key = fs::read(&ops).unwrap();
    let passphrase = ("DEPLOYBUS_PASSPHRASE", "open sesame again");
    let closing = "keys import ops home/.deploybus/keys/ops.key --passphrase";
    assert_eq!(world.run_with(passphrase, &words(closing)).code, Some(0));
    told.tell("node add pi-1");
    told.tell_with(("DEPLOYBUS_PASSPHRASE", "guessed"), "node add pi-1");
    told.tell_with(("DEPLOYBUS_PASSPHRASE_FILE", "nowhere"), "node add pi-1");
    fs::remove_file(&ops).unwrap();
    fs::create_dir(&ops).unwrap();
    told.tell("node add pi-1");
    fs::remove_dir(&ops).unwrap();
    fs::write(&ops, key).unwrap();
    told.tell_with(("DEPLOYBUS_OPS_KEY", "rubbish"), "node add pi-1");
    told.tell("keys import ops plan.key");
    assert_eq!(world.run(&words("keys new --out other.key")).code, Some(0));
    told.tell("keys import ops other.key");
}

/// Files that are no documents, or those of others.
fn documents(told: &mut Told<'_>) {
    let world = told.world;
    told.tell("decode nowhere.release");
    told.tell("decode app/app.py");
    told.tell("sign nowhere.release --yes");
    told.tell("sign app/app.py --yes");
    let built = world.run(&words("release build app --out web.release"));
    assert_eq!(built.code, Some(0), "{}", built.stderr);
    let foreign = world.run(&words("sign web.release --key other.key --yes"));
    told.note("sign web.release --key other.key --yes", &foreign);
    told.tell("order app/app.py --group canary");
    let init = ["init", "--home", "other"];
    assert_eq!(world.run(&init).code, Some(0));
    told.tell("--home other order web.release --group canary");
    newer(&world.path("home/.deploybus"), &world.path("web.release"));
    told.tell("order web.release --group canary");
    told.tell("decode web.release");
    told.tell("sign web.release --yes");
}

/// Makes a release of a program's next major version of it.
fn newer(home: &Path, file: &Path) {
    let root: Signed<Root> = Signed::from_bytes(&fs::read(home.join("root.cbor")).unwrap()).unwrap();
    let trust = Trust::first(&root).unwrap();
    let release: Signed<Release> = Signed::from_bytes(&fs::read(file).unwrap()).unwrap();
    let mut release = (*release.verify(&trust).unwrap()).clone();
    release.head.spec += 1;
    let seed: schemas::id::Digest =
        fs::read_to_string(home.join("keys/release.key")).unwrap().trim().parse().unwrap();
    fs::write(file, Signed::seal(&release, &[SecretKey::from_seed(&seed.0)]).to_bytes()).unwrap();
}

#[test]
fn a_clock_that_is_far_wrong_is_answered_with_what_to_do() {
    let Some(world) = World::start() else { return };
    world.app("1.0.0");
    let mut told = Told { world: &world, text: String::new() };
    for (day, line) in [("2020-01-01", "node add pi-1"), ("2100-01-01", "announce app --group canary")] {
        let Some(ran) = world.run_at(&format!("@{day} 00:00:00"), &words(line)) else {
            println!("skipped: needs faketime");
            return;
        };
        told.note(&format!("{line}   (on {day})"), &ran);
    }
    insta::assert_snapshot!(told.text);
}

#[test]
fn every_name_that_is_not_there_and_every_service_that_does_not_do_is_answered() {
    let Some(world) = World::start() else { return };
    world.app("1.0.0");
    let mut told = Told { world: &world, text: String::new() };
    told.tell("rollback --group canary");
    assert_eq!(world.run(&words("announce app --group canary --no-wait")).code, Some(0));
    told.tell("rollback --group canary");
    told.tell("rollback --group canary --to 0.9");
    told.tell("rollback --group canary --app api");
    told.tell("rollback --group kitchen");
    told.tell("node show pi-9");
    told.tell("node retire pi-9");
    told.tell("node approve pi-9");
    world.add_node("pi-1");
    told.tell("node add pi-1");
    told.tell("node add watcher");
    told.tell("user add publisher --role watcher");
    told.tell("user remove eve");
    for mood in [Mood::Denies, Mood::Full, Mood::Down] {
        world.store.set(mood);
        world.app("1.1.0");
        told.tell("announce app --group canary");
    }
    let settings = fs::read_to_string(world.path("home/.deploybus/fleet.toml")).unwrap();
    let (bus, store) = (world.bus_port.to_string(), world.store.port.to_string());
    let mut with = |from: &str, to: &str, line: &str| {
        assert!(settings.contains(from), "{settings}");
        told.write("home/.deploybus/fleet.toml", &settings.replace(from, to));
        writeln!(told.text, "# fleet.toml: {from} -> {to}").unwrap();
        told.tell(line);
    };
    with(&bus, &store, "status");
    with(&format!("mqtt://127.0.0.1:{bus}"), &format!("mqtts://127.0.0.1:{bus}"), "status");
    with("fleet = \"deploybus\"", "fleet = \"barn\"", "status");
    with("store = ", "shop = ", "status");
    let text = told.text.replace(&bus, "<bus>").replace(&store, "<store>");
    insta::assert_snapshot!(text);
}
