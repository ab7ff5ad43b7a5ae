//! Keys of several people, and keys that are elsewhere: on another machine, in the environment, on paper.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use e2e::{App, Output, World};
use serde_json::Value;

const PASSPHRASE: &str = "five words that nobody says";

/// A machine that has nothing but the program and what is brought there.
fn elsewhere(world: &World) -> PathBuf {
    let folder = world.folder().join("elsewhere");
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn told(world: &World, args: &[&str]) -> Value {
    let output = world.publisher(&[args, &["--json"]].concat()).unwrap().expect(0).unwrap();
    serde_json::from_str(&output.stdout).unwrap()
}

fn refused(world: &World, args: &[&str]) -> String {
    world.publisher(args).unwrap().expect(1).unwrap().stderr
}

/// Signs on a machine without a home.
fn sign(world: &World, file: &Path, key: &Path) {
    let mut command = world.publisher_command(&["sign", text(file), "--key", text(key), "--yes"]).unwrap();
    command.env("DEPLOYBUS_PASSPHRASE", PASSPHRASE).arg("--home").arg(elsewhere(world));
    Output::of(&mut command).unwrap().expect(0).unwrap();
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn next_version(app: &App) {
    app.commit("1.1.0").unwrap();
}

#[test]
fn two_of_three_release_what_one_alone_cannot() {
    let (world, app) = World::serving().unwrap();
    let keys = elsewhere(&world).join("keys");
    let mut split = world.publisher_command(&["keys", "split", "release", "--threshold", "2"]).unwrap();
    split.args(["--of", "3", "--out", text(&keys), "--passphrase", "--json"]);
    let split = Output::of(split.env("DEPLOYBUS_PASSPHRASE", PASSPHRASE)).unwrap().expect(0).unwrap();
    let split: Value = serde_json::from_str(&split.stdout).unwrap();
    assert_eq!(
        (&split["signed_again"][0], &split["roles"][0]["threshold"]),
        (&"canary/web".into(), &2.into())
    );
    let follows = world.wait_report("pi-1", "the new root", |report| {
        (report.root_version == 2).then(|| format!("{:?}", report.refusals))
    });
    assert_eq!(follows.unwrap(), "[]");
    next_version(&app);
    let folder = text(app.folder());
    let alone = refused(&world, &["announce", folder, "--group", "canary"]);
    assert!(alone.contains("2 keys have to sign") && alone.contains("publisher release build"), "{alone}");
    let file = elsewhere(&world).join("web.release");
    let built = told(&world, &["release", "build", folder, "--out", text(&file)]);
    assert_eq!((&built["signatures"], &built["threshold"]), (&1.into(), &2.into()));
    let early = refused(&world, &["order", text(&file), "--group", "canary"]);
    assert!(early.contains("1 of 2 valid signatures") && early.contains("publisher sign"), "{early}");
    sign(&world, &file, &keys.join("release-3.key"));
    let ordered = told(&world, &["order", text(&file), "--group", "canary"]);
    assert_eq!(
        (&ordered["nodes"][0]["state"], &ordered["version"]),
        (&"kept".into(), &"1.1.0".into()),
        "{ordered}"
    );
}

#[test]
fn two_people_order_and_a_key_that_is_away_changes_the_others() {
    let (world, app) = World::serving().unwrap();
    let keys = elsewhere(&world);
    let root_key = keys.join("root.key");
    fs::rename(world.home().join("keys/root.key"), &root_key).unwrap();
    // The root key is elsewhere: it signs there what is made here.
    let waiting =
        told(&world, &["keys", "split", "ops", "--threshold", "2", "--of", "2", "--out", text(&keys)]);
    assert_eq!((&waiting["signatures"], &waiting["threshold"]), (&0.into(), &1.into()));
    let draft = PathBuf::from(waiting["file"].as_str().unwrap());
    let listed = told(&world, &["keys", "list"]);
    assert_eq!(listed["root_version"], 1, "nothing is changed before it is signed");
    let second = refused(&world, &["keys", "rotate", "release"]);
    assert!(second.contains("another change of keys waits for signatures"), "{second}");
    let early = refused(&world, &["keys", "adopt", text(&draft)]);
    assert!(early.contains("0 of 1 valid signatures") && early.contains("publisher sign"), "{early}");
    sign(&world, &draft, &root_key);
    // The second ops key signs again what the bus has; without it, nobody's record would be believed.
    let second = keys.join("ops-2.key");
    let locked_out = refused(&world, &["keys", "adopt", text(&draft)]);
    assert!(locked_out.contains("locked out") && locked_out.contains("pi-1"), "{locked_out}");
    let adopted = told(&world, &["keys", "adopt", text(&draft), "--key", text(&second)]);
    assert_eq!((&adopted["root_version"], &adopted["signed_again"][0]), (&2.into(), &"canary/web".into()));
    assert!(!draft.exists());
    next_version(&app);
    let release = keys.join("web.release");
    told(&world, &["release", "build", text(app.folder()), "--out", text(&release)]);
    let order = told(&world, &["order", text(&release), "--group", "canary"]);
    assert_eq!((&order["signatures"], &order["threshold"]), (&1.into(), &2.into()));
    let order = PathBuf::from(order["file"].as_str().unwrap());
    let early = refused(&world, &["order", text(&order)]);
    assert!(early.contains("1 of 2 valid signatures"), "{early}");
    sign(&world, &order, &second);
    let ordered = told(&world, &["order", text(&order)]);
    assert_eq!(
        (&ordered["nodes"][0]["state"], &ordered["version"]),
        (&"kept".into(), &"1.1.0".into()),
        "{ordered}"
    );
    // Two people put a node out, too.
    let alone = refused(&world, &["node", "retire", "pi-1", "--yes"]);
    assert!(alone.contains("nothing has changed for pi-1 yet"), "{alone}");
    assert_eq!(told(&world, &["node", "list"])[0]["status"], "active");
    let record = world.home().join("drafts/pi-1.cbor");
    sign(&world, &record, &second);
    assert_eq!(told(&world, &["node", "sync"])["published"], serde_json::json!(["pi-1"]));
    assert_eq!(
        (told(&world, &["node", "list"])[0]["status"].as_str(), record.exists()),
        (Some("revoked"), false)
    );
    // The same order once more is a replay, and is refused here already.
    let again = refused(&world, &["order", text(&order)]);
    assert!(again.contains("ordered after this order was made"), "{again}");
}

#[test]
fn a_key_is_used_from_the_environment_and_comes_back_from_paper() {
    let (world, app) = World::serving().unwrap();
    let (key, home_key) = (elsewhere(&world).join("ci.key"), world.home().join("keys/release.key"));
    let paper = world.publisher(&["keys", "paper", "release"]).unwrap().expect(0).unwrap().stdout;
    let with_passphrase = |args: &[&str]| {
        Output::of(world.publisher_command(args).unwrap().env("DEPLOYBUS_PASSPHRASE", PASSPHRASE)).unwrap()
    };
    with_passphrase(&["keys", "export", "release", "--out", text(&key), "--passphrase"]).expect(0).unwrap();
    let seed = fs::read_to_string(&home_key).unwrap();
    fs::remove_file(&home_key).unwrap();
    next_version(&app);
    let announce = ["announce", text(app.folder()), "--group", "canary"];
    let missing = refused(&world, &announce);
    assert!(missing.contains("cannot use key file"), "{missing}");
    // As a build server has it: a file that it keeps as a secret, and its passphrase.
    let mut by_ci = world.publisher_command(&announce).unwrap();
    by_ci.env("DEPLOYBUS_RELEASE_KEY_FILE", &key);
    let locked = Output::of(&mut by_ci).unwrap().expect(1).unwrap().stderr;
    assert!(locked.contains("has a passphrase, and there is no terminal"), "{locked}");
    let wrong = Output::of(by_ci.env("DEPLOYBUS_PASSPHRASE", "some other words")).unwrap().expect(1).unwrap();
    assert!(wrong.stderr.contains("the passphrase is wrong"), "{}", wrong.stderr);
    Output::of(by_ci.env("DEPLOYBUS_PASSPHRASE", PASSPHRASE)).unwrap().expect(0).unwrap();
    // As text; and that is the key that openssl reads from the file, too.
    let openssl = Command::new("openssl")
        .args(["pkey", "-outform", "DER", "-passin", &format!("pass:{PASSPHRASE}"), "-in"])
        .arg(&key)
        .output()
        .unwrap();
    assert!(openssl.stdout.ends_with(&bytes(seed.trim())), "{}", String::from_utf8_lossy(&openssl.stderr));
    app.commit("1.2.0").unwrap();
    let mut by_text = world.publisher_command(&announce).unwrap();
    let kept = Output::of(by_text.env("DEPLOYBUS_RELEASE_KEY", seed.trim())).unwrap().expect(0).unwrap();
    assert!(!(kept.stdout + &kept.stderr).contains(seed.trim()));
    // From the sheet of paper into the home.
    let mut import = world.publisher_command(&["keys", "import", "release", "-"]).unwrap();
    let mut import = import.stdin(Stdio::piped()).spawn().unwrap();
    import.stdin.take().unwrap().write_all(paper.as_bytes()).unwrap();
    assert!(import.wait().unwrap().success());
    assert_eq!(fs::read_to_string(&home_key).unwrap(), seed);
    let foreign = refused(&world, &["keys", "import", "ops", text(&home_key)]);
    assert!(foreign.contains("the root names no ops key"), "{foreign}");
}

fn bytes(hex: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(byte).collect()
}
