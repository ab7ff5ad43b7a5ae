//! The real Prometheus of the distribution, which scrapes a broker each second and watches it by the rules that are shipped.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::{
    net::{free_port, get},
    process::{Output, Process},
    wait_until,
};

const PATIENCE: Duration = Duration::from_secs(30);

/// A Prometheus that runs.
#[derive(Debug)]
pub struct Prometheus {
    port: u16,
    _process: Process,
}

/// The program that is missing, if one is.
pub fn prometheus_missing() -> Option<&'static str> {
    ["prometheus", "promtool"]
        .into_iter()
        .find(|program| Command::new(program).arg("--version").output().is_err())
}

/// `promtool <args>`
///
/// # Errors
/// When it finds something wrong; with what.
pub fn promtool(args: &[&str]) -> Result<Output> {
    Output::of(Command::new("promtool").args(args))?.expect(0)
}

impl Prometheus {
    /// Starts one with its files in `folder`, that scrapes `target`.
    ///
    /// # Errors
    /// When its settings or the rules are wrong, or it does not start.
    pub fn start(folder: &Path, target: u16) -> Result<Self> {
        let rules = packaging("prometheus/deploybus.rules.yml");
        let config = folder.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\nscrape_configs: [{{job_name: deploybus, static_configs: [{{targets: [\"127.0.0.1:{target}\"]}}]}}]\n",
            rules.display()
        );
        fs::write(&config, text)?;
        promtool(&["check", "config", config.to_str().context("a folder that is no text")?])?;
        let port = free_port()?;
        let mut command = Command::new("sh");
        command.args(["-c", r#"echo starts; exec "$0" "$@""#, "prometheus"]);
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.join("prometheus").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Process::start(command, &folder.join("prometheus.log"), "starts")?;
        let started = Self { port, _process: process };
        wait_until("Prometheus to scrape", PATIENCE, || {
            (!started.ask("up == 1").ok()?.is_empty()).then_some(())
        })?;
        Ok(started)
    }

    /// The series that an expression gives now.
    ///
    /// # Errors
    /// When it is no expression.
    pub fn ask(&self, expression: &str) -> Result<Vec<Value>> {
        let mut query = String::new();
        for byte in expression.bytes() {
            // Writing to a string does not fail.
            let _ = write!(query, "%{byte:02X}");
        }
        let answer = get(self.port, &format!("/api/v1/query?query={query}"))?;
        let mut json: Value = serde_json::from_str(&answer.body)?;
        ensure!(json["status"] == "success", "{expression}: {}", answer.body);
        match json["data"]["result"].take() {
            Value::Array(series) => Ok(series),
            other => Ok(vec![other]),
        }
    }

    /// Waits until an expression gives something.
    ///
    /// # Errors
    /// When it does not in time.
    pub fn wait(&self, expression: &str) -> Result<Vec<Value>> {
        wait_until(expression, PATIENCE, || self.ask(expression).ok().filter(|series| !series.is_empty()))
    }
}

/// A file that is shipped.
pub fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name)
}
