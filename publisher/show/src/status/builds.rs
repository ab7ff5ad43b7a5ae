//! Containers of `publisher status`: how each image was built, and which commit runs beside which was ordered.

use rollout::{Fleet, Node};
use schemas::{
    build::Built,
    id::NodeId,
    report::{AppReport, Outcome},
};

use crate::{amount, clean, table};

/// So much of a commit tells it from others, as in `git log --oneline`.
const COMMIT_CHARS: usize = 10;

/// A table of all containers; nothing where there is none.
pub(super) fn text<'a>(fleet: &Fleet, nodes: impl Iterator<Item = (&'a NodeId, &'a Node)>) -> Option<String> {
    let apps = nodes.flat_map(|(name, node)| {
        let apps = node.report().map(|report| report.apps.as_slice()).unwrap_or_default();
        apps.iter().filter_map(move |app| Some((name, app, built(app)?)))
    });
    let rows: Vec<_> =
        apps.map(|(name, app, (outcome, built))| row(fleet, name, app, outcome, built)).collect();
    let header =
        ["NODE", "APP", "IMAGE", "WHY", "TOOK", "LAYERS REUSED", "SIZE", "ORDERED COMMIT", "RUNNING COMMIT"];
    (!rows.is_empty()).then(|| table(&header, &rows))
}

/// How the image of the last order was built.
pub(super) fn built(app: &AppReport) -> Option<(&Outcome, &Built)> {
    let last = app.outcomes.iter().rev().find(|outcome| outcome.built.is_some())?;
    Some((last, last.built.as_deref()?))
}

fn row(fleet: &Fleet, name: &NodeId, app: &AppReport, outcome: &Outcome, built: &Built) -> Vec<String> {
    let running = app.installed.as_ref().map_or("-".to_owned(), |installed| commit(&installed.commit));
    let orders = fleet.orders().values().filter_map(|order| order.believed());
    let mut releases = orders.map(|ordered| &ordered.announced.release);
    let ordered = releases.find(|release| release.digest() == outcome.release);
    let ordered = ordered.map_or("-".to_owned(), |release| commit(&release.provenance.commit));
    vec![
        name.to_string(),
        app.app.to_string(),
        format!("{} {}", built.strategy.name(), clean(&outcome.version)),
        clean(&built.why),
        amount::duration(built.took_ms),
        format!("{} of {}", built.reused, built.steps),
        amount::bytes(built.image_bytes),
        ordered,
        running,
    ]
}

fn commit(commit: &str) -> String {
    if commit.is_empty() { "-".to_owned() } else { clean(commit).chars().take(COMMIT_CHARS).collect() }
}
