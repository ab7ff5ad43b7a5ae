//! `publisher request`: asks a node for what it has verified already. Not signed: the node decides.

use anyhow::{Context as _, Result};
use rollout::{Fleet, Node};
use schemas::{
    hold::{Ask, HoldCode},
    id::{AppId, NodeId},
    report::AppReport,
    status::Phase,
    topic::{Kind, NodeTopic},
};

use crate::{
    cli::Request,
    exit::Exit,
    home::Home,
    problem::problem,
    screen::Screen,
    session::Session,
    show::{clean, doing},
};

/// Finds what waits there, and asks.
pub(super) async fn run(home: &Home, arguments: &Request, screen: &Screen) -> Result<Exit> {
    Session::with(home, async |session| {
        let fleet = session.read_fleet(home).await?;
        let app = chosen(&fleet, arguments)?;
        let ask = Ask::new(arguments.wanted.into(), app.app.clone());
        let topic = Kind::Node(arguments.node.clone(), NodeTopic::Request).of(&home.settings.fleet);
        let payload = serde_json::to_vec(&ask).context("cannot write the request")?;
        session.publish(topic, payload).await?;
        if screen.is_json() {
            screen.json(&ask)?;
        } else {
            screen.say(&told(arguments, app));
        }
        Ok(Exit::Done)
    })
    .await
}

/// The app that it is about: the one that is named, else the one that waits.
fn chosen<'a>(fleet: &'a Fleet, arguments: &Request) -> Result<&'a AppReport> {
    let name = &arguments.node;
    let node = present(fleet, name)?;
    let apps = node.report().map(|report| report.apps.as_slice()).unwrap_or_default();
    let waiting: Vec<&AppReport> = apps
        .iter()
        .filter(|app| {
            app.phase == Phase::Deferred && arguments.app.as_ref().is_none_or(|name| *name == app.app)
        })
        .collect();
    match waiting.as_slice() {
        [app] => Ok(*app),
        [] => {
            let what = arguments.app.as_ref().map_or("nothing".to_owned(), |app| format!("nothing of {app}"));
            let advice = format!("see what it does with `publisher why {name}`");
            Err(problem(format!("{what} waits on {name}"), advice))
        }
        apps => {
            let names: Vec<_> = apps.iter().map(|app| AppId::as_str(&app.app)).collect();
            Err(problem(
                format!("several apps wait on {name}"),
                format!("say which with --app: {}", names.join(", ")),
            ))
        }
    }
}

/// A node that hears what is asked now: what is asked for is not kept anywhere.
pub(super) fn present<'a>(fleet: &'a Fleet, name: &NodeId) -> Result<&'a Node> {
    let node = fleet.nodes().get(name).filter(|node| !node.is_retired());
    let node = node.ok_or_else(|| {
        problem(
            format!("there is no node {name}"),
            "see the nodes with `publisher status`; add one with `publisher node add`",
        )
    })?;
    if node.online() != Some(true) {
        return Err(problem(format!("{name} is offline and would not hear it"), "ask again when it is back"));
    }
    Ok(node)
}

fn told(arguments: &Request, app: &AppReport) -> String {
    let (node, name) = (&arguments.node, &app.app);
    let Some(target) = &app.target else { return format!("asked {node} for {name}") };
    let asked = format!("asked {node} to install {name} {}", clean(&target.version));
    if target.hold == Some(HoldCode::Consent) {
        return format!("{asked}; follow it with `publisher watch`");
    }
    let waits = doing(app.phase, 0, &target.waits_for, (target.hold, target.until));
    format!("{asked}; it is {waits}")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        cli::{Cli, Command},
        samples::{Sample, idle, working},
    };

    #[test]
    fn only_a_node_that_is_there_and_has_something_that_waits_is_asked() {
        let waits = working(50, Phase::Deferred, 0);
        let sample = Sample::new();
        let mut fleet =
            sample.fleet(&[("pi-1", Some(waits.clone())), ("pi-2", Some(idle(49))), ("pi-3", Some(waits))]);
        fleet.take(&sample.topic("pi-3", NodeTopic::Availability), b"offline");
        let said = |line: &str| match chosen(&fleet, &request(line)) {
            Ok(app) => told(&request(line), app),
            Err(error) => error.to_string(),
        };
        assert_eq!(said("pi-1"), "asked pi-1 to install web 1.1.0; it is deferred");
        assert_eq!(said("pi-1 --app web"), said("pi-1"));
        assert_eq!(said("pi-1 --app api"), "nothing of api waits on pi-1");
        assert_eq!(said("pi-2"), "nothing waits on pi-2");
        assert_eq!(said("pi-3"), "pi-3 is offline and would not hear it");
        assert_eq!(said("pi-9"), "there is no node pi-9");
    }

    fn request(line: &str) -> Request {
        let words = ["publisher", "request"].into_iter().chain(line.split_whitespace()).chain(["install"]);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }
}
