//! A fleet with one node and an engine of its own.

use std::time::Duration;

use e2e::{App, Engine, World, engine_unavailable, wait_until};
use schemas::{
    build::Built,
    reason::Reason,
    report::{Outcome, Verdict},
};

/// `publisher announce` ends with it when nodes kept the release.
pub(super) const KEPT: Option<i32> = Some(0);
/// It ends with it when they did not.
pub(super) const NOT_KEPT: Option<i32> = Some(3);

/// A fleet with one node and an engine of its own.
pub(super) struct Shore {
    // Dropped first: what it mounts lies in the world's folder.
    pub(super) engine: Engine,
    pub(super) world: World,
    pub(super) app: App,
}

impl Shore {
    /// The node `pi-1` runs and has nothing; none where no engine can be run.
    pub(super) fn new() -> Option<Self> {
        if let Some(why) = engine_unavailable() {
            println!("skipped: {why}");
            return None;
        }
        let mut world = World::new().unwrap();
        let engine = Engine::start(world.folder()).unwrap();
        let node = world.register_node("pi-1", &["canary"]).unwrap();
        node.use_engine(&engine).unwrap();
        node.start().unwrap();
        let app = App::copy("container-app", &world.folder().join("app")).unwrap();
        Some(Self { engine, world, app })
    }

    /// The same, and it serves 1.0.0.
    pub(super) fn serving() -> Option<Self> {
        let mut shore = Self::new()?;
        shore.announce(KEPT);
        shore.world.node("pi-1").unwrap().wait_serves("1.0.0").unwrap();
        Some(shore)
    }

    /// Announces what is committed now, and expects that exit code.
    pub(super) fn announce(&self, expected: Option<i32>) {
        let (code, told) = self.world.announce(&self.app, "canary").unwrap();
        assert_eq!(code, expected, "{told:#}\n{}", self.worker_log());
    }

    /// Commits a version and announces it.
    pub(super) fn deploy(&self, version: &str, expected: Option<i32>) -> Outcome {
        self.app.commit(version).unwrap();
        self.announce(expected);
        self.outcome(version)
    }

    pub(super) fn outcome(&self, version: &str) -> Outcome {
        self.world.wait_outcome("pi-1", version).unwrap()
    }

    pub(super) fn built(&self, version: &str) -> Built {
        *self.outcome(version).built.expect("how it was built")
    }

    /// The node's app serves this version now.
    pub(super) fn serves(&mut self, version: &str) {
        self.world.node("pi-1").unwrap().wait_serves(version).unwrap();
    }

    /// The order failed before anything was touched, and nothing is left of it.
    pub(super) fn untouched(&mut self, outcome: &Outcome, reason: Reason) {
        assert_eq!((outcome.verdict, outcome.reason), (Verdict::Failed, Some(reason)), "{outcome:?}");
        self.serves("1.0.0");
        self.tidy();
    }

    /// Nothing is left over: one container serves, one at most is kept.
    pub(super) fn tidy(&self) {
        let tidy = || {
            let containers = self.engine.containers().ok()?;
            (containers == ["web"] || containers == ["web", "web.previous"]).then_some(())
        };
        wait_until("nothing to be left over", Duration::from_secs(20), tidy)
            .unwrap_or_else(|err| panic!("{err:#}: {:?}\n{}", self.engine.containers(), self.worker_log()));
    }

    /// The node's app serves for this campaign now.
    pub(super) fn serves_campaign(&mut self, campaign: &str) {
        let node = self.world.node("pi-1").unwrap();
        let says = || (node.ask("/version").ok()?.text("campaign")? == campaign).then_some(());
        wait_until("the campaign", Duration::from_secs(30), says).unwrap();
    }

    pub(super) fn worker_log(&self) -> String {
        let log = self.world.folder().join("pi-1/worker.log");
        std::fs::read_to_string(log).unwrap_or_default()
    }
}
