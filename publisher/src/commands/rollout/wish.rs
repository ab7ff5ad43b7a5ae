//! What people want of a rollout that is on: the whole document anew, with a higher number, and the answer of the controller.

use anyhow::Result;
use rollout::{Fleet, Wanted, course::Conductor};
use schemas::{
    id::{AppId, NodeId},
    rollout::{CourseState, Planned, Rollout, Wish},
    root::Role,
    seal::{Head, Signed},
    topic::Kind,
};

use super::{SEVERAL, find, follow::until_heeded};
use crate::{
    cli::{RolloutAbort, RolloutResume},
    clock,
    exit::Exit,
    home::Home,
    problem::{Advise as _, problem},
    screen::Screen,
    session::Session,
    show::{amount, clean, rollout as show},
};

/// More names than that are a number.
const MAX_NAMES: usize = 10;

/// Begins nothing new.
pub(super) async fn pause(home: &Home, app: &AppId, screen: &Screen) -> Result<Exit> {
    wish(home, app, screen, |_, wanted, state| {
        let is_paused =
            matches!(state, Some(CourseState::Paused(_))) && wanted.plans.rollout.wish == Wish::Pause;
        if is_paused {
            return Err(problem(format!("the rollout of {app} is paused already"), go_on(app)));
        }
        if matches!(state, Some(CourseState::Reverting { .. })) {
            let advice = format!("it is over when all have gone back: `publisher rollout status {app}`");
            return Err(problem(format!("nodes of the rollout of {app} are going back"), advice));
        }
        Ok(Rollout { wish: Wish::Pause, ..wanted.plans.rollout.clone().into_inner() })
    })
    .await
}

/// Lets it go on. Failures that are known stop it no more.
pub(super) async fn resume(home: &Home, arguments: &RolloutResume, screen: &Screen) -> Result<Exit> {
    let app = &arguments.app;
    wish(home, app, screen, |fleet, wanted, state| {
        let rollout = wanted.plans.rollout.clone().into_inner();
        let is_on = !matches!(state, Some(CourseState::Paused(_))) && rollout.wish == Wish::Run;
        if is_on || matches!(state, Some(CourseState::Reverting { .. })) {
            let advice = format!("see how it stands with `publisher rollout status {app}`");
            return Err(problem(format!("the rollout of {app} is not paused"), advice));
        }
        let conductor = show::conductor(fleet, wanted, clock::now());
        let in_the_way = conductor.as_ref().map(Conductor::in_the_way).unwrap_or_default();
        if !in_the_way.is_empty() && !arguments.ack_failures {
            let names = amount::names(in_the_way.iter().map(NodeId::as_str), MAX_NAMES);
            return Err(problem(
                format!("these nodes failed, or it is not for them, and they would stop the rollout again: {names}"),
                format!(
                    "see why with `publisher rollout status {app}`; when it is to go on all the same: `publisher rollout resume {app} --ack-failures`"
                ),
            ));
        }
        let mut acknowledged = rollout.acknowledged.clone();
        if arguments.ack_failures {
            let failed = conductor.map(|conductor| show::failed(&conductor, wanted));
            acknowledged.extend(failed.unwrap_or_default());
        }
        Ok(Rollout { wish: Wish::Run, acknowledged, ..rollout })
    })
    .await
}

/// Ends it.
pub(super) async fn abort(home: &Home, arguments: &RolloutAbort, screen: &Screen) -> Result<Exit> {
    let (app, revert) = (&arguments.app, arguments.end.revert);
    wish(home, app, screen, |_, wanted, state| {
        if matches!(state, Some(CourseState::Reverting { .. })) {
            let advice = format!("it is over when all have gone back: `publisher rollout status {app}`");
            return Err(problem(format!("nodes of the rollout of {app} are going back already"), advice));
        }
        let version = clean(&wanted.plans.release.version);
        let what = if revert { "nodes that have it go back" } else { "nodes that have it keep it" };
        let question = format!("end the rollout of {app} {version}? {what}");
        if !arguments.yes && !screen.confirm(&question, "say --yes when it is to end")? {
            return Err(problem("nothing was changed", "the rollout goes on as it stands"));
        }
        Ok(Rollout { wish: Wish::Abort { revert }, ..wanted.plans.rollout.clone().into_inner() })
    })
    .await
}

/// Lets the stage open that waits.
pub(super) async fn approve(home: &Home, app: &AppId, screen: &Screen) -> Result<Exit> {
    wish(home, app, screen, |_, wanted, state| {
        if state != Some(&CourseState::AwaitingApproval) {
            let advice = format!("see how it stands with `publisher rollout status {app}`");
            return Err(problem(format!("the rollout of {app} does not wait for an approval"), advice));
        }
        let rollout = wanted.plans.rollout.clone().into_inner();
        Ok(Rollout { wish: Wish::Run, approved: rollout.approved.saturating_add(1), ..rollout })
    })
    .await
}

/// Reads how the rollout stands, asks `change` what is wanted of it, publishes that and waits for the controller.
async fn wish(
    home: &Home,
    app: &AppId,
    screen: &Screen,
    change: impl Fn(&Fleet, &Wanted, Option<&CourseState>) -> Result<Rollout>,
) -> Result<Exit> {
    home.sole_key(Role::Ops, SEVERAL)?;
    Session::with(home, async |session| {
        let mut fleet = session.read_fleet(home).await?;
        let wanted = find(&fleet, app)?;
        let state = fleet.rollouts().course(app).map(|course| &course.state);
        if let Some(state) = state.filter(|state| state.is_over()) {
            let version = clean(&wanted.plans.release.version);
            return Err(problem(
                format!("the rollout of {app} {version} is over: it is {}", state.name()),
                "go back with `publisher rollback --group GROUP`, or start another with `publisher rollout start`",
            ));
        }
        let planned = sign(home, wanted, change(&fleet, wanted, state)?)?;
        let plans = planned.verify(&home.trust, app).advise(
            "what was signed here would not be believed",
            "with thousands of acknowledged nodes it is too long; else bring the folder `keys` back from a backup",
        )?;
        let (topic, bytes) = (Kind::Plan(app.clone()).of(&home.settings.fleet), planned.to_bytes());
        session.publish(topic.clone(), bytes.clone()).await?;
        session.read_back(&mut fleet, &topic, &bytes).await?;
        until_heeded(session, &mut fleet, &plans.rollout).await?;
        see_that_it_can_order(&fleet, app)?;
        show(&fleet, app, screen)
    })
    .await
}

/// The controller may have taken note, and have no number left for an order that says so to the nodes.
fn see_that_it_can_order(fleet: &Fleet, app: &AppId) -> Result<()> {
    let last = fleet.rollouts().plan(app).map(|wanted| wanted.plans.mandate.last);
    let used = fleet.rollouts().course(app).map(|course| course.revision);
    if used.is_none() || used < last {
        return Ok(());
    }
    Err(problem(
        format!(
            "the controller knows what is wanted, and its numbers for orders of {app} are used up: no node was told"
        ),
        "announce to the groups what they are to run, or `publisher rollback --group GROUP`; nobody uses up so many numbers by accident: see who has the key of the broker's controller",
    ))
}

/// The same rollout with another wish, signed anew.
fn sign(home: &Home, wanted: &Wanted, rollout: Rollout) -> Result<Planned> {
    let (key, now) = (home.key(Role::Ops)?, home.signing_time()?);
    let seq = wanted.plans.rollout.seq.next(0);
    let rollout = Rollout { head: Head::new(home.settings.fleet.clone(), now), seq, ..rollout };
    Ok(Planned { rollout: Signed::seal(&rollout, &[key]), ..wanted.planned.clone() })
}

fn show(fleet: &Fleet, app: &AppId, screen: &Screen) -> Result<Exit> {
    let now = clock::now();
    let view = show::view(fleet, find(fleet, app)?, now);
    if screen.is_json() {
        screen.json(&show::json(&[view], now))?;
    } else {
        screen.say(&show::text(&view, now, screen.paints()));
    }
    Ok(Exit::Done)
}

fn go_on(app: &AppId) -> String {
    format!("let it go on with `publisher rollout resume {app}`")
}
