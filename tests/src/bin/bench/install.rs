//! announce → kept for a tree like a Python app with its site-packages, with one file changed.

use std::{fs, path::Path, thread, time::Duration};

use anyhow::{Context as _, Result};
use e2e::World;

use crate::figure::{Aim, Figures, Measured, Samples, resident_kib};

const FILES: usize = 1_300;
const TREE_BYTES: usize = 58_000_000;
const ROUNDS: usize = 10;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let mut world = World::new()?;
    world.add_node("pi-1", &["canary"])?;
    // Idle: after the first minutes' work is done nothing is asked of either.
    thread::sleep(Duration::from_secs(2));
    let worker = world.node("pi-1")?.process().context("no worker")?.pid();
    let broker = world.broker().context("no broker")?.pid();
    let kib = |what| Measured { bench: "memory", what, unit: "KiB" };
    figures.ours(kib("broker at idle, one node"), &resident_kib(broker)?.into(), Aim::Most(20.0 * 1024.0))?;
    figures.ours(kib("worker at idle, no app"), &resident_kib(worker)?.into(), Aim::Most(8.0 * 1024.0))?;

    let app = world.folder().join("tree");
    write_tree(&app)?;
    announce(&world, &app, "1.0.0")?;
    let first = world.wait_outcome("pi-1", "1.0.0")?;
    let of = |what, unit| Measured { bench: "install", what, unit };
    figures.ours(of("58 MB, 1,300 files, first", "ms"), &number(first.took_ms).into(), Aim::None)?;

    let [mut seen, mut took, mut bytes, mut requests] = [(); 4].map(|()| Samples::default());
    for round in 0..ROUNDS {
        fs::write(app.join("main.py"), format!("VERSION = {round}\n"))?;
        let version = format!("1.1.{round}");
        seen.0.push(announce(&world, &app, &version)?);
        let outcome = world.wait_outcome("pi-1", &version)?;
        took.0.push(number(outcome.took_ms));
        bytes.0.push(number(outcome.fetched_bytes));
        requests.0.push(f64::from(outcome.requests));
    }
    figures.ours(of("58 MB, one changed: announced to kept", "ms"), &seen, Aim::Most(300.0))?;
    figures.ours(of("58 MB, one changed: on the node alone", "ms"), &took, Aim::None)?;
    figures.ours(of("58 MB, one changed: fetched", "bytes"), &bytes, Aim::None)?;
    figures.ours(of("58 MB, one changed: requests", ""), &requests, Aim::None)?;
    figures.ours(kib("worker after the installs"), &resident_kib(worker)?.into(), Aim::None)
}

/// Announces, and gives how long the publisher saw it take from publishing to the node's verdict.
fn announce(world: &World, app: &Path, version: &str) -> Result<f64> {
    let app = app.to_str().context("no text")?;
    let output = world
        .publisher(&["announce", app, "--group", "canary", "--version", version, "--json"])?
        .expect(0)?;
    let told: serde_json::Value = serde_json::from_str(&output.stdout)?;
    told["nodes"][0]["announced_to_verdict_ms"].as_f64().context("no time to the verdict")
}

/// Files of 2 to 90 KB in 40 folders, as compressible as source text.
fn write_tree(folder: &Path) -> Result<()> {
    let mut left = TREE_BYTES;
    for file in 0..FILES {
        let package = folder.join(format!("site-packages/package_{:02}", file % 40));
        fs::create_dir_all(&package)?;
        let size = if file + 1 == FILES { left } else { (2_000 + file * 67 % 88_000).min(left) };
        left -= size;
        let line = |n: usize| {
            format!("def function_{file}_{n}(argument): return argument * {}\n", n * 7_919 % 10_007)
        };
        let text: String = (0..).map(line).take(size / 40 + 1).collect();
        fs::write(package.join(format!("module_{file}.py")), &text[..size.min(text.len())])?;
    }
    fs::write(folder.join("main.py"), "VERSION = 0\n")?;
    fs::write(folder.join("deploybus.toml"), "[app]\nname = \"tree\"\n[trial]\nmin_healthy = \"1ms\"\n")?;
    Ok(())
}

fn number(n: u64) -> f64 {
    n as f64
}
