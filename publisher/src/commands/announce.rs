//! `publisher announce`: from a folder to a proven release on every node of a group.

use anyhow::Result;
use schemas::root::Role;

use super::{
    node,
    ordering::{Ordering, learn},
    release,
    rollout::{Start, read_plan},
};
use crate::{
    cli::{Announce, RolloutTerms},
    exit::Exit,
    home::{Home, history::Kept},
    problem::Advise as _,
    screen::Screen,
    session::Session,
    upload,
};

const SEVERAL: &str =
    "make it with `publisher release build`, let others `publisher sign` it, then `publisher order` it";
const UNBELIEVED: &str = "shorten --notes; else the files in the folder `keys` are not those of root.cbor: bring them back from a backup";

/// Packs, then uploads while the bus is read, orders and follows.
pub(super) async fn run(home: &Home, arguments: Announce, screen: &Screen) -> Result<Exit> {
    let Announce { folder, group, rollout, plan, notes, urgent, following } = arguments;
    let plan = plan.as_deref().map(read_plan).transpose()?;
    // Before anything is uploaded: it takes one person alone.
    home.sole_key(Role::Release, SEVERAL)?;
    home.sole_key(Role::Ops, SEVERAL)?;
    let packed = release::pack_folder(home, folder, screen).await?;
    Session::with(home, async |session| {
        let uploading = upload::upload(home, &packed, screen);
        let (mut fleet, uploaded) = tokio::try_join!(session.read_fleet(home), uploading)?;
        screen.say(&uploaded.to_string());
        learn(home, &fleet)?;
        node::sync(home, session, &mut fleet).await?;
        let signed = release::sign(home, &packed, &notes, screen)?;
        let document =
            signed.verify(&home.trust).advise("what was signed here would not be believed", UNBELIEVED)?;
        let release = Kept { signed, document };
        if rollout {
            let terms = RolloutTerms { at: None, expires: following.expires, yes: false };
            let (detach, timeout) = (!following.is_wanted(), following.rollout_timeout());
            let start = Start { plan: plan.clone(), group: Some(group), terms: &terms, detach, timeout };
            return start.run(home, session, &mut fleet, &release, screen).await;
        }
        let ordering = Ordering { group: &group, release: &release, following: &following, urgent, uploaded };
        ordering.run(home, session, &mut fleet, screen).await
    })
    .await
}
