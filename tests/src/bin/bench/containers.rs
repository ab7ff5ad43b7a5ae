//! What a change of a container costs: nothing changed, one line, another environment, a bad release, and how long
//! nobody serves meanwhile; beside a script on the same engine, in turns.

mod gap;
mod script;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use e2e::{App, Engine, World, engine_unavailable, get, wait_until};
use schemas::report::Outcome;

use self::{gap::Watch, script::Script};
use crate::figure::{Aim, Figures, Measured, Samples};

const ROUNDS: usize = 5;
/// How the other way is called.
const SCRIPT: &str = "docker script";

/// An app that needs no port: it writes a file again and again.
const BEATING: &str =
    "#!/bin/sh\ntrap 'exit 0' TERM\nwhile :; do cat /app/VERSION > /data/beat; usleep 2000; done\n";
/// The same as a release, whose new container starts before the old one stops.
const BEATING_TOML: &str = "[app]\nname = \"beat\"\n[container]\nstart_first = true\nstop_timeout = \"2s\"\n\
    volumes = [\"${DEPLOYBUS_DATA}:/data\"]\nfiles = { \"app.sh\" = \"/app/\", \"VERSION\" = \"/app/\" }\n\
    [trial]\nmin_healthy = \"500ms\"\ndeadline = \"10s\"\n";

/// Ours, and that of the script.
#[derive(Debug, Default)]
struct Pair {
    ours: Samples,
    theirs: Samples,
}

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    if let Some(why) = engine_unavailable() {
        println!("left out: containers: {why}");
        return Ok(());
    }
    let mut world = World::new()?;
    let engine = Engine::start(world.folder())?;
    let node = world.register_node("pi-1", &["canary"])?;
    node.use_engine(&engine)?;
    node.start()?;
    let (port, data) = (node.port(), node.data().to_owned());
    with_port(&world, &engine, port)?.tell(figures)?;
    let (gap, noise) = without_port(&world, &engine, &data)?;
    gap.tell(figures, "one line changed: longest gap, start first", Aim::Most(64.0))?;
    let what = "the same watch while nothing of it changes";
    figures.ours(Measured { bench: "container", what, unit: "ms" }, &noise, Aim::None)
}

/// What is measured of an app that has a port, which no two containers can have at a time.
#[derive(Debug, Default)]
struct WithPort {
    decided: Samples,
    built: Samples,
    kept: Samples,
    same: Pair,
    changed: Pair,
    gap: Pair,
    switched: Pair,
    back: Pair,
}

fn with_port(world: &World, engine: &Engine, port: u16) -> Result<WithPort> {
    let app = App::copy("container-app", &world.folder().join("app"))?;
    deploy(world, &app, "1.0.0", 0)?;
    let script = Script::new(engine, App::copy("container-app", &world.folder().join("script"))?, &[])?;
    script.deploy()?;
    script.answers("version", "1.0.0")?;
    let mut all = WithPort::default();
    for round in 0..ROUNDS {
        all.change(world, &app, port, round)?;
        all.change_by_script(&script, round)?;
    }
    app.edit_file("app.sh", "HEALTHY=yes", "exit 3")?;
    for round in 0..ROUNDS {
        let watch = Watch::port(port);
        deploy(world, &app, &format!("2.0.{round}"), 3)?;
        all.back.ours.push_ms(watch.longest_gap()?);
        all.back.theirs.push_ms(back_by_script(&script)?);
    }
    script.end()?;
    Ok(all)
}

impl WithPort {
    /// One line, nothing, and another environment.
    fn change(&mut self, world: &World, app: &App, port: u16, round: usize) -> Result<()> {
        let version = format!("1.1.{round}");
        let (watch, began) = (Watch::port(port), Instant::now());
        let outcome = deploy(world, app, &version, 0)?;
        self.changed.ours.push_ms(began.elapsed());
        self.gap.ours.push_ms(watch.longest_gap()?);
        self.kept.0.push(outcome.took_ms as f64);
        self.built.0.push(outcome.built.context("nothing was built")?.took_ms as f64);

        let began = Instant::now();
        let (code, told) = world.announce(app, "canary")?;
        anyhow::ensure!(code == Some(0), "the same again: {told}");
        self.same.ours.push_ms(began.elapsed());

        // What ran before is there still: the image is hot.
        world.publisher(&["rollback", "--group", "canary"])?.expect(0)?;
        let before = if round == 0 { "1.0.0".to_owned() } else { format!("1.1.{}", round - 1) };
        let built = world.wait_outcome("pi-1", &before)?.built.context("nothing was decided")?;
        self.decided.0.push(built.took_ms as f64);
        world.publisher(&["rollback", "--group", "canary", "--to", &version])?.expect(0)?;

        let began = Instant::now();
        world.publisher(&["env", "set", "pi-1", &format!("CAMPAIGN_NAME=c{round}")])?.expect(0)?;
        let says = || (get(port, "/version").ok()?.text("campaign")? == format!("c{round}")).then_some(());
        wait_until("the campaign", Duration::from_secs(30), says)?;
        self.switched.ours.push_ms(began.elapsed());
        Ok(())
    }

    fn change_by_script(&mut self, script: &Script<'_>, round: usize) -> Result<()> {
        let version = format!("1.1.{round}");
        script.app().commit(&version)?;
        let (watch, began) = (Watch::port(script.port), Instant::now());
        script.deploy()?;
        script.answers("version", &version)?;
        self.changed.theirs.push_ms(began.elapsed());
        self.gap.theirs.push_ms(watch.longest_gap()?);

        let began = Instant::now();
        script.deploy()?;
        script.answers("version", &version)?;
        self.same.theirs.push_ms(began.elapsed());

        let began = Instant::now();
        let campaign = format!("c{round}");
        script.start(&campaign)?;
        script.answers("campaign", &campaign)?;
        self.switched.theirs.push_ms(began.elapsed());
        Ok(())
    }

    fn tell(&self, figures: &mut Figures) -> Result<()> {
        let of = |what| Measured { bench: "container", what, unit: "ms" };
        figures.ours(of("order that changes nothing: to the decision"), &self.decided, Aim::Most(1_000.0))?;
        figures.ours(of("one line changed: build and proof of the image"), &self.built, Aim::None)?;
        figures.ours(of("one line changed: order to kept, 500 ms of trial"), &self.kept, Aim::None)?;
        self.same.tell(figures, "nothing changed: command to its end", Aim::None)?;
        self.changed.tell(figures, "one line changed: command to its end", Aim::None)?;
        self.gap.tell(figures, "one line changed: longest gap, stop first", Aim::Most(1_600.0))?;
        self.switched.tell(figures, "environment changed: command to answer", Aim::Most(2_200.0))?;
        self.back.tell(figures, "bad release and back: longest gap", Aim::Most(3_600.0))
    }
}

impl Pair {
    fn tell(&self, figures: &mut Figures, what: &str, aim: Aim) -> Result<()> {
        let measured = Measured { bench: "container", what, unit: "ms" };
        figures.beside(measured, Some(&self.ours), Some((SCRIPT, &self.theirs)), aim)
    }
}

/// A bad release by the script, which nobody had to notice: the good one is deployed as soon as the script ends.
fn back_by_script(script: &Script<'_>) -> Result<Duration> {
    let watch = Watch::port(script.port);
    script.app().edit_file("app.sh", "HEALTHY=yes", "exit 3")?;
    script.deploy()?;
    script.app().edit_file("app.sh", "exit 3", "HEALTHY=yes")?;
    script.deploy()?;
    script.answers("campaign", "")?;
    watch.longest_gap()
}

/// The gap of an app without a port: of ours the new one starts first, which the script does not do. And what of ours is
/// no gap but this machine: the same watch while the script builds and starts its own.
fn without_port(world: &World, engine: &Engine, data: &Path) -> Result<(Pair, Samples)> {
    let beating = |name: &str| -> Result<App> {
        let app = App::copy("container-app", &world.folder().join(name))?;
        fs::write(app.folder().join("app.sh"), BEATING)?;
        fs::write(app.folder().join("deploybus.toml"), BEATING_TOML)?;
        Ok(app)
    };
    let app = beating("beat")?;
    let folder = world.folder().join("script-data");
    let mount = format!("{}:/data", folder.display());
    let script = Script::new(engine, beating("script-beat")?, &["--volume", &mount])?;
    let (ours, theirs) = (data.join("apps/beat/data/beat"), folder.join("beat"));
    let (mut gap, mut noise) = (Pair::default(), Samples::default());
    for round in 0..=ROUNDS {
        let version = format!("1.0.{round}");
        let watch = Watch::beat(ours.clone());
        deploy(world, &app, &version, 0)?;
        let our_gap = watch.longest_gap()?;
        let (watch, undisturbed) = (Watch::beat(theirs.clone()), Watch::beat(ours.clone()));
        script.app().commit(&version)?;
        script.deploy()?;
        let runs = || (fs::read_to_string(&theirs).ok()?.trim() == version).then_some(());
        wait_until("the script's app to work", Duration::from_secs(30), runs)?;
        // Before the first nothing ran.
        if round > 0 {
            gap.ours.push_ms(our_gap);
            gap.theirs.push_ms(watch.longest_gap()?);
            noise.push_ms(undisturbed.longest_gap()?);
        }
    }
    script.end()?;
    Ok((gap, noise))
}

/// Commits and announces a version, and gives how it ended.
fn deploy(world: &World, app: &App, version: &str, expected: i32) -> Result<Outcome> {
    app.commit(version)?;
    let (code, told) = world.announce(app, "canary")?;
    anyhow::ensure!(code == Some(expected), "{version}: {told}");
    world.wait_outcome("pi-1", version)
}
