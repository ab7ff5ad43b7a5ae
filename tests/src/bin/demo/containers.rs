//! A node whose app is a container that it builds, with a Docker engine of its own.

use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::{App, Engine, World, engine_unavailable};
use schemas::{
    build::Strategy,
    report::{Outcome, Verdict},
};

use crate::terminal::{say, type_in};

const NODE: &str = "pi-1";

/// What became of one release.
struct Row {
    step: String,
    commit: String,
    outcome: Outcome,
    serves: String,
}

/// The demo under way.
struct Demo {
    // Ended first: what it mounts lies in the world's folder.
    engine: Engine,
    world: World,
    app: App,
    rows: Vec<Row>,
}

/// Plays it.
pub(crate) fn play() -> Result<()> {
    if let Some(why) = engine_unavailable() {
        bail!(
            "no Docker engine can be started here: it {why}; on Debian: sudo apt install docker.io busybox-static iproute2, and run it as root"
        );
    }
    let start = Instant::now();
    say("A fleet with one node, and a Docker engine of its own.");
    let mut world = World::new()?;
    let engine = Engine::start(world.folder())?;
    let node = world.register_node(NODE, &["canary"])?;
    node.use_engine(&engine)?;
    node.start()?;
    let app = App::copy("container-app", &world.folder().join("app"))?;
    let mut demo = Demo { engine, world, app, rows: Vec::new() };
    demo.releases()?;
    demo.table();
    println!(
        "\nDone in {:.1} s. Images were built on the node, and proven by what the running container answers.",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

impl Demo {
    fn releases(&mut self) -> Result<()> {
        say("1.0.0: nothing was built here before, so all of the image is.");
        self.announce("1.0.0", Strategy::Full, Verdict::Kept, "1.0.0")?;

        say("The same folder again: nothing changed, so nothing is built and nothing is touched.");
        let container = self.engine.inspect("web", "{{.Id}}")?;
        self.type_announce(Verdict::Kept)?;
        ensure!(self.engine.inspect("web", "{{.Id}}")? == container, "the container was replaced");

        say("1.1.0 changes one line: the layers of the dependencies stay.");
        self.app.edit_file("app.sh", "says hello", "says good day")?;
        self.release("1.1.0", Strategy::Incremental, Verdict::Kept, "1.1.0")?;

        say("1.2.0 needs something else: dependencies are built, too.");
        std::fs::write(self.app.folder().join("requirements.txt"), "nothing==2.0\n")?;
        self.release("1.2.0", Strategy::Full, Verdict::Kept, "1.2.0")?;

        say("1.3.0 is never healthy. The container before was kept, and serves again.");
        self.app.edit_file("app.sh", "HEALTHY=yes", "HEALTHY=no")?;
        self.app.edit_file("deploybus.toml", "deadline = \"10s\"", "deadline = \"3s\"")?;
        self.release("1.3.0", Strategy::Incremental, Verdict::RolledBack, "1.2.0")?;

        say("1.4.0 is healthy, but its image answers the commit of 1.2.0: stale code, caught.");
        self.app.edit_file("app.sh", "HEALTHY=no", "HEALTHY=yes")?;
        let old = self.world.node(NODE)?.ask("/version")?.text("commit").context("no commit")?;
        let line = "ENV GIT_COMMIT=$GIT_COMMIT";
        self.app.edit_file("Dockerfile", line, &format!("ENV GIT_COMMIT={old}"))?;
        self.release("1.4.0", Strategy::Full, Verdict::RolledBack, "1.2.0")?;

        say("Another campaign: the same image with another environment, nothing is built.");
        let image = self.engine.inspect("web", "{{.Image}}")?;
        self.type_publisher(&["env", "set", NODE, "CAMPAIGN_NAME=turboship"], 0)?;
        let node = self.world.node(NODE)?;
        e2e::wait_until("the campaign", std::time::Duration::from_secs(30), || {
            (node.ask("/version").ok()?.text("campaign")? == "turboship").then_some(())
        })?;
        ensure!(self.engine.inspect("web", "{{.Image}}")? == image, "another image serves");
        println!("   the container answers: {}", node.ask("/version")?.body.trim());

        say("What really runs:");
        self.type_publisher(&["status"], 0)
    }

    /// Commits a version and announces it.
    fn release(&mut self, version: &str, strategy: Strategy, verdict: Verdict, serves: &str) -> Result<()> {
        self.app.commit(version)?;
        self.announce(version, strategy, verdict, serves)
    }

    /// Announces, checks the exit code, how the image was built, the verdict, and what is served afterwards.
    fn announce(&mut self, version: &str, strategy: Strategy, verdict: Verdict, serves: &str) -> Result<()> {
        self.type_announce(verdict)?;
        let outcome = self.world.wait_outcome(NODE, version)?;
        ensure!(
            outcome.verdict == verdict,
            "{version} ended with {}: {}",
            outcome.verdict.name(),
            outcome.text
        );
        let built = outcome.built.as_deref().map(|built| built.strategy);
        ensure!(built == Some(strategy), "{version} was built as {built:?}");
        let node = self.world.node(NODE)?;
        node.wait_serves(serves)?;
        let commit = node.ask("/version")?.text("commit").context("no commit")?;
        self.rows.push(Row { step: version.to_owned(), commit, outcome, serves: serves.to_owned() });
        Ok(())
    }

    fn type_announce(&self, verdict: Verdict) -> Result<()> {
        let folder = self.app.folder().to_str().context("the folder's name is no text")?;
        let expected = if verdict == Verdict::Kept { 0 } else { 3 };
        self.type_publisher(&["announce", folder, "--group", "canary"], expected)
    }

    fn type_publisher(&self, args: &[&str], expected: i32) -> Result<()> {
        let code = type_in(&self.world, args)?;
        ensure!(code == Some(expected), "publisher ended with {code:?} instead of {expected}");
        Ok(())
    }

    fn table(&self) {
        println!(
            "\n{:<8} {:<12} {:<12} {:<13} {:>8} {:>7} {:>15}  serves",
            "release", "built", "verdict", "reason", "build", "reused", "order → verdict"
        );
        for Row { step, commit, outcome, serves } in &self.rows {
            let (strategy, took, reused) = outcome.built.as_deref().map_or_else(
                || ("-", "-".to_owned(), "-".to_owned()),
                |built| {
                    let reused = format!("{}/{}", built.reused, built.steps);
                    (built.strategy.name(), format!("{} ms", built.took_ms), reused)
                },
            );
            println!(
                "{step:<8} {strategy:<12} {:<12} {:<13} {took:>8} {reused:>7} {:>12} ms  {serves} at {}",
                outcome.verdict.name(),
                outcome.reason.map_or("", schemas::reason::Reason::code),
                outcome.took_ms,
                &commit[..commit.len().min(10)],
            );
        }
    }
}
