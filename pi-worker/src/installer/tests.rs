use std::{fs, path::Path};

use schemas::release::{Check, Probe};
use tempfile::TempDir;
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::timeout,
};

use super::*;
use crate::slots::fixture::{Fixture, TestRelease};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn a_release_is_staged_switched_started_proved_and_stopped() {
    let mut node = Node::new();
    let release = Node::release("echo up; exec sleep 615.1");
    let app = app();
    assert_eq!(node.worker.active(&app), None);
    node.stage(&release).await.unwrap();
    assert_eq!(node.worker.present(&app, &release.manifest).len(), 1);
    node.worker.switch(&app, Some(&release.slot)).await.unwrap();
    assert_eq!(node.worker.active(&app).as_ref(), Some(&release.slot));
    node.worker.start(&app, &release.slot).await.unwrap();
    node.worker.prove(&app, &release.slot).await.unwrap();
    assert_eq!(node.worker.stop_apps().await.unwrap(), [(app, Ok(()))]);
    assert!(!node.places().run_file().exists());
    assert!(node.told.try_recv().is_err());
}

#[tokio::test]
async fn a_watched_app_tells_its_health_with_the_last_lines_of_its_log() {
    let mut node = Node::new();
    let mut release = Node::release("echo cannot open the camera; exec sleep 615.2");
    let probe = Probe::Exec { command: sh("grep -q camera ../../log/web.log && false") };
    release.slot.part.checks =
        vec![Check { probe, interval_ms: 50, timeout_ms: 10_000, healthy_after: 1, unhealthy_after: 1 }];
    node.stage(&release).await.unwrap();
    node.worker.start(&app(), &release.slot).await.unwrap();
    node.worker.watch(&app(), &release.slot);
    let (_, notice) = timeout(PATIENCE, node.told.recv()).await.unwrap().unwrap();
    let agent::Notice::Health(health) = notice else { panic!("{notice:?}") };
    assert!(!health.ok && health.text.contains("exit status: 1"), "{}", health.text);
    assert_eq!(health.log_tail, ["cannot open the camera"]);
    node.worker.stop(&app(), &release.slot).await.unwrap();
}

#[tokio::test]
async fn a_pre_check_runs_in_the_new_slot_and_may_say_no() {
    let node = Node::new();
    let cases = [
        ("test -e a && test -w $DEPLOYBUS_WORK", 10_000, None),
        ("echo no module; exit 3", 10_000, Some((Reason::PreCheckFailed, "ended with exit status: 3"))),
        ("echo waiting; sleep 615.3", 200, Some((Reason::HookTimeout, "did not end within 200 ms"))),
        ("${MAGIC}", 200, Some((Reason::PreCheckFailed, "needs ${MAGIC}"))),
    ];
    for (script, timeout_ms, expected) in cases {
        let mut release = Node::release("");
        release.slot.part.pre_check = Some(Hook { command: sh(script), timeout_ms });
        node.stage(&release).await.unwrap();
        let checked = node.worker.pre_check(&app(), &release.slot, Cancel::never()).await;
        let Some((reason, text)) = expected else {
            checked.unwrap();
            continue;
        };
        let fault = checked.unwrap_err();
        assert!(fault.reason == reason && fault.text.contains(text), "{}", fault.text);
        assert_eq!(fault.log_tail.is_empty(), !script.starts_with("echo"));
    }
}

#[tokio::test]
async fn a_cancelled_pre_check_ends_at_once() {
    let node = Node::new();
    let mut release = Node::release("");
    release.slot.part.pre_check = Some(Hook { command: sh("sleep 615.4"), timeout_ms: 600_000 });
    node.stage(&release).await.unwrap();
    let (canceller, cancel) = Cancel::pair();
    canceller.cancel();
    let app = app();
    let checked = node.worker.pre_check(&app, &release.slot, cancel);
    assert_eq!(timeout(PATIENCE, checked).await.unwrap().unwrap_err().reason, Reason::Superseded);
}

#[tokio::test]
async fn what_cannot_be_started_is_a_failed_start() {
    let node = Node::new();
    let mut release = Node::release("");
    node.stage(&release).await.unwrap();
    for (command, text) in
        [(vec!["pyhton3".to_owned()], "`pyhton3` is not in PATH"), (vec![], "command is empty")]
    {
        release.slot.part.run = Run::Process { command, stop_timeout_ms: 1 };
        let fault = node.worker.start(&app(), &release.slot).await.unwrap_err();
        assert!(fault.reason == Reason::StartFailed && fault.text.contains(text), "{}", fault.text);
    }
}

#[tokio::test]
async fn a_release_that_only_is_files_starts_and_stops_nothing() {
    let node = Node::new();
    let mut release = Node::release("");
    release.slot.part.run = Run::None;
    node.stage(&release).await.unwrap();
    node.worker.start(&app(), &release.slot).await.unwrap();
    node.worker.watch(&app(), &release.slot);
    node.worker.stop(&app(), &release.slot).await.unwrap();
    node.worker.prune(&app(), &[]).await.unwrap();
    assert!(node.worker.present(&app(), &release.manifest).is_empty());
}

/// A node that runs the app `web`.
struct Node {
    fixture: Fixture,
    worker: TreeInstaller,
    told: UnboundedReceiver<(AppId, agent::Notice)>,
    _folder: TempDir,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (notices, told) = unbounded_channel();
        let worker = TreeInstaller::new(settings(folder.path()), notices);
        Self { fixture: Fixture::at(folder.path()), worker, told, _folder: folder }
    }

    fn places(&self) -> &Places {
        self.fixture.places()
    }

    /// A release whose process is a shell script.
    fn release(script: &str) -> TestRelease {
        let mut release = crate::slots::fixture::release("1", &[("a", "", false)]);
        release.slot.part.run = Run::Process { command: sh(script), stop_timeout_ms: 5_000 };
        release
    }

    async fn stage(&self, release: &TestRelease) -> Result<(), Fault> {
        self.fixture.fetch(release);
        let manifest = Arc::new(release.manifest.clone());
        self.worker.stage(&app(), &release.slot, manifest, Cancel::never()).await.map(drop)
    }
}

fn app() -> AppId {
    "web".parse().unwrap()
}

fn settings(data: &Path) -> Settings {
    let file = data.join("pi-worker.toml");
    let text = format!(
        "node = \"pi\"\nfleet = \"f\"\nbus = \"mqtt://127.0.0.1:1\"\nstore = [\"http://127.0.0.1:1\"]\ndata = {data:?}\n"
    );
    fs::write(&file, text).unwrap();
    Settings::load(&file).unwrap()
}

fn sh(script: &str) -> Vec<String> {
    vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()]
}
