//! `publisher order`: a release that is signed already, for a group.

use std::{fs, path::Path};

use anyhow::Result;
use rollout::Fleet;
use schemas::{
    announcement::Announcement,
    id::Revision,
    order::{self, OrderState},
    release::Release,
    seal::{SealError, Signed, Verified},
};
use serde_json::json;

use super::{
    node,
    ordering::{Ordering, learn},
};
use crate::{
    cli::Order,
    exit::Exit,
    home::{Home, files, history::Kept},
    problem::{Advise as _, problem},
    screen::Screen,
    session::Session,
    upload::Uploaded,
};

/// What a file has.
struct Given {
    release: Kept<Release>,
    /// An order for it that others have signed.
    order: Option<Signed<order::Order>>,
}

/// Signs an order for the release of a file, or takes one that others have signed, publishes it and follows.
pub(super) async fn run(home: &Home, arguments: &Order, screen: &Screen) -> Result<Exit> {
    let Given { release, order } = read(home, &arguments.file)?;
    Session::with(home, async |session| {
        let mut fleet = session.read_fleet(home).await?;
        learn(home, &fleet)?;
        node::sync(home, session, &mut fleet).await?;
        let verified = order.as_ref().map(|order| ready(home, &fleet, order, arguments)).transpose()?;
        let group = verified.as_ref().map(|order| &order.group).or(arguments.group.as_ref());
        let group = group.ok_or_else(|| problem("the group is not said", "say it with --group NAME"))?;
        let ordering = Ordering {
            group,
            release: &release,
            following: &arguments.following,
            state: OrderState::Active,
            urgent: arguments.urgent,
            uploaded: Uploaded::default(),
        };
        let announcement = match order {
            Some(order) => Announcement { order, release: release.signed.clone(), mandate: None },
            None => ordering.sign(home, &fleet)?,
        };
        match announcement.order.verify(&home.trust) {
            Err(SealError::Signatures { valid, threshold, .. }) if valid > 0 => wait_for_signatures(
                &arguments.file,
                &announcement,
                group.as_str(),
                (valid, threshold),
                screen,
            ),
            _ => ordering.publish(home, session, &mut fleet, &announcement, screen).await,
        }
    })
    .await
}

/// An order that others have signed, when nodes will take it.
fn ready(
    home: &Home,
    fleet: &Fleet,
    order: &Signed<order::Order>,
    arguments: &Order,
) -> Result<Verified<order::Order>> {
    let file = arguments.file.display();
    let order = order
        .verify(&home.trust)
        .advise(format!("{file} cannot be ordered yet"), "let others sign it with `publisher sign`")?;
    if arguments.group.as_ref().is_some_and(|group| *group != order.group) {
        return Err(problem(
            format!("{file} is an order for group {}", order.group),
            "leave --group away, or make another order from the release",
        ));
    }
    if arguments.urgent && !order.policy.urgent {
        return Err(problem(
            format!("{file} was signed as an order that is not urgent"),
            "leave --urgent away, or make another order from the release",
        ));
    }
    is_newest(fleet, order.revision)?;
    Ok(order)
}

fn is_newest(fleet: &Fleet, revision: Revision) -> Result<()> {
    let highest = fleet.highest_revision();
    if revision > highest {
        return Ok(());
    }
    Err(problem(
        format!("something was ordered after this order was made: {revision} is not above {highest}"),
        "nodes would refuse it as a replay: make the order again from the release",
    ))
}

/// The release of a file, when it is believed.
pub(super) fn read_release(home: &Home, file: &Path) -> Result<Kept<Release>> {
    read(home, file).map(|given| given.release)
}

fn read(home: &Home, file: &Path) -> Result<Given> {
    let what = || format!("cannot use {}", file.display());
    let advice = "name a file that `publisher release build` or this command has written";
    let bytes = fs::read(file).advise(what(), advice)?;
    let (signed, order) = match Announcement::from_bytes(&bytes) {
        Ok(announcement) => (announcement.release, Some(announcement.order)),
        Err(_) => (Signed::from_bytes(&bytes).advise(what(), advice)?, None),
    };
    let what = format!("the release in {} is not believed", file.display());
    let document = signed.verify(&home.trust).advise_by(what, |error| match error {
        SealError::SpecTooNew { .. } | SealError::UnknownCritical { .. } => {
            "update this program: a newer one has written it"
        }
        SealError::WrongFleet { .. } => "name the home of that fleet with --home",
        _ => "see it with `publisher decode`, and let others sign it with `publisher sign`",
    })?;
    Ok(Given { release: Kept { signed, document }, order })
}

fn wait_for_signatures(
    file: &Path,
    announcement: &Announcement,
    group: &str,
    (signatures, threshold): (usize, usize),
    screen: &Screen,
) -> Result<Exit> {
    let out = file.with_extension(format!("{group}.order"));
    let what = format!("cannot write {}", out.display());
    files::replace(&out, &announcement.to_bytes(), files::PUBLIC).advise(what, "make its folder writable")?;
    if screen.is_json() {
        screen.json(&json!({ "file": out, "signatures": signatures, "threshold": threshold }))?;
        return Ok(Exit::Done);
    }
    screen.say(&format!(
        "nothing is ordered yet: {out} has {signatures} of {threshold} signatures of ops keys\n\
         \n\
         next:\n  \
           where another ops key is: publisher sign {name}\n  \
           with it, here again: publisher order {out}",
        out = out.display(),
        name = out.file_name().unwrap_or_default().display(),
    ));
    Ok(Exit::Done)
}
