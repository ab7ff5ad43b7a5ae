//! Running a command of a release to its end: hooks, checks and proofs. It gets a time limit, and nothing that it
//! starts outlives it.

use std::{
    io,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::Command,
    task::JoinSet,
    time::timeout,
};

use crate::tail::{ENOUGH_BYTES, tail};

/// How long output is still taken after the program ended: only a process that left its group can hold it open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code or signal.
    pub(crate) status: ExitStatus,
    /// The end of its standard output.
    pub(crate) answer: String,
    /// The last lines of both its outputs.
    pub(crate) log_tail: Vec<String>,
}

/// Why a program did not end by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProgramError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// It was killed, with everything that it had started.
    #[error("did not end within {} ms and was killed", .limit.as_millis())]
    Timeout {
        /// What it had.
        limit: Duration,
        /// Last lines of its output.
        log_tail: Vec<String>,
    },
}

/// Runs the command, which has a process group of its own. A caller that stops waiting kills the group.
pub(crate) async fn run(mut command: Command, limit: Duration) -> Result<Ended, ProgramError> {
    let failed = |command: &Command, source| ProgramError::Start {
        program: command.as_std().get_program().to_string_lossy().into_owned(),
        source,
    };
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|source| failed(&command, source))?;
    let group = Group(child.id().and_then(|id| Pid::from_raw(id.cast_signed())));
    let (answer, both) = (Heard::default(), Heard::default());
    let mut readers = JoinSet::new();
    if let Some(stdout) = child.stdout.take() {
        readers.spawn(hear(stdout, vec![answer.clone(), both.clone()]));
    }
    if let Some(stderr) = child.stderr.take() {
        readers.spawn(hear(stderr, vec![both.clone()]));
    }
    let ended = timeout(limit, child.wait()).await;
    drop(group);
    // What was said before the end is in the pipes; that they stay open is no reason to wait.
    let _ = timeout(LAST_WORDS, readers.join_all()).await;
    let log_tail = tail(&both.take());
    match ended {
        Ok(Ok(status)) => {
            Ok(Ended { status, answer: String::from_utf8_lossy(&answer.take()).into_owned(), log_tail })
        }
        Ok(Err(source)) => Err(failed(&command, source)),
        Err(_) => Err(ProgramError::Timeout { limit, log_tail }),
    }
}

/// A process group that is killed when nobody waits for it any more. Its number cannot have been given away: either
/// members are left, or the leader ended a moment ago.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Nobody may be left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

/// The end of what was said, shared with who listens.
#[derive(Debug, Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl Heard {
    fn add(&self, said: &[u8]) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.extend_from_slice(said);
        let excess = heard.len().saturating_sub(ENOUGH_BYTES);
        heard.drain(..excess);
    }

    fn take(&self) -> Vec<u8> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn hear(mut output: impl AsyncRead + Unpin, heard: Vec<Heard>) {
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = output.read(&mut buffer).await {
        for heard in &heard {
            heard.add(&buffer[..len]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::processes;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", script]).process_group(0).stdin(Stdio::null());
        command
    }

    #[tokio::test]
    async fn says_how_it_ended_and_what_it_said() {
        let ended = run(sh("echo one; echo two >&2; exit 3"), Duration::from_secs(10)).await.unwrap();
        assert_eq!((ended.status.code(), ended.answer.as_str()), (Some(3), "one\n"));
        assert_eq!(ended.log_tail.len(), 2);
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_killed_with_its_children_and_its_last_words_are_kept() {
        let script = "echo said; sleep 61.7 & echo child $!; wait";
        let start = Instant::now();
        let error = run(sh(script), Duration::from_millis(300)).await.unwrap_err();
        assert!(start.elapsed() < Duration::from_secs(20));
        let ProgramError::Timeout { log_tail, .. } = &error else { panic!("{error}") };
        assert_eq!(log_tail[0], "said");
        let child = log_tail[1].trim_start_matches("child ").parse().ok().and_then(Pid::from_raw).unwrap();
        processes::ended(child).await;
    }

    #[tokio::test]
    async fn children_do_not_outlive_a_program_that_ends() {
        let ended = run(sh("sleep 61.8 & echo $!"), Duration::from_secs(10)).await.unwrap();
        let child = ended.answer.trim().parse().ok().and_then(Pid::from_raw).unwrap();
        processes::ended(child).await;
    }

    #[tokio::test]
    async fn a_flood_of_output_is_bounded() {
        let ended = run(sh("yes | head -c 3000000"), Duration::from_secs(20)).await.unwrap();
        assert!(ended.status.success() && ended.answer.len() <= ENOUGH_BYTES);
    }

    #[tokio::test]
    async fn what_is_no_program_is_named() {
        let mut command = Command::new("/no/such/program");
        let error = run(std::mem::replace(&mut command, sh("")), Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot start /no/such/program");
    }
}
