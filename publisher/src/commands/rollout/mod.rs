//! `publisher rollout`: what people want of a rollout, and how it stands.

mod controllers;
mod follow;
mod show;
mod simulate;
mod start;
mod wish;

use std::{fs, path::Path};

use anyhow::Result;
use rollout::{Fleet, Wanted, plan::Plan};
use schemas::id::{AppId, GroupId};

pub(super) use self::start::Start;
use super::block_on;
use crate::{
    cli::RolloutCommand,
    exit::Exit,
    home::Home,
    problem::{Advise as _, problem},
    screen::Screen,
};

/// What to do where several people sign together: a controller needs an answer now.
const SEVERAL: &str = "a rollout needs wishes that one person can give alone: order wave by wave, with `publisher order` and groups as waves, or let one ops key be enough (`publisher keys threshold ops 1`)";

/// Carries out one of the rollout commands.
pub(super) fn run(home: &Home, command: RolloutCommand, screen: &Screen) -> Result<Exit> {
    match command {
        RolloutCommand::Start(arguments) => block_on(start::run(home, arguments, screen)),
        RolloutCommand::Status(arguments) => block_on(show::status(home, arguments.app.as_ref(), screen)),
        RolloutCommand::List => block_on(show::list(home, screen)),
        RolloutCommand::Pause(arguments) => block_on(wish::pause(home, &arguments.app, screen)),
        RolloutCommand::Resume(arguments) => block_on(wish::resume(home, &arguments, screen)),
        RolloutCommand::Abort(arguments) => block_on(wish::abort(home, &arguments, screen)),
        RolloutCommand::Approve(arguments) => block_on(wish::approve(home, &arguments.app, screen)),
        RolloutCommand::Controllers(arguments) => block_on(controllers::run(home, &arguments, screen)),
        RolloutCommand::Simulate(arguments) => block_on(simulate::run(home, &arguments, screen)),
    }
}

/// The rollout of an app that the bus has.
fn find<'a>(fleet: &'a Fleet, app: &AppId) -> Result<&'a Wanted> {
    if let Some(wanted) = fleet.rollouts().plan(app) {
        return Ok(wanted);
    }
    if let Some(why) = fleet.rollouts().disbelief(app) {
        return Err(problem(
            format!("the rollout of {app} on the bus is not believed: {why}"),
            "start it anew with `publisher rollout start`",
        ));
    }
    let apps: Vec<_> = fleet.rollouts().plans().keys().map(AppId::as_str).collect();
    let advice = if apps.is_empty() {
        "nothing is rolled out: start with `publisher rollout start FOLDER`".to_owned()
    } else {
        format!("those that there are: {}", apps.join(", "))
    };
    Err(problem(format!("{app} has no rollout"), advice))
}

/// A plan, as it was written and as it is understood.
pub(super) fn read_plan(file: &Path) -> Result<(String, Plan)> {
    let what = format!("cannot use {}", file.display());
    let text = fs::read_to_string(file).advise(&what, "name a file with a plan")?;
    let plan = Plan::parse(&text).advise(what, "correct what is named; docs/rollouts.md has every key")?;
    Ok((text, plan))
}

/// The app that is said, or the only one that is ordered for the group.
fn app_of(home: &Home, fleet: &Fleet, said: Option<&AppId>, group: &GroupId) -> Result<AppId> {
    if let Some(app) = said {
        return Ok(app.clone());
    }
    let of_bus = fleet.orders().keys().filter(|(of, _)| of == group).map(|(_, app)| app.clone());
    let mut apps: Vec<AppId> = of_bus.chain(home.apps_of(group)?).collect();
    apps.sort();
    apps.dedup();
    match apps.as_slice() {
        [app] => Ok(app.clone()),
        [] => Err(problem(format!("nothing was ever ordered for group {group}"), "say which app with --app")),
        apps => {
            let names: Vec<_> = apps.iter().map(AppId::as_str).collect();
            let advice = format!("say which with --app: {}", names.join(", "));
            Err(problem(format!("group {group} has several apps"), advice))
        }
    }
}
