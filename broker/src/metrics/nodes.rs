//! Metrics of nodes.

use prometheus_client::registry::Registry;

use super::{Labels, facts::NodeFacts, gauges};

/// Adds what is known of `nodes`.
pub(super) fn register(registry: &mut Registry, nodes: &[NodeFacts]) {
    let up = gauges(registry, "node_up", "Whether the node is on the bus");
    let info = gauges(registry, "node_info", "What is installed on a node; its value is always 1");
    let healthy = gauges(registry, "node_healthy", "Whether all apps of the node are healthy");
    let seen = gauges(registry, "node_last_seen_timestamp_seconds", "When the node said something last");
    let disk = gauges(registry, "node_disk_free_bytes", "Free on the disk of the node's worker");
    let engine =
        gauges(registry, "node_engine_free_bytes", "Free where the node's container engine keeps its images");
    let heat = gauges(registry, "node_temperature_celsius", "Of the node's processor");
    let phase = gauges(
        registry,
        "node_update_phase",
        "What the node does about an order, which is the phase whose value is 1; the others are not there",
    );
    let progress = gauges(registry, "node_update_progress_ratio", "How far the node is with that");
    for node in nodes {
        let name = ("node", node.node.to_string());
        let only = vec![name.clone()];
        let (kind, via) = (("kind", node.kind.clone()), ("via", node.via.clone()));
        let groups = ("groups", node.groups.clone());
        let is_up = vec![name.clone(), kind.clone(), groups];
        up.get_or_create(&is_up).set(f64::from(u8::from(node.is_up)));
        let known = [
            (&seen, node.last_seen.map(|at| at.0 as f64)),
            (&healthy, node.healthy.map(|is| f64::from(u8::from(is)))),
            (&disk, node.disk_free_bytes.map(|bytes| bytes as f64)),
            (&engine, node.engine_free_bytes.map(|bytes| bytes as f64)),
            (&heat, node.temperature_c),
        ];
        for (gauges, value) in known {
            if let Some(value) = value {
                gauges.get_or_create(&only).set(value);
            }
        }
        for app in &node.apps {
            let of_app: Labels = vec![name.clone(), ("app", app.app.to_string())];
            let (version, group) = (("version", app.version.clone()), ("group", app.group.clone()));
            let installed = [of_app.clone(), vec![kind.clone(), via.clone(), version, group]].concat();
            info.get_or_create(&installed).set(1.0);
            if let Some(of) = app.phase {
                phase
                    .get_or_create(&[of_app.clone(), vec![("phase", of.name().to_owned())]].concat())
                    .set(1.0);
            }
            if let Some(ratio) = app.progress_ratio {
                progress.get_or_create(&of_app).set(ratio);
            }
        }
    }
}
