//! Who carries a rollout out, or why nobody does.

use rollout::{Fleet, Wanted};
use schemas::{id::KeyId, rollout::Controller, time::UnixTime};
use serde::Serialize;

use super::as_text;
use crate::{amount, clean};

/// Who carries a rollout out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CarrierView {
    /// The controller that does, or did last.
    pub key: Option<KeyId>,
    /// Whether its time is not over.
    pub works: bool,
    /// Until when it has said that it does.
    #[serde(serialize_with = "as_text")]
    pub until: Option<UnixTime>,
    /// Those that it was given to.
    pub named: Vec<ControllerView>,
    /// Others that are there, and have no right to it.
    pub others: Vec<ControllerView>,
}

/// A controller as it says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ControllerView {
    /// The id of its key.
    pub key: KeyId,
    /// What it is, as it says itself.
    pub program: Option<String>,
    /// Whether its time is not over.
    pub there: bool,
    /// Until when it is there, or was at least.
    #[serde(serialize_with = "as_text")]
    pub until: Option<UnixTime>,
}

/// Who carries a rollout out now.
pub fn carrier(fleet: &Fleet, wanted: &Wanted, now: UnixTime) -> CarrierView {
    let (rollouts, mandate) = (fleet.rollouts(), &wanted.plans.mandate);
    let lease = rollouts.lease(&mandate.app);
    let named = mandate.keys.iter().map(|key| {
        let controller = rollouts.controllers().get(&key.id());
        view(key.id(), controller.map(|of| &**of), now)
    });
    let others = rollouts.controllers().iter().filter(|(_, of)| mandate.place(&of.key).is_none());
    let others = others.map(|(key, of)| view(*key, Some(of), now));
    CarrierView {
        key: lease.map(|lease| lease.key.id()),
        works: lease.is_some_and(|lease| lease.until >= now),
        until: lease.map(|lease| lease.until),
        named: named.collect(),
        others: others.filter(|of| of.there).collect(),
    }
}

/// A controller, as far as something was heard of it.
pub fn view(key: KeyId, controller: Option<&Controller>, now: UnixTime) -> ControllerView {
    ControllerView {
        key,
        program: controller.map(|of| clean(&of.program)),
        there: controller.is_some_and(|of| of.until >= now),
        until: controller.map(|of| of.until),
    }
}

impl CarrierView {
    /// In words.
    pub fn text(&self, now: UnixTime) -> String {
        let named = self.named.iter();
        if let Some(works) = named.clone().find(|of| self.works && Some(of.key) == self.key) {
            return format!("{} works", works.name());
        }
        if let Some(there) = named.clone().find(|of| of.there) {
            return format!("{} is there, and has not taken it up yet", there.name());
        }
        let named = named.map(|of| of.text(now));
        let others =
            self.others.iter().map(|of| format!("{} is there, and it was not given to it", of.name()));
        named.chain(others).collect::<Vec<_>>().join("; ")
    }

    /// What to do when nobody carries it out; `again` is the command that starts it anew.
    pub fn advice(&self, again: &str) -> Option<String> {
        if self.works {
            return None;
        }
        if let Some(there) = self.named.iter().find(|of| of.there) {
            return Some(format!("wait: controller {} takes it up within a minute", there.key));
        }
        let start = "see that its broker runs, and look for `controller` in the log there";
        Some(match self.others.first() {
            None => format!("no controller works: {start}"),
            Some(other) => format!(
                "none of the controllers is there that it was given to: {start}; or start it anew, for controller {}: `{again}`",
                other.key
            ),
        })
    }
}

impl ControllerView {
    /// Its id, and what it is where that is known.
    pub fn name(&self) -> String {
        let program = self.program.as_ref().map(|program| format!(" ({program})")).unwrap_or_default();
        format!("{}{program}", self.key)
    }

    /// Whether it is there, in words.
    pub fn text(&self, now: UnixTime) -> String {
        let verb = if self.until.is_some() { "is" } else { "was" };
        format!("{} {verb} {}", self.name(), self.presence(now))
    }

    /// The same without its name.
    pub fn presence(&self, now: UnixTime) -> String {
        match self.until {
            None => "never seen".to_owned(),
            Some(_) if self.there => "there".to_owned(),
            Some(until) => format!("away, for {} at least", amount::age(now.0.saturating_sub(until.0))),
        }
    }
}
