//! `publisher prune`: asks nodes to remove what no release needs of their engines' disks. Not signed: each node decides.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result};
use rollout::Fleet;
use schemas::{
    hold::{Ask, AskKind},
    id::NodeId,
    prune::Pruned,
    status::Health,
    topic::{Kind, NodeTopic},
};
use tokio::time::{Instant, timeout_at};

use super::request::present;
use crate::{
    cli::Prune,
    clock,
    exit::Exit,
    home::Home,
    problem::problem,
    screen::Screen,
    session::Session,
    show::prune::{self as show, Answer},
};

/// An SD card takes its time to remove a large image.
const ANSWER_LIMIT: Duration = Duration::from_mins(2);

/// Asks, and shows what each has removed.
pub(super) async fn run(home: &Home, arguments: &Prune, screen: &Screen) -> Result<Exit> {
    Session::with(home, async |session| {
        let fleet = session.read_fleet(home).await?;
        let health = session.read_mirrors::<Health>(home, &NodeTopic::Health).await?;
        let mut answers = asked(&fleet, &health, arguments)?;
        ask(home, session, arguments, &mut answers).await?;
        if screen.is_json() {
            screen.json(&show::json(&answers))?;
        } else {
            screen.say(&show::text(&answers));
        }
        Ok(show::exit(&answers))
    })
    .await
}

/// Whom it is about, and that who is away is not asked.
fn asked(
    fleet: &Fleet,
    health: &BTreeMap<NodeId, Health>,
    arguments: &Prune,
) -> Result<BTreeMap<NodeId, Answer>> {
    if let Some(name) = &arguments.node {
        present(fleet, name)?;
        return Ok([(name.clone(), Answer::Silent)].into());
    }
    let in_group = fleet.nodes().iter().filter(|(_, node)| {
        !node.is_retired() && arguments.group.as_ref().is_some_and(|group| node.is_in(group))
    });
    let has_engine =
        |name: &NodeId| health.get(name).is_some_and(|health| health.engine_used_bytes.is_some());
    let asked: BTreeMap<_, _> = in_group
        .filter(|(name, _)| has_engine(name))
        .map(|(name, node)| {
            (name.clone(), if node.online() == Some(true) { Answer::Silent } else { Answer::Offline })
        })
        .collect();
    if asked.is_empty() {
        let group = arguments.group.as_ref().map(ToString::to_string).unwrap_or_default();
        return Err(problem(
            format!("no node in {group} has a container engine"),
            "see what nodes have with `publisher images`, and groups with `publisher node list`",
        ));
    }
    Ok(asked)
}

async fn ask(
    home: &Home,
    session: &mut Session,
    arguments: &Prune,
    answers: &mut BTreeMap<NodeId, Answer>,
) -> Result<()> {
    let id = format!("{}-{}", std::process::id(), clock::now_ms());
    let ask = Ask { dry_run: arguments.dry_run, id, ..Ask::of_node(AskKind::Prune) };
    let payload = serde_json::to_vec(&ask).context("cannot write the request")?;
    let of = |node: &NodeId, topic| Kind::Node(node.clone(), topic).of(&home.settings.fleet);
    let online: Vec<NodeId> = answers
        .iter()
        .filter(|(_, answer)| **answer == Answer::Silent)
        .map(|(node, _)| node.clone())
        .collect();
    for node in &online {
        session.listen(&of(node, NodeTopic::Answer)).await?;
    }
    for node in &online {
        session.publish(of(node, NodeTopic::Request), payload.clone()).await?;
    }
    let limit = Instant::now() + ANSWER_LIMIT;
    while answers.values().any(|answer| *answer == Answer::Silent) {
        let Ok(heard) = timeout_at(limit, session.next_message()).await else { return Ok(()) };
        let (topic, payload) = heard.context("bus connection was closed")?;
        let Kind::Node(node, NodeTopic::Answer) = topic.kind else { continue };
        // What is not said in our form is not said by a node of ours.
        let pruned = serde_json::from_slice::<Pruned>(&payload).ok();
        if let Some(pruned) = pruned.filter(|pruned| pruned.answers == ask.id)
            && let Some(answer) = answers.get_mut(&node)
        {
            *answer = Answer::Given(pruned);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        samples::{Sample, idle},
    };

    #[test]
    fn only_nodes_with_an_engine_that_are_there_are_asked() {
        let sample = Sample::new();
        let nodes = ["pi-1", "pi-2", "pi-3"].map(|name| (name, Some(idle(1))));
        let mut fleet = sample.fleet(&nodes);
        fleet.take(&sample.topic("pi-2", NodeTopic::Availability), b"offline");
        let health = |engine: &str| -> Health {
            let text = format!(
                r#"{{"node":"x","ok":true,"reason":"","started_at":"","uptime_s":1,"disk_free_bytes":1,{engine}"memory_free_bytes":1,"at":""}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let engine = health(r#""engine_used_bytes":1,"#);
        let name = |name: &str| name.parse::<NodeId>().unwrap();
        let healths =
            [(name("pi-1"), engine.clone()), (name("pi-2"), engine), (name("pi-3"), health(""))].into();
        let asked = |line: &str| asked(&fleet, &healths, &arguments(line)).map_err(|error| error.to_string());
        let of_group = asked("--group canary").unwrap();
        assert_eq!(of_group, [(name("pi-1"), Answer::Silent), (name("pi-2"), Answer::Offline)].into());
        assert_eq!(asked("pi-3").unwrap().len(), 1, "it says itself that it has none");
        assert_eq!(asked("pi-2").unwrap_err(), "pi-2 is offline and would not hear it");
        assert_eq!(asked("--group attic").unwrap_err(), "no node in attic has a container engine");
    }

    fn arguments(line: &str) -> Prune {
        let words = ["publisher", "prune"].into_iter().chain(line.split_whitespace());
        match Cli::try_parse_from(words).unwrap().command {
            Command::Prune(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }
}
