//! Rollouts as JSON, for people and tools.

use std::collections::BTreeMap;

use rollout::{
    Milestone,
    course::{Bucket, Conductor, NodeState, Now, Skip},
};
use schemas::{
    id::{AppId, GroupId},
    status::{BusEvent, Rollout},
    time::UnixTime,
    topic::Kind,
};
use serde::Serialize;

/// While only numbers change, they are said that often.
const PERIOD_MS: u64 = 1_000;

/// What was said last of each stage.
#[derive(Debug, Default)]
pub(super) struct Statuses(BTreeMap<(GroupId, AppId), Said>);

#[derive(Debug)]
struct Said {
    status: Rollout,
    at_ms: u64,
}

impl Statuses {
    /// Another controller may have said something else of the rollout of `app` meanwhile.
    pub(super) fn forget(&mut self, app: &AppId) {
        self.0.retain(|(_, of), _| of != app);
    }

    /// What is to be said anew of a rollout.
    pub(super) fn news(&mut self, conductor: &Conductor, now: Now) -> Vec<(Kind, Vec<u8>)> {
        let mut news = Vec::new();
        for group in conductor.plan().groups() {
            let status = status(conductor, &group, now.wall);
            let key = (group, status.app.clone());
            let is_news = self.0.get(&key).is_none_or(|said| {
                let is_same = Rollout { at: status.at.clone(), ..said.status.clone() } == status;
                let is_early = now.mono_ms.saturating_sub(said.at_ms) < PERIOD_MS;
                !is_same && (said.status.state != status.state || !is_early)
            });
            if is_news {
                news.push((Kind::Rollout(key.0.clone(), key.1.clone()), json(&status)));
                self.0.insert(key, Said { status, at_ms: now.mono_ms });
            }
        }
        news
    }
}

/// A milestone as an event.
pub(super) fn event(milestone: &Milestone, now: Now) -> Vec<u8> {
    json(&BusEvent {
        event_type: milestone.kind.name().to_owned(),
        app: milestone.app.clone(),
        version: milestone.version.clone(),
        text: milestone.text.clone(),
        at: now.wall.into(),
    })
}

fn status(conductor: &Conductor, group: &GroupId, at: UnixTime) -> Rollout {
    let stage_of = |wave: usize| conductor.waves().get(wave).map(|wave| wave.stage as usize);
    let is_of_group = |wave: usize| {
        let stage = stage_of(wave).and_then(|stage| conductor.plan().stages.get(stage));
        stage.is_some_and(|stage| stage.group == *group)
    };
    let state = conductor.state();
    let mut status = Rollout {
        group: group.clone(),
        app: conductor.app().clone(),
        version: conductor.version().to_owned(),
        state: state.name().to_owned(),
        reason: state.cause().map(|cause| cause.text.clone()).unwrap_or_default(),
        total: 0,
        ok: 0,
        failed: 0,
        rolled_back: 0,
        updating: 0,
        pending: 0,
        offline: 0,
        started_at: conductor.started_at().into(),
        at: at.into(),
    };
    for (_, _, state) in conductor.seats().filter(|(_, wave, _)| is_of_group(*wave)) {
        let count = match (state, state.bucket()) {
            (NodeState::RolledBack(_) | NodeState::Skipped(Skip::WentBack), _) => &mut status.rolled_back,
            // Neither has it nor is to have it.
            (_, Bucket::Skipped) => continue,
            (_, Bucket::Failed) => &mut status.failed,
            (_, Bucket::Good) => &mut status.ok,
            (_, Bucket::Away) => &mut status.offline,
            (_, Bucket::Waiting) => &mut status.pending,
            (_, Bucket::OnTheWay) => &mut status.updating,
        };
        *count += 1;
        status.total += 1;
    }
    status
}

fn json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("texts and numbers are always JSON")
}
