//! What a plan would come to, if every node took as long as the last time: for people, before they begin.

use std::time::Duration;

use schemas::{
    id::{AppId, GroupId, NodeId},
    record::RecordStatus,
    report::Verdict,
};

use super::{Member, Plan, Wave};
use crate::{Fleet, Node};

/// How long an install takes where nobody knows.
const UNKNOWN: Duration = Duration::from_mins(1);
/// What a release that is bad for some nodes is bad for, in the question whether it is found out in time.
pub const BAD_SHARE: f64 = 0.3;

/// What a wave would come to.
#[derive(Debug, Clone, PartialEq)]
pub struct ForecastWave {
    /// Whose nodes these are.
    pub group: GroupId,
    /// Its nodes, and whether they are there.
    pub nodes: Vec<(NodeId, bool)>,
    /// When it opens, from the beginning of the rollout.
    pub opens_after: Duration,
    /// When it is over, with its soak.
    pub ends_after: Duration,
    /// The chance that a release which fails on [`BAD_SHARE`] of all nodes has failed nowhere when this wave is over.
    pub undetected: f64,
}

/// The nodes that a rollout may be for.
pub fn members(fleet: &Fleet) -> Vec<Member> {
    fleet.nodes().iter().filter_map(|(name, node)| member(name, node)).collect()
}

fn member(name: &NodeId, node: &Node) -> Option<Member> {
    let record = node.record().filter(|record| record.status == RecordStatus::Active)?;
    Some(Member {
        node: name.clone(),
        groups: record.groups.clone(),
        online: node.online() == Some(true),
        goes_first: record.labels.get("canary").is_some_and(|value| value == "true"),
        model: record.labels.get("model").cloned(),
    })
}

/// What `waves`, which were laid out by `plan`, would come to. Nodes that are offline cost no time: they catch up later.
pub fn forecast(plan: &Plan, waves: &[Wave], fleet: &Fleet) -> Vec<ForecastWave> {
    let install = usual_install(fleet, &plan.app);
    let (mut at, mut tried) = (Duration::ZERO, 0);
    waves
        .iter()
        .filter_map(|wave| plan.stages.get(wave.stage).map(|stage| (wave, stage)))
        .map(|(wave, stage)| {
            let is_online = |node: &NodeId| fleet.nodes().get(node).and_then(Node::online) == Some(true);
            let nodes: Vec<_> = wave.nodes.iter().map(|node| (node.clone(), is_online(node))).collect();
            let online = nodes.iter().filter(|(_, online)| *online).count();
            let parallel = stage.max_parallel.map_or(usize::MAX, |most| most.get() as usize);
            let turns = u32::try_from(online.div_ceil(parallel)).unwrap_or(u32::MAX);
            let opens_after = at;
            at = at.saturating_add(install.saturating_mul(turns)).saturating_add(stage.soak);
            tried += online;
            let undetected = (1.0 - BAD_SHARE).powf(tried as f64);
            ForecastWave { group: stage.group.clone(), nodes, opens_after, ends_after: at, undetected }
        })
        .collect()
}

/// How long nodes took for what they kept last, in the middle.
fn usual_install(fleet: &Fleet, app: &AppId) -> Duration {
    let kept = |node: &Node| {
        let outcomes = &node.app(app)?.outcomes;
        outcomes.iter().rfind(|outcome| outcome.verdict == Verdict::Kept).map(|outcome| outcome.took_ms)
    };
    let mut took: Vec<u64> = fleet.nodes().values().filter_map(kept).collect();
    took.sort_unstable();
    took.get(took.len() / 2).map_or(UNKNOWN, |took| Duration::from_millis(*took))
}

#[cfg(test)]
mod tests {
    use schemas::{id::Counter, topic::NodeTopic};

    use super::*;
    use crate::{
        plan::lay_out,
        samples::{Sample, ended, outcome},
    };

    #[test]
    fn times_add_up_and_who_is_offline_costs_none() {
        let sample = Sample::new();
        let report = || Some(ended(outcome(7, Verdict::Kept)));
        let mut fleet =
            sample.fleet(&[("pi-1", report()), ("pi-2", report()), ("pi-3", report()), ("pi-4", report())]);
        fleet.take(&sample.topic("pi-4", NodeTopic::Availability), b"offline");
        let plan = Plan::parse(
            "app = \"web\"\n[[stage]]\ngroup = \"canary\"\nwaves = [\"1\", \"100%\"]\nsoak = \"1m\"\nmax_parallel = 1",
        );
        let plan = plan.unwrap();
        let waves = lay_out(&plan, &members(&fleet), Counter(1));
        let forecast = forecast(&plan, &waves, &fleet);
        let took = Duration::from_millis(outcome(7, Verdict::Kept).took_ms);
        let minute = Duration::from_mins(1);
        assert_eq!((forecast[0].opens_after, forecast[0].ends_after), (Duration::ZERO, took + minute));
        assert_eq!(forecast[1].ends_after, 3 * took + 2 * minute);
        assert!((forecast[0].undetected - 0.7).abs() < 1e-9 && (forecast[1].undetected - 0.343).abs() < 1e-9);
        assert_eq!(
            forecast[1].nodes.last().map(|(node, online)| (node.as_str(), *online)),
            Some(("pi-4", false))
        );
    }
}
