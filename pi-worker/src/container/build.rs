//! Building an image: the context goes to the engine, its log comes back and is kept.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use bollard::{Docker, body_try_stream, query_parameters::BuildImageOptions};
use futures_util::StreamExt as _;
use machine::{Fault, Slot};
use schemas::{id::AppId, manifest::Manifest, reason::Reason, release::container::Container};

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

/// What an image is built of.
#[derive(Debug)]
pub(super) struct Build<'a> {
    pub(super) app: &'a AppId,
    pub(super) slot: &'a Slot,
    pub(super) container: &'a Container,
    pub(super) manifest: &'a Manifest,
    pub(super) ignore: &'a Ignore,
    /// Where the files are.
    pub(super) folder: PathBuf,
    /// Where the log is kept.
    pub(super) log: PathBuf,
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
        let entries =
            context::entries(self.manifest, &self.container.dockerfile, self.ignore).cloned().collect();
        let context = body_try_stream(context::tar(self.folder.clone(), entries));
        let patient = docker.clone().with_timeout(BUILD_WITHIN);
        let mut answers = Box::pin(patient.build_image(self.options(no_cache), None, Some(context)));
        let mut failed = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(answer) => log.take(answer.stream.as_deref().unwrap_or_default()),
                Err(err) => failed = Some(err),
            }
        }
        match failed {
            None => Ok(log.steps),
            Some(err) => Err(self.fault(err, &log)),
        }
    }

    fn options(&self, no_cache: bool) -> BuildImageOptions {
        let mut args: HashMap<String, String> =
            self.container.args.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        args.insert(GIT_COMMIT.to_owned(), self.slot.commit.clone());
        args.insert(CODE_SIGNATURE.to_owned(), self.slot.tree().to_string());
        BuildImageOptions {
            dockerfile: self.container.dockerfile.clone(),
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
        Ok(Self { file, written: 0, said: Vec::new(), steps: Steps::default(), step: None })
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
        self.said.extend_from_slice(said.as_bytes());
        let excess = self.said.len().saturating_sub(ENOUGH_BYTES);
        self.said.drain(..excess);
        let line = said.trim();
        if line.starts_with("Step ") && line.contains(" : ") {
            self.steps.all += 1;
            self.step = Some(line.chars().take(120).collect());
        } else if line == "---> Using cache" {
            self.steps.reused += 1;
        }
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
        assert_eq!(log.step.as_deref(), Some("Step 2/2 : COPY . /"));
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
