//! `publisher images`: what nodes say of the images that they have built.

use anyhow::Result;
use rollout::{Fleet, Node};
use schemas::{id::NodeId, status::Health, topic::NodeTopic};

use crate::{
    cli::Images, clock, exit::Exit, home::Home, problem::problem, screen::Screen, session::Session,
    show::images as show,
};

/// Shows them, newest first.
pub(super) async fn run(home: &Home, arguments: &Images, screen: &Screen) -> Result<Exit> {
    Session::with(home, async |session| {
        let fleet = session.read_fleet(home).await?;
        let chosen = chosen(&fleet, arguments)?;
        let images = show::images(chosen.iter().copied(), arguments.app.as_ref());
        if screen.is_json() {
            screen.json(&images)?;
            return Ok(Exit::Done);
        }
        screen.say(&show::text(&images, clock::now()));
        let health = session.read_mirrors::<Health>(home, &NodeTopic::Health).await?;
        let disks = show::disks(chosen.iter().filter_map(|(name, _)| health.get_key_value(*name)));
        if !disks.is_empty() {
            screen.say(&format!("\n{disks}"));
        }
        Ok(Exit::Done)
    })
    .await
}

fn chosen<'a>(fleet: &'a Fleet, arguments: &Images) -> Result<Vec<(&'a NodeId, &'a Node)>> {
    let is_meant = |(name, node): &(&NodeId, &Node)| {
        !node.is_retired()
            && arguments.node.as_ref().is_none_or(|wanted| wanted == *name)
            && arguments.group.as_ref().is_none_or(|group| node.is_in(group))
    };
    let chosen: Vec<_> = fleet.nodes().iter().filter(is_meant).collect();
    match (&arguments.node, &arguments.group) {
        _ if !chosen.is_empty() => Ok(chosen),
        (Some(name), _) => {
            Err(problem(format!("there is no node {name}"), "see the nodes with `publisher status`"))
        }
        (_, Some(group)) => {
            Err(problem(format!("no node is in {group}"), "see groups with `publisher node list`"))
        }
        (None, None) => Ok(chosen),
    }
}
