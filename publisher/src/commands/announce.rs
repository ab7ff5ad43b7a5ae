//! `publisher announce`: from a folder to a proven release on every node of a group.

use anyhow::Result;
use schemas::{order::OrderState, root::Role};

use super::{
    ordering::Ordering,
    release,
    rollout::{Start, read_plan},
};
use crate::{
    cli::{Announce, RolloutTerms},
    exit::Exit,
    home::Home,
    screen::Screen,
    session::Session,
};

const SEVERAL: &str =
    "make it with `publisher release build`, let others `publisher sign` it, then `publisher order` it";

/// Packs, then uploads while the bus is read, orders and follows.
pub(super) async fn run(home: &Home, arguments: Announce, screen: &Screen) -> Result<Exit> {
    let Announce { folder, group, rollout, plan, yes, notes, urgent, following } = arguments;
    let plan = plan.as_deref().map(read_plan).transpose()?;
    // Before anything is uploaded: it takes one person alone.
    home.sole_key(Role::Release, SEVERAL)?;
    home.sole_key(Role::Ops, SEVERAL)?;
    let packed = release::pack_folder(home, folder, screen).await?;
    Session::with(home, async |session| {
        let (mut fleet, uploaded, release) = release::bring(home, session, &packed, &notes, screen).await?;
        if rollout {
            let terms = RolloutTerms { at: None, expires: following.expires, yes };
            let (detach, timeout) = (!following.is_wanted(), following.rollout_timeout());
            let start = Start { plan: plan.clone(), group: Some(group), terms: &terms, detach, timeout };
            return start.run(home, session, &mut fleet, &release, screen).await;
        }
        let ordering = Ordering {
            group: &group,
            release: &release,
            following: &following,
            state: OrderState::Active,
            urgent,
            uploaded,
        };
        ordering.run(home, session, &mut fleet, screen).await
    })
    .await
}
