//! What a scenario expects of real processes: as the command line says it, and as the nodes serve it.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::{
    super::command::{Count, Expected},
    Real,
};

/// What is known on the bus reaches everybody within: a report comes after what it reports.
const PATIENCE: Duration = Duration::from_secs(20);
/// Then it is asked again.
const AGAIN: Duration = Duration::from_millis(200);

impl Real<'_> {
    /// Looks until it is so, for a while.
    pub(super) fn expect(&self, expected: &Expected) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.look(expected) {
                Err(_) if Instant::now() < until => thread::sleep(AGAIN),
                looked => return looked,
            }
        }
    }

    fn look(&self, expected: &Expected) -> Result<()> {
        match expected {
            Expected::Rollout { state, why } => {
                let status = self.cast.status()?;
                let (is, reason) = (text(&status["state"]), text(&status["reason"]));
                let fits = is == state && why.as_ref().is_none_or(|why| reason == why);
                ensure!(fits, "the rollout is {is} {reason}: {}", text(&status["why"]));
            }
            Expected::Wave { wave, state } => {
                let status = self.cast.status()?;
                let is = text(&status["waves"][wave - 1]["state"]);
                ensure!(is == state, "wave {wave} is {is}");
            }
            Expected::Node { node, state } => {
                let status = self.cast.status()?;
                let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
                let found = nodes.iter().find(|of| of["node"] == node.as_str()).unwrap_or(&Value::Null);
                let is = text(&found["state"]);
                ensure!(is == state, "{node} is {is} ({})", text(&found["text"]));
            }
            Expected::Installed { version, on } => self.look_at_apps(version, on)?,
            Expected::Order { group, says } => {
                // The last one was compared already, and those before it come and go.
                let wanted = format!("order for {group}: {says}");
                let mut told = self.witness.timeline.iter();
                ensure!(told.any(|line| line.text == wanted), "there was no `{wanted}`");
            }
        }
        Ok(())
    }

    fn look_at_apps(&self, version: &str, on: &Count) -> Result<()> {
        let serving = self.cast.serving(version);
        match on {
            Count::So(count) => {
                ensure!(
                    serving.len() == *count,
                    "{version} is on {} nodes: {}",
                    serving.len(),
                    serving.join(", ")
                );
            }
            Count::Nodes(nodes) => {
                let nodes = self.cast.these(nodes);
                let other = nodes.iter().find(|node| !serving.contains(&node.as_str()));
                ensure!(other.is_none(), "{version} is not on {}", other.map_or("", |node| node.as_str()));
            }
        }
        Ok(())
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
