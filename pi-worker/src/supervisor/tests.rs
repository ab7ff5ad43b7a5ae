use std::{fs, path::PathBuf, time::Duration};

use schemas::release::Run;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use super::*;
use crate::{
    slots::fixture::{Fixture, TestRelease},
    surroundings::Surroundings,
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn an_app_that_ends_by_itself_is_told_with_its_last_words() {
    let mut node = Node::new();
    let app = node.app("echo started; echo no such file >&2; exit 7");
    node.start(&app).await.unwrap();
    let fault = node.exited().await;
    assert_eq!(fault.reason, Reason::Exited);
    assert!(fault.text.ends_with("exit status: 7"), "{}", fault.text);
    assert_eq!(fault.log_tail, ["started", "no such file"]);
}

#[tokio::test]
async fn an_app_that_is_stopped_is_no_news_and_leaves_nothing() {
    let mut node = Node::new();
    let app = node.app("sleep 611.1 & sleep 611.2 & setsid sleep 611.3 & touch up; wait");
    node.start(&app).await.unwrap();
    node.wait_for("up").await;
    assert!(node.processes().len() >= 4, "{:?}", node.processes());
    node.stop(PATIENCE).await.unwrap();
    assert!(node.processes().is_empty());
    assert!(!node.app.places().run_file().exists());
    assert!(node.notices.try_recv().is_err());
    node.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn an_app_that_ignores_sigterm_is_killed() {
    let mut node = Node::new();
    let app = node.app("trap '' TERM; touch up; while :; do sleep 0.05; done");
    node.start(&app).await.unwrap();
    node.wait_for("up").await;
    node.stop(Duration::from_millis(200)).await.unwrap();
    assert!(node.processes().is_empty());
    assert!(node.notices.try_recv().is_err());
}

#[tokio::test]
async fn an_app_may_tidy_up_on_sigterm() {
    let node = Node::new();
    let app = node.app("trap 'touch tidied; exit 0' TERM; touch up; while :; do sleep 0.05; done");
    node.start(&app).await.unwrap();
    node.wait_for("up").await;
    node.stop(PATIENCE).await.unwrap();
    assert!(node.data("tidied").exists());
}

#[tokio::test]
async fn starting_twice_starts_once_and_another_launch_takes_over() {
    let node = Node::new();
    let app = node.app("echo x >> starts; touch up; exec sleep 612.1");
    node.start(&app).await.unwrap();
    node.start(&app).await.unwrap();
    node.wait_for("up").await;
    let before = node.processes();
    let other = node.app("touch other; exec sleep 612.2");
    node.start(&other).await.unwrap();
    node.wait_for("other").await;
    assert_eq!(fs::read_to_string(node.data("starts")).unwrap(), "x\n");
    assert!(node.processes().iter().all(|pid| !before.contains(pid)));
    node.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_comes_back_takes_the_running_app_over() {
    let mut node = Node::new();
    let app = node.app("touch up; read line < fifo; exit 3");
    rustix::fs::mkfifoat(rustix::fs::CWD, node.data("fifo"), rustix::fs::Mode::RWXU).unwrap();
    node.start(&app).await.unwrap();
    node.wait_for("up").await;
    let before = node.processes();

    node.restart_worker();
    node.start(&app).await.unwrap();
    assert_eq!(node.processes(), before);
    fs::write(node.data("fifo"), "end\n").unwrap();
    let fault = node.exited().await;
    assert!(fault.text.contains("earlier run of the worker"), "{}", fault.text);

    // The same again, and it is stopped instead of ending by itself.
    fs::remove_file(node.data("up")).unwrap();
    node.start(&app).await.unwrap();
    node.wait_for("up").await;
    node.restart_worker();
    node.stop(PATIENCE).await.unwrap();
    assert!(node.processes().is_empty());
}

#[tokio::test]
async fn an_app_whose_pid_was_lost_is_found_and_not_started_beside_itself() {
    let mut node = Node::new();
    let app = node.app("touch up; exec sleep 613.1");
    node.start(&app).await.unwrap();
    node.wait_for("up").await;
    let before = node.processes();
    fs::remove_file(node.app.places().run_file()).unwrap();
    node.restart_worker();
    node.start(&app).await.unwrap();
    assert!(node.processes().iter().all(|pid| !before.contains(pid)) && !node.processes().is_empty());
    node.stop(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn a_program_that_cannot_be_run_is_named() {
    let node = Node::new();
    let app = node.app("");
    let around = node.surroundings(&app);
    let command = around.command(&["./a".to_owned()]).unwrap();
    let launch = Launch { digest: around.launch(&[]), ..node.launch(&app) };
    let fault = node.supervisor.start(&launch, command).await.unwrap_err();
    assert_eq!(fault.reason, Reason::StartFailed);
    assert!(fault.text.contains("/./a: Permission denied"), "{}", fault.text);
}

/// A node whose one app is a shell script that runs in its data folder.
struct Node {
    app: Fixture,
    id: AppId,
    supervisor: Supervisor,
    notices: UnboundedReceiver<(AppId, Notice)>,
}

impl Node {
    fn new() -> Self {
        let (sender, notices) = unbounded_channel();
        let app = Fixture::new();
        fs::create_dir_all(&app.dirs.data).unwrap();
        Self { app, id: "web".parse().unwrap(), supervisor: Supervisor::new(sender), notices }
    }

    fn app(&self, script: &str) -> TestRelease {
        let mut release = self.app.install("1", &[("a", "not executable", false)]);
        let script = format!("cd $DEPLOYBUS_DATA\n{script}");
        let command = vec!["/bin/sh".to_owned(), "-c".to_owned(), script];
        release.slot.part.run = Run::Process { command, stop_timeout_ms: 1_000 };
        release
    }

    fn surroundings(&self, release: &TestRelease) -> Surroundings {
        Surroundings::new(self.app.places(), &self.id, &release.slot, &BTreeMap::new())
    }

    fn launch<'a>(&'a self, release: &'a TestRelease) -> Launch<'a> {
        let Run::Process { command, .. } = &release.slot.part.run else { panic!("no process") };
        let digest = self.surroundings(release).launch(command);
        Launch { app: &self.id, slot: &release.slot, places: self.app.places(), digest }
    }

    async fn start(&self, release: &TestRelease) -> Result<(), Fault> {
        let Run::Process { command, .. } = &release.slot.part.run else { panic!("no process") };
        let command = self.surroundings(release).command(command).unwrap();
        self.supervisor.start(&self.launch(release), command).await
    }

    async fn stop(&self, patience: Duration) -> Result<(), Fault> {
        self.supervisor.stop(&self.id, self.app.places(), patience).await
    }

    /// A new worker knows only what is on the disk.
    fn restart_worker(&mut self) {
        let (sender, notices) = unbounded_channel();
        (self.supervisor, self.notices) = (Supervisor::new(sender), notices);
    }

    async fn exited(&mut self) -> Fault {
        match timeout(PATIENCE, self.notices.recv()).await.unwrap() {
            Some((_, Notice::Exited(fault))) => fault,
            other => panic!("{other:?}"),
        }
    }

    fn data(&self, name: &str) -> PathBuf {
        self.app.dirs.data.join(name)
    }

    async fn wait_for(&self, name: &str) {
        let there = async {
            while !self.data(name).exists() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, there).await.unwrap();
    }

    fn processes(&self) -> Vec<Pid> {
        let slots = self.app.places().slots();
        processes::alive(|pid, _| processes::was_given(pid, SLOT_VARIABLE, &slots)).unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for pid in self.processes() {
            let _ = kill_process(pid, Signal::KILL);
        }
    }
}
