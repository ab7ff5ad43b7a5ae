//! The images that nodes have built, as their signed reports tell it. Pure.

use rollout::Node;
use schemas::{
    build::Strategy,
    id::{AppId, Digest, NodeId},
    report::AppReport,
    status::Health,
    time::UnixTime,
};
use serde::Serialize;

use super::{amount, clean, table};

/// An image, and how a node came to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Image {
    node: NodeId,
    app: AppId,
    version: String,
    release: Digest,
    /// What becomes of it on the node.
    state: State,
    strategy: Strategy,
    why: String,
    took_ms: u64,
    steps: u32,
    reused: u32,
    size_bytes: u64,
    built_at: String,
    #[serde(skip)]
    at: UnixTime,
}

/// What an image is to its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    /// Its container runs.
    InUse,
    /// It is kept, to go back to.
    Kept,
    /// It was removed.
    Gone,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::InUse => "in use",
            Self::Kept => "kept",
            Self::Gone => "gone",
        }
    }
}

/// Every image that nodes remember, newest first for each app.
pub(crate) fn images<'a>(
    nodes: impl Iterator<Item = (&'a NodeId, &'a Node)>,
    app: Option<&AppId>,
) -> Vec<Image> {
    let mut images = Vec::new();
    for (name, node) in nodes {
        let apps = node.report().map(|report| report.apps.as_slice()).unwrap_or_default();
        for report in apps.iter().filter(|report| app.is_none_or(|app| *app == report.app)) {
            images.extend(of_app(name, report));
        }
    }
    images
}

fn of_app<'a>(node: &'a NodeId, report: &'a AppReport) -> impl Iterator<Item = Image> + 'a {
    let is = |slot: &Option<schemas::report::Installed>, release: Digest| {
        slot.as_ref().is_some_and(|slot| slot.release == release)
    };
    report.outcomes.iter().rev().filter_map(move |outcome| {
        let built = outcome.built.as_deref()?;
        let state = match outcome.release {
            release if is(&report.installed, release) => State::InUse,
            release if is(&report.previous, release) => State::Kept,
            _ => State::Gone,
        };
        Some(Image {
            node: node.clone(),
            app: report.app.clone(),
            version: outcome.version.clone(),
            release: outcome.release,
            state,
            strategy: built.strategy,
            why: built.why.clone(),
            took_ms: built.took_ms,
            steps: built.steps,
            reused: built.reused,
            size_bytes: built.image_bytes,
            built_at: outcome.at.to_string(),
            at: outcome.at,
        })
    })
}

/// As a table.
pub(crate) fn text(images: &[Image], now: UnixTime) -> String {
    if images.is_empty() {
        return "no node has built an image: an app with a [container] in its deploybus.toml needs one"
            .to_owned();
    }
    let row = |image: &Image| {
        vec![
            image.node.to_string(),
            image.app.to_string(),
            clean(&image.version),
            image.state.name().to_owned(),
            amount::bytes(image.size_bytes),
            image.strategy.name().to_owned(),
            clean(&image.why),
            amount::duration(image.took_ms),
            format!("{} of {}", image.reused, image.steps),
            amount::age(now.0.saturating_sub(image.at.0)),
        ]
    };
    let rows: Vec<_> = images.iter().map(row).collect();
    table(
        &["NODE", "APP", "VERSION", "IMAGE", "SIZE", "STRATEGY", "WHY", "TOOK", "LAYERS REUSED", "AGE"],
        &rows,
    )
}

/// How much images take of the engines' disks, and how much is free there, as a table; empty where no node has an engine.
pub(crate) fn disks<'a>(healths: impl Iterator<Item = (&'a NodeId, &'a Health)>) -> String {
    let row = |(node, health): (&NodeId, &Health)| {
        let used = amount::bytes(health.engine_used_bytes?);
        let free = health.engine_free_bytes.map_or_else(|| "unknown".to_owned(), amount::bytes);
        Some(vec![node.to_string(), used, free])
    };
    let rows: Vec<_> = healths.filter_map(row).collect();
    if rows.is_empty() { String::new() } else { table(&["NODE", "ALL IMAGES", "FREE FOR IMAGES"], &rows) }
}

#[cfg(test)]
mod tests {
    use schemas::{
        build::Built,
        report::{Outcome, Verdict},
    };

    use super::*;
    use crate::samples::{Sample, ended, outcome};

    #[test]
    fn images_are_shown_with_what_became_of_them() {
        let built = |revision, verdict| Outcome {
            built: Some(Box::new(Built {
                strategy: Strategy::Incremental,
                why: "app.py changed".into(),
                took_ms: 2_260,
                steps: 9,
                reused: 5,
                image_bytes: 52_000_000,
            })),
            ..outcome(revision, verdict)
        };
        let mut report = ended(built(50, Verdict::Kept));
        report.outcomes.insert(
            0,
            Outcome {
                release: Digest::of(b"older"),
                version: "0.9".into(),
                ..built(40, Verdict::RolledBack)
            },
        );
        let sample = Sample::new();
        let fleet = sample.fleet(&[("pi-1", Some(report)), ("pi-2", None)]);
        let images = images(fleet.nodes().iter(), None);
        let now = images[0].at.plus_secs(90);
        insta::assert_snapshot!(text(&images, now));
        assert!(super::images(fleet.nodes().iter(), Some(&"api".parse().unwrap())).is_empty());
        assert!(text(&[], now).starts_with("no node has built an image"));
    }

    #[test]
    fn only_a_node_with_an_engine_has_a_disk_for_images() {
        let health = |engine: &str| -> Health {
            let text = format!(
                r#"{{"node":"pi","ok":true,"reason":"","started_at":"1970-01-01T00:00:00Z","uptime_s":1,{engine}
                "disk_free_bytes":1,"memory_free_bytes":1,"at":"1970-01-01T00:00:00Z"}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let both = health(r#""engine_used_bytes":52000000,"engine_free_bytes":3200000000,"#);
        let (remote, none) = (health(r#""engine_used_bytes":52000000,"#), health(""));
        let names: Vec<NodeId> = ["pi-1", "pi-2", "pi-3"].map(|name| name.parse().unwrap()).into();
        let all = names.iter().zip([&both, &remote, &none]);
        insta::assert_snapshot!(disks(all));
        assert_eq!(disks(names.iter().zip([&none])), "");
    }
}
