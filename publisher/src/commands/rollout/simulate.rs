//! `publisher rollout simulate`: what a plan would come to.

use std::time::Duration;

use anyhow::Result;
use rollout::plan::{self, BAD_SHARE, ForecastWave, OnFailure, Plan, Stage};
use schemas::id::{Counter, GroupId};
use serde_json::json;

use super::{app_of, read_plan, start::nobody};
use crate::{
    cli::RolloutSimulate,
    exit::Exit,
    home::Home,
    screen::Screen,
    session::Session,
    show::{amount, table},
};

/// More names of a wave, and of nodes that are offline, than that are a number.
const MAX_IN_WAVE: usize = 5;
const MAX_OFFLINE: usize = 20;

/// Lays a plan out over the fleet as it is now, and changes nothing.
pub(super) async fn run(home: &Home, arguments: &RolloutSimulate, screen: &Screen) -> Result<Exit> {
    // What is wrong on this machine is said before the bus is asked.
    let plan = arguments.plan.as_deref().map(read_plan).transpose()?;
    let fleet = Session::with(home, async |session| session.read_fleet(home).await).await?;
    let members = plan::members(&fleet);
    let plan = if let Some((_, plan)) = plan {
        plan
    } else {
        let group = arguments.group.clone().unwrap_or("all".parse::<GroupId>()?);
        let size = members.iter().filter(|member| member.groups.contains(&group)).count();
        Plan::by_size(app_of(home, &fleet, arguments.app.as_ref(), &group)?, group, size)
    };
    let counter = home.releases(&plan.app)?.last().map_or(Counter(0), |release| release.document.counter);
    let waves = plan::lay_out(&plan, &members, counter);
    if waves.is_empty() {
        return Err(nobody(&plan, &fleet));
    }
    show(&plan, &plan::forecast(&plan, &waves, &fleet), screen)?;
    Ok(Exit::Done)
}

fn show(plan: &Plan, waves: &[ForecastWave], screen: &Screen) -> Result<()> {
    if screen.is_json() {
        let waves: Vec<_> = waves.iter().map(as_json).collect();
        return screen.json(&json!({
            "app": plan.app, "bad_share": BAD_SHARE, "waves": waves, "plan": plan,
        }));
    }
    let rows: Vec<_> = (1..).zip(waves).map(|(number, wave)| row(number, wave)).collect();
    screen.say(&table(&["WAVE", "GROUP", "OPENS", "OVER", "UNDETECTED", "NODES"], &rows));
    screen.say(&format!(
        "\n{}: about {} in all. UNDETECTED is the chance that a release which fails on {:.0} % of all nodes has not failed yet.",
        plan.app,
        time(waves.last().map_or(Duration::ZERO, |wave| wave.ends_after)),
        BAD_SHARE * 100.0,
    ));
    screen.say(&rules(plan));
    let offline: Vec<_> = waves
        .iter()
        .flat_map(|wave| &wave.nodes)
        .filter(|(_, online)| !online)
        .map(|(node, _)| node.as_str())
        .collect();
    if !offline.is_empty() {
        screen.say(&format!(
            "offline, and to catch up later: {}",
            amount::names(offline.into_iter(), MAX_OFFLINE)
        ));
    }
    Ok(())
}

/// When it stops, and what else the plan says.
fn rules(plan: &Plan) -> String {
    let ends = match plan.on_failure {
        OnFailure::Pause => "nodes that have it keep it until somebody decides",
        OnFailure::Revert => "nodes that have it go back",
    };
    let fleet =
        [limit("", plan.max_parallel), limit(" with the same label `site`", plan.max_parallel_per_site)];
    let mut lines: Vec<String> = fleet.into_iter().flatten().collect();
    lines.extend(plan.stages.iter().map(stage_rules));
    lines.push(format!("when it stops by failures, {ends}"));
    lines.join("\n")
}

fn stage_rules(stage: &Stage) -> String {
    let default = stage.max_failure_rate.is_none().then_some(std::num::NonZeroU32::MIN);
    let failures = stage.max_failures.or(default);
    let rate = stage
        .max_failure_rate
        .map(|rate| format!("more than {rate} of {} or more that reported", stage.min_reports));
    let stops: Vec<_> = failures.map(|most| format!("{most} failed")).into_iter().chain(rate).collect();
    let success = stage
        .success
        .map_or("100% of the first wave, 90% of the others".to_owned(), |share| share.to_string());
    let parallel = limit("", stage.max_parallel).map(|text| format!("; {text}")).unwrap_or_default();
    let approval = if stage.approval { "; it opens when somebody approves" } else { "" };
    format!(
        "{}: stops when {}; is well when {success} are; waits {} for who is away{parallel}{approval}",
        stage.group,
        stops.join(", or "),
        time(stage.deadline),
    )
}

fn limit(whose: &str, most: Option<std::num::NonZeroU32>) -> Option<String> {
    most.map(|most| format!("{most} nodes{whose} install at the same time at most"))
}

fn as_json(wave: &ForecastWave) -> serde_json::Value {
    let nodes: Vec<_> =
        wave.nodes.iter().map(|(node, online)| json!({ "node": node, "online": online })).collect();
    json!({
        "group": wave.group,
        "opens_after_s": wave.opens_after.as_secs(),
        "ends_after_s": wave.ends_after.as_secs(),
        "undetected": wave.undetected,
        "nodes": nodes,
    })
}

fn row(number: usize, wave: &ForecastWave) -> Vec<String> {
    vec![
        number.to_string(),
        wave.group.to_string(),
        format!("+{}", time(wave.opens_after)),
        format!("+{}", time(wave.ends_after)),
        format!("{:.1} %", wave.undetected * 100.0),
        amount::names(wave.nodes.iter().map(|(node, _)| node.as_str()), MAX_IN_WAVE),
    ]
}

fn time(time: Duration) -> String {
    amount::duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
