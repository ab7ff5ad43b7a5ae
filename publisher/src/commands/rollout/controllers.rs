//! `publisher rollout controllers`: whom rollouts are given to, and whom not any more.

use anyhow::Result;
use rollout::{Belief, Fleet};
use schemas::{
    id::{AppId, KeyId, PublicKey},
    mandate::{MAX_CONTROLLERS, Mandate},
    rollout::Controller,
    time::UnixTime,
};

use crate::{
    cli::RolloutControllers,
    clock,
    exit::Exit,
    home::{Home, controllers::Controllers},
    problem::problem,
    screen::Screen,
    session::Session,
    show::{clean, controllers as show},
};

/// Lists them; or decides on one.
pub(super) async fn run(home: &Home, arguments: &RolloutControllers, screen: &Screen) -> Result<Exit> {
    let fleet = Session::with(home, async |session| session.read_fleet(home).await).await?;
    let mut controllers = home.controllers()?;
    if let Some(key) = arguments.know.or(arguments.forget) {
        see_that_it_is_one(key, &fleet, &controllers)?;
        if arguments.forget.is_some() {
            controllers.forget(key);
            warn_of_its_rollouts(key, &fleet, screen);
        } else {
            controllers.know(key);
        }
        home.keep_controllers(&controllers)?;
    }
    let now = clock::now();
    let listed = show::controllers(&fleet, &controllers, now);
    if screen.is_json() {
        screen.json(&show::controllers_json(&listed, now))?;
    } else {
        screen.say(&show::controllers_text(&listed, now));
    }
    Ok(Exit::Done)
}

/// The keys that the mandate of a new rollout names: those of all controllers on the bus, once somebody has believed them.
pub(super) fn to_name(home: &Home, fleet: &Fleet, screen: &Screen) -> Result<Vec<PublicKey>> {
    let mut controllers = home.controllers()?;
    let now = clock::now();
    let all = fleet.rollouts().controllers().values().map(|seen| &**seen);
    let (forgotten, mut seen): (Vec<&Controller>, Vec<_>) =
        all.partition(|seen| controllers.forgotten.contains(&seen.key.id()));
    if seen.is_empty() {
        return Err(nobody(&forgotten));
    }
    // Who comes first takes it up.
    seen.sort_by_key(|seen| (seen.until < now, !controllers.known.contains(&seen.key.id())));
    for left_out in seen.iter().skip(MAX_CONTROLLERS) {
        screen.warn(&format!("controller {} is one too many, and is left out", left_out.key.id()));
    }
    seen.truncate(MAX_CONTROLLERS);
    let new = seen.iter().filter(|seen| !controllers.known.contains(&seen.key.id()));
    let new: Vec<String> = new.map(|new| named(new)).collect();
    match new.as_slice() {
        [] => {}
        // Nobody else can say which one it is.
        [only] if controllers.is_empty() => {
            screen.note(&format!("from now on this home knows controller {only}"));
        }
        new => ask_about_new(new, screen)?,
    }
    for seen in &seen {
        controllers.know(seen.key.id());
    }
    home.keep_controllers(&controllers)?;
    Ok(seen.iter().map(|seen| seen.key).collect())
}

fn nobody(forgotten: &[&Controller]) -> anyhow::Error {
    match forgotten {
        [] => problem(
            "no controller is on the bus, so nobody would carry the rollout out",
            "the broker of Deploybus has one: see that it runs, and look for `controller` in its log; without one, order group by group with `publisher announce`",
        ),
        [one, ..] => problem(
            "every controller on the bus is a forgotten one, so nobody would carry the rollout out",
            format!("when it is yours: `publisher rollout controllers --know {}`", one.key.id()),
        ),
    }
}

fn named(controller: &Controller) -> String {
    format!("{} ({})", controller.key.id(), clean(&controller.program))
}

fn ask_about_new(new: &[String], screen: &Screen) -> Result<()> {
    let question = format!(
        "controller {} is new to this home: who has the broker can put a key of their own there, which could open the waves of this rollout. Is it yours?",
        new.join(", ")
    );
    let unattended = "compare its key with the broker's log; then `publisher rollout controllers --know KEY`, or `--forget KEY`";
    if screen.confirm(&question, unattended)? {
        return Ok(());
    }
    Err(problem(
        "nothing was started",
        "look at the broker's machine: who else could have put a controller there? `publisher rollout controllers --forget KEY` leaves it out from now on",
    ))
}

fn see_that_it_is_one(key: KeyId, fleet: &Fleet, decided: &Controllers) -> Result<()> {
    let on_bus = fleet.rollouts().controllers();
    if on_bus.contains_key(&key) || decided.known.contains(&key) || decided.forgotten.contains(&key) {
        return Ok(());
    }
    let there: Vec<String> = on_bus.keys().map(ToString::to_string).collect();
    let advice = if there.is_empty() {
        "none is on the bus: look for `controller` in the broker's log".to_owned()
    } else {
        format!("those on the bus: {}", there.join(", "))
    };
    Err(problem(format!("no controller has the key {key}"), advice))
}

/// Its mandates stay, until others take their place.
fn warn_of_its_rollouts(key: KeyId, fleet: &Fleet, screen: &Screen) {
    for app in given_to(key, fleet, clock::now()) {
        screen.warn(&format!(
            "the rollout of {app} was given to it, and stays so: start it anew, or announce something else, to take it away"
        ));
    }
}

/// The apps with rollouts that are not over, whose mandates name a controller.
fn given_to(key: KeyId, fleet: &Fleet, now: UnixTime) -> Vec<&AppId> {
    let is_on = |app: &AppId| !fleet.rollouts().course(app).is_some_and(|course| course.state.is_over());
    let plans = fleet.rollouts().plans().iter().filter(|(app, wanted)| {
        let mandate = Belief::believed(wanted).map(|wanted| &wanted.plans.mandate);
        let is_named = |mandate: &Mandate| mandate.keys.iter().any(|of| of.id() == key);
        mandate.is_some_and(|mandate| is_named(mandate) && mandate.expires >= now) && is_on(app)
    });
    plans.map(|(app, _)| app).collect()
}
