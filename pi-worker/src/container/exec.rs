//! Commands of a release that run inside its container: checks, proofs.

use std::time::Duration;

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

/// Runs `words` in the container. The engine cannot end a command: one that takes too long is left to the container.
pub(super) async fn exec(
    docker: &Docker,
    name: &str,
    (words, said): (&[String], &str),
    limit: Duration,
) -> Result<Ended, Fault> {
    match timeout(limit, run(docker, name, words, said)).await {
        Ok(ended) => ended,
        Err(_) => {
            Err(fault(Reason::HookTimeout, format!("`{said}` did not end within {} ms", limit.as_millis())))
        }
    }
}

async fn run(docker: &Docker, name: &str, words: &[String], said: &str) -> Result<Ended, Fault> {
    let doing = || format!("run `{said}` in container {name}");
    let config = ExecConfig {
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        cmd: Some(words.to_vec()),
        ..ExecConfig::default()
    };
    let id = docker.create_exec(name, config).await.on_engine(Reason::NoProof, doing)?.id;
    let started = docker.start_exec(&id, None::<StartExecOptions>).await.on_engine(Reason::NoProof, doing)?;
    let (mut answer, mut both) = (Vec::new(), Vec::new());
    if let StartExecResults::Attached { mut output, .. } = started {
        while let Some(Ok(piece)) = output.next().await {
            if matches!(piece, LogOutput::StdOut { .. }) {
                keep_end(&mut answer, piece.as_ref());
            }
            keep_end(&mut both, piece.as_ref());
        }
    }
    let inspected = docker.inspect_exec(&id).await.on_engine(Reason::NoProof, doing)?;
    let code = inspected.exit_code.unwrap_or(-1);
    Ok(Ended { code, answer: String::from_utf8_lossy(&answer).into_owned(), log_tail: tail(&both) })
}

fn keep_end(kept: &mut Vec<u8>, said: &[u8]) {
    kept.extend_from_slice(said);
    let excess = kept.len().saturating_sub(ENOUGH_BYTES);
    kept.drain(..excess);
}
