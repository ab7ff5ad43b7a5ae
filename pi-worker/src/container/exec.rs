//! Commands of a release that run inside its container: checks, proofs.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use bollard::{
    Docker,
    container::LogOutput,
    exec::{StartExecOptions, StartExecResults},
    models::ExecConfig,
};
use futures_util::StreamExt as _;
use machine::Fault;
use schemas::reason::Reason;
use tokio::time::timeout;

use super::engine::OnEngine as _;
use crate::{
    fault::fault,
    tail::{ENOUGH_BYTES, tail},
};

/// How a command inside a container ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code.
    pub(crate) code: i64,
    /// The end of its standard output.
    pub(crate) answer: String,
    /// The last lines of both its outputs.
    pub(crate) log_tail: Vec<String>,
}

/// Commands that did not end in time, by what was run where: the engine cannot end them.
#[derive(Debug, Default)]
pub(super) struct Hanging(Mutex<BTreeMap<(String, Vec<String>), String>>);

impl Hanging {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(String, Vec<String>), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the same command still runs there. So a check that hangs is one process, not one for each asking.
    async fn still_runs(&self, docker: &Docker, key: &(String, Vec<String>)) -> bool {
        let Some(id) = self.lock().get(key).cloned() else { return false };
        let runs = docker.inspect_exec(&id).await.is_ok_and(|found| found.running == Some(true));
        if !runs {
            self.lock().remove(key);
        }
        runs
    }
}

/// Runs `words` in the container. One that takes too long is left to the container, and not run again before it has ended.
pub(super) async fn exec(
    docker: &Docker,
    hanging: &Hanging,
    name: &str,
    (words, said): (&[String], &str),
    limit: Duration,
) -> Result<Ended, Fault> {
    let late = || fault(Reason::HookTimeout, format!("`{said}` did not end within {} ms", limit.as_millis()));
    let key = (name.to_owned(), words.to_vec());
    let runs = async {
        if hanging.still_runs(docker, &key).await {
            return Err(late());
        }
        let id = create(docker, name, words, said).await?;
        hanging.lock().insert(key.clone(), id.clone());
        let ended = run(docker, &id, name, said).await;
        hanging.lock().remove(&key);
        ended
    };
    timeout(limit, runs).await.unwrap_or_else(|_| Err(late()))
}

async fn create(docker: &Docker, name: &str, words: &[String], said: &str) -> Result<String, Fault> {
    let doing = || format!("run `{said}` in container {name}");
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(words.to_vec()),
        ..ExecConfig::default()
    };
    Ok(docker.create_exec(name, config).await.on_engine(Reason::NoProof, doing)?.id)
}

async fn run(docker: &Docker, id: &str, name: &str, said: &str) -> Result<Ended, Fault> {
    let doing = || format!("run `{said}` in container {name}");
    let started = docker.start_exec(id, None::<StartExecOptions>).await.on_engine(Reason::NoProof, doing)?;
    let (mut answer, mut both) = (Vec::new(), Vec::new());
    if let StartExecResults::Attached { mut output, .. } = started {
        while let Some(Ok(piece)) = output.next().await {
            if matches!(piece, LogOutput::StdOut { .. }) {
                keep_end(&mut answer, piece.as_ref());
            }
            keep_end(&mut both, piece.as_ref());
        }
    }
    let inspected = docker.inspect_exec(id).await.on_engine(Reason::NoProof, doing)?;
    let code = inspected.exit_code.unwrap_or(-1);
    Ok(Ended { code, answer: String::from_utf8_lossy(&answer).into_owned(), log_tail: tail(&both) })
}

fn keep_end(kept: &mut Vec<u8>, said: &[u8]) {
    kept.extend_from_slice(said);
    let excess = kept.len().saturating_sub(ENOUGH_BYTES);
    kept.drain(..excess);
}
