//! `publisher withdraw`: an order is taken back, for who has not begun with it.

use anyhow::Result;
use rollout::{Belief, Fleet, Ordered};
use schemas::{id::AppId, order::OrderState};

use super::ordering::{Ordering, learn};
use crate::{
    cli::{Following, Withdraw},
    exit::Exit,
    home::{Home, history::Kept},
    problem::problem,
    screen::Screen,
    session::Session,
    upload::Uploaded,
};

/// Orders that nobody begins with what is ordered.
pub(super) async fn run(home: &Home, arguments: &Withdraw, screen: &Screen) -> Result<Exit> {
    Session::with(home, async |session| {
        let mut fleet = session.read_fleet(home).await?;
        learn(home, &fleet)?;
        let Ordered { announcement, announced } = ordered(&fleet, arguments)?.clone();
        let group = &arguments.group;
        if announced.mandate.is_some() {
            let app = &announced.order.app;
            return Err(problem(
                format!("what is ordered for {group} was ordered by a rollout"),
                format!("end the rollout with `publisher rollout abort {app}`"),
            ));
        }
        let ordering = Ordering {
            group,
            release: &Kept { signed: announcement.release, document: announced.release },
            following: &Following::none(),
            state: OrderState::Withdrawn { revert: false },
            urgent: false,
            uploaded: Uploaded::default(),
        };
        ordering.run(home, session, &mut fleet, screen).await
    })
    .await
}

/// The order that is meant.
fn ordered<'a>(fleet: &'a Fleet, arguments: &Withdraw) -> Result<&'a Ordered> {
    let Withdraw { group, app } = arguments;
    let is_meant = |(of, name): (&_, &AppId)| of == group && app.as_ref().is_none_or(|app| app == name);
    let orders = fleet.orders().iter().filter(|((of, name), _)| is_meant((of, name)));
    let meant: Vec<(&AppId, &Ordered)> =
        orders.filter_map(|((_, app), order)| Some((app, Belief::believed(order)?))).collect();
    match meant[..] {
        [(_, ordered)] => Ok(ordered),
        [] => Err(problem(
            format!("nothing is ordered for group {group}"),
            "see groups and apps with `publisher status`",
        )),
        _ => {
            let names: Vec<_> = meant.iter().map(|(app, _)| app.as_str()).collect();
            Err(problem(
                format!("group {group} has several apps"),
                format!("say which with --app: {}", names.join(", ")),
            ))
        }
    }
}
