//! What Prometheus is told: computed when it asks, from what the bus shows, what the deploy log has taken and what the service counts.
//!
//! No digest and no free text is in a label, a version only where it is what the series is about: each other value would be a series of its
//! own. What counts begins at 0 with the process, and all that can be counted is there from the beginning, for an increase from
//! nothing to one is none.

mod facts;
mod nodes;
mod rollouts;
mod tallies;
#[cfg(test)]
mod tests;
mod text;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};

pub(crate) use self::{facts::FleetFacts, tallies::Tallies, text::CONTENT_TYPE};
use crate::relay::{RelayCounts, RelayNumbers};

/// How long the controller may take to say what it knows.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The store's folder is looked through that often at most: it may have a million files.
const STORE_PERIOD: Duration = Duration::from_mins(1);

/// The labels of a series.
type Labels = Vec<(&'static str, String)>;
/// A number for each set of labels.
type Gauges = Family<Labels, Gauge<f64, std::sync::atomic::AtomicU64>>;
/// A number that only rises, for each set of labels.
type Counters = Family<Labels, Counter>;

/// Where the controller is asked what it knows.
pub(crate) type Questions = mpsc::Receiver<oneshot::Sender<FleetFacts>>;

/// Who knows what is to be told.
#[derive(Debug)]
pub(crate) struct Metrics {
    tallies: Tallies,
    relay: Option<RelayCounts>,
    store: StoreSize,
    controller: mpsc::Sender<oneshot::Sender<FleetFacts>>,
}

impl Metrics {
    /// Metrics of a service whose store is in `store`, and where its controller is asked.
    pub(crate) fn new(tallies: Tallies, relay: Option<RelayCounts>, store: PathBuf) -> (Self, Questions) {
        let (controller, questions) = mpsc::channel(1);
        (Self { tallies, relay, store: StoreSize::new(store), controller }, questions)
    }

    /// Everything as it is now.
    ///
    /// # Errors
    /// When it cannot be written, which is a defect.
    pub(crate) async fn render(self: Arc<Self>) -> anyhow::Result<String> {
        let facts = self.ask_controller().await;
        // It may be much, and the store's folder slow.
        tokio::task::spawn_blocking(move || self.write(&facts.unwrap_or_default())).await?
    }

    /// Nothing where there is no controller, or it is just reading the bus.
    async fn ask_controller(&self) -> Option<FleetFacts> {
        let (reply, answer) = oneshot::channel();
        let asked = async {
            self.controller.send(reply).await.ok()?;
            answer.await.ok()
        };
        timeout(ANSWER_LIMIT, asked).await.ok().flatten()
    }

    fn write(&self, facts: &FleetFacts) -> anyhow::Result<String> {
        let mut registry = Registry::with_prefix("deploybus");
        self.tallies.expect(&facts.ordered);
        register_build(&mut registry);
        nodes::register(&mut registry, &facts.nodes);
        rollouts::register(&mut registry, &facts.rollouts);
        self.tallies.register(&mut registry);
        if let Some(relay) = &self.relay {
            register_relay(&mut registry, relay.numbers());
        }
        let (objects, bytes) = self.store.get();
        gauge(&mut registry, "store_objects", "Objects and manifests in the store", objects as f64);
        gauge(&mut registry, "store_bytes", "Their size on the disk", bytes as f64);
        text::encode(&registry)
    }
}

fn gauge(registry: &mut Registry, name: &str, help: &str, value: f64) {
    let gauge = Gauge::<f64, std::sync::atomic::AtomicU64>::default();
    gauge.set(value);
    registry.register(name, help, gauge);
}

fn gauges(registry: &mut Registry, name: &str, help: &str) -> Gauges {
    let gauges = Gauges::default();
    registry.register(name, help, gauges.clone());
    gauges
}

fn register_build(registry: &mut Registry) {
    let info = gauges(registry, "build_info", "The bus service; its value is always 1");
    info.get_or_create(&vec![("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1.0);
}

fn register_relay(registry: &mut Registry, numbers: RelayNumbers) {
    let RelayNumbers { connected, retained, published, delivered, dropped, denied } = numbers;
    gauge(registry, "mqtt_connections", "Clients that are connected", connected as f64);
    gauge(registry, "mqtt_retained_messages", "Topics that have a retained message", retained as f64);
    let messages = Counters::default();
    registry.register("mqtt_messages", "Messages from clients, and into their queues", messages.clone());
    for (direction, count) in [("in", published), ("out", delivered)] {
        messages.get_or_create(&vec![("direction", direction.to_owned())]).inc_by(count);
    }
    let lost = Counters::default();
    registry.register(
        "mqtt_dropped",
        "Messages that a client was too slow for, and what clients were refused",
        lost.clone(),
    );
    for (reason, count) in [("slow_client", dropped), ("denied", denied)] {
        lost.get_or_create(&vec![("reason", reason.to_owned())]).inc_by(count);
    }
}

/// How much the store has, as it was found a while ago.
#[derive(Debug)]
struct StoreSize {
    root: PathBuf,
    found: Mutex<Option<(Instant, (u64, u64))>>,
}

impl StoreSize {
    fn new(root: PathBuf) -> Self {
        Self { root, found: Mutex::default() }
    }

    /// Files and bytes. May block.
    fn get(&self) -> (u64, u64) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        match *found {
            Some((at, size)) if at.elapsed() < STORE_PERIOD => size,
            _ => {
                let mut size = (0, 0);
                // What cannot be read now counts the next time.
                let _ = add_up(&self.root, &mut size);
                *found = Some((Instant::now(), size));
                size
            }
        }
    }
}

fn add_up(folder: &Path, size: &mut (u64, u64)) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        if meta.is_dir() {
            add_up(&entry.path(), size)?;
        } else {
            size.0 += 1;
            size.1 += meta.len();
        }
    }
    Ok(())
}
