//! What a broker takes of the processor while 10,000 nodes report once a minute each, in the middle of a rollout; and
//! what of that is its relay's and its log's.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use e2e::{Mqtt, now, wait_until};
use schemas::{
    id::{Digest, NodeId, PublicKey, Revision},
    release::Release,
    report::{AppReport, Installed, Outcome, Verdict},
    rollout::{Controller, Course, WaveState},
    seal::Signed,
    status::Phase,
    topic::{Kind, NodeTopic},
};
use tokio::{runtime::Runtime, time::sleep_until};

use crate::{
    broker::{Brand, Broker},
    client::{Client, runtime},
    figure::{Aim, Figures, Measured, cpu_secs, resident_kib},
    fleet::Fleet,
};

const NODES: usize = 10_000;
/// Each node reports once in it.
const PERIOD: Duration = Duration::from_mins(1);
const MEASURED: Duration = Duration::from_secs(30);
/// So many nodes publish before their acknowledgements are read.
const BATCH: usize = 500;
/// What is remembered of nodes is published within 5 s; then nothing is left of the loading.
const SETTLED: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_mins(3);
/// Retained messages come in one burst.
const QUIET: Duration = Duration::from_millis(200);
/// The first order of the rollout.
const FIRST: Revision = Revision(100);
const STAGES: &str = "[[stage]]\ngroup = \"all\"\nsoak = \"1h\"\n";
const ROOT: &str = "root = 'root.cbor'\n";
/// In percent of one core, as asked for in the design.
const MOST_PERCENT: f64 = 10.0;

pub(crate) fn measure(figures: &mut Figures) -> Result<()> {
    let percent = |what| Measured { bench: "control", what, unit: "% of a core" };
    let fleet = Fleet::new()?;
    let broker = Broker::start_for(fleet.root(), ROOT)?;
    let mut crowd = Crowd::gather(&fleet, broker.port)?;
    crowd.roll_out()?;
    let taken = crowd.watch(&broker)?;
    figures.ours(
        percent("10,000 reports a minute, rollout soaks"),
        &taken.into(),
        Aim::Most(MOST_PERCENT),
    )?;
    let memory = Measured { unit: "KiB", ..percent("memory of that broker") };
    figures.ours(memory, &resident_kib(broker.pid())?.into(), Aim::None)?;
    drop((crowd, broker));

    let only_log = format!("{ROOT}[controller]\nenabled = false\n");
    let broker = Broker::start_for(fleet.root(), &only_log)?;
    let taken = report_to(&fleet, &broker)?;
    figures.ours(percent("10,000 reports a minute, relay and log"), &taken.into(), Aim::None)?;
    drop(broker);

    let broker = Broker::start(Brand::Deploybus, None)?;
    let taken = report_to(&fleet, &broker)?;
    figures.ours(percent("10,000 reports a minute, relay alone"), &taken.into(), Aim::None)
}

fn report_to(fleet: &Fleet, broker: &Broker) -> Result<f64> {
    let mut crowd = Crowd::gather(fleet, broker.port)?;
    crowd.report_all(true)?;
    crowd.watch(broker)
}

/// All nodes, each with its connection.
struct Crowd<'a> {
    fleet: &'a Fleet,
    release: Release,
    port: u16,
    runtime: Runtime,
    nodes: Vec<(NodeId, Client)>,
    seq: u64,
}

impl<'a> Crowd<'a> {
    /// Everybody is online and has said that it runs nothing.
    fn gather(fleet: &'a Fleet, port: u16) -> Result<Self> {
        let release = fleet.forge.release(&fleet.app, Digest::of(b"tree"), 1, 1);
        let mut crowd = Self { fleet, release, port, runtime: runtime()?, nodes: Vec::new(), seq: 0 };
        for number in 0..NODES {
            let node: NodeId = format!("node-{number}").parse()?;
            let client = crowd.runtime.block_on(Client::connect(port, node.as_str()))?;
            crowd.nodes.push((node, client));
        }
        crowd.publish_all(|fleet, node| (fleet.topic_of(node, NodeTopic::Record), fleet.record(node)))?;
        crowd
            .publish_all(|fleet, node| (fleet.topic_of(node, NodeTopic::Availability), b"online".to_vec()))?;
        crowd.report_all(false)?;
        Ok(crowd)
    }

    /// Begins a rollout over all nodes, and goes on until it soaks.
    fn roll_out(&mut self) -> Result<()> {
        let key = wait_until("a controller", PATIENCE, || self.controller().ok())?;
        let planned = self.fleet.planned(STAGES, &self.release, FIRST, vec![key]);
        Mqtt::connect(self.port, None)?.publish(
            &self.fleet.topic(Kind::Plan(self.fleet.app.clone())),
            &planned.to_bytes(),
            true,
        )?;
        let order = self.fleet.topic(Kind::Release(self.fleet.group.clone(), self.fleet.app.clone()));
        wait_until("the order of the rollout", PATIENCE, || self.retained(&order).ok())?;
        self.report_all(true)?;
        wait_until("a rollout that soaks", PATIENCE, || self.is_soaking(&key).ok()?.then_some(()))
    }

    /// The key of the one controller.
    fn controller(&self) -> Result<PublicKey> {
        let bytes = self.retained(&format!("{}/v1/controller/+", self.fleet.forge.trust.fleet()))?;
        let controller = Signed::<Controller>::from_bytes(&bytes)?;
        Ok(controller.verify_own(self.fleet.forge.trust.fleet())?.key)
    }

    fn is_soaking(&self, key: &PublicKey) -> Result<bool> {
        let bytes = self.retained(&self.fleet.topic(Kind::Course(self.fleet.app.clone())))?;
        let course = Signed::<Course>::from_bytes(&bytes)?.verify_by(key, self.fleet.forge.trust.fleet())?;
        Ok(course.waves.iter().all(|wave| wave.state == WaveState::Soaking))
    }

    fn retained(&self, filter: &str) -> Result<Vec<u8>> {
        let retained = Mqtt::connect(self.port, None)?.retained(filter, QUIET)?;
        retained.into_values().next().context("nothing is retained there")
    }

    /// Every node says what it runs, at once.
    fn report_all(&mut self, has_it: bool) -> Result<()> {
        self.seq += 1;
        let (seq, kept) = (self.seq, self.kept());
        self.publish_all(|fleet, node| {
            let apps = if has_it { vec![kept.clone()] } else { Vec::new() };
            (fleet.topic_of(node, NodeTopic::Report), fleet.report(node, seq, apps))
        })
    }

    fn publish_all(&mut self, message: impl Fn(&Fleet, &NodeId) -> (String, Vec<u8>)) -> Result<()> {
        let Self { fleet, runtime, nodes, .. } = self;
        runtime.block_on(async {
            for batch in nodes.chunks_mut(BATCH) {
                for (node, client) in &mut *batch {
                    let (topic, payload) = message(fleet, node);
                    client.send_retained(&topic, &payload, 1).await?;
                }
                for (_, client) in batch {
                    client.acknowledged().await?;
                }
            }
            Ok(())
        })
    }

    /// Lets the nodes report one after the other; the processor time that the broker takes, in percent of one core.
    fn watch(&mut self, broker: &Broker) -> Result<f64> {
        thread::sleep(SETTLED);
        self.seq += 1;
        let (kept, step) = (self.kept(), PERIOD / NODES as u32);
        let count = NODES * MEASURED.as_secs() as usize / PERIOD.as_secs() as usize;
        let Self { fleet, runtime, nodes, seq, .. } = self;
        let (begin, before) = (Instant::now(), cpu_secs(broker.pid())?);
        runtime.block_on(async {
            for (number, (node, client)) in nodes.iter_mut().take(count).enumerate() {
                sleep_until((begin + step * number as u32).into()).await;
                let report = fleet.report(node, *seq, vec![kept.clone()]);
                client.send_retained(&fleet.topic_of(node, NodeTopic::Report), &report, 1).await?;
            }
            for (_, client) in nodes.iter_mut().take(count) {
                client.acknowledged().await?;
            }
            anyhow::Ok(())
        })?;
        Ok((cpu_secs(broker.pid())? - before) / begin.elapsed().as_secs_f64() * 100.0)
    }

    /// What a node says that keeps the release.
    fn kept(&self) -> AppReport {
        let (release, version) = (self.release_digest(), self.release.version.clone());
        let installed = Installed {
            release,
            version: version.clone(),
            counter: self.release.counter,
            commit: String::new(),
            tree_hash: Digest::of(b"tree"),
            group: self.fleet.group.clone(),
            since: now(),
        };
        let outcome = Outcome {
            revision: FIRST,
            release,
            version,
            verdict: Verdict::Kept,
            reason: None,
            text: String::new(),
            log_tail: Vec::new(),
            took_ms: 812,
            fetched_bytes: 511,
            requests: 1,
            built: None,
            at: self.release.head.issued_at,
        };
        AppReport {
            app: self.fleet.app.clone(),
            phase: Phase::Idle,
            revision: FIRST,
            installed: Some(installed),
            previous: None,
            target: None,
            healthy: Some(true),
            outcomes: vec![outcome],
        }
    }

    fn release_digest(&self) -> Digest {
        Signed::seal(&self.release, std::slice::from_ref(&self.fleet.forge.release_key)).digest()
    }
}
