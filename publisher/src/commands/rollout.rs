//! `publisher rollout`: what a plan would come to.

use std::{fs, time::Duration};

use anyhow::Result;
use rollout::{
    Fleet,
    plan::{self, BAD_SHARE, ForecastWave, Plan},
};
use schemas::id::{AppId, Counter, GroupId};
use serde_json::json;

use crate::{
    cli::RolloutSimulate,
    exit::Exit,
    home::Home,
    problem::{Advise as _, problem},
    screen::Screen,
    session::Session,
    show::{amount, table},
};

/// Lays a plan out over the fleet as it is now, and changes nothing.
pub(super) async fn simulate(home: &Home, arguments: &RolloutSimulate, screen: &Screen) -> Result<Exit> {
    let fleet = Session::with(home, async |session| session.read_fleet(home).await).await?;
    let members = plan::members(&fleet);
    let plan = if let Some(file) = &arguments.plan {
        let what = format!("cannot use {}", file.display());
        let text = fs::read_to_string(file).advise(&what, "name a file with a plan")?;
        Plan::parse(&text).advise(what, "correct what is named; docs/rollouts.md has every key")?
    } else {
        let group = arguments.group.clone().unwrap_or("all".parse::<GroupId>()?);
        let size = members.iter().filter(|member| member.groups.contains(&group)).count();
        Plan::by_size(app(home, &fleet, arguments.app.as_ref(), &group)?, group, size)
    };
    let counter = home.releases(&plan.app)?.last().map_or(Counter(0), |release| release.document.counter);
    let waves = plan::lay_out(&plan, &members, counter);
    if waves.is_empty() {
        let groups: Vec<_> = plan.stages.iter().map(|stage| stage.group.as_str()).collect();
        return Err(problem(
            format!("nobody is in {}", groups.join(", ")),
            "add nodes with `publisher node add NAME --group GROUP`",
        ));
    }
    show(&plan, &plan::forecast(&plan, &waves, &fleet), screen)?;
    Ok(Exit::Done)
}

/// The app that is said, or the only one that is ordered for the group.
fn app(home: &Home, fleet: &Fleet, said: Option<&AppId>, group: &GroupId) -> Result<AppId> {
    if let Some(app) = said {
        return Ok(app.clone());
    }
    let of_bus = fleet.orders().keys().filter(|(of, _)| of == group).map(|(_, app)| app.clone());
    let mut apps: Vec<AppId> = of_bus.chain(home.apps_of(group)?).collect();
    apps.sort();
    apps.dedup();
    match apps.as_slice() {
        [app] => Ok(app.clone()),
        _ => Err(problem(
            format!("group {group} has {}", amount::count(apps.len(), "app")),
            "say which with --app",
        )),
    }
}

fn show(plan: &Plan, waves: &[ForecastWave], screen: &Screen) -> Result<()> {
    if screen.is_json() {
        let waves: Vec<_> = waves.iter().map(as_json).collect();
        return screen.json(&json!({ "app": plan.app, "bad_share": BAD_SHARE, "waves": waves }));
    }
    let rows: Vec<_> = (1..).zip(waves).map(|(number, wave)| row(number, wave)).collect();
    screen.say(&table(&["WAVE", "GROUP", "OPENS", "OVER", "UNDETECTED", "NODES"], &rows));
    screen.say(&format!(
        "\n{}: about {} in all. UNDETECTED is the chance that a release which fails on {:.0} % of all nodes has not failed yet.",
        plan.app,
        time(waves.last().map_or(Duration::ZERO, |wave| wave.ends_after)),
        BAD_SHARE * 100.0,
    ));
    let offline: Vec<_> = waves
        .iter()
        .flat_map(|wave| &wave.nodes)
        .filter(|(_, online)| !online)
        .map(|(node, _)| node.as_str())
        .collect();
    if !offline.is_empty() {
        screen.say(&format!("offline, and to catch up later: {}", offline.join(", ")));
    }
    Ok(())
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
    /// More names than that are a number.
    const MAX_NAMES: usize = 5;
    let names: Vec<_> = wave.nodes.iter().take(MAX_NAMES).map(|(node, _)| node.as_str()).collect();
    let more = wave.nodes.len().saturating_sub(MAX_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    vec![
        number.to_string(),
        wave.group.to_string(),
        format!("+{}", time(wave.opens_after)),
        format!("+{}", time(wave.ends_after)),
        format!("{:.1} %", wave.undetected * 100.0),
        format!("{}{more}", names.join(", ")),
    ]
}

fn time(time: Duration) -> String {
    amount::duration(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}
