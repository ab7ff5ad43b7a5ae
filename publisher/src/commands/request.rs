//! `publisher request`: asks a node for what it has verified already. Not signed: the node decides.

use anyhow::{Context as _, Result};
use rollout::{Fleet, Node};
use schemas::{
    hold::{Ask, HoldCode},
    id::{AppId, NodeId},
    report::{AppReport, Installed, Outcome, Verdict},
    status::Phase,
    topic::{Kind, NodeTopic},
};

use crate::{
    cli::{Request, Wanted},
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
    let is_meant = |app: &&AppReport| {
        can(app, arguments.wanted) && arguments.app.as_ref().is_none_or(|name| *name == app.app)
    };
    let meant: Vec<&AppReport> = apps.iter().filter(is_meant).collect();
    let (nothing, several) = lacking(arguments.wanted);
    match meant.as_slice() {
        [app] => Ok(*app),
        [] => {
            let what = arguments.app.as_ref().map_or("nothing".to_owned(), |app| format!("nothing of {app}"));
            let advice = format!("see what it does with `publisher why {name}`");
            Err(problem(format!("{what} {nothing} on {name}"), advice))
        }
        apps => {
            let names: Vec<_> = apps.iter().map(|app| AppId::as_str(&app.app)).collect();
            Err(problem(
                format!("several apps {several} on {name}"),
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

/// Whether a node could do that, as far as its report says.
fn can(app: &AppReport, wanted: Wanted) -> bool {
    let has_failed = |outcome: &Outcome| matches!(outcome.verdict, Verdict::RolledBack | Verdict::Failed);
    match wanted {
        Wanted::Install => app.phase == Phase::Deferred,
        Wanted::Retry => app.phase == Phase::Idle && app.outcomes.last().is_some_and(has_failed),
        Wanted::Rollback => app.previous.is_some(),
        Wanted::Hold => true,
    }
}

/// What is said of nothing, and of several apps.
fn lacking(wanted: Wanted) -> (&'static str, &'static str) {
    match wanted {
        Wanted::Install => ("waits", "wait"),
        Wanted::Retry => ("has failed that could be tried again", "have failed"),
        Wanted::Rollback => ("ran before that could run again", "ran another release before"),
        Wanted::Hold => ("is", "are"),
    }
}

fn told(arguments: &Request, app: &AppReport) -> String {
    let (node, name) = (&arguments.node, &app.app);
    let version = |slot: &Option<Installed>| {
        slot.as_ref().map(|slot| format!(" {}", clean(&slot.version))).unwrap_or_default()
    };
    match arguments.wanted {
        Wanted::Install => {}
        Wanted::Retry => {
            let last = app.outcomes.last().map(|outcome| format!(" {}", clean(&outcome.version)));
            let last = last.unwrap_or_default();
            return format!("asked {node} to try {name}{last} once more; follow it with `publisher watch`");
        }
        Wanted::Rollback => {
            let previous = version(&app.previous);
            return format!("asked {node} to go back to {name}{previous}; follow it with `publisher watch`");
        }
        Wanted::Hold => {
            let installed = version(&app.installed);
            return format!(
                "asked {node} to keep {name}{installed}; `publisher request {node} install` ends that"
            );
        }
    }
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
        samples::{Sample, ended, idle, installed, outcome, working},
    };
    use schemas::id::Digest;

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

    #[test]
    fn each_wish_is_for_who_can_follow_it() {
        let failed = ended(outcome(50, Verdict::RolledBack));
        let kept = AppReport {
            previous: Some(installed(Digest::of(b"before"), "1.0.0")),
            ..ended(outcome(51, Verdict::Kept))
        };
        let fleet = Sample::new().fleet(&[("pi-1", Some(failed)), ("pi-2", Some(kept))]);
        let said = |line: &str, wanted: &str| {
            let request = wish(line, wanted);
            chosen(&fleet, &request).map_or_else(|error| error.to_string(), |app| told(&request, app))
        };
        let follow = "follow it with `publisher watch`";
        assert_eq!(said("pi-1", "retry"), format!("asked pi-1 to try web 1.1.0 once more; {follow}"));
        assert_eq!(said("pi-2", "retry"), "nothing has failed that could be tried again on pi-2");
        assert_eq!(said("pi-2", "rollback"), format!("asked pi-2 to go back to web 1.0.0; {follow}"));
        assert_eq!(said("pi-1", "rollback"), "nothing ran before that could run again on pi-1");
        let kept = "asked pi-2 to keep web 1.1.0; `publisher request pi-2 install` ends that";
        assert_eq!(said("pi-2", "hold"), kept);
    }

    fn request(line: &str) -> Request {
        wish(line, "install")
    }

    fn wish(line: &str, wanted: &str) -> Request {
        let words = ["publisher", "request"].into_iter().chain(line.split_whitespace()).chain([wanted]);
        match Cli::try_parse_from(words).unwrap().command {
            Command::Request(request) => request,
            other => panic!("{other:?}"),
        }
    }
}
