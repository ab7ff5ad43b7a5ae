//! What is counted as it happens: the entries of the deploy log, each once, whatever is told again after a restart.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

use prometheus_client::{
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};
use schemas::{
    deploy_log::{Entry, What},
    id::{AppId, GroupId},
    reason::Reason,
};

use super::{Counters, Labels};

/// Pairs of app and group that are counted apart: a stolen node makes names up.
const MAX_PAIRS: usize = 1_000;
/// Of all others.
const OTHERS: &str = "other";
/// How an order may end on a node.
const ENDINGS: [What; 5] = [What::Installed, What::RolledBack, What::Failed, What::Refused, What::Superseded];
/// From a change of one file to an image that is built on the slowest Pi.
const BUCKETS_S: [f64; 11] = [0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 2_700.0];

/// The counts. Clones are the same counts.
#[derive(Debug, Clone)]
pub(crate) struct Tallies {
    updates: Counters,
    durations: Family<Labels, Histogram, fn() -> Histogram>,
    fetched_bytes: Counter,
    failures: Counters,
    pairs: Arc<Mutex<BTreeSet<(String, String)>>>,
}

impl Default for Tallies {
    fn default() -> Self {
        Self {
            updates: Counters::default(),
            durations: Family::new_with_constructor(|| Histogram::new(BUCKETS_S)),
            fetched_bytes: Counter::default(),
            failures: Counters::default(),
            pairs: Arc::default(),
        }
    }
}

impl Tallies {
    /// Counts an entry that was just written.
    pub(crate) fn count(&self, entry: &Entry) {
        let name = |app: Option<&AppId>| app.map(AppId::to_string).unwrap_or_default();
        let group = entry.group.as_ref().map(GroupId::to_string).unwrap_or_default();
        if ENDINGS.contains(&entry.what) && entry.release.is_some() {
            let (app, group) = self.pair(name(entry.app.as_ref()), group);
            self.updates.get_or_create(&labels(&app, &group, entry.what)).inc();
            if matches!(entry.what, What::Installed | What::RolledBack | What::Failed) {
                let took_s = std::time::Duration::from_millis(entry.took_ms).as_secs_f64();
                self.durations.get_or_create(&vec![("app", app)]).observe(took_s);
            }
            self.fetched_bytes.inc_by(entry.fetched_bytes);
        }
        if let Some(reason) = entry.reason.filter(|reason| reason.is_attack()) {
            self.failures.get_or_create(&of_reason(reason)).inc();
        }
    }

    /// Shows the counts of what may happen from now on, at 0.
    pub(super) fn expect(&self, ordered: &BTreeSet<(AppId, GroupId)>) {
        for reason in Reason::ALL.iter().filter(|reason| reason.is_attack()) {
            drop(self.failures.get_or_create(&of_reason(*reason)));
        }
        for (app, group) in ordered {
            let (app, group) = self.pair(app.to_string(), group.to_string());
            for what in ENDINGS {
                drop(self.updates.get_or_create(&labels(&app, &group, what)));
            }
            drop(self.durations.get_or_create(&vec![("app", app)]));
        }
    }

    /// Adds the counts.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("updates", "Orders that ended on nodes, by how", self.updates.clone());
        registry.register(
            "update_duration_seconds",
            "From an order to its end on a node, without the time that the node was down",
            self.durations.clone(),
        );
        registry.register(
            "fetched_bytes",
            "Bytes that nodes have fetched for orders",
            self.fetched_bytes.clone(),
        );
        registry.register(
            "verify_failures",
            "What nodes did not believe and an honest bus never shows, once a day for each node, topic and reason",
            self.failures.clone(),
        );
    }

    fn pair(&self, app: String, group: String) -> (String, String) {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        let pair = (app, group);
        if pairs.contains(&pair) {
            return pair;
        }
        if pairs.len() >= MAX_PAIRS {
            return (OTHERS.to_owned(), String::new());
        }
        pairs.insert(pair.clone());
        pair
    }
}

fn labels(app: &str, group: &str, what: What) -> Labels {
    vec![("app", app.to_owned()), ("group", group.to_owned()), ("result", what.name().to_owned())]
}

fn of_reason(reason: Reason) -> Labels {
    vec![("reason", reason.code().to_owned())]
}
