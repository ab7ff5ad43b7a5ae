//! `publisher rollback`: order again what was ordered before, without building it again.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use rollout::{Belief, Fleet};
use schemas::{
    id::{AppId, Counter, Digest, Revision},
    order::OrderState,
    release::Release,
    report::{AppReport, Verdict},
    root::Role,
    seal::Verified,
};

use super::ordering::{Ordering, learn};
use crate::{
    cli::Rollback,
    exit::Exit,
    home::{Home, history::Kept},
    problem::{Advise as _, problem},
    rollback::{NoWayBack, Past},
    screen::Screen,
    session::Session,
    show::clean,
    upload::Uploaded,
};

/// Chooses the release, orders it and follows.
pub(super) async fn run(home: &Home, arguments: &Rollback, screen: &Screen) -> Result<Exit> {
    Session::with(home, async |session| go_back(home, session, arguments, screen).await).await
}

async fn go_back(home: &Home, session: &mut Session, arguments: &Rollback, screen: &Screen) -> Result<Exit> {
    home.sole_key(
        Role::Ops,
        "order the older release with `publisher order`: it is below `releases` in the home",
    )?;
    let mut fleet = session.read_fleet(home).await?;
    learn(home, &fleet)?;
    let app = app(home, arguments)?;
    let (from, release) = choose(home, &fleet, arguments, &app)?;
    let (from, to) = (clean(&from), clean(&release.document.version));
    screen.say(&format!("{app} {from} is ordered now in {}; it gets {to}", arguments.group));
    let following = &arguments.following;
    let uploaded = Uploaded::default();
    // Nobody is to be kept on a bad release by a calendar.
    let (group, state, urgent) = (&arguments.group, OrderState::Active, true);
    let ordering = Ordering { group, release: &release, following, state, urgent, uploaded };
    ordering.run(home, session, &mut fleet, screen).await
}

fn app(home: &Home, arguments: &Rollback) -> Result<AppId> {
    if let Some(app) = &arguments.app {
        return Ok(app.clone());
    }
    let group = &arguments.group;
    match home.apps_of(group)?.as_slice() {
        [app] => Ok(app.clone()),
        [] => Err(problem(
            format!("nothing was ever ordered for group {group}"),
            "see the groups with `publisher status`",
        )),
        apps => {
            let names: Vec<_> = apps.iter().map(AppId::as_str).collect();
            let advice = format!("say which with --app: {}", names.join(", "));
            Err(problem(format!("group {group} has several apps"), advice))
        }
    }
}

/// The version that is ordered now, and the release to go back to.
fn choose(home: &Home, fleet: &Fleet, arguments: &Rollback, app: &AppId) -> Result<(String, Kept<Release>)> {
    let group = &arguments.group;
    let releases = home.releases(app)?.into_iter().map(|release| (release.document.digest(), release));
    let releases: BTreeMap<Digest, Kept<Release>> = releases.collect();
    let orders = home.ordered(app, group)?;
    let present = present(fleet, arguments, app, &orders, &releases)?;
    let reports: Vec<_> =
        fleet.nodes().values().filter(|node| node.is_in(group)).filter_map(|node| node.app(app)).collect();
    let past = Past {
        present,
        orders: &orders,
        releases: &releases,
        kept: &kept(&reports),
        unfit: &unfit(&reports),
        floor: floor(&reports, &releases),
    };
    let wanted = arguments.to.as_ref().map(ToString::to_string);
    let chosen = past.choose(wanted.as_deref());
    let advice = match &chosen {
        Err(NoWayBack::NothingOlder(_)) => "name a version with --to, or announce a folder that works",
        Err(NoWayBack::BelowFloor { .. }) => {
            "announce a release that is not older than the last security release"
        }
        _ => "name another version with --to; see `publisher status` for what is ordered",
    };
    let chosen = chosen.advise(format!("cannot go back in {group}"), advice)?;
    Ok((present.version.clone(), chosen.clone()))
}

/// What is ordered now: what the bus has, else what was ordered last from here.
fn present<'a>(
    fleet: &'a Fleet,
    arguments: &Rollback,
    app: &AppId,
    orders: &[(Revision, Digest)],
    releases: &'a BTreeMap<Digest, Kept<Release>>,
) -> Result<&'a Verified<Release>> {
    let on_bus = fleet.orders().get(&(arguments.group.clone(), app.clone())).and_then(Belief::believed);
    let last = orders.iter().max().and_then(|(_, release)| releases.get(release));
    let present = on_bus.map(|ordered| &ordered.announced.release).or(last.map(|release| &release.document));
    present.ok_or_else(|| {
        problem(
            format!("{app} was never ordered for group {}", arguments.group),
            "see groups and apps with `publisher status`",
        )
    })
}

/// Releases that some node says it kept.
fn kept(reports: &[&AppReport]) -> BTreeSet<Digest> {
    let slots = reports.iter().flat_map(|report| report.installed.iter().chain(&report.previous));
    ended(reports, Verdict::Kept).chain(slots.map(|slot| slot.release)).collect()
}

/// Releases that some node did not keep.
fn unfit(reports: &[&AppReport]) -> BTreeSet<Digest> {
    ended(reports, Verdict::RolledBack).chain(ended(reports, Verdict::Failed)).collect()
}

fn ended<'a>(reports: &'a [&AppReport], verdict: Verdict) -> impl Iterator<Item = Digest> + 'a {
    let outcomes = reports.iter().flat_map(|report| &report.outcomes);
    outcomes.filter(move |outcome| outcome.verdict == verdict).map(|outcome| outcome.release)
}

/// The floor that releases which nodes run or ran have set.
fn floor(reports: &[&AppReport], releases: &BTreeMap<Digest, Kept<Release>>) -> Counter {
    let slots = reports.iter().flat_map(|report| report.installed.iter().chain(&report.previous));
    let known = slots.filter_map(|slot| releases.get(&slot.release));
    known.map(|release| release.document.min_counter).max().unwrap_or_default()
}
