//! What containers take of the engine's disk: how it is told, and how people have it tidied up.

use std::time::Duration;

use e2e::{BASE_IMAGE, Output, wait_until};
use serde_json::Value;

use super::world::{KEPT, Shore};

#[test]
fn a_node_says_how_much_its_images_take_and_how_much_is_free_for_them() {
    let Some(shore) = Shore::serving() else { return };
    shore.app.edit_file("app.sh", "says hello", "says good day").unwrap();
    shore.deploy("1.1.0", KEPT);
    let base = bytes(&shore, BASE_IMAGE);
    let images = shore.engine.images().unwrap();
    let [one, other] = images.try_into().unwrap();
    // The layers of the base are not ours, and those of the dependencies count once.
    let (one, other) = (bytes(&shore, &one) - base, bytes(&shore, &other) - base);
    let told = |key: &str| shore.world.nodes().next()?.status().ok()?["status"]["health"][key].as_u64();
    let what = format!("more than {} and less than {} bytes of images", one.max(other), one + other);
    let is_told =
        || told("engine_used_bytes").filter(|used| (one.max(other) + 1..one + other).contains(used));
    wait_until(&what, Duration::from_secs(20), is_told).unwrap();
    let free = told("engine_free_bytes").unwrap();
    assert!(free > 0, "{free}");

    let table = shore.world.publisher(&["images", "pi-1"]).unwrap().expect(0).unwrap().stdout;
    let disks = table.lines().skip_while(|line| !line.contains("FREE FOR IMAGES")).nth(1);
    assert!(disks.is_some_and(|line| line.starts_with("pi-1 ") && line.ends_with('B')), "{table}");
}

#[test]
fn who_asks_to_prune_gets_rid_of_what_no_release_needs_and_of_nothing_else() {
    let Some(mut shore) = Shore::serving() else { return };
    shore.app.edit_file("app.sh", "says hello", "says good day").unwrap();
    shore.deploy("1.1.0", KEPT);
    let needed = shore.engine.images().unwrap();
    leave(&shore, "web", "deploybus/web:left", "web");
    leave(&shore, "gone", "deploybus/gone:1", "gone");
    leave(&shore, "gone", "mine:1", "mine");
    // Another worker's, which does not run just now.
    leave(&shore, "lab", "deploybus/lab:1", "lab");
    let launch = ["--label", "io.deploybus.launch=x", "--label", "io.deploybus.app=lab"];
    let create = [&["create", "--name", "lab"][..], &launch, &["deploybus/lab:1", "sh"]].concat();
    shore.engine.docker(&create).unwrap();
    let before = shore.engine.images().unwrap();

    let pruned = prune(&shore, &["--dry-run"]);
    let removed = serde_json::json!(["image deploybus/gone:1", "image deploybus/web:left"]);
    assert_eq!((sorted(&pruned), &pruned["dry_run"]), (removed.clone(), &true.into()), "{pruned}");
    assert_eq!(shore.engine.images().unwrap(), before);
    let would_free = pruned["freed_bytes"].as_u64().unwrap();
    assert!((2 * LEFT_BYTES..3 * LEFT_BYTES).contains(&would_free), "{pruned}");

    let pruned = prune(&shore, &[]);
    assert_eq!((sorted(&pruned), &pruned["freed_bytes"]), (removed, &would_free.into()), "{pruned}");
    let mut left = shore.engine.images().unwrap();
    left.retain(|name| name != "mine:1" && name != "deploybus/lab:1");
    assert_eq!(left, needed);
    assert_eq!(shore.engine.docker(&["images", "--quiet", "mine:1"]).unwrap().lines().count(), 1);
    assert_eq!(shore.engine.containers().unwrap(), ["lab", "web", "web.previous"]);
    let said = shore.world.publisher(&["prune", "--group", "canary"]).unwrap().expect(0).unwrap().stdout;
    assert_eq!(said, "pi-1 has nothing that no release needs\n");

    // The way back is there still, without a build.
    shore.serves("1.1.0");
    shore.world.publisher(&["rollback", "--group", "canary"]).unwrap().expect(0).unwrap();
    assert_eq!(shore.built("1.0.0").steps, 0);
    shore.serves("1.0.0");
}

/// So much is in each image that is left.
const LEFT_BYTES: u64 = 1 << 20;

/// Makes an image of another build, with the labels of an app.
fn leave(shore: &Shore, app: &str, name: &str, content: &str) {
    let folder = shore.world.folder().join(content);
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("content"), content.repeat(LEFT_BYTES as usize / content.len() + 1)).unwrap();
    std::fs::write(folder.join("Dockerfile"), format!("FROM {BASE_IMAGE}\nCOPY content /content\n")).unwrap();
    let app = format!("io.deploybus.app={app}");
    let args = ["build", "--quiet", "--label", &app, "--label", "io.deploybus.signature=0", "--tag", name];
    let args = [&args[..], &[folder.to_str().unwrap()]].concat();
    let mut build = shore.engine.docker_command(&args);
    Output::of(build.env("DOCKER_BUILDKIT", "0")).unwrap().expect(0).unwrap();
}

fn prune(shore: &Shore, more: &[&str]) -> Value {
    let args = [&["prune", "pi-1", "--json"][..], more].concat();
    let said = shore.world.publisher(&args).unwrap().expect(0).unwrap().stdout;
    let mut pruned: Vec<Value> = serde_json::from_str(&said).unwrap();
    pruned.pop().unwrap()
}

/// Names of what is gone.
fn sorted(pruned: &Value) -> Value {
    let mut names: Vec<_> = pruned["removed"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    names.sort_unstable();
    names.into()
}

/// Size of an image with all its layers.
fn bytes(shore: &Shore, image: &str) -> u64 {
    shore.engine.inspect(image, "{{.Size}}").unwrap().parse().unwrap()
}
