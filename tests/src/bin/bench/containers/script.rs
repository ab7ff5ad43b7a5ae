//! The way without Deploybus: a script that builds with a cache bust, then stops, removes and runs.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use e2e::{App, Engine, Output, free_port, get, wait_until};

const CONTAINER: &str = "by-script";
const IMAGE: &str = "by-script:latest";
/// Nothing that is measured takes so long.
const PATIENCE: Duration = Duration::from_secs(30);

/// An app with its script.
pub(super) struct Script<'a> {
    engine: &'a Engine,
    app: App,
    /// What `docker run` is told beside image and name.
    run: Vec<String>,
    pub(super) port: u16,
}

impl<'a> Script<'a> {
    /// Gives the app a cache bust after its dependencies, as such scripts have it.
    pub(super) fn new(engine: &'a Engine, app: App, run: &[&str]) -> Result<Self> {
        let copy = "COPY app.sh VERSION /app/";
        app.edit_file("Dockerfile", copy, &format!("ARG CACHE_BUST\nRUN echo $CACHE_BUST\n{copy}"))?;
        let run = run.iter().map(|word| (*word).to_owned()).collect();
        Ok(Self { engine, app, run, port: free_port()? })
    }

    /// Its app's folder, in which something changes.
    pub(super) fn app(&self) -> &App {
        &self.app
    }

    /// Runs all of it.
    pub(super) fn deploy(&self) -> Result<()> {
        let bust = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let (bust, folder) = (format!("CACHE_BUST={bust}"), self.app.folder().display().to_string());
        let mut build = self.engine.docker_command(&["build", "--build-arg", &bust, "--tag", IMAGE, &folder]);
        Output::of(build.env("DOCKER_BUILDKIT", "0"))?.expect(0)?;
        self.start("")
    }

    /// Stops and removes what runs, if something does, and runs the image.
    pub(super) fn start(&self, campaign: &str) -> Result<()> {
        for step in [&["stop", CONTAINER][..], &["rm", CONTAINER]] {
            // The first time nothing is there.
            let _ = self.engine.docker(step);
        }
        let (port, campaign) = (format!("127.0.0.1:{}:8000", self.port), format!("CAMPAIGN_NAME={campaign}"));
        let mut run = vec!["run", "--detach", "--name", CONTAINER, "--publish", &port, "--env", &campaign];
        run.extend(self.run.iter().map(String::as_str));
        run.push(IMAGE);
        self.engine.docker(&run).map(drop)
    }

    /// Waits until it answers with this value of `key`.
    pub(super) fn answers(&self, key: &str, expected: &str) -> Result<()> {
        let says = || (get(self.port, "/version").ok()?.text(key)? == expected).then_some(());
        wait_until("the answer of the script's app", PATIENCE, says)
    }

    /// Removes what runs.
    pub(super) fn end(self) -> Result<()> {
        self.engine.docker(&["rm", "--force", CONTAINER]).map(drop)
    }
}
