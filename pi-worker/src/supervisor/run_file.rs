//! Which process an app is, noted on the disk: a worker that comes back takes it over.

use std::{fs, path::Path};

use agent::{boot_id, sweep_drafts};
use machine::Fault;
use rustix::process::Pid;
use schemas::id::Digest;
use serde::{Deserialize, Serialize};

use crate::{fault::OnPath as _, processes::Stat, slots::replace};

/// A process that was started for an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunFile {
    pid: i32,
    start_ticks: u64,
    boot: String,
    /// The tree that it runs.
    tree: Digest,
    /// The command and environment that it was started with.
    launch: Digest,
}

impl RunFile {
    /// Notes a process; none when it ended already.
    pub(super) fn of(pid: Pid, tree: Digest, launch: Digest) -> Option<Self> {
        let start_ticks = Stat::of(pid)?.start_ticks;
        Some(Self { pid: pid.as_raw_nonzero().get(), start_ticks, boot: boot_id(), tree, launch })
    }

    pub(super) fn store(&self, path: &Path) -> Result<(), Fault> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).on_path("create", folder)?;
        }
        replace(path, serde_json::json!(self).to_string().as_bytes())
    }

    /// Removes notes that were cut short while they were written.
    pub(super) fn sweep(path: &Path) {
        path.parent().into_iter().for_each(sweep_drafts);
    }

    /// What is noted; an unreadable note is none, and so is a pipe, which would be read for ever.
    pub(super) fn load(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        serde_json::from_slice(&fs::read(path).ok()?).ok()
    }

    /// The process, if it is the one that was noted: pids are given away again.
    pub(super) fn process(&self) -> Option<Pid> {
        let pid = Pid::from_raw(self.pid)?;
        let is_same = Stat::of(pid).is_some_and(|stat| stat.start_ticks == self.start_ticks);
        (is_same && self.boot == boot_id()).then_some(pid)
    }

    pub(super) fn runs(&self, tree: Digest, launch: Digest) -> bool {
        self.tree == tree && self.launch == launch
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpid;

    use super::*;

    #[test]
    fn only_the_very_process_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run/app.pid");
        let [tree, launch] = [Digest([1; 32]), Digest([2; 32])];
        let noted = RunFile::of(getpid(), tree, launch).unwrap();
        noted.store(&path).unwrap();
        assert_eq!(RunFile::load(&path).as_ref(), Some(&noted));
        assert_eq!(noted.process(), Some(getpid()));
        assert!(noted.runs(tree, launch) && !noted.runs(launch, tree));
        assert_eq!(RunFile { boot: "another boot".into(), ..noted.clone() }.process(), None);
        assert_eq!(RunFile { start_ticks: 1, ..noted }.process(), None);
        fs::write(&path, "{").unwrap();
        assert_eq!(RunFile::load(&path), None);
    }

    #[test]
    fn a_pipe_in_its_place_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.pid");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RUSR).unwrap();
        assert_eq!(RunFile::load(&path), None);
    }
}
