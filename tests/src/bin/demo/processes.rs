//! A fleet of three nodes whose app is a process.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use e2e::{App, Mqtt, World};
use schemas::report::{Outcome, Verdict};

use crate::terminal::{say, shown, type_in};

/// What became of one release on one node.
struct Row {
    step: &'static str,
    node: String,
    outcome: Outcome,
    serves: String,
}

/// The demo under way.
struct Demo {
    world: World,
    app: App,
    rows: Vec<Row>,
}

/// Plays it; with `stay`, everything is left running at the end.
pub(crate) fn play(stay: bool) -> Result<()> {
    let start = Instant::now();
    say("A fleet: keys, a broker, and three nodes. pi-canary is in group canary, all are in group all.");
    let mut world = World::new()?;
    for (node, group) in [("pi-canary", "canary"), ("pi-barn", "all"), ("pi-shed", "all")] {
        shown(&format!("publisher node add {node} --group {group} && pi-worker run"));
        world.add_node(node, &[group])?;
    }
    let app = world.app()?;
    let mut demo = Demo { world, app, rows: Vec::new() };
    demo.releases()?;
    demo.table();
    println!(
        "\nDone in {:.1} s. Everything above was measured on the nodes and signed by them.",
        start.elapsed().as_secs_f64()
    );
    if stay {
        demo.stay()?;
    }
    Ok(())
}

impl Demo {
    fn releases(&mut self) -> Result<()> {
        const EVERYBODY: [&str; 3] = ["pi-canary", "pi-barn", "pi-shed"];
        say("1.0.0, a small Python web app, for everybody.");
        self.announce("1.0.0", "all", Verdict::Kept, &EVERYBODY, "1.0.0")?;

        say("1.1.0 for the canary; the others stay where they are.");
        self.app.edit("hello\": f\"from", "hello\": f\"again from")?;
        self.app.commit("1.1.0")?;
        self.announce("1.1.0", "canary", Verdict::Kept, &["pi-canary"], "1.1.0")?;

        say("The broker is killed (kill -9) and started again: nothing that it acknowledged is lost.");
        let before = self.retained()?;
        self.world.kill_broker()?;
        self.world.start_broker()?;
        ensure!(self.retained()? == before, "the broker lost retained messages");
        println!("   announcements and records before and after: {} and {}", before.len(), before.len());

        say("1.1.0 for everybody: the canary has it already, the others fetch what changed.");
        self.announce("1.1.0", "all", Verdict::Kept, &EVERYBODY, "1.1.0")?;

        say("1.2.0 for the canary. It fails its health check and goes back by itself.");
        self.app.edit("HEALTHY = True", "HEALTHY = False")?;
        self.app.edit_file("deploybus.toml", "deadline = \"10s\"", "deadline = \"3s\"")?;
        self.app.commit("1.2.0")?;
        self.announce("1.2.0", "canary", Verdict::RolledBack, &["pi-canary"], "1.1.0")?;

        say("1.3.0 for the canary. It is healthy, but the process still answers the old commit.");
        let old = self.world.node("pi-canary")?.ask("/version")?.text("commit").context("no commit")?;
        self.app.edit("HEALTHY = False", "HEALTHY = True")?;
        self.app.edit("os.environ.get(\"DEPLOYBUS_COMMIT\", \"\")", &format!("\"{old}\""))?;
        self.app.commit("1.3.0")?;
        self.announce("1.3.0", "canary", Verdict::RolledBack, &["pi-canary"], "1.1.0")?;

        say("What really runs:");
        type_in(&self.world, &["status"])?;
        Ok(())
    }

    /// Announces, checks the exit code, every node's verdict and what its app serves afterwards.
    fn announce(
        &mut self,
        version: &'static str,
        group: &str,
        verdict: Verdict,
        nodes: &[&str],
        serves: &str,
    ) -> Result<()> {
        let folder = self.app.folder().to_str().context("the folder's name is no text")?.to_owned();
        let code = type_in(&self.world, &["announce", &folder, "--group", group])?;
        let expected = if verdict == Verdict::Kept { 0 } else { 3 };
        ensure!(code == Some(expected), "publisher ended with {code:?} instead of {expected}");
        println!("   exit code {expected}");
        for name in nodes {
            let outcome = self.world.wait_outcome(name, version)?;
            ensure!(outcome.verdict == verdict, "{name} ended {version} with {}", outcome.verdict.name());
            let node = self.world.node(name)?;
            node.wait_serves(serves)?;
            self.rows.push(Row {
                step: version,
                node: (*name).to_owned(),
                outcome,
                serves: serves.to_owned(),
            });
        }
        Ok(())
    }

    fn retained(&self) -> Result<Vec<String>> {
        let mut bus: Mqtt = self.world.raw_publisher()?;
        let all = bus.retained("deploybus/v1/#", std::time::Duration::from_millis(300))?;
        let lasting = |topic: &String| topic.contains("/release/") || topic.ends_with("/record");
        Ok(all.into_keys().filter(lasting).collect())
    }

    fn table(&self) {
        println!(
            "\n{:<8} {:<10} {:<12} {:<13} {:>15} {:>9} {:>9}  serves",
            "release", "node", "verdict", "reason", "order → verdict", "fetched", "requests"
        );
        for Row { step, node, outcome, serves } in &self.rows {
            let reason = outcome.reason.map_or("", schemas::reason::Reason::code);
            println!(
                "{step:<8} {node:<10} {:<12} {reason:<13} {:>12} ms {:>7} B {:>9}  {serves}",
                outcome.verdict.name(),
                outcome.took_ms,
                outcome.fetched_bytes,
                outcome.requests,
            );
        }
    }

    /// Waits for Ctrl-C with everything running.
    fn stay(mut self) -> Result<()> {
        let (mqtt, http) = self.world.ports();
        println!("\nStill running, until Ctrl-C:");
        println!("   bus    mqtt://127.0.0.1:{mqtt}");
        println!("   store  http://127.0.0.1:{http}");
        for name in ["pi-canary", "pi-barn", "pi-shed"] {
            println!("   {name:<9}  http://127.0.0.1:{}/version", self.world.node(name)?.port());
        }
        let publisher =
            format!("{} --home {}", e2e::binary("publisher")?.display(), self.world.home().display());
        println!("   try    {publisher} status");
        println!("          {publisher} announce {} --group canary", self.app.folder().display());
        e2e::wait_for_interrupt()
    }
}
