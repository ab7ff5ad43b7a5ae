//! Changing where in the fleet a node is, and what is said about it.

use anyhow::Result;
use schemas::id::NodeId;
use serde_json::json;

use super::{enroll::waits, publish_all};
use crate::{
    cli::NodeChange,
    exit::Exit,
    home::{
        Home,
        nodes::{Changeable, Kept},
    },
    problem::problem,
    screen::Screen,
};

/// Signs and publishes another record, if anything changes.
pub(super) async fn run(home: &Home, arguments: &NodeChange, screen: &Screen) -> Result<Exit> {
    let name = &arguments.name;
    let is_changed = change_record(home, name, |record| {
        record.groups.extend(arguments.join.iter().cloned());
        record.groups.retain(|group| !arguments.leave.contains(group));
        record.labels.extend(arguments.labels.iter().cloned());
        record.labels.retain(|key, _| !arguments.unlabel.contains(key));
    })?;
    if is_changed {
        publish_all(home).await?;
    }
    if screen.is_json() {
        screen.json(&json!({ "node": name, "changed": is_changed }))?;
    } else if is_changed {
        screen.say(&format!("{name} is changed; what its groups order reaches it now"));
    } else {
        screen.say("nothing changes");
    }
    Ok(Exit::Done)
}

/// Signs another record of a node, unless nothing changes. Says whether anything did.
pub(in crate::commands) fn change_record(
    home: &Home,
    name: &NodeId,
    change: impl FnOnce(&mut Changeable),
) -> Result<bool> {
    match home.change_node(name, change, home.signing_time()?)? {
        Some(Kept::Waits(file)) => {
            Err(problem(format!("the record of {name} has too few signatures"), waits(name, &file)))
        }
        kept => Ok(kept.is_some()),
    }
}
