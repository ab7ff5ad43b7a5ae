//! All controllers that are known, as a table and as JSON.

use std::collections::BTreeSet;

use rollout::Fleet;
use schemas::{
    id::{AppId, KeyId},
    time::UnixTime,
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    rollout::{ControllerView, controller_view},
    table,
};
use crate::home::controllers::Controllers;

/// What was decided on a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decision {
    /// Rollouts are given to it.
    Known,
    /// Nothing yet.
    New,
    /// It gets no rollout any more.
    Forgotten,
}

/// A controller with what was decided on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ListedController {
    #[serde(flatten)]
    controller: ControllerView,
    decision: Decision,
    /// The apps whose rollouts it carries out.
    carries: Vec<AppId>,
}

impl Decision {
    fn of(key: KeyId, decided: &Controllers) -> Self {
        if decided.forgotten.contains(&key) {
            Self::Forgotten
        } else if decided.known.contains(&key) {
            Self::Known
        } else {
            Self::New
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::New => "new",
            Self::Forgotten => "forgotten",
        }
    }
}

/// Those on the bus, and those on which somebody has decided.
pub(crate) fn controllers(fleet: &Fleet, decided: &Controllers, now: UnixTime) -> Vec<ListedController> {
    let on_bus = fleet.rollouts().controllers();
    let keys: BTreeSet<&KeyId> = on_bus.keys().chain(&decided.known).chain(&decided.forgotten).collect();
    let listed = keys.into_iter().map(|key| {
        let controller = controller_view(*key, on_bus.get(key).map(|of| &**of), now);
        let carries = fleet.rollouts().plans().keys().filter(|app| {
            controller.there && fleet.rollouts().lease(app).is_some_and(|lease| lease.key.id() == *key)
        });
        ListedController {
            decision: Decision::of(*key, decided),
            carries: carries.cloned().collect(),
            controller,
        }
    });
    listed.collect()
}

/// As a table.
pub(crate) fn controllers_text(listed: &[ListedController], now: UnixTime) -> String {
    if listed.is_empty() {
        return "no controllers yet: the broker of Deploybus has one".to_owned();
    }
    let row = |of: &ListedController| {
        let apps: Vec<&str> = of.carries.iter().map(AppId::as_str).collect();
        vec![
            of.controller.key.to_string(),
            of.decision.name().to_owned(),
            of.controller.presence(now),
            apps.join(", "),
            of.controller.program.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = listed.iter().map(row).collect();
    table(&["CONTROLLER", "HERE", "ON THE BUS", "CARRIES OUT", "PROGRAM"], &rows)
}

/// As JSON.
pub(crate) fn controllers_json(listed: &[ListedController], now: UnixTime) -> Value {
    json!({ "at": now.to_string(), "controllers": listed })
}
