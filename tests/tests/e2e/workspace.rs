//! The shape of the workspace itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use serde_json::Value;

/// Who may depend on whom inside the workspace; `e2e` may see all.
const ALLOWED: [(&str, &[&str]); 11] = [
    ("schemas", &[]),
    ("rollout", &["schemas"]),
    ("machine", &["schemas"]),
    ("uf2", &[]),
    ("bus-client", &["schemas"]),
    ("show", &["schemas", "rollout"]),
    ("broker", &["schemas", "rollout", "bus-client", "show"]),
    ("agent", &["schemas", "machine", "bus-client"]),
    ("pi-worker", &["schemas", "machine", "bus-client", "agent"]),
    ("pico-bridge", &["schemas", "machine", "bus-client", "agent", "uf2"]),
    ("publisher", &["schemas", "rollout", "bus-client", "show", "uf2"]),
];

/// What a pure crate must never depend on: runtimes, sockets, files, clocks, random numbers.
const IMPURE: [&str; 8] =
    ["tokio", "rumqttc", "rumqttd", "reqwest", "axum", "rustix", "getrandom", "atomicwrites"];

#[test]
fn crates_depend_only_in_the_allowed_directions() {
    let found = dependencies();
    let names: BTreeSet<_> = found.keys().map(String::as_str).collect();
    let expected: BTreeSet<_> = ALLOWED.iter().map(|(name, _)| *name).chain(["e2e"]).collect();
    assert_eq!(names, expected);
    for (name, allowed) in ALLOWED {
        let inside = found[name].iter().filter(|dependency| names.contains(dependency.as_str()));
        for dependency in inside {
            assert!(allowed.contains(&dependency.as_str()), "{name} must not depend on {dependency}");
        }
    }
}

#[test]
fn pure_crates_have_no_io_and_say_so_to_clippy() {
    let found = dependencies();
    for (name, folder) in [
        ("schemas", "schemas"),
        ("rollout", "broker/rollout"),
        ("machine", "pi-worker/machine"),
        ("uf2", "pico-bridge/uf2"),
    ] {
        for impure in IMPURE {
            assert!(!found[name].contains(impure), "{name} must not depend on {impure}");
        }
        let clippy = std::fs::read_to_string(root().join(folder).join("clippy.toml")).unwrap();
        assert!(
            clippy.contains("std::time::Instant::now") && clippy.contains("std::fs::File"),
            "{folder}/clippy.toml"
        );
    }
}

#[test]
fn only_the_bus_client_uses_the_mqtt_client() {
    for (name, dependencies) in dependencies() {
        let speaks = dependencies.contains("rumqttc");
        assert_eq!(speaks, name == "bus-client", "{name}");
    }
}

#[test]
fn what_the_walks_through_the_code_name_is_there() {
    let text = std::fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let walks = text.split_once("## Three walks through the code").unwrap().1;
    let files = tracked();
    let sources = files.iter().filter(|file| Path::new(file).extension().is_some_and(|of| of == "rs"));
    let code: String = sources.map(|file| std::fs::read_to_string(root().join(file)).unwrap()).collect();
    let words: BTreeSet<_> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    for name in walks.split('`').skip(1).step_by(2).filter(|name| !name.contains([' ', '.', '/', '-'])) {
        assert!(name.split("::").all(|word| words.contains(word)), "there is no `{name}`");
    }
    let is_source = |name: &str| Path::new(name).extension().is_some_and(|of| of == "rs");
    let is_path = |name: &&str| is_source(name) && !name.contains(['{', ' ']);
    for path in walks.split('`').skip(1).step_by(2).filter(is_path) {
        assert!(files.iter().any(|file| file.ends_with(path)), "there is no {path}");
    }
}

#[test]
fn what_troubleshooting_quotes_is_what_programs_say() {
    let text = std::fs::read_to_string(root().join("docs/troubleshooting.md")).unwrap();
    let files = tracked();
    let snapshots = files.iter().filter(|file| Path::new(file).extension().is_some_and(|of| of == "snap"));
    let said: String = snapshots.map(|file| std::fs::read_to_string(root().join(file)).unwrap()).collect();
    let mut quoted = 0;
    for row in text.lines().filter(|line| line.starts_with("| `")) {
        let quote = row.split('`').nth(1).unwrap();
        let has = |line: &str| quote.split('…').all(|part| line.contains(part.trim()));
        assert!(said.lines().any(has), "no program says `{quote}`");
        quoted += 1;
    }
    assert!(quoted > 60, "{quoted}");
}

#[test]
fn the_top_level_holds_nothing_but_what_belongs_there() {
    let files = tracked();
    let folders: BTreeSet<_> = files.iter().filter_map(|file| Some(file.split_once('/')?.0)).collect();
    let allowed = [
        "broker",
        "publisher",
        "pi-worker",
        "pico-bridge",
        "schemas",
        "tests",
        "docs",
        "packaging",
        "pico-w",
        ".ci",
    ];
    for folder in folders {
        assert!(allowed.contains(&folder), "{folder}");
    }
}

/// Every file that belongs to the project.
fn tracked() -> Vec<String> {
    let git = Command::new("git").args(["ls-files"]).current_dir(root()).output().unwrap();
    String::from_utf8(git.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// Normal dependencies of each member of the workspace.
fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let cargo = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .current_dir(root())
        .output()
        .unwrap();
    let metadata: Value = serde_json::from_slice(&cargo.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap().iter();
    packages.map(|package| (text(&package["name"]), normal(&package["dependencies"]))).collect()
}

fn normal(dependencies: &Value) -> BTreeSet<String> {
    let normal = dependencies.as_array().unwrap().iter().filter(|dependency| dependency["kind"].is_null());
    normal.map(|dependency| text(&dependency["name"])).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
