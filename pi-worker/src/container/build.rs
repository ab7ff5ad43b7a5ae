//! Building an image: the context goes to the engine, its log comes back and is kept.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use agent::{Notice, Notices, Said};
use bollard::{Docker, body_try_stream, query_parameters::BuildImageOptions};
use futures_util::StreamExt as _;
use machine::{Fault, Slot};
use schemas::{
    id::AppId,
    manifest::{Entry, Manifest},
    reason::Reason,
    release::container::Container,
    status::LogSource,
};
use tokio::time::interval;

use super::{
    BUILD_WITHIN, context,
    engine::engine_fault,
    ignore::Ignore,
    image::{CODE_SIGNATURE, GIT_COMMIT},
    names,
};
use crate::{
    fault::OnPath as _,
    tail::{ENOUGH_BYTES, tail},
};

/// From one telling of a build's log to the next.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// What an image is built of.
#[derive(Debug)]
pub(super) struct Build<'a> {
    pub(super) app: &'a AppId,
    pub(super) slot: &'a Slot,
    pub(super) container: &'a Container,
    pub(super) manifest: &'a Manifest,
    pub(super) ignore: &'a Ignore,
    /// The image that is only labelled, where one was loaded: then nothing of the tree goes into it.
    pub(super) base: Option<&'a str>,
    /// Where the files are.
    pub(super) folder: PathBuf,
    /// Where the log is kept.
    pub(super) log: PathBuf,
    /// Where it is told, with how far it is.
    pub(super) notices: &'a Notices,
}

/// How many steps a build had, and how many of them had been done before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Steps {
    pub(super) all: u32,
    pub(super) reused: u32,
}

impl Build<'_> {
    /// Builds it. Dropping this ends the build.
    pub(super) async fn run(&self, docker: &Docker, no_cache: bool) -> Result<Steps, Fault> {
        let mut log = Log::create(&self.log)?;
        let mut tick = interval(TELL_EVERY);
        let context = match self.base {
            Some(base) => body_try_stream(context::recipe(format!("FROM {base}\n"))),
            None => body_try_stream(context::tar(self.folder.clone(), self.entries())),
        };
        let patient = docker.clone().with_timeout(BUILD_WITHIN);
        let mut answers = Box::pin(patient.build_image(self.options(no_cache), None, Some(context)));
        let mut failed = None;
        loop {
            let answer = tokio::select! {
                answer = answers.next() => answer,
                _ = tick.tick() => {
                    self.tell(&mut log);
                    continue;
                }
            };
            match answer {
                Some(Ok(answer)) => log.take(answer.stream.as_deref().unwrap_or_default()),
                Some(Err(err)) => failed = Some(err),
                None => break,
            }
        }
        self.tell(&mut log);
        match failed {
            None => Ok(log.steps),
            Some(err) => Err(self.fault(err, &log)),
        }
    }

    fn entries(&self) -> Vec<Entry> {
        context::entries(self.manifest, &self.container.dockerfile, self.ignore).cloned().collect()
    }

    /// Tells what is new in the log.
    fn tell(&self, log: &mut Log) {
        let permille = log.permille();
        if permille > log.told_permille {
            log.told_permille = permille;
            // Nobody listens any more when the worker is about to end.
            self.notices.send((self.app.clone(), Notice::Progress(permille))).ok();
        }
        let lines = tail(&std::mem::take(&mut log.untold));
        if !lines.is_empty() {
            let said = Said { source: LogSource::Build, lines, answers: String::new() };
            self.notices.send((self.app.clone(), Notice::Said(said))).ok();
        }
    }

    fn options(&self, no_cache: bool) -> BuildImageOptions {
        let mut args: HashMap<String, String> =
            self.container.args.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        args.insert(GIT_COMMIT.to_owned(), self.slot.commit.clone());
        args.insert(CODE_SIGNATURE.to_owned(), self.slot.tree().to_string());
        BuildImageOptions {
            dockerfile: match self.base {
                Some(_) => context::RECIPE.to_owned(),
                None => self.container.dockerfile.clone(),
            },
            t: Some(names::image(self.app, self.slot.tree())),
            nocache: no_cache,
            rm: true,
            forcerm: true,
            buildargs: Some(args),
            labels: Some(names::labels(self.app, self.slot, self.container.forced)),
            target: self.container.target.clone(),
            ..BuildImageOptions::default()
        }
    }

    fn fault(&self, err: bollard::errors::Error, log: &Log) -> Fault {
        let doing = match &log.step {
            Some(step) => format!("build the image at {step}"),
            None => format!("build the image by {}", self.container.dockerfile),
        };
        let fault = engine_fault(Reason::BuildFailed, &doing, err);
        let is_base =
            log.step.as_deref().is_none_or(|step| step.contains(" FROM ")) && lacks_base(&fault.text);
        let log_tail = tail(&log.said);
        let is_full = log_tail.iter().any(|line| line.contains("No space left on device"));
        let reason = match fault.reason {
            Reason::BuildFailed if is_base => Reason::BaseImageMissing,
            Reason::BuildFailed if is_full => Reason::DiskFull,
            reason => reason,
        };
        Fault { reason, log_tail, ..fault }
    }
}

/// Whether the engine says that it does not get the image that a Dockerfile begins with.
fn lacks_base(text: &str) -> bool {
    [
        "pull access denied",
        "manifest unknown",
        "not found",
        "no such host",
        "dial tcp",
        "lookup ",
        "connection refused",
        "i/o timeout",
        "TLS handshake",
        "deadline exceeded",
        "Client.Timeout",
        "certificate",
        "No such image",
        "proxyconnect",
        "toomanyrequests",
    ]
    .iter()
    .any(|words| text.contains(words))
}

/// So much of a log is kept in its file: a build that never stops talking is not to fill the disk.
const MAX_LOG_BYTES: u64 = 8 * 1024 * 1024;

/// The log of a build: its beginning in a file, and its end at hand.
struct Log {
    file: File,
    /// Bytes that it took, written or not.
    written: u64,
    said: Vec<u8>,
    /// What was said since it was told last, up to a bound.
    untold: Vec<u8>,
    told_permille: u16,
    steps: Steps,
    /// The step that is being done.
    step: Option<String>,
}

impl Log {
    fn create(path: &Path) -> Result<Self, Fault> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).on_path("create", folder)?;
        }
        let file = File::create(path).on_path("create", path)?;
        Ok(Self {
            file,
            written: 0,
            said: Vec::new(),
            untold: Vec::new(),
            told_permille: 0,
            steps: Steps::default(),
            step: None,
        })
    }

    /// Takes what the engine says; a full disk is no reason to lose sight of the build.
    fn take(&mut self, said: &str) {
        let bytes = said.len() as u64;
        if self.written + bytes <= MAX_LOG_BYTES {
            let _ = self.file.write_all(said.as_bytes());
        } else if self.written <= MAX_LOG_BYTES {
            let _ = self.file.write_all(b"\n... the rest is left out\n");
        }
        self.written = self.written.saturating_add(bytes);
        for kept in [&mut self.said, &mut self.untold] {
            kept.extend_from_slice(said.as_bytes());
            let excess = kept.len().saturating_sub(ENOUGH_BYTES);
            kept.drain(..excess);
        }
        let line = said.trim();
        if line.starts_with("Step ") && line.contains(" : ") {
            self.steps.all += 1;
            self.step = Some(line.chars().take(120).collect());
        } else if line == "---> Using cache" {
            self.steps.reused += 1;
        }
    }
}

impl Log {
    /// How much of its steps is done, in thousandths: of `Step 3/9 : …` two ninths.
    fn permille(&self) -> u16 {
        let share = || {
            let (at, all) =
                self.step.as_deref()?.strip_prefix("Step ")?.split_once(" : ")?.0.split_once('/')?;
            let (at, all): (u32, u32) = (at.parse().ok()?, all.parse().ok()?);
            u16::try_from(at.checked_sub(1)?.checked_mul(1_000)?.checked_div(all)?.min(1_000)).ok()
        };
        share().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_and_those_from_the_cache_are_counted_and_the_log_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log/web.build.log");
        let mut log = Log::create(&path).unwrap();
        for said in
            ["Step 1/2 : FROM scratch", "\n", " ---> Using cache\n", "Step 2/2 : COPY . /", "\n", " ---> 1\n"]
        {
            log.take(said);
        }
        assert_eq!(log.steps, Steps { all: 2, reused: 1 });
        assert_eq!((log.step.as_deref(), log.permille()), (Some("Step 2/2 : COPY . /"), 500));
        for odd in ["Step 0/2 : x", "Step 1/0 : x", "Step x/2 : x", "Step 9/2 : x"] {
            log.step = Some(odd.to_owned());
            assert!(log.permille() <= 1_000, "{odd}");
        }
        assert!(fs::read_to_string(&path).unwrap().ends_with("---> 1\n"));
        for _ in 0..20 {
            log.take(&"x".repeat(1024 * 1024));
        }
        let kept = fs::read_to_string(path).unwrap();
        assert!(kept.len() as u64 <= MAX_LOG_BYTES + 100 && kept.ends_with("the rest is left out\n"));
        assert_eq!(kept.matches("the rest is left out").count(), 1);
    }

    #[test]
    fn a_base_image_that_is_not_there_is_told_from_a_step_that_failed() {
        assert!(lacks_base("pull access denied for no/such, repository does not exist"));
        assert!(lacks_base("Get https://registry-1.docker.io/v2/: dial tcp: lookup registry-1.docker.io"));
        assert!(!lacks_base("The command '/bin/sh -c false' returned a non-zero code: 1"));
    }
}
